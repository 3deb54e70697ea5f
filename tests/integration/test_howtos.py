"""The how-tos are followed to the letter, on virtual boards: what a stranger would type, in their order."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devicelab import boards
from devicelab.ground.registry import data_dir
from tests.typed import Typed

# Native programs are compiled for a fresh cache, which a loaded machine is slow at.
pytestmark = pytest.mark.timeout(900)

HOWTO = data_dir("native").parent / "docs" / "howto"

Run = Callable[..., str]


def commands(page: str, heading: str = "") -> Iterator[list[str]]:
    """The command lines of a page's ``console`` blocks, from a heading on, without the program's name."""
    text = (HOWTO / page).read_text(encoding="utf-8").partition(heading)[2] if heading else (HOWTO / page).read_text()
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from (shlex.split(line)[2:] for line in block.splitlines() if line.startswith("$ devicelab "))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed) -> Run:
    """Runs a command in this process, in a directory of its own; its output, once the exit code is as expected."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, code: int = 0) -> str:
        done = typed(*words)
        said = done.stdout + done.stderr
        assert done.returncode == code, f"devicelab {shlex.join(words)}: {said}"
        return said

    return call


@pytest.fixture
def board_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder of board files, so that a test may add one."""
    folder = tmp_path / "boards"
    shutil.copytree(data_dir("native").parent / "devicelab" / "boards", folder)
    monkeypatch.setattr(boards, "FOLDER", folder)
    return folder


@pytest.mark.slow
@pytest.mark.sim
def test_a_new_kind_of_board_is_added_as_the_how_to_says(
    run: Run, board_files: Path, virtual_board: Any, tmp_path: Path
) -> None:
    phone = virtual_board("pixel", abi="x86_64").serial
    lines = [[word.replace("RF8M1234567", phone) for word in words] for words in commands("add-a-board.md")]
    todo = iter(lines)
    facts = run(*next(todo))
    assert "can be set:" in facts
    model = re.search(r'ro\.product\.model = "([^"]+)"', facts)
    family = re.search(r"gpu \((\w+)\)", facts)
    zones = re.search(r"thermal zones [^:]*: (.*)", facts)
    assert model is not None
    assert family is not None
    assert zones is not None
    silicon = re.findall(r"(\w+)\*", zones[1])
    assert next(todo)[0] == "capture"
    run("capture", "--board", phone, "--to", "my-phone.tar.gz")
    (board_files / "my-phone.toml").write_text(
        f'title = "My Phone"\ngpu = "{family[1]}"\nthermal_zones = {silicon}\ndaemons = ["vendor.thermal-hal"]\n'
        f'[recognise]\npriority = 40\nprops."ro.product.model" = ["{model[1]}"]\n'
    )
    assert next(todo) == ["devices"]
    assert "my-phone" in run("devices")
    assert "board file my-phone" in run(*next(todo), code=0)
    assert "scaling_max_freq" in run(*next(todo))
    up = next(todo)
    assert up[:2] == ["sim", "up"]
    copy = virtual_board("", capture=tmp_path / "my-phone.tar.gz", name="copy").serial
    sweep = [copy if word == "127.0.0.1:37921" else word for word in next(todo)]
    assert f"on {copy}, my-phone (simulated)" in run(*sweep)
    assert next(todo)[:2] == ["sim", "down"]


@pytest.mark.slow
@pytest.mark.sim
def test_the_rehearsal_of_a_board_that_misbehaves_runs_as_written(run: Run, virtual_board: Any) -> None:
    for words in commands("when-a-board-misbehaves.md", "## Rehearse it"):
        if words[:2] == ["sim", "up"]:
            virtual_board(words[2], abi="x86_64")
        elif words[:2] != ["sim", "down"]:
            run(*words)


@pytest.mark.slow
def test_an_own_binary_and_an_own_workload_are_measured_as_the_how_to_says(tmp_path: Path) -> None:
    text = (HOWTO / "own-binary.md").read_text(encoding="utf-8")
    example = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert example is not None
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    own = tmp_path / "config" / "devicelab" / "workloads"
    own.mkdir(parents=True, mode=0o755)
    (own / "openssl_speed.py").write_text(example[1], encoding="utf-8")
    (tmp_path / "hash.toml").write_text(
        'question = "Does a bigger block hash faster?"\nrepetitions = 1\nhold_s = 0\n'
        "foreign_pct = 100\nforeign_core_pct = 100\n"
        'analyses = ["load"]\n'
        '[factors]\nblock_bytes = [64, 16384]\n[measure]\nworkload = "openssl_speed"\n'
        '[[checks]]\nname = "big blocks"\nmetric = "bytes_per_s"\nwhere = { block_bytes = 16384 }\n'
        'against = { block_bytes = 64 }\nbound = "> 1"\n'
    )
    (tmp_path / "lab.toml").write_text(f'[devices.local]\naddress = "local:"\ndir = "{tmp_path / "agent"}"\n')
    config = str(tmp_path / "config")
    for check in commands("own-binary.md", "## A workload of its own"):
        assert "openssl_speed" in _devicelab(*check, cwd=tmp_path, XDG_CONFIG_HOME=config)
    said = _devicelab("sweep", "hash.toml", "--board", "local", cwd=tmp_path, XDG_CONFIG_HOME=config)
    assert "2 of 2 runs stored, 0 flagged invalid" in said
    assert "big blocks: bytes_per_s > 1" in said


def _own_files(page: str) -> dict[str, str]:
    """Path below the user's folder → text, of the blocks that a page says to save there."""
    found = re.findall(r"`~/\.config/devicelab/([a-z_/.-]+)`.*?^```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return dict(found)


def _devicelab(*words: str, cwd: Path, code: int = 0, **environment: str) -> str:
    argv = [sys.executable, "-m", "devicelab", *words]
    variables = {**os.environ, "PYTHONPATH": str(data_dir("native").parent), "COLUMNS": "200", **environment}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, env=variables, timeout=280, check=False)
    assert done.returncode == code, f"{shlex.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.slow
def test_plug_ins_outside_the_package_are_found_checked_and_measured_as_the_how_to_says(tmp_path: Path) -> None:
    page = (HOWTO / "own-plug-in.md").read_text(encoding="utf-8")
    files = _own_files(page)
    assert sorted(files) == [
        "boards/my-pc.toml",
        "experiments/huge_pages.toml",
        "knobs/huge_pages.py",
        "workloads/touch_memory.py",
    ]
    for path, text in files.items():
        (tmp_path / "config" / "devicelab" / path).parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        (tmp_path / "config" / "devicelab" / path).write_text(text, encoding="utf-8")
    (tmp_path / "lab.toml").write_text(f'[devices.local]\naddress = "local:"\ndir = "{tmp_path / "agent"}"\n')
    config = str(tmp_path / "config")
    check, facts, plan, sweep = list(commands("own-plug-in.md"))
    said = _devicelab(*check, cwd=tmp_path, XDG_CONFIG_HOME=config)
    assert all(f"{kind} " in said for kind in ("board kind", "experiment", "knob", "workload"))
    assert "FAILED" not in said
    said = _devicelab(*facts, cwd=tmp_path, XDG_CONFIG_HOME=config)
    assert "local: My PC" in said
    assert "left out" not in said
    node = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    before = node.read_text() if node.is_file() else ""
    said = _devicelab(*plan, cwd=tmp_path, XDG_CONFIG_HOME=config)
    if os.geteuid() == 0 and os.access(node, os.W_OK):
        assert str(node) in said
    # A machine that runs tests is not idle.
    bounds = ("--set", "foreign_pct=100", "--set", "foreign_core_pct=100")
    said = _devicelab(*sweep, *bounds, cwd=tmp_path, XDG_CONFIG_HOME=config)
    assert "12 of 12 runs stored, 0 flagged invalid" in said
    assert "huge pages do no harm: touch_ns < 3" in said
    assert (node.read_text() if node.is_file() else "") == before


@pytest.mark.slow
def test_plug_ins_of_a_distribution_are_found_by_their_entry_points_as_the_how_to_says(tmp_path: Path) -> None:
    page = (HOWTO / "own-plug-in.md").read_text(encoding="utf-8")
    packed = page.partition("## For others")[2]
    project = re.search(r"^```toml\n(.*?)^```$", packed, re.MULTILINE | re.DOTALL)
    assert project is not None
    source, site = tmp_path / "my-lab", tmp_path / "site"
    (source / "my_lab").mkdir(parents=True)
    (source / "pyproject.toml").write_text(project[1])
    (source / "my_lab" / "__init__.py").touch()
    for path, text in _own_files(page).items():
        if path.endswith(".py"):
            (source / "my_lab" / Path(path).name).write_text(text, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(site), "."], cwd=source, check=True, timeout=120)
    root = data_dir("native").parent
    empty = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PYTHONPATH": f"{root}:{site}"}
    said = json.loads(_devicelab("doctor", "--plugins", "--json", cwd=tmp_path, **empty))
    found = {(one["kind"], one["name"]): one for one in said["plugins"]}
    assert found["knob", "huge_pages"]["where"] == "entry point huge_pages = my_lab.huge_pages of my-lab"
    assert found["workload", "touch_memory"]["problems"] == []
    assert "huge_pages" in _devicelab("facts", "--board", "local", cwd=tmp_path, **empty)
    # The name of a file of the user's too: an error that names both, and only where it is asked for.
    (tmp_path / "config" / "devicelab" / "workloads").mkdir(parents=True, mode=0o755)
    own = tmp_path / "config" / "devicelab" / "workloads" / "touch_memory.py"
    own.write_text(_own_files(page)["workloads/touch_memory.py"], encoding="utf-8")
    (tmp_path / "e.toml").write_text(_own_files(page)["experiments/huge_pages.toml"], encoding="utf-8")
    said = _devicelab("sweep", "e.toml", "--board", "local", cwd=tmp_path, code=2, **empty)
    assert "of my-lab" in said
    assert str(own) in said
    _devicelab("devices", cwd=tmp_path, **empty)


@pytest.mark.slow
@pytest.mark.sim
def test_the_job_known_from_other_tools_runs_as_the_page_says(run: Run, virtual_board: Any, tmp_path: Path) -> None:
    page = (HOWTO / "from-other-tools.md").read_text(encoding="utf-8")
    for language, name in (("sh", "bench.sh"), ("toml", "bench.toml")):
        found = re.search(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        assert found is not None
        (tmp_path / name).write_text(found[1], encoding="utf-8")
    phone = virtual_board("note10", abi="x86_64").serial
    said = ""
    for words in commands("from-other-tools.md"):
        # Repeating until it is decided takes as long as it takes.
        if "--until" not in words:
            said += run(*(phone if word == "note10" else word for word in words))
    assert "scaling_max_freq" in said
    assert "12 of 12 runs stored, 0 flagged invalid" in said
