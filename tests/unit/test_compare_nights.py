"""Verdicts of a night from a stored history with known truth."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update
from typer.testing import CliRunner

from devicelab.cli import app
from devicelab.compare import nights
from devicelab.compare.nights.causes import differences
from devicelab.compare.nights.data import worse
from devicelab.errors import CheckFailedError
from devicelab.model.night import CellVerdict, Task
from devicelab.store import Store
from devicelab.store import schema as s
from tests import nightdata
from tests.nightdata import History

LENGTH = 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "nights.sqlite") as opened:
        yield opened


def by(percent: float, *, first: int = LENGTH - 1, cell: int = 1) -> Callable[[int, str, int], float]:
    """A shift of one cell since a night."""
    return lambda night, _device, of: 1 + percent / 100 if of == cell and night >= first else 1.0


def last(store: Store, **changes: Any) -> dict[str, CellVerdict]:
    """Verdicts of the newest night of a history, by cell."""
    newest = nightdata.fill(store, History(nights=changes.pop("nights", LENGTH), **changes))[-1]
    return judged(store, newest)


def judged(store: Store, night: str, baseline: int = 7) -> dict[str, CellVerdict]:
    return {one.cell: one for one in nights.judge(store, night, baseline_nights=baseline)}


def test_a_slower_cell_is_a_regression_and_comes_first(store: Store) -> None:
    found = last(store, factor=by(9))
    first, *others = found.values()
    assert (first.cell, first.verdict) == ("load=none, k=2", "regression")
    assert first.shift_pct == pytest.approx(9, abs=2.5)
    assert first.low_pct is not None
    assert first.high_pct is not None
    assert 0 < first.low_pct < first.shift_pct < first.high_pct
    assert first.q_value is not None
    assert first.q_value <= 0.05
    assert (first.n, first.n_baseline, len(first.baseline)) == (5, 35, 7)
    assert {one.verdict for one in others} == {"unchanged"}
    assert nights.suspicious(tuple(found.values())) == (first,)


def test_a_faster_cell_is_an_improvement(store: Store) -> None:
    assert last(store, factor=by(-9))["load=none, k=2"].verdict == "improvement"


def test_a_lower_rate_is_a_regression(store: Store) -> None:
    assert last(store, factor=by(-9), metric="throughput_per_s", unit="1/s")["load=none, k=2"].verdict == "regression"


def test_a_figure_nobody_knows_the_better_way_of_is_said_to_have_changed(store: Store) -> None:
    found = last(store, factor=by(9), metric="clusters", unit="1")["load=none, k=2"]
    assert found.verdict == "not comparable"
    assert "which way is better is not known" in found.reasons[-1]


def test_a_small_shift_is_seen_once_three_nights_show_it_and_its_first_night_is_named(store: Store) -> None:
    found = last(store, factor=by(5, first=LENGTH - 3))["load=none, k=2"]
    assert found.verdict == "regression"
    assert found.since == nightdata.night_id(History(), LENGTH - 3)
    assert found.n == 15
    assert found.baseline[-1] == nightdata.night_id(History(), LENGTH - 4)


def test_the_first_nights_have_nothing_to_be_compared_with(store: Store) -> None:
    ids = nightdata.fill(store, History(nights=4))
    assert {one.verdict for one in judged(store, ids[0]).values()} == {"not comparable"}
    assert "2 earlier nights measured it, 3 are needed" in judged(store, ids[2])["load=none, k=1"].reasons
    assert {one.verdict for one in judged(store, ids[3]).values()} <= {"unchanged", "too noisy"}


def test_a_changed_platform_is_named_and_never_compared_across(store: Store) -> None:
    def facts(night: int, _device: str) -> dict[str, Any]:
        return {"kernel": "4.14.190"} if night >= LENGTH - 2 else {}

    found = last(store, factor=by(9, first=LENGTH - 2), facts=facts)
    assert {one.verdict for one in found.values()} == {"not comparable"}
    moved = found["load=none, k=2"]
    assert moved.causes == ("kernel: 4.14.113 → 4.14.190",)
    assert moved.shift_pct == pytest.approx(9, abs=2.5)
    assert moved.q_value is None
    more = nightdata.fill(store, History(nights=2, first=LENGTH, factor=by(9, first=0), facts=facts))
    assert {one.verdict for one in judged(store, more[-1]).values()} == {"unchanged"}, "three nights of its own"


def test_nights_of_an_older_platform_serve_again_when_it_comes_back(store: Store) -> None:
    def facts(night: int, _device: str) -> dict[str, Any]:
        return {"kernel": "4.14.190"} if night == LENGTH - 2 else {}

    found = last(store, facts=facts)
    assert {one.verdict for one in found.values()} == {"unchanged"}
    assert all(nightdata.night_id(History(), LENGTH - 2) not in one.baseline for one in found.values())


def test_a_new_binary_is_named_and_what_moved_with_it_is_no_regression(store: Store) -> None:
    found = last(store, factor=by(9), binary=lambda night: ("c" if night == LENGTH - 1 else "b") * 64)
    assert found["load=none, k=2"].verdict == "not comparable"
    assert found["load=none, k=1"].verdict == "unchanged"
    for one in found.values():
        assert one.causes == ("binary klo: bbbbbbbbbbbb → cccccccccccc",)


def test_flagged_runs_never_enter(store: Store) -> None:
    found = last(store, cells=2, invalid_every=2)
    assert found["load=none, k=1"].n_baseline == 35
    assert "load=none, k=2" not in found, "it never had a valid run"


def test_a_cell_without_a_valid_run_this_night_is_not_silently_dropped(store: Store) -> None:
    nightdata.fill(store, History(nights=LENGTH - 1, cells=2))
    newest = nightdata.fill(store, History(nights=1, first=LENGTH - 1, cells=2, invalid_every=2))[-1]
    found = judged(store, newest)["load=none, k=2"]
    assert (found.verdict, found.n) == ("not comparable", 0)
    assert "no valid run" in found.reasons[0]


def test_too_few_repetitions_are_too_noisy(store: Store) -> None:
    nightdata.fill(store, History(nights=LENGTH - 1))
    newest = nightdata.fill(store, History(nights=1, first=LENGTH - 1, repetitions=2, factor=by(9)))[-1]
    found = judged(store, newest)["load=none, k=2"]
    assert found.verdict == "too noisy"
    assert found.reasons == ("2 valid repetitions this night, usual are 5",)


def test_a_cell_in_which_ten_percent_would_go_unseen_is_too_noisy(store: Store) -> None:
    found = last(store, night_noise=0.08)
    assert {one.verdict for one in found.values()} == {"too noisy"}


def test_unfinished_nights_and_nights_of_other_farms_are_no_baseline(store: Store) -> None:
    nightdata.fill(store, History(nights=10, farm="other", factor=by(50, first=0)))
    ids = nightdata.fill(store, History(nights=10, first=10))
    with store._writer.begin() as connection:
        connection.execute(update(s.nights).where(s.nights.c.night == ids[-2]).values(status="running"))
    baseline = judged(store, ids[-1])["load=none, k=1"].baseline
    assert baseline == ids[1:-2]


def test_a_night_judged_again_later_does_not_see_what_came_after_it(store: Store) -> None:
    ids = nightdata.fill(store, History(nights=20))
    before = nights.judge(store, ids[-1], baseline_nights=7)
    nightdata.fill(store, History(nights=3, first=20, factor=by(40, first=0)))
    assert nights.judge(store, ids[-1], baseline_nights=7) == before


@pytest.mark.parametrize(("factor", "verdict", "confirmed"), [(1.09, "regression", True), (1.0, "unchanged", False)])
def test_a_second_measurement_confirms_or_clears(store: Store, factor: float, verdict: str, *, confirmed: bool) -> None:
    of = History(nights=LENGTH, factor=by(9))
    newest = nightdata.fill(store, of)[-1]
    first = store.tasks(newest)[0]
    # The second campaign comes from a night of its own and is then given to this one.
    other = History(nights=1, first=LENGTH, farm="again", seed=9, factor=lambda *_: factor)
    nightdata.fill(store, other)
    campaign = nightdata.campaign_id(LENGTH, 0)
    nightdata.adopt(store, newest, campaign)
    task = first.model_copy(update={"task_id": "second", "confirms": first.task_id, "campaign": campaign})
    store.put_tasks(newest, [Task.model_validate(task.model_dump())])
    found = judged(store, newest)["load=none, k=2"]
    assert (found.verdict, found.confirmed) == (verdict, confirmed)
    assert any(reason.startswith("measured again") for reason in found.reasons)
    assert nights.suspicious([found]) == ()


def test_what_never_happened_and_now_does_is_a_regression_without_a_percentage(store: Store) -> None:
    nightdata.fill(store, History(nights=LENGTH - 1, metric="dropped", unit="1", base=0.0))
    newest = nightdata.fill(store, History(nights=1, first=LENGTH - 1, metric="dropped", unit="1", base=50.0))[-1]
    found = judged(store, newest)["load=none, k=1"]
    assert (found.verdict, found.shift_pct) == ("regression", None)
    again = last(store, farm="zero", first=100, metric="missed", unit="1", base=0.0)
    assert {one.verdict for one in again.values()} == {"unchanged"}


def test_a_whole_device_that_moved_is_said_to_have(store: Store) -> None:
    found = last(store, cells=6, factor=lambda night, *_: 1.1 if night == LENGTH - 1 else 1.0)
    assert {one.verdict for one in found.values()} == {"regression"}
    assert all("6 of 6 figures of this device moved the same way" in one.reasons[-1] for one in found.values())


def test_without_runs_there_are_no_verdicts_and_without_a_baseline_no_judgement(store: Store) -> None:
    night = nightdata.put_night(store, History(), 0)
    assert nights.judge(store, night, baseline_nights=7) == ()
    with pytest.raises(ValueError, match="1 or more"):
        nights.judge(store, night, baseline_nights=0)


@pytest.mark.parametrize(
    ("metric", "unit", "way"),
    [
        ("total_ns", "ns", "more"),
        ("throughput_per_s", "1/s", "less"),
        ("read", "MB/s", "less"),
        ("dropped", "1", "more"),
        ("kernels_per_us", "1/us", "less"),
        ("dropped_per_s", "1/s", "more"),
        ("share_pct", "pct", "less"),
        ("gpu_use_pct", "pct", None),
        ("clusters", "1", None),
    ],
)
def test_which_way_is_worse(metric: str, unit: str, way: str | None) -> None:
    assert worse(metric, unit) == way


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=3)), st.dictionaries(st.sampled_from("abc"), st.text()))
def test_only_what_both_know_can_differ(a: dict[str, str], b: dict[str, str]) -> None:
    found = differences(a, b)
    assert len(found) == sum(bool(a.get(name)) and bool(b[name]) and a[name] != b[name] for name in b)
    assert differences(a, a) == ()


def test_the_command_lists_nights_and_shows_the_worst_first(store: Store, tmp_path: Path) -> None:
    newest = nightdata.fill(store, History(nights=LENGTH, factor=by(9)))[-1]
    place = ["--store", str(tmp_path / "nights.sqlite")]
    run = CliRunner()
    listed = run.invoke(app, ["nights", *place, "--json"], catch_exceptions=False)
    assert json.loads(listed.stdout)["nights"][0]["night"] == newest
    shown = run.invoke(app, ["nights", "last", *place], catch_exceptions=False)
    assert shown.exit_code == 0
    assert shown.stdout.index("regression") < shown.stdout.index("unchanged")
    assert "judged now" in shown.stdout
    with pytest.raises(CheckFailedError, match=r"1 regression: total_ns of klo_under_load, load=none, k=2 \+"):
        run.invoke(app, ["nights", newest, "--check", *place], catch_exceptions=False)
    store.put_verdicts(newest, [nightdata.verdict(History(), LENGTH - 1)])
    stored = run.invoke(app, ["nights", newest, "--check", "--json", *place], catch_exceptions=False)
    assert [one["verdict"] for one in json.loads(stored.stdout)["verdicts"]] == ["unchanged"]
