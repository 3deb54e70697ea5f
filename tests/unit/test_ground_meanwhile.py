"""Loading meanwhile: what is asked for is there, what fails fails where it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

from devicelab.ground import meanwhile


def test_whoever_imports_it_next_has_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loaded_late.py").write_text("value = 7\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    meanwhile.load("loaded_late")
    import loaded_late  # type: ignore[import-not-found]

    assert loaded_late.value == 7


def test_one_that_fails_says_so_where_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loaded_badly.py").write_text("raise RuntimeError('broken')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    meanwhile.load("loaded_badly")
    with pytest.raises(RuntimeError, match="broken"):
        import loaded_badly  # type: ignore[import-not-found]  # noqa: F401
    meanwhile.load("there_is_no_such_library")  # says nothing


@pytest.mark.parametrize("library", ["pandas", "scipy", "matplotlib", "sqlalchemy"])
def test_a_sweep_looks_at_its_device_before_it_loads(library: str) -> None:
    code = f"import sys\nimport devicelab.cli\nfrom devicelab.jobs import sweep\nsys.exit({library!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("library", ["pandas", "scipy", "matplotlib"])
def test_a_store_takes_runs_without(library: str) -> None:
    code = f"import sys\nfrom devicelab.store import Store\nsys.exit({library!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
