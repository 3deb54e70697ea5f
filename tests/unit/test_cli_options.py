"""Whatever is typed: no option of any command ends in a traceback, and every command speaks JSON."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devicelab import cli
from devicelab.errors import DeviceUnreachableError
from devicelab.ground import registry
from devicelab.jobs.whereabouts import whereabouts

LASTING = {"worker", "watch"}
"""They serve until they are ended."""


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that lead to it."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from leaves(one, (*path, name))
        else:
            yield (*path, name), one


COMMANDS = {" ".join(path): one for path, one in leaves(cli.command(whole=True))}
OURS = sorted(name for name in COMMANDS if not name.startswith("sim ") and name not in LASTING)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"worker"}))  # its lines are a log
def test_every_command_speaks_json(name: str) -> None:
    assert any("--json" in param.opts for param in COMMANDS[name].params), f"{name} has no --json"


WORDS = st.one_of(
    st.sampled_from(
        [
            "",
            "0",
            "-1",
            "1e999",
            "nan",
            "local",
            "quick",
            "nobody",
            "a=b",
            "k=[1",
            "@/nowhere",
            "/",
            ".",
            "~",
            "/dev/full",
            "2h",
            "99:99",
            "postgresql://u:p@127.0.0.1:1/x",
            "sqlite:///",
            "ssh:-oProxy@x",
            "adb:",
            "none",
            "1,2,x",
            "± 2 %",
            "<",
            "> 1 ms",
            "../../etc/passwd",
            "🦊",
            "\u202e",
            "a" * 5000,
        ]
    ),
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12),
    st.integers(-(2**70), 2**70).map(str),
)


def _ending(command: click.Command) -> list[click.Parameter]:
    """Its parameters, without those that make it serve pages until it is ended."""
    return [param for param in command.params if "--serve" not in param.opts]


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command with options it has and values it need not like."""
    name = draw(st.sampled_from(OURS))
    words = name.split()
    for param in draw(st.lists(st.sampled_from(_ending(COMMANDS[name])), max_size=5)):
        if isinstance(param, click.Argument) or not param.opts[0].startswith("-"):
            words.append(draw(WORDS))
        elif getattr(param, "is_flag", False):
            words.append(param.opts[0])
        else:
            words.append(f"{param.opts[-1]}={draw(WORDS)}")
    return words


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a device, a compiler or a web server, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("DEVICELAB_STORE", "DEVICELAB_LAB"):
        monkeypatch.delenv(name, raising=False)

    def nobody(*_: object, **__: object) -> None:
        raise DeviceUnreachableError("nobody answers", hint="is it powered?")

    for place in ("devicelab.device.facts.open_device", "devicelab.transports.connect"):
        with contextlib.suppress(AttributeError, ImportError):
            monkeypatch.setattr(place, nobody)
    return tmp_path


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=lines())
def test_no_line_that_can_be_typed_ends_in_a_traceback(words: list[str], empty: Path) -> None:
    before, sys.argv = sys.argv, ["devicelab", *words]
    try:
        cli.main()
    except SystemExit as end:
        assert end.code in {0, 1, 2, 3, 4, 5, 6, 7, 130, None}, words  # noqa: PT017
    finally:
        sys.argv = before


def test_config_names_every_place_and_what_says_so(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty / "labs" / "boards").mkdir(parents=True)
    (empty / "labs" / "lab.toml").touch()
    monkeypatch.setenv("DEVICELAB_LAB", str(empty / "labs" / "lab.toml"))
    monkeypatch.setattr(sys, "argv", ["devicelab", "config", "--json", "--store", "postgresql://me:secret@db/lab"])
    with contextlib.suppress(SystemExit):
        cli.main()
    said = capsys.readouterr().out
    places = {(one["what"], one["path"]): one for one in json.loads(said)["places"]}
    assert places["own boards", str(empty / "labs" / "boards")]["there"] is True
    assert places["lab.toml (devices)", str(empty / "labs" / "lab.toml")]["set_by"] == "DEVICELAB_LAB"
    assert "secret" not in said
    assert "db/lab" in said


def test_a_user_without_a_home_gets_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicelab.ground.user.home", lambda: None)
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "DEVICELAB_CACHE", "DEVICELAB_LAB"):
        monkeypatch.delenv(name, raising=False)
    found = {one.what: one.path for one in whereabouts()}
    assert found["configuration folder"] is None
    assert found["experiments that came with devicelab"] == str(registry.data_dir("experiments"))
