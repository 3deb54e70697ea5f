"""Every command's ``--json`` as it is really printed, read by the types that its published schema is made from."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from devicelab import cli
from devicelab.cli._answers import ANSWERS
from tests.outside import Outside
from tests.typed import Typed

# Native programs are compiled for a fresh cache, which a loaded machine is slow at.
pytestmark = pytest.mark.timeout(900)

SAME = {"klo app": "the same answer as sweep's; it needs an OpenCL program"}
"""Commands that no test here performs, and why."""
LASTING = {"worker"}
QUIET = ("--set", "foreign_pct=100", "--set", "foreign_core_pct=100", "--set", "hold_s=0")
SMALL = ("--set", "repetitions=1", "--set", "k=[1, 4]", *QUIET)
FARM = """name = "bench"
[[jobs]]
experiment = "quick"
devices = "local"
repetitions = 1
set = { k = [4], foreign_pct = 100, foreign_core_pct = 100, hold_s = 0 }
"""


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command that does something, as it is typed."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from leaves(one, (*path, name))
        else:
            yield " ".join((*path, name))


def fits(said: object, kind: Any) -> str:
    """Empty if an answer is of a type, with nothing that the type does not tell; else what is wrong."""
    try:
        TypeAdapter(kind).validate_json(json.dumps(said))
    except ValidationError as error:
        return str(error)
    return ""


class Walk:
    """Commands typed one after the other in one directory, each with ``--json``."""

    def __init__(self, place: Path, typed: Typed) -> None:
        self.place, self.performed, self._typed = place, set[str](), typed

    def __call__(self, command: str, *words: str, codes: tuple[int, ...] = (0,)) -> Any:
        done = self._typed(*command.split(), *words, "--json")
        typed = (
            f"devicelab {command} {shlex.join(words)}: exit code {done.returncode}, {done.stdout[:800]}{done.stderr}"
        )
        assert done.returncode in codes, typed
        said = json.loads(done.stdout)
        told = {kind.__name__: fits(said, kind) for kind in ANSWERS[command]}
        assert "" in told.values(), f"{typed}\n{told}"
        self.performed.add(command)
        return said


@pytest.fixture
def walk(tmp_path: Path, typed: Typed, outside: Outside, monkeypatch: pytest.MonkeyPatch) -> Walk:
    monkeypatch.chdir(tmp_path)
    here = f'address = "local:"\ndir = "{tmp_path / "agent"}"\n'
    (tmp_path / "lab.toml").write_text(f'[devices.local]\n{here}\n[devices.far]\n{here}board = "linux"\n')
    return Walk(tmp_path, typed)


def test_every_command_has_an_answer_s_type_and_every_type_a_command() -> None:
    assert set(leaves(cli.command(whole=True))) - LASTING == set(ANSWERS)


def test_what_is_not_in_the_schema_is_seen() -> None:
    assert fits({"freed_bytes": 5}, ANSWERS["store vacuum"][0]) == ""
    assert "more" in fits({"freed_bytes": 5, "more": 1}, ANSWERS["store vacuum"][0])
    assert "freed_bytes" in fits({}, ANSWERS["store vacuum"][0])
    place = {"what": "w", "path": None, "there": None, "set_by": "s"}
    assert fits({"places": [place]}, ANSWERS["config"][0]) == ""
    assert "places.0.more" in fits({"places": [{**place, "more": 1}]}, ANSWERS["config"][0])


@pytest.mark.slow
def test_every_command_s_json_is_what_its_schema_says(walk: Walk) -> None:
    ours = {name for name in ANSWERS if not name.startswith("sim ")} - SAME.keys()
    walk("build", "overhead")
    walk("config")
    walk("devices")
    walk("doctor", codes=(0, 2, 3, 4, 5))
    walk("doctor", "--plugins")
    walk("facts", "--board", "local")
    walk("capture", "--board", "local", "--to", "c.tar.gz")
    walk("load", "1000", "5000", "20", "--board", "local", "--seconds", "1")
    walk("sweep", "quick", "--board", "local", "--dry-run")
    one = walk("sweep", "quick", "--board", "local", *SMALL, codes=(0, 6))["campaign"]
    two = walk("sweep", "quick", "--board", "local", *SMALL, codes=(0, 6))["campaign"]
    walk("sweep", "quick", "--board", "far", *SMALL, "--bundle", "b.tar")
    unpack = "mkdir there && cd there && tar -xf ../b.tar && sh run.sh >../log 2>&1; ls *.tar"
    found = subprocess.run(["sh", "-c", unpack], capture_output=True, text=True, cwd=walk.place, check=True).stdout
    walk("import", f"there/{found.split()[-1]}")
    walk("report", one)
    walk("compare", one, two, codes=(0, 7))
    walk("compare", one, two, one, codes=(0, 7))
    walk("export", one)
    walk("trace", one)
    walk("watch")
    walk("store list")
    walk("store show", one)
    walk("store check")
    walk("store prune", "--nights", "5", "--dry-run")
    walk("store vacuum")
    walk("klo lut", one)
    walk("klo plan", one)
    costs = ("--flush-us", "5", "--start-idle-us", "0", "--gap-us", "15")
    walk("klo model", "--n", "10", "--t-prod-us", "10", "--t-ker-us", "20", *costs)
    walk("pin", "--board", "local", "--knob", "isolation=hold", "--dry-run", codes=(0, 4))
    walk("restore", "--board", "local")
    walk("reserve", "local", "--for", "1m")
    walk("reserve", "local", "--release")
    (walk.place / "farm.toml").write_text(FARM)
    walk("nightly", "farm.toml", "--dry-run")
    walk("nightly", "farm.toml", codes=(0, 6, 7))
    walk("nights")
    walk("nights", "last")
    walk("farm status", "farm.toml")
    walk("farm morning", "farm.toml", codes=(0, 7))
    walk("farm install", "farm.toml", "--to", "units")
    walk("farm install", "farm.toml", "--cron")
    walk("site", "pages")
    walk("quarantine add", "local", "--reason", "a test")
    walk("quarantine list")
    walk("quarantine release", "local")
    aim = ("--aim", "low.throughput_per_s", "--budget", "20m")
    walk("tune", "cpu_priority", "--board", "far", *aim, "--bundle", "t.tar")
    walk("press", "cpu_priority", "--board", "far", "--rung", "copies:2", "--bundle", "p.tar")
    assert ours - walk.performed == set()


@pytest.mark.slow
@pytest.mark.sim
def test_virtual_boards_json_is_what_its_schema_says(walk: Walk) -> None:
    walk("sim kinds")
    name = f"answers-{os.getpid()}"
    try:
        serial = walk("sim up", "note10", "--name", name, "--abi", "x86_64")["boards"][0]["serial"]
        walk("sim list")
        walk("sim stats", name)
        walk("devices")
        assert walk("facts", "--board", serial)["policies"]
        assert walk("pin", "--board", serial, "--cpu", "max")["steps"]
        walk("restore", "--board", serial)
        walk("sim fault", name, "thermal")
    finally:
        walk("sim down", name)
    assert {one for one in ANSWERS if one.startswith("sim ")} <= walk.performed
