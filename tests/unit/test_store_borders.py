"""Bounds of what the database takes and gives back, and how long it is waited for."""

import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from devicelab.errors import LabError, StoreError
from devicelab.model.campaign import CampaignInfo
from devicelab.model.journal import Flag
from devicelab.model.measurement import Measurement, Metric
from devicelab.model.night import Farm, JobEntry, Task
from devicelab.store import Store, codec, engine, figures, patience
from devicelab.store.check import check
from devicelab.store.engine import StoreChangedError
from devicelab.store.records import run_rows
from devicelab.store.sizes import BYTES_PER_RUN
from tests import labdata


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with labdata.new_store(tmp_path / "s.sqlite") as opened:
        yield opened


# --- blobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "taken"), [(99, True), (100, True), (101, False)])
def test_a_blob_holds_as_much_as_a_run_can_have(monkeypatch: pytest.MonkeyPatch, size: int, taken: bool) -> None:
    monkeypatch.setattr(codec, "_MAX_BYTES", 100)
    blob = codec.pack(b"x" * size)
    if taken:
        assert codec.unpack(blob) == b"x" * size
    else:
        with pytest.raises(ValueError, match="holds more than 100 bytes"):
            codec.unpack(blob)
    with pytest.raises(ValueError, match=r"is cut$"):
        codec.unpack(codec.pack(b"x" * 50)[:-1])


def sealed(head: str, body: bytes) -> bytes:
    return codec.pack(head.encode() + body)


def test_a_table_has_the_rows_and_columns_its_head_says() -> None:
    head = '{"format":1,"rows":%d,"columns":[["a","int64"],["b","float64"]]}\n'
    one = codec.decode_table(sealed(head % 1, bytes([5, *[0] * 7]) + bytes(8)))
    assert {name: column.tolist() for name, column in one.items()} == {"a": [5], "b": [0.0]}
    for rows, size in ((1, 15), (1, 17), (0, 1), (-1, 16), (2, 16)):
        with pytest.raises(ValueError, match="should be"):
            codec.decode_table(sealed(head % rows, bytes(size)))
    assert codec.decode_table(sealed(head % 0, b""))["a"].size == 0
    with pytest.raises(ValueError, match="unknown format"):
        codec.decode_table(sealed(head.replace('"format":1', '"format":2') % 0, b""))
    with pytest.raises(ValueError, match="unknown format"):
        codec.decode_table(sealed((head % 0).rstrip("\n"), b""))


@pytest.mark.parametrize("empty", [[], np.array([], str), np.array([], object), np.array([], bool), np.array([], int)])
def test_a_table_without_rows_keeps_its_columns_whatever_they_would_hold(empty: Any) -> None:
    rows, blob = codec.encode_table({"a": empty, "b": empty})
    assert rows == 0
    assert {name: len(column) for name, column in codec.decode_table(blob).items()} == {"a": 0, "b": 0}
    assert codec.encode_table({})[0] == 0
    assert codec.decode_table(codec.encode_table({})[1]) == {}
    for wrong in (np.array(["x"]), np.array([object()]), np.array([["x"]])):
        with pytest.raises(ValueError, match="column 'a'"):
            codec.encode_table({"a": wrong})


def test_a_head_is_plain_ascii_on_a_line_of_its_own_whatever_columns_are_called_and_hold() -> None:
    values = {"\ud83d\ud800 größe\n": np.array([10, 20, 10]), "b": np.array([2570, 0, -10])}
    rows, blob = codec.encode_table(values)
    head, _, body = codec.unpack(blob).partition(b"\n")
    assert head.isascii()
    assert json.loads(head)["rows"] == rows == 3
    assert len(body) == 2 * 3 * 8
    assert {name: column.tolist() for name, column in codec.decode_table(blob).items()} == {
        name: column.tolist() for name, column in values.items()
    }


# --- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [-(1 << 63) - 1, -(1 << 63), 0, (1 << 63) - 1, 1 << 63])
def test_a_number_of_a_device_is_held_within_a_column(given: int) -> None:
    record = labdata.record("r").model_copy(update={"t_unix_ns": given})
    kept = run_rows(record, 0, {}, ()).run["t_unix_ns"]
    assert kept == min(max(given, -(1 << 63)), (1 << 63) - 1)
    assert int(np.int64(kept)) == kept


def test_a_run_lasts_from_its_start_to_its_end_and_a_figure_that_is_none_is_left_empty() -> None:
    record = labdata.record("r").model_copy(update={"t_start_ns": 7, "t_end_ns": 19})
    said = Measurement(metrics={"a": Metric(1.5, "ns"), "b": Metric(math.nan, "ns"), "c": Metric(math.inf, "ns")})
    rows = run_rows(record, 3, {"m": said}, ())
    assert (rows.run["duration_ns"], rows.run["repetition"], rows.run["valid"]) == (12, 3, True)
    assert rows.metrics == {("m", "a", "ns"): 1.5, ("m", "b", "ns"): None, ("m", "c", "ns"): math.inf}


@pytest.mark.parametrize("simulated", [(False, False), (True, False), (False, True)])
def test_a_run_with_one_simulated_program_is_simulated(simulated: tuple[bool, bool]) -> None:
    programs = {str(n): Measurement(metrics={}, simulated=one) for n, one in enumerate(simulated)}
    assert run_rows(labdata.record("r"), 0, programs, ()).run["simulated"] is any(simulated)


# --- what was stored comes back ------------------------------------------------------------------------------------


def fill(store: Store, **more: Any) -> str:
    """A campaign of one run."""
    of = labdata.experiment()
    cells = labdata.cells(of)
    name = store.begin_campaign(
        experiment=of, facts=labdata.facts(), cells=cells, command="", binaries=(), plan_json=None, **more
    )
    record = labdata.record(labdata.run_id(name, cells[0], 0))
    store.commit_run(name, cells[0], record, repetition=0, measurements={"measure": labdata.measurement(1)}, flags=())
    store.finish_campaign(name, "complete")
    return name


def test_many_figures_are_read_in_parts_as_all_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    farm = Farm(name="f", jobs=(JobEntry(experiment="e", devices="d"),))
    nights = [store.begin_night(farm) for _ in range(3)]
    for night in nights:
        fill(store, night=night)

    def read() -> list[tuple[Any, ...]]:
        got = store.figures(nights)
        rows = zip(got.campaign.tolist(), got.cell.tolist(), got.name.tolist(), got.value.tolist(), strict=True)
        return sorted((got.campaigns[c].campaign, got.cells[e], got.names[n], value) for c, e, n, value in rows)

    whole = read()
    assert len({campaign for campaign, *_ in whole}) == 3
    for many in (1, 2, 3):
        monkeypatch.setattr(figures, "_MANY", many)
        assert read() == whole
        of = labdata.experiment(name=f"in parts of {many}")
        assert store.cells(labdata.begin(store, of)) == labdata.cells(of)
    assert len(store.figures(nights[:1]).value) * 3 == len(whole)


@pytest.mark.parametrize("several", [2, 8, 9, 10])
def test_a_prefix_that_several_have_names_eight_of_them_and_an_id_in_full_is_that_one(
    store: Store, several: int
) -> None:
    """Of campaigns as of nights; no sign stands for others."""
    of, farm = labdata.experiment(), Farm(name="f", jobs=(JobEntry(experiment="e", devices="d"),))
    begin = {"experiment": of, "facts": labdata.facts(), "command": "", "binaries": (), "plan_json": None}
    ids = ["c", *(f"c{n}" for n in range(several - 1))]
    for name in ("b", *ids):
        store.begin_night(farm, night=name)
        store.begin_campaign(**begin, cells=labdata.cells(of)[:1], campaign=name)
    asked: list[Callable[[str | None], str]] = [
        lambda ref: store.campaign(ref).campaign,
        lambda ref: store.night(ref).night,
    ]
    for id_of in asked:
        assert [id_of(name) for name in ("b", *ids)] == ["b", *ids]
        assert id_of(None) == ids[-1]
        for nothing in ("%", "_", "d"):
            with pytest.raises(LabError, match=f"no (campaign|night) '{nothing}'"):
                id_of(nothing)
    store.delete_night("c")
    with store._writer.begin() as connection:
        connection.execute(text("DELETE FROM campaigns WHERE campaign = 'c'"))
    for id_of in asked:
        if several == 2:
            assert id_of("c") == "c0"
            continue
        with pytest.raises(LabError, match="several") as told:
            id_of("c")
        names = told.value.message.partition(": ")[2].removesuffix(", ...").split(", ")
        assert names == sorted(ids[1:], reverse=True)[:8]
        assert told.value.message.endswith(", ...") is (several - 1 > 8)


def test_a_night_takes_its_blobs_and_an_allowance_for_every_run(store: Store) -> None:
    farm = Farm(name="f", jobs=(JobEntry(experiment="e", devices="d"),))
    night, empty = store.begin_night(farm), store.begin_night(farm)
    name = fill(store, night=night)
    sizes = {one.night: one for one in store.night_sizes()}
    assert (sizes[empty].bytes, sizes[empty].sample_bytes) == (0, 0)
    blobs = sizes[night].bytes - store.campaign(name).runs_done * BYTES_PER_RUN
    assert blobs > sizes[night].sample_bytes > 0
    store.thin_samples(name)
    thin = {one.night: one for one in store.night_sizes()}[night]
    assert (thin.bytes, thin.sample_bytes) == (sizes[night].bytes - sizes[night].sample_bytes, 0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("runs_done = runs_done + 1", "counts 31 runs"),
        ("runs_invalid = runs_invalid + 1", "counts 30 runs (1 invalid) but holds 30 (0 invalid)"),
        ("thinned_rows = thinned_rows + 1", "counts 1 rows of dropped samples but notes 0"),
        ("runs_done = runs_done", ""),
    ],
)
def test_a_counter_that_is_off_by_one_is_found(store: Store, change: str, problem: str) -> None:
    labdata.fill(store)
    with store._writer.begin() as connection:
        connection.execute(text(f"UPDATE campaigns SET {change}"))  # noqa: S608 - a test's own text
    found = check(store._engine)
    assert bool(found.problems) is bool(problem)
    assert found.ok is not bool(problem)
    assert problem in "".join(found.problems)
    assert (found.campaigns, found.runs) == (1, 30)
    assert found.blobs > 3 * 30


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE samples SET rows = rows + 1 WHERE run = 2 AND name = 'kernels'", "kernels): holds 96 rows, not 97"),
        ("UPDATE outputs SET bytes = bytes + 1 WHERE run = 2", "(measure): holds 11 bytes, not 12"),
        ("UPDATE evidence SET sha256 = 'x' WHERE run = 2", ": does not fit its checksum"),
        (
            "UPDATE tasks SET campaign = 'nowhere'",
            "task t of night n was measured in campaign nowhere, which is not st",
        ),
        ("UPDATE campaigns SET night = 'm'", "task t of night n was measured in campaign c of night m"),
        ("UPDATE tasks SET status = 'failed', campaign = 'nowhere'", ""),
        ("UPDATE tasks SET status = 'failed'", ""),
    ],
)
def test_each_kind_of_damage_is_found_once_and_named(store: Store, change: str, problem: str) -> None:
    farm = Farm(name="f", jobs=(JobEntry(experiment="e", devices="d"),))
    for night in ("n", "m"):
        store.begin_night(farm, night=night)
    for _ in range(2):
        fill(store, night="n", campaign="c" if not store.campaigns() else None)
    store.put_tasks("n", [Task(task_id="t", job=0, experiment="e", selector="d", status="complete", campaign="c")])
    found = store.check()
    assert (found.campaigns, found.runs, found.nights, found.problems) == (2, 2, 2, ())
    assert found.blobs == 2 * 4 + 1, "two tables, evidence and output of each run, and the nodes of both"
    with store._writer.begin() as connection:
        connection.execute(text(change))
    problems = store.check().problems
    assert len(problems) == bool(problem)
    assert problem in "".join(problems)
    assert not problems or "evidence" not in problems[0] or "(" not in problems[0]


@pytest.mark.parametrize(("wrong", "told"), [(99, 99), (100, 101), (130, 101)])
def test_a_hundred_problems_are_told_and_that_there_are_more(
    store: Store, monkeypatch: pytest.MonkeyPatch, wrong: int, told: int
) -> None:
    monkeypatch.setattr("devicelab.store.check._problems", lambda *_: iter(["x"] * wrong))
    assert len(check(store._engine).problems) == told


def at(store: Store, *runs: tuple[int, int], flagged: str = "", elsewhere: bool = False) -> CampaignInfo:
    """A finished campaign of runs that began and took so many nanoseconds; the first of them has the flag."""
    name, cell = labdata.begin(store), labdata.cells(labdata.experiment())[0]
    for seq, (began, took) in enumerate(runs):
        record = labdata.record(f"{name}-{seq}")
        record = record.model_copy(update={"t_unix_ns": began, "t_start_ns": 1000, "t_end_ns": 1000 + took})
        flags = [Flag(code=flagged, detail="")] if flagged and seq == 0 else []
        store.commit_run(name, cell, record, repetition=seq, measurements={}, flags=flags)
    store.finish_campaign(name, "complete", "as it was", elsewhere=elsewhere)
    return store.campaign(name)


def test_a_bundle_began_and_ended_with_its_runs_and_the_end_fits_its_column(store: Store) -> None:
    last = (1 << 63) - 1
    for runs, span in (
        ([(50, 10), (20, 100), (90, 5)], (20, 120)),
        ([(last - 5, 5)], (last - 5, last)),
        ([(last - 5, 4)], (last - 5, last - 1)),
        ([(last - 5, 6), (7, 1)], (7, last)),
    ):
        info = at(store, *runs, elsewhere=True)
        assert (info.started_unix_ns, info.ended_unix_ns) == span
    assert at(store, elsewhere=True).ended_unix_ns is not None
    here = at(store, (50, 10))
    assert here.started_unix_ns > 10**18
    assert here.ended_unix_ns is not None
    assert here.ended_unix_ns >= here.started_unix_ns


@pytest.mark.parametrize(
    ("flagged", "runs", "status", "reason"),
    [
        ("", 2, "complete", "as it was"),
        ("hot", 1, "unreliable", "1 of 1 runs are flagged"),
        ("hot", 2, "unreliable", "1 of 2 runs are flagged"),
        ("hot", 3, "complete", "as it was"),
        ("traced", 1, "complete", "as it was"),
        ("traced", 2, "complete", "as it was"),
    ],
)
def test_half_of_the_runs_flagged_is_unreliable_and_a_traced_run_counts_for_nothing(
    store: Store, flagged: str, runs: int, status: str, reason: str
) -> None:
    info = at(store, *[(5, 5)] * runs, flagged=flagged)
    assert (info.status, info.reason) == (status, reason)
    bundle = at(store, *[(5, 5)] * runs, flagged=flagged, elsewhere=True)
    assert (bundle.status, bundle.reason) == ("complete", "as it was")
    assert (info.runs_done, info.runs_invalid) == (runs, int(bool(flagged)))


def test_unused_space_does_not_count_and_is_given_back(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with store._engine.connect() as connection:
        page = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    labdata.fill(store)
    with store._writer.begin() as connection:
        connection.execute(text("DELETE FROM samples"))
    store._engine.dispose()
    before, used = path.stat().st_size, store.used_bytes()
    assert used % page == 0
    assert page < used < before
    freed = store.vacuum()
    assert store.used_bytes() == path.stat().st_size <= used
    assert freed >= before - path.stat().st_size > 0
    assert store.vacuum() == 0


def test_a_server_that_is_not_there_is_not_waited_for_when_a_store_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    class OperationalError(Exception):
        """As psycopg's where no server answered."""

    asked: list[float] = []

    def refused(store: Store) -> None:
        asked.append(store.patience_s)
        raise StoreError("not reachable") from DBAPIError("x", {}, OperationalError("connection refused"))

    monkeypatch.setattr(Store, "_up_to_date", refused)
    with pytest.raises(StoreError):
        Store.open("postgresql://host/name")
    assert len(asked) == 1
    monkeypatch.setattr(Store, "_up_to_date", lambda _: None)
    with Store.open("postgresql://host/name") as server:
        assert server.patience_s == Store.patience_s > 0


def test_folders_that_are_made_for_the_file_are_safe_from_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Path] = []
    monkeypatch.setattr(engine, "synced", kept.append)
    engine._new_file(tmp_path / "a" / "b" / "s.sqlite")
    assert kept == [tmp_path / "a" / "b", tmp_path / "a", tmp_path]
    kept.clear()
    for _ in range(2):
        engine._new_file(tmp_path / "s.sqlite")
        assert kept == [tmp_path]
        kept.clear()


def test_writing_ahead_is_waited_for_as_long_as_any_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(engine.time, "sleep", lambda seconds: now.append(now.pop() + seconds))

    def database(code: int, until_s: float) -> Any:
        class Busy:
            def __init__(self) -> None:
                self.said: list[str] = []

            def execute(self, sql: str) -> Any:
                self.said.append(sql)
                if now[0] < until_s:
                    error = sqlite3.OperationalError("x")
                    error.sqlite_errorcode = code
                    raise error
                return SimpleNamespace(fetchone=lambda: ("delete",))

        return Busy()

    for code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_BUSY | 1 << 8):
        now[0] = 0.0
        asked = database(code, engine.BUSY_S)
        engine._write_ahead(asked)
        assert asked.said[-2:] == ["PRAGMA journal_mode", "PRAGMA journal_mode=WAL"]
        assert engine.BUSY_S <= now[0] < engine.BUSY_S + 0.1
        with pytest.raises(sqlite3.OperationalError):
            engine._write_ahead(database(code, 1e9))
    for code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY | 5 << 8):
        now[0] = 0.0
        with pytest.raises(sqlite3.OperationalError):
            engine._write_ahead(database(code, 1.0))
        assert now[0] == 0.0


# --- patience ------------------------------------------------------------------------------------------------------


class Away:
    """Something like a store that is away until a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, until_s: float, *, changed: bool = False) -> None:
        self._place: Any = "a path" if changed else make_url("postgresql://h/d")
        self.patience_s, self.now_s, self.until_s, self.changed = 60.0, 0.0, until_s, changed
        self.slept: list[float] = []
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(patience.time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    @patience.patient
    def ask(self) -> str:
        if self.now_s >= self.until_s:
            return "there"
        if self.changed:
            raise StoreChangedError("changed")
        cause = DBAPIError("x", {}, type("OperationalError", (Exception,), {"sqlstate": "57P01"})())
        raise StoreError("away") from cause


@pytest.mark.parametrize(("changed", "patience_s"), [(False, 60.0), (True, 20.0)])
def test_it_is_waited_for_as_long_as_was_said_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, changed: bool, patience_s: float
) -> None:
    assert Away(monkeypatch, patience_s, changed=changed).ask() == "there"
    late = Away(monkeypatch, patience_s + 0.01, changed=changed)
    with pytest.raises(StoreError):
        late.ask()
    assert sum(late.slept) == pytest.approx(patience_s)
    # From one look to the next a little longer, and never so long that one waits in vain.
    assert late.slept[:3] == pytest.approx([0.2, 0.3, 0.45])
    assert max(late.slept) <= 5.0
    assert sorted(late.slept[:-1]) == late.slept[:-1]
