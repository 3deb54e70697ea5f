"""Launch costs fitted from noisy runs with known truth, and the K chosen with them."""

from dataclasses import replace

import numpy as np
import pytest

from devicelab.analyses.klo.model import (
    LaunchCosts,
    Observed,
    _repetition,
    constant_batches,
    constant_curve,
    fit,
    simulate,
)
from devicelab.analyses.klo.model.fit import NAMES, Fit
from devicelab.analyses.klo.tables import COLUMNS, Profile, condition_profile, profiles, quantities
from tests.klodata import Truth, emulate, kernel_frame, random_truth


def runs_at(ks: tuple[int, ...], repetitions: int) -> list[tuple[str, int]]:
    return [(f"k{k}r{repetition}", k) for k in ks for repetition in range(repetitions)]


def fitted(
    truth: Truth, runs: list[tuple[str, int]], inferences: int, rng: np.random.Generator, noise: float
) -> Profile:
    """The joint profile of runs named ``k4r2``: K and repetition."""
    found = profiles(quantities(kernel_frame(truth, runs, inferences, rng, noise)))
    profile = condition_profile(list(found.values()), [int(name.rpartition("r")[2]) for name in found])
    assert profile is not None
    return profile


def test_the_quantities_follow_their_definitions_and_the_first_kernel_has_no_predecessor() -> None:
    rng = np.random.default_rng(1)
    truth = random_truth(rng, 7)
    frame = kernel_frame(truth, [("a", 3), ("b", 1)], 4, rng, 0.1)
    got = quantities(frame.sample(frac=1, random_state=1))
    rows = frame.set_index(["run_id", "inference", "kernel"]).sort_index()
    assert len(got) == len(frame)
    for row in got.itertuples():
        now = rows.loc[(row.run_id, row.inference, row.kernel)]
        assert row.t_ker_ns == now.end_ns - now.start_ns
        assert row.wait_ns == now.submit_ns - now.queued_ns
        if row.kernel == 0:
            assert np.isnan([row.t_prod_ns, row.t_idle_ns, row.starved_ns, row.launch_ns]).all()
            continue
        before = rows.loc[(row.run_id, row.inference, row.kernel - 1)]
        assert row.t_prod_ns == now.queued_ns - before.queued_ns
        assert row.t_idle_ns == now.start_ns - before.end_ns
        assert row.starved_ns == max(0, min(now.submit_ns, now.start_ns) - before.end_ns)
        assert row.launch_ns == now.start_ns - max(now.submit_ns, before.end_ns)
        assert row.after_flush == (now.batch != before.batch)


def test_one_huge_first_value_enters_no_mean_of_t_prod() -> None:
    rng = np.random.default_rng(2)
    truth = random_truth(rng, 10)
    slow_first = Truth(np.concatenate(([1e9], truth.p[1:])), truth.g, truth.costs)
    got = quantities(kernel_frame(slow_first, [("a", 5)], 20, rng, 0.0))
    assert got["t_prod_ns"].count() == 20 * 9
    assert got["t_prod_ns"].mean() < 1e6


def test_out_of_order_timestamps_stay_signed() -> None:
    rng = np.random.default_rng(3)
    frame = kernel_frame(random_truth(rng, 4), [("a", 1)], 1, rng, 0.0)
    frame.loc[2, "start_ns"] = frame.loc[1, "end_ns"] - 10_064_000
    got = quantities(frame)
    assert got.loc[2, "t_idle_ns"] == -10_064_000
    assert got.loc[2, "starved_ns"] == 0
    assert got.loc[2, "launch_ns"] < 0


def test_inferences_that_were_cut_short_are_left_out_of_a_profile() -> None:
    rng = np.random.default_rng(4)
    truth = random_truth(rng, 6)
    frame = kernel_frame(truth, [("a", 2), ("b", 2)], 5, rng, 0.02)
    whole = profiles(quantities(frame))
    cut = profiles(quantities(frame.iloc[:-3]))
    assert cut.keys() == whole.keys()
    assert cut["a"].t_ker_ns.tolist() == whole["a"].t_ker_ns.tolist()
    only_stump = frame[(frame["run_id"] == "a") | ((frame["inference"] == 0) & (frame["kernel"] != 3))]
    assert profiles(quantities(only_stump)).keys() == {"a"}


def test_fitted_costs_are_within_5_percent_of_the_truth() -> None:
    rng = np.random.default_rng(5)
    for _ in range(12):
        truth = random_truth(rng)
        runs = runs_at((1, 2, 4, 8, 16, truth.p.size), 6)
        found = fitted(truth, runs, 20, rng, 0.05)
        assert found is not None
        assert all(found.fit.identified.values())
        for name in NAMES:
            true = getattr(truth.costs, name)
            assert getattr(found.fit.costs, name) == pytest.approx(true, rel=0.05)
            interval = found.fit.intervals[name]
            assert interval is not None
            assert interval[0] * 0.97 <= true <= interval[1] * 1.03
        assert found.fit.residual_pct < 2
        assert (found.fit.n, found.fit.runs) == (6, len(runs))


@pytest.mark.slow
def test_the_chosen_k_costs_little_over_manual_k_in_200_noisy_cases() -> None:
    rng = np.random.default_rng(6)
    regret = []
    for _ in range(200):
        truth = random_truth(rng)
        runs = runs_at((1, 3, 8, truth.p.size), 2)
        found = fitted(truth, runs, 10, rng, float(rng.uniform(0.02, 0.25)))
        curve = constant_curve(truth.p, truth.g, truth.costs)
        regret.append(curve[np.argmin(found.curve_ns)] / curve.min() - 1)
    assert np.median(regret) <= 0.02
    assert np.quantile(regret, 0.9) <= 0.05


def test_k_1_alone_cannot_tell_the_flush_from_production() -> None:
    rng = np.random.default_rng(7)
    truth = random_truth(rng, 12)
    found = condition_profile(list(profiles(quantities(kernel_frame(truth, runs_at((1,), 6), 10, rng, 0.02))).values()))
    assert found is not None
    assert found.fit.costs.flush_ns == pytest.approx(0, abs=truth.costs.flush_ns * 0.1)
    assert found.t_prod_ns[1:] == pytest.approx(truth.p[1:] + truth.costs.flush_ns, rel=0.05)
    assert not found.fit.identified["flush_ns"]


def test_a_single_flush_shows_neither_flush_nor_gap() -> None:
    rng = np.random.default_rng(8)
    truth = random_truth(rng, 12)
    found = condition_profile(
        list(profiles(quantities(kernel_frame(truth, runs_at((12,), 6), 10, rng, 0.02))).values())
    )
    assert found is not None
    assert found.fit.identified == {"flush_ns": False, "start_idle_ns": True, "gap_ns": False}
    assert found.fit.intervals["gap_ns"] is None


def test_makespans_alone_predict_the_curve_and_say_what_they_cannot_tell() -> None:
    p, g, costs = np.full(40, 10.0), np.full(40, 20.0), LaunchCosts(5, 30, 15)
    origin = p.copy()
    origin[0] = 0
    ks = (1, 2, 4, 8, 20, 40)
    runs = [
        Observed(constant_batches(40, k), simulate(origin, g, costs, constant_batches(40, k)).makespan_ns) for k in ks
    ]
    found = fit(p, g, runs)
    assert found.identified["gap_ns"]
    assert not found.identified["flush_ns"]
    assert found.costs.gap_ns == pytest.approx(15, rel=1e-3)
    assert found.costs.flush_ns + found.costs.start_idle_ns == pytest.approx(35, rel=1e-2)
    assert np.abs(found.residual_ns).max() < 1


def test_few_runs_give_costs_without_intervals() -> None:
    rng = np.random.default_rng(9)
    truth = random_truth(rng, 20)
    found = condition_profile(
        list(profiles(quantities(kernel_frame(truth, runs_at((1, 5), 1), 10, rng, 0.02))).values())
    )
    assert found is not None
    assert set(found.fit.intervals.values()) == {None}
    several = fitted(truth, runs_at((1, 5, 10), 5), 10, rng, 0.02)
    assert set(several.fit.intervals.values()) == {None}


def test_runs_of_unlike_networks_or_without_constant_batches_have_no_common_profile() -> None:
    rng = np.random.default_rng(10)
    one, other = random_truth(rng, 8), random_truth(rng, 9)
    frames = kernel_frame(one, [("a", 2)], 5, rng, 0.0), kernel_frame(other, [("b", 2)], 5, rng, 0.0)
    both = [profiles(quantities(frame)) for frame in frames]
    assert condition_profile([both[0]["a"], both[1]["b"]]) is None
    assert condition_profile([]) is None
    dynamic = frames[0].copy()
    dynamic.loc[dynamic["inference"] == 1, "batch"] = 0
    changing = profiles(quantities(dynamic))["a"]
    assert changing.observed is None
    assert condition_profile([changing]) is None


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [Observed((2, 2), 10.0)],
        [Observed((2, 1), 10.0, np.zeros(1), np.zeros(2), np.zeros(2))],
    ],
)
def test_runs_that_do_not_fit_the_kernels_are_refused(runs: list[Observed]) -> None:
    with pytest.raises(ValueError, match=r"run|batch"):
        fit([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], runs)


def test_an_empty_table_has_no_profiles() -> None:
    table = emulate(random_truth(np.random.default_rng(0), 2), (2,), 1, np.random.default_rng(0))
    assert set(COLUMNS) - {"run_id"} == set(table)
    empty = kernel_frame(random_truth(np.random.default_rng(0), 2), [("a", 1)], 1, np.random.default_rng(0), 0.0).iloc[
        :0
    ]
    assert profiles(quantities(empty)) == {}


def scaled(run: Observed, by: float, *, timed: bool) -> Observed:
    """The same run in another unit of time; without its batches' times, if wanted."""
    names = ("step_ns", "delay_ns", "gap_ns", "t_prod_ns")
    times = {name: by * getattr(run, name) if timed else None for name in names}
    return replace(run, makespan_ns=by * run.makespan_ns, **times)


@pytest.mark.parametrize("timed", [True, False])
def test_a_fit_does_not_depend_on_the_unit_of_time(timed: bool) -> None:
    """Costs of three to sixty microseconds, and the same as costs of less than ten nanoseconds."""
    rng = np.random.default_rng(8)
    truth = random_truth(rng, 12)
    found = profiles(quantities(kernel_frame(truth, runs_at((1, 3, 12), 6), 4, rng, 0.05)))
    runs = [one.observed for one in found.values() if one.observed is not None]
    owner = [int(name.rpartition("r")[2]) for name in found]

    def fit_in(by: float) -> Fit:
        return fit(by * truth.p, by * truth.g, [scaled(run, by, timed=timed) for run in runs], owner)

    whole, small = fit_in(1.0), fit_in(1e-4)
    close = 1e-9 if timed else 1e-3  # least squares stop where they are near enough
    assert small.identified == whole.identified
    for name in NAMES:
        assert 1e4 * getattr(small.costs, name) == pytest.approx(getattr(whole.costs, name), rel=close)
        assert (small.intervals[name] is None) == (whole.intervals[name] is None)
        if (ends := small.intervals[name]) is not None:
            assert [1e4 * end for end in ends] == pytest.approx(whole.intervals[name], rel=close)
            assert ends[0] <= getattr(small.costs, name) <= ends[1]
    assert 1e4 * small.by_repetition == pytest.approx(whole.by_repetition, rel=close)
    assert small.residual_pct == pytest.approx(whole.residual_pct, rel=0.02 if not timed else close)


def test_how_slow_production_was_in_a_run_is_told_by_its_kernels_else_by_the_other_runs() -> None:
    p = np.array([0.0, 10.0, 20.0, 30.0])
    run = Observed((4,), 1.0)
    slow = replace(run, t_prod_ns=np.array([np.nan, 20.0, 60.0, 90.0]))
    slower = replace(run, t_prod_ns=np.array([np.nan, 50.0, np.nan, 0.0]))
    assert _repetition._levels(p, [run, run]).tolist() == [1, 1], "nothing is known of any"
    assert _repetition._levels(p, [slow, run, slower]).tolist() == [3, 4, 5]
