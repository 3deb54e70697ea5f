"""What a run's evidence amounts to, at its bounds: whose CPU time it was, clocks by their size, times on one axis."""

from typing import Any

import pytest
from board_trees import facts, zones
from hypothesis import given
from hypothesis import strategies as st

from devicelab.experiment import conditions, evidence, foreign, timeline
from devicelab.experiment.conditions import reading
from devicelab.model.experiment import Experiment
from devicelab.model.journal import Others, Samples

S = 1_000_000_000


def others(work: list[int], *, ticks: int = 100, before: list[int] | None = None, **more: Any) -> Others:
    """CPUs that worked so many of a hundred ticks, for a second."""

    def span(work: list[int]) -> dict[str, Any]:
        cpus = {str(cpu): ran for cpu, ran in enumerate(work)}
        return {"span_ns": S, "work": cpus, "total": dict.fromkeys(cpus, ticks)}

    return Others.model_validate({"before": span(before or [0] * len(work)), "during": span(work), **more})


SHARE = st.integers(0, S)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=4), SHARE, SHARE, SHARE)
def test_shares_of_cpu_time_lie_within_the_whole_whatever_an_agent_says(
    work: list[int], ours: int, kernel: int, theirs: int
) -> None:
    found = foreign.use(others(work, ours_ns=ours, kernel_ns=kernel, others_ns=theirs))
    worked = 100 * sum(work) / (100 * len(work))
    assert 0 <= found.unseen <= worked
    assert 0 <= found.during["all"] <= worked + 1e-9
    # What is nobody's is what is left of the work, less a quarter of ours for the ticks' sake.
    left = max(0.0, sum(work) * S / 100 - 1.25 * ours - kernel - theirs)
    assert found.unseen == pytest.approx(100 * left / (S * len(work)))
    assert found.during["all"] == pytest.approx(min(worked, 100 * (theirs + left) / (S * len(work))))


@pytest.mark.parametrize(("theirs", "flagged"), [(S // 10 - 1, False), (S // 10, False), (S // 10 + 10**6, True)])
def test_others_may_use_as_much_as_the_experiment_allows(theirs: int, flagged: bool) -> None:
    allowed = Experiment(question="?", foreign_pct=10, foreign_core_pct=100)
    assert bool(foreign.flags(others([100], ours_ns=0, kernel_ns=S - theirs, others_ns=theirs), allowed)) is flagged


@pytest.mark.parametrize(("ticks", "flagged"), [(10, False), (11, True)])
def test_others_before_the_run_count_by_the_same_measure(ticks: int, flagged: bool) -> None:
    allowed = Experiment(question="?", foreign_pct=10)
    assert bool(foreign.flags(others([0], before=[ticks]), allowed)) is flagged


@pytest.mark.parametrize(("cpu_ns", "flagged"), [(S // 2, False), (S // 2 + 10**7, True)])
def test_one_core_may_be_used_as_much_as_the_experiment_allows(cpu_ns: int, flagged: bool) -> None:
    allowed = Experiment(question="?", foreign_pct=100, foreign_core_pct=50)
    heavy = [
        {"pid": 1, "name": "a", "cpu": 1, "cpu_ns": cpu_ns // 2},
        {"pid": 2, "name": "b", "cpu": 1, "cpu_ns": cpu_ns // 2},
    ]
    found = foreign.flags(others([0, 100], others_ns=cpu_ns, heaviest=heavy), allowed)
    assert bool(found) is flagged
    if flagged:
        assert "51% of CPU 1" in found[0].detail
        assert "a (pid 1) 26%" in found[0].detail


def test_the_three_heaviest_are_named() -> None:
    heavy = [{"pid": n, "name": f"p{n}", "cpu": 0, "cpu_ns": S // 5} for n in range(1, 5)]
    (flag,) = foreign.flags(others([90], others_ns=8 * S // 10, heaviest=heavy), Experiment(question="?"))
    assert "p3" in flag.detail
    assert "p4" not in flag.detail


@pytest.mark.parametrize("hertz", [0, -1])
def test_an_agent_without_ticks_tells_nothing(hertz: int) -> None:
    assert foreign.use(others([100], tick_hz=hertz)) == foreign.ForeignUse()


# --- clocks and heat -----------------------------------------------------------------------------------------------

GPU = "/sys/class/kgsl/kgsl-3d0/gpuclk"


@pytest.mark.parametrize(
    ("text", "khz"),
    [("9999", 9_999_000), ("10000", 10_000), ("9999999", 9_999_999), ("10000000", 10_000), ("585000000", 585_000)],
)
def test_the_size_of_a_gpus_clock_tells_its_unit(text: str, khz: float) -> None:
    told = reading(GPU, ("0", text))
    assert told is not None
    assert told.readings[1] == pytest.approx(khz)
    assert told.range == (0, pytest.approx(khz))


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=6))
def test_cpu_use_is_the_growth_of_busy_over_that_of_all(grown: list[int]) -> None:
    total = [0]
    busy = [0]
    for number, step in enumerate(grown):
        total.append(total[-1] + step)
        busy.append(busy[-1] + (step if number % 2 else 0))
    use = conditions.cpu_use_pct(Samples(busy={"3": tuple(busy)}, total={"3": tuple(total)}))
    expected = 100 * busy[-1] / total[-1]
    assert use == {"3": pytest.approx(expected), "all": pytest.approx(expected)}


@pytest.mark.parametrize(("passed", "use"), [(0, {}), (1, {"3": 100.0, "all": 100.0})])
def test_one_tick_is_enough_for_a_share_and_none_is_not(passed: int, use: dict[str, float]) -> None:
    assert conditions.cpu_use_pct(Samples(busy={"3": (7, 7 + passed)}, total={"3": (9, 9 + passed)})) == use


def test_a_span_of_ranges_holds_them_all() -> None:
    assert conditions.span([(2, 3), (1, 2.5), (1.5, 9)]) == (1, 9)
    assert conditions.span([]) is None


@pytest.mark.parametrize(("elapsed", "pct"), [(S, 5.0), (0, None), (-1, None), (1, 5_000_000_000.0)])
def test_the_agents_share_is_of_the_time_that_passed(elapsed: int, pct: float | None) -> None:
    run = {"t_start_ns": 7, "t_end_ns": 7 + elapsed, "agent_cpu_ns": 50_000_000}
    assert conditions.run_conditions(run).agent_pct == (None if pct is None else pytest.approx(pct))


@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_at_most_six_zones_are_sampled_and_each_type_has_its_turn(count: int) -> None:
    board = facts("empty", change=zones([(f"cpu-{n}", "42000\n") for n in range(count)]))
    assert len(evidence.thermal_zones(board)) == min(count, 6)
    both = facts("sm8150", change=zones([*((f"cpu-0-{n}", "42000\n") for n in range(8)), ("gpuss-0-usr", "42000\n")]))
    if any(pattern.startswith("gpu") for pattern in both.board.thermal_zones):
        assert "gpuss-0-usr" in evidence.thermal_zones(both).values()


def test_zones_that_are_no_silicon_are_not_sampled() -> None:
    odd = [
        ("cpu-0", "41000\n"),
        ("soc", "87\n"),
        ("ibat-high", "500\n"),
        ("cpu-1", "-274000\n"),
        ("cpu-2", "x\n"),
        ("", "42000\n"),
    ]
    board = facts("empty", change=zones(odd))
    assert list(evidence.thermal_zones(board).values()) == ["cpu-0"]


# --- the time line -------------------------------------------------------------------------------------------------


def test_phases_follow_each_other_within_their_run() -> None:
    record = {
        "run_id": "r", "t_start_ns": 100, "t_end_ns": 200, "flags": [{"code": "a", "detail": "b"}],
        "phases": [{"name": "pin", "t_ns": 90}, {"name": "measure", "t_ns": 120}, {"name": "restore", "t_ns": 250}],
        "programs": [
            {"role": "measure", "name": "m", "start_ns": 120, "end_ns": 120, "granted": (4, 5)},
            {"role": "load", "name": "l", "start_ns": 130, "end_ns": 129},
            {"role": "load", "name": "n", "start_ns": 0, "end_ns": 9},
        ],
    }  # fmt: skip
    rows = [tuple(row) for row in timeline.spans(record).itertuples(index=False)]
    assert rows == [
        (100, 200, "agent", "run r", "a: b"),
        (100, 120, "agent", "pin", ""),
        (120, 200, "agent", "measure", ""),
        (200, 200, "agent", "restore", ""),
        (120, 120, "measure m", "m", "CPUs 4,5"),
    ]


def test_readings_stand_at_their_times_and_use_at_the_later_of_two() -> None:
    cpu = "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"
    samples = {
        "t_ns": [10, 20, 30],
        "nodes": {cpu: ["100", None, "300"], "/sys/other": ["1", "2", "3"]},
        "busy": {"0": [0, 5, 25], "1": [0, None, 5], "x": [0, 1, 2]},
        "total": {"0": [0, 10, 20], "1": [0, 10, 20], "x": [0, 1, 2]},
    }
    rows = [tuple(row) for row in timeline.series({"samples": samples}).itertuples(index=False)]
    assert rows == [
        (10, "cpu clock", "policy0", 100, "kHz"),
        (30, "cpu clock", "policy0", 300, "kHz"),
        (20, "cpu use", "cpu0", 50, "pct"),
        (30, "cpu use", "cpu0", 100, "pct"),
    ]
