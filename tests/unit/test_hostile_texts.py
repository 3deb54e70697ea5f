"""What devices, files and users say reaches no terminal, spreadsheet, folder or page as anything but text."""

import json
import os
import re
import shutil
import stat
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.cli import _night, _out
from devicelab.device import lab, probe
from devicelab.errors import ConfigError, DeviceRefusedError, StoreError
from devicelab.experiment import files
from devicelab.ground import safe_text
from devicelab.ground.files import replacing
from devicelab.jobs import bundle, conductor
from devicelab.model.campaign import BinaryInfo
from devicelab.store import Store
from devicelab.store import engine as places
from devicelab.store.export import spreadsheet_safe
from devicelab.transports.local import LocalTransport
from devicelab.transports.ssh import config
from tests import hostile, labdata

TITLE = "\x1b]0;owned\x07\x1b[2J\x9b31mred\r\x08\u202e"
FORMULAS = ("=cmd|'/c calc'!A0", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "  =1")
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_tables_and_lines_hold_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    _out.print_table(("name", "address"), [(TITLE, f"adb:{TITLE}"), (hostile.EVERY, None)])
    _out.say(TITLE)
    _out.echo(hostile.EVERY)
    said = capsys.readouterr()
    assert "owned" in said.out
    assert "red" in said.err
    assert not _OBEYED.search(said.out + said.err)


def test_bars_of_a_night_hold_nothing_that_a_terminal_obeys() -> None:
    shown = _night._escaped(f"{TITLE}[bold]x")
    assert not _OBEYED.search(shown)
    assert "\\[bold]" in shown


@given(st.text())
def test_json_for_machines_is_the_same_data_without_what_a_terminal_obeys(text: str) -> None:
    shown = safe_text.json_text(json.dumps({"device": text}, ensure_ascii=False))
    assert json.loads(shown) == {"device": text}
    assert not _OBEYED.search(shown)


def test_commands_say_nothing_past_the_one_place_that_cleans() -> None:
    folder = Path(_out.__file__).parent
    own = {"_out.py": 2, "__init__.py": 2, "build.py": 1, "_reference.py": 1}  # our own words, and JSON in ASCII
    for path in sorted(folder.glob("*.py")):
        found = re.findall(r"\b(?:typer|click)\.echo\(|(?<![\w.])print\(", path.read_text(encoding="utf-8"))
        assert len(found) <= own.get(path.name, 0), path.name


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_in_a_csv_cell_is_text_there(text: str) -> None:
    assert safe_text.csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-5", "+1.5e3", "-.5", "none", "1000 5000 20", "", "a=b"])
def test_numbers_and_ordinary_texts_stay_what_they_are_in_a_csv(text: str) -> None:
    assert safe_text.csv_cell(text) == text


def test_exported_frames_have_no_formula_in_cells_or_column_names(tmp_path: Path) -> None:
    frame = pd.DataFrame({"=evil()": ["=a", "b"], "value": [-1.5, 2.0], "mixed": pd.Series([4, "@x"], dtype=object)})
    text = spreadsheet_safe(frame).to_csv(index=False)
    assert text.splitlines() == ["'=evil(),value,mixed", "'=a,-1.5,4", "b,2.0,'@x"]
    with Store.open(tmp_path / "lab.sqlite") as store:
        of = labdata.experiment(factors={"load": ("none", FORMULAS[0])}, set={}, repetitions=1)
        campaign = labdata.begin(store, of)
        for seq, cell in enumerate(labdata.cells(of)):
            store.commit_run(
                campaign, cell, labdata.record(f"r{seq}", seq), repetition=0,
                measurements={"measure": labdata.measurement(seq)}, flags=(),
            )  # fmt: skip
        store.export(campaign, tmp_path / "out", "csv")
    runs = (tmp_path / "out" / "runs.csv").read_text()
    assert f",'{FORMULAS[0]}" in runs
    assert f",{FORMULAS[0]}" not in runs


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--store postgresql://me:s3cret@host/db", "--store postgresql://me:***@host/db"),
        ("postgresql://me:p@s3cret@host/db?x=a@b", "postgresql://me:***@host/db?x=a@b"),
        ("postgresql://me:p@ss/s3cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p/s?s3cret@host/db", "postgresql://me:***@host/db"),
        ("--store postgresql://me:p:s3c#ret@h/d -x a@b", "--store postgresql://me:***@h/d -x a@b"),
        ("postgresql://host/db?user=me&password=s3cret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("'ssh:root:s3cret@host:22'", "'ssh:root:***@host:22'"),
        ("host=h password=s3cret user=u", "host=h password=*** user=u"),
        ("adb:10.0.0.1:5555@host:5037", "adb:10.0.0.1:5555@host:5037"),
        ("ssh:me@[::1]:22 --set k=1,4", "ssh:me@[::1]:22 --set k=1,4"),
    ],
)
def test_passwords_are_masked_and_nothing_else(text: str, shown: str) -> None:
    assert safe_text.masked(text) == shown


def test_a_lab_with_a_password_in_it_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    for line in ('address = "ssh:root:s3cret@host"', 'address = "adb:1"\npassword = "s3cret"'):
        path.write_text(f"[devices.a]\n{line}\n")
        with pytest.raises(ConfigError) as caught:
            lab.load_lab(path)
        assert "s3cret" not in str(caught.value)


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        config.resolve("root:s3cret@host", "ssh:root:s3cret@host")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgresql://me:s3cret@127.0.0.1:1/db", "postgresql://127.0.0.1:1/db?password=s3cret"]
)
def test_a_database_that_does_not_answer_is_named_without_its_password(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(url)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in places.describe(places.locate(url))


@pytest.mark.parametrize("url", ["postgresql://me:p@s3cret@host/db", "postgresql://me:p/s3@cret@127.0.0.1:1/db"])
def test_a_password_that_is_not_escaped_is_a_mistake_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="%40") as caught:
        Store.open(url)
    assert "s3" not in str(caught.value)


def test_a_store_is_named_by_a_file(tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.write_text("postgresql://me:s3cret@host/db\n")
    assert "s3cret" not in places.describe(places.locate(f"@{file}"))
    file.write_text(f"{tmp_path / 'lab.sqlite'}\n# and more")
    assert places.locate(f"@{file}") == tmp_path / "lab.sqlite"
    for text in ("", "@x"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="names no store"):
            places.locate(f"@{file}")
    with pytest.raises(ConfigError, match="cannot read"):
        places.locate(f"@{tmp_path / 'none'}")


def test_a_command_line_is_stored_without_its_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def built(name: str, _abi: str, **_: object) -> SimpleNamespace:
        (tmp_path / name).write_bytes(b"")
        return SimpleNamespace(info=BinaryInfo(name=name, sha256="0" * 64), path=tmp_path / name, program=name)

    monkeypatch.setattr(bundle, "build", built)
    monkeypatch.setattr(sys, "argv", ["devicelab", "sweep", "quick", "--store", "postgresql://me:s3cret@db/lab"])
    entry = lab.DeviceEntry(name="m", address="ssh:m", board="linux", abi="x86_64")
    bundle.write_bundle(files.load("quick"), entry, tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as archive:
        member = archive.extractfile(bundle.MANIFEST)
        assert member is not None
        manifest = member.read().decode()
    assert json.loads(manifest)["command"].startswith("devicelab sweep quick --store")
    assert "s3cret" not in manifest
    assert conductor.typed is bundle.typed  # a sweep that runs here keeps its command in the same way


def test_a_link_laid_where_a_file_is_going_to_be_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    (tmp_path / f".page.html.{os.getpid()}.part").symlink_to(victim)
    with replacing(tmp_path / "page.html") as path:
        path.write_text("page")
    assert victim.read_text() == "as it was"
    assert (tmp_path / "page.html").read_text() == "page"
    assert not (tmp_path / "page.html").is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "victim"]


def test_a_file_that_fails_leaves_the_old_one_and_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("old")

    def fail() -> None:
        with replacing(tmp_path / "page.html") as path:
            path.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "old"


def test_a_device_that_is_named_as_a_file_stays_a_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with replacing(tmp_path / "pipe") as path:
        assert path == tmp_path / "pipe"
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]
    assert path.is_fifo()


def test_a_store_and_its_side_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    with Store.open(tmp_path / "lab.sqlite") as store:
        labdata.begin(store)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes
    assert set(modes.values()) == {0o600}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make somebody else's files")
@pytest.mark.parametrize("what", ["folder", "link", "linked", "agent", "writable", "bin"])
def test_a_folder_of_ones_own_that_is_somebody_elses_is_not_used(tmp_path: Path, what: str) -> None:
    place, other = tmp_path / "lab", tmp_path / "other"
    for folder in (place / "bin", other / "bin"):
        folder.mkdir(parents=True)
    (place / "bin" / "agent").write_text("#!/bin/sh\n")
    if what in {"link", "linked"}:
        shutil.rmtree(place)
        place.symlink_to(other)
    victim = {"linked": other, "agent": place / "bin" / "agent", "bin": place / "bin"}.get(what, place)
    if what == "writable":
        place.chmod(0o777)
    else:
        os.chown(victim, 65534, 65534, follow_symlinks=False)
    entry = lab.DeviceEntry(name="box", address="local:", dir=str(place))
    with pytest.raises(DeviceRefusedError, match="belongs to somebody else") as caught:
        probe.probe(entry, LocalTransport("local:"))
    assert caught.value.device == "box"


def test_a_folder_where_all_may_write_and_nobody_replace_is_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    entry = lab.DeviceEntry(name="box", address="local:", dir=str(tmp_path))
    assert probe.probe(entry, LocalTransport("local:")).dir == str(tmp_path)


def test_a_folder_of_ones_own_is_made_for_us_alone(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "lab"
    entry = lab.DeviceEntry(name="box", address="local:", dir=str(place))
    assert probe.probe(entry, LocalTransport("local:")).dir == str(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    (tmp_path / "link").symlink_to(place)
    linked = lab.DeviceEntry(name="box", address="local:", dir=str(tmp_path / "link"))
    assert probe.probe(linked, LocalTransport("local:")).dir == str(tmp_path / "link")


def test_a_folder_on_the_device_that_somebody_else_made_is_not_used() -> None:
    said = "machine=x86_64\nroot=sudo\ntaken=/var/tmp/devicelab-1000\ndir=/var/tmp/devicelab-1000\n--- props\n"
    with pytest.raises(DeviceRefusedError, match="belongs to somebody else"):
        probe.parse_probe(said)
