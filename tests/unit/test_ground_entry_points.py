"""Entry points read from files are those that ``importlib.metadata`` finds."""

import sys
import zipfile
from pathlib import Path

import pytest

from devicelab.ground import entry_points

_TEXT = """
# of somebody's
[devicelab.knobs]
fan = a_lab.fan:knob
; not=a comment
 spaced  =  a_lab.b

[other]
x = y
[devicelab.knobs.more]
z = w
"""


def _install(folder: Path, name: str, text: str, called: str | None = None) -> None:
    info = folder / name
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(text)
    head = f"Metadata-Version: 2.1\nName: {called}\nVersion: 1\n" if called else ""
    (info / "METADATA").write_text(f"{head}\nName: in the description\n")


@pytest.mark.parametrize("group", ["console_scripts", "devicelab.commands", "devicelab.transports", "nobody.has.it"])
def test_what_is_installed_here_is_found_alike(group: str) -> None:
    assert sorted(entry_points.of_group(group)) == sorted(entry_points.asked(group))


def test_odd_files_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    _install(first, "A_Lab-1.0.dist-info", _TEXT, "A.Lab")
    _install(second, "a.lab-2.0.dist-info", _TEXT.replace("fan", "newer"), "a-lab")  # the same, behind it in the path
    _install(second, "b.egg-info", _TEXT, "b")
    (second / "c-1.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(first), str(second), str(tmp_path / "gone"), *sys.path])
    found = entry_points.of_group("devicelab.knobs")
    assert sorted(found) == sorted(entry_points.asked("devicelab.knobs"))
    assert ("fan", "a_lab.fan:knob", "A.Lab") in found


def test_a_distribution_in_a_zip_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as file:
        file.writestr("z_lab-1.dist-info/METADATA", "Name: z-lab\n")
        file.writestr("z_lab-1.dist-info/entry_points.txt", "[devicelab.knobs]\nzipped = z_lab\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "lib.zip"), *sys.path])
    assert ("zipped", "z_lab", "z-lab") in entry_points.of_group("devicelab.knobs")
