"""Bounds of what the database takes and gives back, and how long it is waited for."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from devicelab.errors import ConfigError, StoreError
from devicelab.model.measurement import Measurement, Metric
from devicelab.model.night import Farm, JobEntry
from devicelab.store import Store, codec, figures, patience
from devicelab.store.check import check
from devicelab.store.engine import StoreChangedError
from devicelab.store.records import run_rows
from devicelab.store.sizes import BYTES_PER_RUN
from tests import labdata


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s.sqlite") as opened:
        yield opened


# --- blobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "taken"), [(99, True), (100, True), (101, False)])
def test_a_blob_holds_as_much_as_a_run_can_have(monkeypatch: pytest.MonkeyPatch, size: int, taken: bool) -> None:
    monkeypatch.setattr(codec, "_MAX_BYTES", 100)
    blob = codec.pack(b"x" * size)
    if taken:
        assert codec.unpack(blob) == b"x" * size
    else:
        with pytest.raises(ValueError, match="holds more than"):
            codec.unpack(blob)
    with pytest.raises(ValueError, match="is cut"):
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
    assert len(store.figures(nights[:1]).value) * 3 == len(whole)


@pytest.mark.parametrize(("several", "more"), [(8, False), (9, True)])
def test_a_prefix_that_several_have_names_eight_of_them(store: Store, several: int, more: bool) -> None:
    for n in range(several):
        fill(store, campaign=f"c-{n}")
    with pytest.raises(ConfigError) as told:
        store.campaign("c")
    assert told.value.message.count("c-") == min(several, 8)
    assert told.value.message.endswith(", ...") is more
    assert store.campaign("c-3").campaign == "c-3"


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


@pytest.mark.parametrize(("wrong", "told"), [(99, 99), (100, 101), (130, 101)])
def test_a_hundred_problems_are_told_and_that_there_are_more(
    store: Store, monkeypatch: pytest.MonkeyPatch, wrong: int, told: int
) -> None:
    monkeypatch.setattr("devicelab.store.check._problems", lambda *_: iter(["x"] * wrong))
    assert len(check(store._engine).problems) == told


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
