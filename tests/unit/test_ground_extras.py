"""What is missing is said with a command that works where devicelab runs, and never names a stranger's package."""

import builtins
import shlex
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest

from devicelab import cli
from devicelab.errors import ConfigError
from devicelab.ground import extras
from virtualboards import lifecycle

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("module", extras._MODULES)
def test_every_optional_module_has_a_command_that_names_its_package(module: str) -> None:
    extra = extras.of_module(f"{module}.inner")
    assert extra is not None
    python, *words = shlex.split(extras.install(extra))
    assert python == sys.executable
    assert words[:3] == ["-m", "pip", "install"]
    declared = [one for one in requires("devicelab") or [] if f"extra == '{extra}'" in one.replace('"', "'")]
    assert len(words[3:]) == len(declared) > 0
    assert not any("devicelab" in word for word in words[3:])


def test_nobody_is_told_to_install_devicelab_from_an_index() -> None:
    named = ("devicelab/", "virtualboards/", "toolchains/", "docs/", "README.md")
    done = subprocess.run(
        ["git", "grep", "-nE", r"pip install '?devicelab", "--", *named], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == ""


def test_a_command_whose_package_is_missing_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> Any:
        def run(**_named: str) -> None:
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow.parquet")

        return run

    monkeypatch.setattr(cli, "command", command)
    assert cli._perform() == ConfigError.exit_code
    said = capsys.readouterr().err
    assert "pyarrow" in said
    assert "-m pip install" in said
    assert "Traceback" not in said


def test_virtual_boards_without_fuse_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mfusepy" else builtins.object())
    with pytest.raises(ConfigError, match="mfusepy") as error:
        lifecycle._start({}, ["note10"])
    assert "mfusepy" in (error.value.hint or "")
