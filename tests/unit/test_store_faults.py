"""Full disk, locks, damage, strangers' files: an error that says what to do, and nothing lost."""

import io
import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.schema import CreateTable

import devicelab.store.engine
from devicelab.errors import StoreError
from devicelab.store import Store, schema
from tests import labdata


def commit(store: Store, campaign: str, identity: str) -> bool:
    return store.commit_run(
        campaign,
        store.cells(campaign)[0],
        labdata.record(identity, stdout=os.urandom(20_000).hex()),
        repetition=0,
        measurements={"measure": labdata.measurement(1)},
        flags=(),
    )


def test_a_full_disk_is_named_and_later_runs_can_be_stored(tmp_path: Path) -> None:
    with Store.open(tmp_path / "lab.sqlite") as store:
        campaign = labdata.begin(store)
        assert commit(store, campaign, "first")
        with store._engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StoreError, match="is full") as caught:
            commit(store, campaign, "second")
        assert "--resume" in str(caught.value)
        assert store.done_runs(campaign) == {"first"}
        with store._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1000000")
        assert commit(store, campaign, "second")
        assert store.check().ok


def test_a_lock_that_is_not_given_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devicelab.store.engine, "BUSY_S", 0.05)
    with Store.open(tmp_path / "lab.sqlite") as store:
        campaign = labdata.begin(store)
        assert commit(store, campaign, "first")
        other = sqlite3.connect(tmp_path / "lab.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process"):
            commit(store, campaign, "second")
        assert store.done_runs(campaign) == {"first"}, "readers are not disturbed by a writer"
        other.execute("ROLLBACK")
        other.close()
        assert commit(store, campaign, "second")


def test_a_transaction_into_whose_end_an_interruption_fell_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devicelab.store.engine, "BUSY_S", 0.05)
    with Store.open(tmp_path / "lab.sqlite") as store:
        campaign = labdata.begin(store)
        left = devicelab.store.engine.writer(store._engine).connect()
        left.begin()
        left.exec_driver_sql("DELETE FROM campaigns")  # never ended: its connection hangs in a traceback
        assert commit(store, campaign, "first")
        with ThreadPoolExecutor(1) as other:
            assert other.submit(commit, store, campaign, "second").result(timeout=20)
        assert store.done_runs(campaign) == {"first", "second"}
        left.close()
        assert commit(store, campaign, "third")


@pytest.mark.parametrize("fate", ["moved", "deleted", "replaced"])
def test_a_store_that_goes_away_while_it_is_used_is_named_and_nothing_is_stored_elsewhere(
    tmp_path: Path, fate: str
) -> None:
    path, away = tmp_path / "db" / "lab.sqlite", tmp_path / "away"
    with Store.open(path) as store:
        campaign = labdata.begin(store)
        assert commit(store, campaign, "first")
        path.parent.rename(away)
        if fate == "deleted":
            shutil.rmtree(away)
        elif fate == "replaced":
            path.parent.mkdir()
            path.write_bytes(b"")
        with pytest.raises(StoreError, match="moved, replaced or deleted") as caught:
            commit(store, campaign, "second")
        assert "put it back" in str(caught.value)
        if fate == "moved":
            away.rename(path.parent)
            assert store.done_runs(campaign) == {"first"}
            assert commit(store, campaign, "second")
            assert store.check().ok


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes\n" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a results database"):
        Store.open(path)
    assert path.read_bytes() == before


def test_somebody_elses_tables_are_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE runs (distance REAL)")
    other.close()
    with pytest.raises(StoreError, match="did not make"):
        Store.open(tmp_path / "other.sqlite")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path / "lab.sqlite").close()
    with sqlite3.connect(tmp_path / "lab.sqlite") as newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
    newer.close()
    with pytest.raises(StoreError, match="newer devicelab") as caught:
        Store.open(tmp_path / "lab.sqlite")
    assert "install the newer devicelab" in str(caught.value)


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(tmp_path)


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot create"):
        Store.open(tmp_path / "file" / "lab.sqlite")


def test_a_store_that_may_only_be_read_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lab.sqlite"
    with Store.open(path) as store:
        campaign = labdata.fill(store, labdata.experiment(repetitions=1))
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with Store.open(path) as store:
        assert len(store.results(campaign).runs()) == 6
        with pytest.raises(StoreError, match="may only be read"):
            store.finish_campaign(campaign, "failed")


def test_every_damaged_blob_is_found(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    with Store.open(path) as store:
        campaign = labdata.fill(store, labdata.experiment(repetitions=1))
        assert store.check().ok
        assert store.check().blobs == 6 * 4 + 2
    with sqlite3.connect(path) as raw:
        for table in ("samples", "evidence", "outputs"):
            raw.execute(f"UPDATE {table} SET data = zeroblob(20) WHERE run = 2")  # noqa: S608
        raw.execute("UPDATE documents SET data = zeroblob(20) WHERE sha256 IN (SELECT plan_sha256 FROM campaigns)")
        raw.execute("UPDATE campaigns SET runs_done = 7")
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute("INSERT INTO flags VALUES (999, 0, 'x', 'y')")
    raw.close()
    with Store.open(path) as store:
        report = store.check()
        problems = "\n".join(report.problems)
        for part in ("kernels", "evidence of run", "output of run", "document", "counts 7", "row None of flags"):
            assert part in problems or part.replace("None", "1") in problems, part
        results = store.results(campaign)
        with pytest.raises(StoreError, match="checksum"):
            results.samples("kernels")
        with pytest.raises(StoreError):
            store.plan_json(campaign)


def test_a_torn_file_is_reported_and_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    with Store.open(path) as store:
        labdata.fill(store, labdata.experiment(repetitions=2))
        store.vacuum()
    with sqlite3.connect(path) as raw:
        (page,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'samples'").fetchone()
    raw.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    with Store.open(path) as store:
        assert not store.check().ok


def test_vacuum_drops_what_nothing_refers_to(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    with Store.open(path) as store:
        campaign = labdata.fill(store)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute("DELETE FROM campaigns")
    raw.close()
    with Store.open(path) as store:
        assert store.vacuum() > 0
        assert store.campaigns() == ()
        report = store.check()
        assert (report.ok, report.blobs) == (True, 0), campaign


def _commit_until_killed(path: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with Store.open(path) as store:
        campaign = labdata.begin(store)
        for i in range(100_000):
            commit(store, campaign, f"run-{i}")
            if i == 3:
                ready.set()


@pytest.mark.slow
def test_a_killed_writer_leaves_only_whole_runs(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_commit_until_killed, args=(path, ready))
    process.start()
    assert ready.wait(60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with Store.open(path) as store:
        (info,) = store.unfinished(device="phone-1")
        done = store.done_runs(info.campaign)
        assert done == {f"run-{i}" for i in range(len(done))}
        assert len(done) >= 4
        assert store.check().problems == ()
        assert commit(store, info.campaign, f"run-{len(done)}")


def test_migrations_make_exactly_the_tables_the_code_uses(tmp_path: Path) -> None:
    Store.open(tmp_path / "lab.sqlite").close()
    engine = create_engine(f"sqlite:///{tmp_path}/lab.sqlite")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()


def columns(sql: str) -> dict[str, set[str]]:
    """Columns of each table, with types and what they must not be, and what stands behind the closing bracket."""
    found: dict[str, set[str]] = {}
    for made, body, rest in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)([^;\n]*)", sql, re.DOTALL):
        lines = {line.strip().rstrip(",") for line in body.splitlines() if line.strip()}
        found[made] = {line for line in lines if not line.startswith("CONSTRAINT")} | {rest.strip()}
    for table, added in re.findall(r"ALTER TABLE (\w+) ADD COLUMN ([^;]+)", sql):
        found[table].add(added.strip())
    return found


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_migrations_make_the_same_columns_for_either_database(dialect: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(devicelab.store.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    steps = list(ScriptDirectory.from_config(config).walk_revisions())
    said = io.StringIO()
    options = {"as_sql": True, "output_buffer": said}
    context = MigrationContext.configure(dialect_name=dialect, opts=options)
    with Operations.context(context):
        for step in reversed(steps):
            step.module.upgrade()
    tables = schema.metadata.sorted_tables
    wanted = "\n".join(str(CreateTable(table).compile(dialect=context.dialect)).rstrip() + ";" for table in tables)
    assert columns(said.getvalue()) == columns(wanted)


def test_the_newest_migration_is_the_one_the_code_expects() -> None:
    folder = Path(devicelab.store.__file__).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD
