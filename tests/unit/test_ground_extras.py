"""What is missing is said with a command that works where devicelab runs, and never names a stranger's package."""

import ast
import builtins
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest

from devicelab import cli
from devicelab.errors import ConfigError
from devicelab.ground import extras
from devicelab.store import Store
from tests.labdata import fill
from virtualboards import lifecycle

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("module", extras._MODULES)
def test_every_optional_module_has_a_command_that_names_its_package(module: str) -> None:
    extra = extras.of_module(f"{module}.inner")
    assert extra is not None
    words = shlex.split(extras.install(extra))
    declared = [one for one in requires("devicelab") or [] if f"extra == '{extra}'" in one.replace('"', "'")]
    assert [one.partition(";")[0].strip() for one in declared] == words[-len(declared) :]
    assert not any("devicelab" in Path(word).name for word in words)


def _imports(folder: str) -> Iterator[tuple[str, str]]:
    for path in (ROOT / folder).rglob("*.py"):
        if "scripts" in path.parts:  # runs elsewhere, with what is there
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            yield from ((name.partition(".")[0], str(path.relative_to(ROOT))) for name in names)


def test_what_is_imported_is_a_dependency_or_has_an_extra() -> None:
    ours = {"devicelab", "virtualboards", "_typeshed", *sys.stdlib_module_names}
    along = {"markupsafe": "jinja2", "pydantic_core": "pydantic"}  # parts of the packages beside them
    plain = {word.partition(">")[0].lower() for word in PROJECT["dependencies"]}
    whose = packages_distributions()
    strangers = {
        (name, path)
        for folder in ("devicelab", "virtualboards")
        for name, path in _imports(folder)
        if name not in ours | extras._MODULES.keys()
        and along.get(name) not in plain
        and not {one.lower() for one in whose.get(name, ())} & plain
    }
    # Draws the README's picture, for whoever has the extra `dev`.
    assert strangers == {(name, "devicelab/cli/_picture.py") for name in ("PIL", "playwright")}


@pytest.mark.parametrize(
    ("made_by", "words"),
    [
        ("pip", [sys.executable, "-m", "pip", "install"]),
        ("uv", ["uv", "pip", "install", "--python", sys.executable]),
        ("pipx", ["pipx", "inject", "devicelab"]),
        ("debian", [sys.executable, "-m", "pip", "install", "--break-system-packages"]),
    ],
)
def test_the_command_is_one_that_the_environment_has(
    made_by: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "devicelab"
    prefix.mkdir()
    monkeypatch.setattr(sys, "prefix", str(prefix))
    has_pip = made_by in {"pip", "debian"}
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: builtins.object() if has_pip else None)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(prefix))
    if made_by == "pipx":
        (prefix / "pipx_metadata.json").touch()
    if made_by == "debian":
        monkeypatch.setattr(sys, "base_prefix", str(prefix))
        (prefix / "EXTERNALLY-MANAGED").touch()
    assert shlex.split(extras.install("parquet")) == [*words, *PROJECT["optional-dependencies"]["parquet"]]


def test_nobody_is_told_to_install_devicelab_from_an_index() -> None:
    told = re.compile(r"pip install (-[^ ]+ )*'?devicelab|['\"]pip install")
    files = [
        ROOT / "README.md",
        *(
            path
            for folder in ("devicelab", "virtualboards", "toolchains", "docs")
            for path in (ROOT / folder).rglob("*")
        ),
    ]
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        if path.suffix in {".py", ".toml", ".md", ".j2"}
        for line in path.read_text(encoding="utf-8").splitlines()
        if told.search(line)
    ]
    assert wrong == []


LINES = {
    "sim up note10": "sim",
    "worker --scheduler 127.0.0.1:1": "dask",
    "nightly farm.toml --engine dask://127.0.0.1:1": "dask",
    "farm status farm.toml --store postgresql://a@127.0.0.1:1/x": "postgres",
    "store list --store postgresql://a@127.0.0.1:1/x": "postgres",
    "sweep quick --board local --store postgresql://a@127.0.0.1:1/x": "postgres",
    "export --format parquet --store one.sqlite": "parquet",
    "trace --store one.sqlite": "trace",
    "sweep large.toml --board local --store two.sqlite": "search",
    "build overhead --toolchain zig-musl": "cross",
}

# An environment without any extra, from its first import on.
PLAIN = """
import contextlib, io, json, sys
lines, extras = json.load(sys.stdin)
sys.modules.update(dict.fromkeys(extras))
from devicelab import cli
said = {}
for line in lines:
    sys.argv, text = ["devicelab", *line.split()], io.StringIO()
    with contextlib.redirect_stderr(text):
        code = cli._perform()
    said[line] = code, text.getvalue()
json.dump(said, sys.stdout)
"""

LARGE = """
question = "?"
factors = { k = [1, 2, 3, 4, 5, 6], load = ["none", "1 2 3", "1 2 4", "1 2 5", "1 2 6"] }
search = { minimise = "total_ns" }
measure = { workload = "klo", params = { backend = "emulated" } }
"""


def test_without_any_extra_every_command_says_what_to_type(tmp_path: Path) -> None:
    with Store.open(tmp_path / "one.sqlite") as store:
        fill(store)
    (tmp_path / "large.toml").write_text(LARGE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN], input=json.dumps([list(LINES), list(extras._MODULES)]), text=True, check=False,
        capture_output=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line, (code, said) in json.loads(done.stdout).items():
        assert code not in {0, 1}, f"{line}: {said}"
        assert extras.install(LINES[line]) in said, f"{line}: {said}"


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


def test_without_the_library_behind_the_package_virtual_boards_say_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mfusepy.py").write_text("raise OSError('Unable to find libfuse')", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    words = [sys.executable, "-m", "devicelab", "sim", "up", "note10"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == ConfigError.exit_code
    assert "apt-get install fuse3" in done.stderr
    assert "Traceback" not in done.stderr


def test_virtual_boards_without_fuse_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mfusepy" else builtins.object())
    with pytest.raises(ConfigError, match="mfusepy") as error:
        lifecycle._start({}, ["note10"])
    assert "mfusepy" in (error.value.hint or "")
