"""The command line is a skin: documented, quick to start, and without tracebacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devicelab import cli
from devicelab.cli import _reference
from devicelab.registry import data_dir

ROOT = data_dir("native").parent


def devicelab(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", "from devicelab.cli import main; main()", *words]
    return subprocess.run(argv, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def test_the_command_reference_is_up_to_date() -> None:
    written = (ROOT / "docs/reference/cli.md").read_text()
    assert written == _reference.reference(), "run: python -m devicelab.cli._reference > docs/reference/cli.md"


def test_help_imports_nothing_heavy() -> None:
    heavy = ("pandas", "numpy", "matplotlib", "paramiko", "adbutils", "pydantic", "sqlalchemy", "rich", "jinja2")
    code = (
        "import sys, json\nfrom devicelab.cli import app\n"
        f"print(json.dumps([m for m in {heavy!r} if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) in ([], ["rich"])


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
        (("pin", "--board", "local"), 2, "nothing to pin"),
    ],
)
def test_a_mistake_gets_a_sentence_and_an_exit_code(
    tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    done = devicelab(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_has_help_and_an_example() -> None:
    import typer.main

    command = typer.main.get_command(cli.app)

    def walk(found: object, name: str) -> None:
        children = getattr(found, "commands", None)
        if children:
            for child_name, child in children.items():
                walk(child, f"{name} {child_name}")
        else:
            assert getattr(found, "help", None), f"{name} has no help"
            assert "Example: devicelab" in (getattr(found, "epilog", None) or ""), f"{name} has no example"

    walk(command, "devicelab")


def test_shell_completion_offers_the_commands() -> None:
    environment = {
        **os.environ,
        "_DEVICELAB_COMPLETE": "complete_bash",
        "COMP_WORDS": "devicelab swe",
        "COMP_CWORD": "1",
    }
    argv = [str(Path(sys.executable).with_name("devicelab"))]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert "sweep" in done.stdout
