"""The command line is a skin: documented, quick to start, and without tracebacks."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from devicelab import cli
from devicelab.cli import _out, _reference, devices
from devicelab.device import agent
from devicelab.device.facts import Device
from devicelab.ground.registry import data_dir

ROOT = data_dir("native").parent


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def devicelab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Runs a command in this process, in an empty directory, as the shell would: 80 columns, no colour."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words: str, **variables: str) -> Said:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["devicelab", *words])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


def test_the_command_reference_is_up_to_date() -> None:
    written = (ROOT / "docs/reference/cli.md").read_text()
    assert written == _reference.reference(), "run: python -m devicelab.cli._reference > docs/reference/cli.md"


HEAVY = {"pandas", "numpy", "matplotlib", "scipy", "sqlalchemy", "jinja2", "paramiko", "asyncio"}


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import devicelab.cli", HEAVY | {"adbutils", "pydantic", "importlib.metadata"}),
        (
            "import devicelab.jobs.pin, devicelab.device.choose as c, devicelab.device.lab as l; c.survey(l.Lab())",
            HEAVY,
        ),
    ],
    ids=["help", "devices"],
)
def test_a_command_imports_nothing_heavy_that_it_does_not_need(code: str, heavy: set[str]) -> None:
    argv = [sys.executable, "-c", f"{code}\nimport sys, json; print(json.dumps([*sys.modules]))"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert heavy & set(json.loads(done.stdout.splitlines()[-1])) == set()


def test_lines_of_the_help_are_those_of_the_commands_themselves() -> None:
    lines, whole = cli.command(), cli.command(whole=True)
    assert list(lines.commands) == list(whole.commands)
    for name, command in whole.commands.items():
        line = lines.commands[name]
        for said in ("help", "short_help", "hidden", "deprecated", "rich_help_panel"):
            assert getattr(line, said) == getattr(command, said), (name, said)


def test_a_command_that_is_used_takes_what_it_takes_in_the_whole_command_line() -> None:
    def taken(one: Any) -> list[tuple[object, ...]]:
        own = [(type(one), one.name, one.epilog, *((p.name, p.opts, p.metavar, p.help) for p in one.params))]
        return own + [line for child in getattr(one, "commands", {}).values() for line in taken(child)]

    lines = cli.command()
    for name, command in cli.command(whole=True).commands.items():
        with lines.make_context("devicelab", [name], resilient_parsing=True) as context:
            assert taken(lines.resolve_command(context, [name])[1]) == taken(command)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("sweep", "nosuch", "--board", "local"), 2, "no experiment named 'nosuch'"),
        (("sweep", "quick", "--board", "nosuch"), 2, "nosuch"),
        (("sweep", "quick", "--board", "local", "--set", "repetitions=0"), 2, "repetitions"),
        (("sweep", "quick", "--board", "local", "--set", "bogus=[1]"), 2, "no factor named 'bogus'"),
        (("load", "1000", "--board", "local"), 2, "three numbers"),
        (("load", "1000", "5000", "99", "--board", "local"), 2, "log2_outer_iter"),
        (("load", "1", "2", "3", "--util", "5", "--board", "local"), 2, "not both"),
        (("load", "--util", "0.5", "--board", "local"), 2, "from 1 to 100"),
        (("load", "--util", "100.5", "--board", "local"), 2, "from 1 to 100"),
        (("pin", "--board", "local"), 2, "nothing to pin"),
    ],
)
def test_a_mistake_gets_a_sentence_and_an_exit_code(
    tmp_path: Path, devicelab: Callable[..., Said], words: tuple[str, ...], code: int, message: str
) -> None:
    said = devicelab(*words, DEVICELAB_LAB=str(out_of_reach(tmp_path)))
    assert said.code == code, said.err
    assert message in said.err


def out_of_reach(folder: Path) -> Path:
    """A lab in which this computer cannot be opened: a mistake is told without asking a device."""
    (folder / "taken").write_text("no directory\n")
    lab = folder / "lab.toml"
    lab.write_text(f'[devices.local]\naddress = "local:"\ndir = "{folder / "taken"}"\n')
    return lab


def test_a_device_that_cannot_be_opened_is_named(tmp_path: Path, devicelab: Callable[..., Said]) -> None:
    said = devicelab("facts", "--board", "local", DEVICELAB_LAB=str(out_of_reach(tmp_path)))
    assert said.code in {3, 4}
    assert "error: local:" in said.err


def test_an_error_at_the_command_line_is_a_sentence_in_a_real_process(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "from devicelab.cli import main; main()", "sweep", "nosuch"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "devicelab", "--version"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=True)
    assert done.stdout.startswith("devicelab ")


def test_help_shows_daily_commands_first_and_flags_without_a_type(devicelab: Callable[..., Said]) -> None:
    shown = devicelab("--help").out
    daily, further = shown.split("Further commands")
    for name in ("devices", "doctor", "load", "sweep", "report"):
        assert f"│ {name} " in daily
    assert "│ capture " in further
    assert "<bool>" not in shown
    assert "<bool>" not in devicelab("sweep", "--help").out
    assert max(map(len, shown.splitlines())) <= 80


def test_every_command_has_help_and_an_example() -> None:
    def walk(found: object, name: str) -> None:
        children = getattr(found, "commands", None)
        if children:
            for child_name, child in children.items():
                walk(child, f"{name} {child_name}")
        else:
            assert getattr(found, "help", None), f"{name} has no help"
            assert "Example: devicelab" in (getattr(found, "epilog", None) or ""), f"{name} has no example"

    walk(cli.command(whole=True), "devicelab")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("devicelab swe", "sweep"),
        ("devicelab sweep qui", "quick"),
        ("devicelab pin --board note10-", "note10-sd855"),
        ("devicelab build kl", "klo"),
        ("devicelab sim fault note10 the", "thermal"),
    ],
)
def test_shell_completion_offers_what_fits(devicelab: Callable[..., Said], typed: str, offered: str) -> None:
    count = str(len(typed.split()) - 1)
    said = devicelab(_DEVICELAB_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=count)
    assert offered in said.out.split()


def test_a_table_keeps_what_is_copied_in_one_piece_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = ("20261122-055411-d239b7", "a device with a long name (simulated)", "an experiment", "18/18", 0, "complete")
    _out.print_table(("campaign", "device", "experiment", "runs", "invalid", "status"), [row], whole=("campaign",))
    shown = capsys.readouterr().out
    assert "20261122-055411-d239b7" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_pin_in_force_and_things_to_restore_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    undo: dict[str, list[str]] = {"pending": ["a = 1"], "active": [], "kept": ["b = 2"], "stale": []}
    answer = {"lease": None, "agent": {"alive": False, "state": "ended", "plan_id": "x-pin"}, "undo": undo}
    monkeypatch.setattr(agent, "ask", lambda *_words: (0, answer, ""))
    monkeypatch.setattr(agent, "state_dir", lambda _device: "/state")
    found = agent.status(cast("Device", None))
    assert (found.pending, found.kept) == (("a = 1",), ("b = 2",))
    assert devices._health({"state": "device", "to_restore": [1]}) == "1 things to restore"
    assert devices._health({"state": "device", "pinned": [1], "usable": True}) == "pinned"
