"""What is installed elsewhere is whole: data files travel inside the wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from devicelab.ground.registry import data_dir

ROOT = data_dir("native").parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content as a directory for PYTHONPATH, built from the checkout without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import os, sys, hatchling.build as b; os.chdir(sys.argv[1]); print(b.build_wheel(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", build, str(ROOT), str(folder)], check=True, capture_output=True, timeout=120)
    wheel = next(folder.glob("devicelab-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from devicelab.cli import main; sys.argv[0] = 'devicelab'; main()"
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-c", code, *words]
    return subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
def test_the_wheel_holds_what_the_checkout_has(installed: Path) -> None:
    for folder in ("native", "toolchains", "experiments", "reports"):
        there = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.*") if path.is_file()}
        inside = installed / "devicelab/_data" / folder
        assert {path.relative_to(inside) for path in inside.rglob("*") if path.is_file()} >= {
            path for path in there if path.suffix in {".cpp", ".h", ".toml", ".j2", ".css", ".mplstyle", ".cl"}
        }
    assert (installed / "devicelab/py.typed").is_file()
    assert list(installed.glob("devicelab-*.data/data/share/man/man1/devicelab.1"))
    assert list(installed.glob("devicelab-*.data/data/share/devicelab/json.schema.json"))
    assert list((installed / "devicelab/boards").glob("*.toml"))
    assert list((installed / "devicelab/workloads/scripts").glob("*.py"))


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    unknown = run(installed, tmp_path, "sweep", "nosuch", "--board", "local")
    assert unknown.returncode == 2
    assert "klo_under_load" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    fields = ("repetitions=1", "k=[4]", "foreign_pct=100", "foreign_core_pct=100")
    swept = run(installed, tmp_path, "sweep", "quick", "--board", "local", *(w for f in fields for w in ("--set", f)))
    assert swept.returncode == 0, swept.stderr
    assert list((tmp_path / "devicelab-report").glob("*.html"))
