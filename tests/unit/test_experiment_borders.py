"""Bounds of plans, loads, blocks, races and gauges: at them, just below and just above."""

import math
from typing import Any

import pytest
from board_trees import facts
from hypothesis import given
from hypothesis import strategies as st

from devicelab import knobs
from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.experiment import gauge, hopeless, loads, plan, racing
from devicelab.experiment.blocks import Spent, rest_of
from devicelab.model.experiment import Experiment
from devicelab.model.journal import Flag
from devicelab.model.plan import Run
from devicelab.workloads.base import CommandLine

CELLS = ("a", "b", "c")


# --- plans ---------------------------------------------------------------------------------------------------------


def experiment(**more: Any) -> Experiment:
    return Experiment.model_validate({"name": "x", "question": "?", **more})


def test_a_plan_of_the_most_runs_is_made_and_one_more_repetition_is_refused() -> None:
    two = {"cores": ["all-online", "big"]}
    assert len(plan.cells(experiment(repetitions=50_000, factors=two))) == 2
    with pytest.raises(ConfigError, match="at least 100002 runs"):
        plan.cells(experiment(repetitions=50_001, factors=two))


def test_combinations_are_bounded_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_MAX_COMBINATIONS", 6)
    assert len(plan.cells(experiment(factors={"load": ["none"] * 3, "placement": ["free", "one-big"]}))) == 1
    with pytest.raises(ConfigError, match="7 combinations"):
        plan.cells(experiment(factors={"load": ["none"] * 7}))


def test_every_repetition_of_every_cell_is_planned_once_whatever_part_of_them() -> None:
    chosen = plan.cells(experiment(factors={"load": ["none", "1000 5000 20"], "cores": ["all-online", "big"]}))

    def order(repetitions: int, first: int = 0) -> list[tuple[str, int]]:
        return [(cell.cell_id, n) for cell, n in plan.order(chosen, repetitions, seed=3, first=first)]

    whole = order(7)
    assert len(set(whole)) == len(whole) == 7 * len(chosen)
    assert [n for _, n in whole] == sorted(n for _, n in whole)
    assert whole == order(3) + order(4, first=3)
    blocks = [tuple(cell for cell, n in whole if n == wanted) for wanted in range(7)]
    assert len(set(blocks)) > 1, "each repetition has an order of its own"


def test_plans_hold_at_most_a_block_and_all_runs_together() -> None:
    runs = [plan.BLOCK - 1, plan.BLOCK, plan.BLOCK + 1]
    for n in runs:
        made = plan.make(experiment(repetitions=n), plan.Place(facts("sm8150")), campaign="c", holder="h", only=())
        assert [len(one.runs) for one in made.plans] == [
            size for size in (min(n, plan.BLOCK), n - plan.BLOCK) if size > 0
        ]
        assert made.runs == n


def test_a_board_lies_idle_before_its_energy_is_read_for_as_long_as_the_file_says() -> None:
    def run(**more: Any) -> Run:
        return plan.make(experiment(**more), plan.Place(facts("sm8150")), campaign="c", holder="h").plans[0].runs[0]

    assert run().sampling.idle_ms == 0
    with_energy = run(energy={"idle_s": 2.5, "required": False})
    assert with_energy.sampling.idle_ms == 2_500
    assert plan.programmed_ms(with_energy) - plan.programmed_ms(run()) == 2_500


THERMAL = {"max_c": 45}


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({"set": {"cpu": "max"}}, ""),
        ({"set": {"cpu": "max"}, "require": ["cpu"]}, "cpu = 'max' cannot be set"),
        ({"set": {"cpu": "max", "gpu": "max"}, "require": ["gpu"]}, "gpu = 'max' cannot be set"),
        ({"set": {"cpu": "max"}, "require": ["gpu"]}, ""),
        ({"thermal": THERMAL}, ""),
        ({"thermal": THERMAL, "require": ["thermal"]}, "thermal gate cannot be set"),
        ({"thermal": THERMAL, "require": ["cpu"]}, ""),
    ],
)
def test_what_a_board_cannot_do_is_an_error_if_it_is_required_and_else_said(
    asked: dict[str, Any], refused: str
) -> None:
    # Nothing may be written, and no zone tells a temperature.
    bare = facts("sm8150", root="none", remove=["/sys/class/thermal/thermal_zone*/temp"])

    def make() -> plan.Planned:
        return plan.make(experiment(**asked), plan.Place(bare), campaign="c", holder="h")

    if refused:
        with pytest.raises(DeviceRefusedError, match=refused):
            make()
        return
    words = {f"{word} = {level}" for word, level in asked.get("set", {}).items()}
    assert set(make().unmet) == words | ({"thermal gate"} if "thermal" in asked else set())


# --- loads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("placement", "count"), [("n:1", 1), ("n:1024", 1024), ("n:0", 0), ("n:1025", 0), ("n:x", 0)])
def test_a_count_of_loads_is_bounded_at_both_ends(placement: str, count: int) -> None:
    line = CommandLine(argv=("overhead",))
    if count:
        assert [load.cpus for load in loads.place(line, placement, facts("sm8150"))] == [None] * count
    else:
        with pytest.raises(ConfigError, match="no such placement"):
            loads.place(line, placement, facts("sm8150"))


def test_loads_fill_every_online_core_as_often_as_the_placement_says() -> None:
    device, line = facts("sm8150"), CommandLine(argv=("overhead",))
    for placement, each in (("one-per-core", 1), ("two-per-core", 2)):
        spots = [load.cpus for load in loads.place(line, placement, device)]
        assert spots == [(cpu,) for cpu in device.cpus_online for _ in range(each)]
    (big,) = loads.place(line, "one-big", device)
    assert big.cpus == (knobs.resolve_cores("big", device)[0],)


# --- blocks --------------------------------------------------------------------------------------------------------


@given(
    stored=st.sets(st.tuples(st.sampled_from(CELLS), st.integers(0, 5))),
    first=st.integers(0, 3),
    count=st.integers(0, 4),
    budget=st.integers(0, 16),
)
def test_what_comes_next_is_the_first_gap_as_far_as_the_budget_holds(
    stored: set[tuple[str, int]], first: int, count: int, budget: int
) -> None:
    asked = range(first, first + count)
    missing = {n: [cell for cell in CELLS if (cell, n) not in stored] for n in asked}
    gaps = [n for n in asked if missing[n]]
    got = rest_of(CELLS, asked, stored, lambda runs: runs <= budget)
    if not gaps:
        assert got is None
        return
    begun, least = gaps[0], len(missing[gaps[0]])
    if isinstance(got, Spent):
        assert got.done == begun
        assert least == len(CELLS), "what was begun is finished"
        assert least > budget
        return
    assert isinstance(got, range)
    assert (got.start, got.stop <= asked.stop) == (begun, True)
    cost = least + len(CELLS) * (len(got) - 1)
    assert cost <= budget or (len(got) == 1 and least < len(CELLS))
    assert got.stop == asked.stop or cost + len(CELLS) > budget, "no more would have fitted"


# --- giving up -----------------------------------------------------------------------------------------------------


def test_giving_up_takes_as_many_runs_as_were_allowed_and_one_valid_run_forgets_them() -> None:
    streak = hopeless.Streak(3, {"a": {}})
    flag = (Flag(code="output-unusable", detail="x"),)
    for _ in range(2):
        streak.see("a", flag)
    assert not streak.over
    streak.see("a", flag)
    assert streak.over
    other = hopeless.Streak(3, {"a": {}})
    for found in (flag, flag, (Flag(code="probe-failed", detail="x"),)):
        other.see("a", found)
    assert not other.over, "another reason begins anew"


# --- the race ------------------------------------------------------------------------------------------------------


def test_a_race_compares_within_blocks_however_fast_the_blocks_are() -> None:
    drift = {0: 1.0, 1: 3.0, 2: 0.2}
    true = {"a": 10.0, "b": 11.0, "c": 20.0}
    runs = {"a": (0, 1), "b": (1, 2), "c": (0, 2)}
    found = racing.standing({cell: {n: true[cell] * drift[n] for n in runs[cell]} for cell in true})
    assert found.cells == ("a", "b", "c")
    assert found.behind == pytest.approx([0.0, math.log(1.1), math.log(2.0)])
    assert found.freedom == 6 - 5


@pytest.mark.parametrize(
    ("off", "kept"), [(1.0, True), (1.099, True), (1.101, False), (1 / 1.099, True), (1 / 1.101, False)]
)
def test_a_prediction_is_followed_up_to_ten_percent(off: float, kept: bool) -> None:
    values = {"a": {0: 10.0, 1: 10.0}, "b": {0: 20.0, 1: 20.0}}
    said = {"a": 5.0, "b": 10.0 * off, "c": 1.0}
    assert racing.trusted(said, ("a", "b", "c"), values) == (said if kept else None)
    assert racing.trusted(said, ("a", "b", "c", "d"), values) is None
    assert racing.trusted({**said, "c": 0.0}, ("a", "b", "c"), values) is None
    assert racing.trusted(said, ("a", "b"), {"a": values["a"], "b": {}}) is None
    assert racing.trusted(None, ("a", "b"), values) is None


def test_a_model_names_its_best_and_at_most_three_that_are_near_it() -> None:
    cells = tuple("abcdefg")
    said = dict(zip(cells, (1.03, 1.0, 1.019, 1.01, 1.005, 1.015, 9.0), strict=True))
    propose = racing.from_prediction(cells, lambda _: said, ("g",))
    assert propose({}, ()) == ("g",)
    assert propose({}, ("g",)) == ("b", "e", "d")
    assert propose({}, ("g", "b")) == ()
    assert racing.from_prediction(cells, lambda _: None, ("g",))({}, ("g",)) == tuple("abcdef")
    far = dict(zip(cells, (1.0, 1.021, 1.02, 5, 5, 5, 9), strict=True))
    assert racing.from_prediction(cells, lambda _: far, ("g",))({}, ("g",)) == ("a", "c")


def test_what_was_measured_before_a_repetition_leaves_out_that_one() -> None:
    values = {"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {1: 1.0}}
    assert racing.before(values, 1) == {"a": {0: 1.0}}
    assert racing.before(values, 2, lambda _: ("b",)) == {"b": {1: 1.0}}


# --- the GPU's gauge -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window_s", "seconds"), [(60.0, 56), (5.5, 1), (5.0, 1), (0.0, 1), (7.9, 3)])
def test_the_gauge_ends_four_seconds_before_the_tenants(window_s: float, seconds: int) -> None:
    last = gauge.witnesses(facts("sm8150", board="nvidia-server"), window_s)[-1]
    counter = max(1, int(window_s) - 2)
    assert last.argv[4:6] == (str(seconds), str(counter))
    assert last.timeout_ms == 1000 * counter + 10_000
    assert last.argv[-2:] == ("-lms", "500")


def line(card: object, use: object) -> str:
    return f"{card}, {use}, 1500, 40, 300.5"


def test_the_gauge_takes_the_mean_of_the_tenants_card() -> None:
    text = "\n".join((line(0, 0), line(1, 50), line(1, 100), line("x", 7), line(2, "[N/A]"), "1, 2"))
    got = gauge.parse(text)
    assert got is not None
    assert (got.info, got.metrics["gpu_use_pct"].value) == ({"gpu_index": 1}, 75)
    assert {name: metric.unit for name, metric in got.metrics.items()} == {
        "gpu_use_pct": "pct",
        "gpu_sm_mhz": "MHz",
        "gpu_temperature_c": "C",
        "gpu_power_w": "W",
    }


def test_of_two_cards_that_work_only_ours_is_believed() -> None:
    text = "\n".join((line(0, 80), line(1, 20)))
    assert gauge.parse(text) is None
    for card in ("0", "1"):
        got = gauge.parse(text, [card])
        assert got is not None
        assert got.info == {"gpu_index": int(card)}
    assert gauge.parse(text, ["0", "1"]) == gauge.parse(text, ["0"]), "the busiest of ours"
    assert gauge.parse(text, ["2"]) is None
    idle = gauge.parse("\n".join((line(0, 0), line(1, 0))))
    assert idle is not None
