"""The how-tos are followed to the letter, on virtual boards: what a stranger would type, in their order."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devicelab import boards, cli
from devicelab.ground.registry import data_dir

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
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, in a directory of its own; its output, once the exit code is as expected."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["devicelab", *words])
        try:
            cli.main()
            got = 0
        except SystemExit as end:
            got = int(end.code or 0)
        said = capsys.readouterr()
        assert got == code, f"devicelab {shlex.join(words)}: {said.out}{said.err}"
        return said.out + said.err

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
    # A copy of the package, since the module is to lie in its folder.
    root = data_dir("native").parent
    for part in ("devicelab", "native", "toolchains", "experiments", "reports"):
        shutil.copytree(root / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "devicelab" / "workloads" / "openssl_speed.py").write_text(example[1], encoding="utf-8")
    (tmp_path / "hash.toml").write_text(
        'question = "Does a bigger block hash faster?"\nrepetitions = 1\nhold_s = 0\nanalyses = ["load"]\n'
        '[factors]\nblock_bytes = [64, 16384]\n[measure]\nworkload = "openssl_speed"\n'
        '[[checks]]\nname = "big blocks"\nmetric = "bytes_per_s"\nwhere = { block_bytes = 16384 }\n'
        'against = { block_bytes = 64 }\nbound = "> 1"\n'
    )
    (tmp_path / "lab.toml").write_text(f'[devices.local]\naddress = "local:"\ndir = "{tmp_path / "agent"}"\n')
    argv = [sys.executable, "-c", "from devicelab.cli import main; main()", "sweep", "hash.toml", "--board", "local"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs stored, 0 flagged invalid" in done.stdout
    assert "big blocks: bytes_per_s > 1" in done.stdout
