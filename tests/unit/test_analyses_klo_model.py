"""The launch model: the vectors, exact optima against brute force, degenerate inputs."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicelab.analyses.klo.model import (
    LaunchCosts,
    best_constant,
    best_schedule,
    constant_batches,
    constant_curve,
    floor_ns,
    makespan,
    near_optimal_set,
    root_estimates,
    simulate,
    simulate_dynamic,
)
from devicelab.analyses.klo.model.core import plan

A_TIME = st.one_of(st.integers(0, 50).map(float), st.floats(0, 1e6, allow_subnormal=False))
SOME_COSTS = st.builds(LaunchCosts, A_TIME, A_TIME, A_TIME, st.just(0.0) | A_TIME)


def kernels(most: int) -> st.SearchStrategy[list[tuple[float, float]]]:
    return st.lists(st.tuples(A_TIME, A_TIME), min_size=1, max_size=most)


def compositions(n: int) -> Iterator[tuple[int, ...]]:
    for cuts in itertools.product((False, True), repeat=n - 1):
        lengths = [1]
        for cut in cuts:
            if cut:
                lengths.append(1)
            else:
                lengths[-1] += 1
        yield tuple(lengths)


def reference(
    p: Sequence[float], g: Sequence[float], costs: LaunchCosts, batches: Sequence[int], busy: float = -math.inf
) -> list[tuple]:
    """The recursion, word for word: (ready, start, end) of each batch; the GPU works until ``busy``."""
    rows: list[tuple[float, float, float]] = []
    at, produced, free = 0, 0.0, busy
    for number, length in enumerate(batches, 1):
        produced += sum(p[at : at + length]) + length * costs.flush_per_kernel_ns
        ready = produced + number * costs.flush_ns
        start = max(ready + costs.start_idle_ns, free + costs.gap_ns)
        free = start + sum(g[at : at + length])
        rows.append((ready, start, free))
        at += length
    return rows


VECTORS = [
    ((10, 10, 20, 5, 0, 15), {1: 350, 2: 285, 5: 270, 10: 305}, 245),
    ((10, 20, 10, 5, 0, 15), {1: 260, 2: 245, 5: 260, 10: 305}, 235),
    ((7, 10, 20, 5, 30, 15), {1: 275, 3: 235, 7: 245}, 210),
]


@pytest.mark.parametrize(("inputs", "curve", "best"), VECTORS)
def test_the_vectors_of_the_model_hold(inputs: tuple[int, ...], curve: dict[int, float], best: float) -> None:
    n, p, g, flush, start_idle, gap = inputs
    costs = LaunchCosts(flush, start_idle, gap)
    everything = constant_curve([p] * n, [g] * n, costs)
    for k, expected in curve.items():
        assert everything[k - 1] == expected
        assert simulate([p] * n, [g] * n, costs, constant_batches(n, k)).makespan_ns == expected
    batches, least = best_schedule([p] * n, [g] * n, costs)
    assert least == best
    assert sum(batches) == n


@given(kernels(12), SOME_COSTS, st.data())
def test_a_timeline_equals_the_plain_recursion(
    times: list[tuple[float, float]], costs: LaunchCosts, data: st.DataObject
) -> None:
    p, g = [t[0] for t in times], [t[1] for t in times]
    batches = data.draw(st.sampled_from(list(compositions(min(len(p), 7)))))
    p, g = p[: sum(batches)], g[: sum(batches)]
    got = simulate(p, g, costs, batches)
    rows = np.array(reference(p, g, costs, batches))
    scale = 1e-9 * (1 + rows.max())
    assert np.abs(got.ready_ns - rows[:, 0]).max() <= scale
    assert np.abs(got.start_ns - rows[:, 1]).max() <= scale
    assert np.abs(got.end_ns - rows[:, 2]).max() <= scale
    assert got.overhead_ns == pytest.approx(got.idle_ns.sum(), abs=scale * len(p) * 4)
    assert np.abs(got.starved_ns + got.launch_ns - got.idle_ns).max() <= scale


@given(kernels(40), SOME_COSTS)
def test_the_curve_equals_one_simulation_for_each_k(times: list[tuple[float, float]], costs: LaunchCosts) -> None:
    p, g = [t[0] for t in times], [t[1] for t in times]
    curve = constant_curve(p, g, costs)
    each = [reference(p, g, costs, constant_batches(len(p), k))[-1][2] for k in range(1, len(p) + 1)]
    assert curve == pytest.approx(each, rel=1e-9, abs=1e-6)
    k, least = best_constant(p, g, costs)
    assert least == curve[k - 1]
    assert least == pytest.approx(min(each), rel=1e-9, abs=1e-6)


@settings(max_examples=60)
@given(kernels(9), SOME_COSTS)
def test_the_best_schedule_is_the_best_of_all(times: list[tuple[float, float]], costs: LaunchCosts) -> None:
    p, g = [t[0] for t in times], [t[1] for t in times]
    least = min(reference(p, g, costs, batches)[-1][2] for batches in compositions(len(p)))
    batches, got = best_schedule(p, g, costs)
    assert sum(batches) == len(p)
    assert got == pytest.approx(least, rel=1e-9, abs=1e-6)
    assert floor_ns(p, g, costs) <= got * (1 + 1e-9) + 1e-6
    assert got <= best_constant(p, g, costs)[1] * (1 + 1e-9) + 1e-6


@settings(max_examples=40)
@given(kernels(7), SOME_COSTS, A_TIME)
def test_a_plan_made_while_the_gpu_works_is_the_best_of_all(
    times: list[tuple[float, float]], costs: LaunchCosts, busy: float
) -> None:
    p, g = (np.array(column) for column in zip(*times, strict=True))
    least = min(reference(p, g, costs, batches, busy)[-1][2] for batches in compositions(p.size))
    batches = plan(p, g, costs, busy_until_ns=busy)
    assert sum(batches) == p.size
    assert reference(p, g, costs, batches, busy)[-1][2] == pytest.approx(least, rel=1e-9, abs=1e-6)


def test_the_best_schedule_of_twelve_kernels_is_the_best_of_all_2048() -> None:
    rng = np.random.default_rng(7)
    for _ in range(3):
        p, g = rng.lognormal(2, 0.7, 12), rng.lognormal(2, 0.7, 12)
        costs = LaunchCosts(*rng.uniform(0, 15, 3))
        least = min(reference(p, g, costs, batches)[-1][2] for batches in compositions(12))
        assert best_schedule(p, g, costs)[1] == pytest.approx(least, rel=1e-12)


def test_the_uniform_formula_holds_where_k_divides_n() -> None:
    n, p, g, costs = 24, 7.0, 11.0, LaunchCosts(3.0, 5.0, 9.0)
    for k in (1, 2, 3, 4, 6, 8, 12, 24):
        host, gpu = k * p + costs.flush_ns, k * g + costs.gap_ns
        expected = host + costs.start_idle_ns + k * g + (n / k - 1) * max(host, gpu)
        assert makespan([p] * n, [g] * n, costs, k) == pytest.approx(expected)


def test_one_kernel_is_one_flush() -> None:
    costs = LaunchCosts(5, 7, 11)
    assert constant_curve([3], [2], costs).tolist() == [17]
    assert best_constant([3], [2], costs) == (1, 17)
    assert best_schedule([3], [2], costs) == ((1,), 17)


def test_k_of_n_or_more_is_one_flush_and_a_remainder_is_a_short_last_batch() -> None:
    assert constant_batches(7, 7) == constant_batches(7, 100) == (7,)
    assert constant_batches(7, 3) == (3, 3, 1)


def test_free_flushes_and_gaps_give_k_1() -> None:
    rng = np.random.default_rng(3)
    p, g = rng.lognormal(2, 1, 50), rng.lognormal(2, 1, 50)
    assert best_constant(p, g, LaunchCosts(0, 30, 0))[0] == 1
    assert best_schedule(p, g, LaunchCosts(0, 30, 0))[0] == (1,) * 50


@pytest.mark.parametrize(("p", "g"), [(0.0, 5.0), (5.0, 0.0), (0.0, 0.0)])
def test_times_of_zero_divide_nothing(p: float, g: float) -> None:
    costs = LaunchCosts(1, 2, 3)
    k, least = best_constant([p] * 9, [g] * 9, costs)
    assert 1 <= k <= 9
    assert best_schedule([p] * 9, [g] * 9, costs)[1] <= least
    rules = root_estimates(9, p, g, costs)
    assert (rules["gpu_bound"] is None) == (p == 0)
    assert (rules["producer_bound"] is None) == (g == 0)
    assert simulate_dynamic([p] * 9, [g] * 9, costs, profile_ns=p).makespan_ns >= least * 0.99 - 9


def test_a_slow_producer_leaves_a_floor_whatever_k_is() -> None:
    n, p, g = 30, 20.0, 5.0
    costs = LaunchCosts(2, 1, 1)
    curve = constant_curve([p] * n, [g] * n, costs)
    assert (curve - n * g).min() >= (n - 1) * (p - g)
    assert floor_ns([p] * n, [g] * n, costs) <= curve.min()


def test_a_million_kernels_have_a_curve_and_a_best_k() -> None:
    n = 1_000_000
    k, least = best_constant(np.full(n, 10.0), np.full(n, 20.0), LaunchCosts(5, 0, 15))
    assert 1000 < k < 1500  # sqrt(N L_b / p) = 1225
    assert least == pytest.approx(makespan(np.full(n, 10.0), np.full(n, 20.0), LaunchCosts(5, 0, 15), k))


def test_a_schedule_too_large_to_compute_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicelab.analyses.klo.model.core._SCHEDULE_CELLS", 10_000)
    assert best_schedule(np.full(50, 10.0), np.full(50, 10.0), LaunchCosts(1e-3, 0, 1e-3))[0]
    with pytest.raises(ValueError, match="too large"):
        best_schedule(np.full(500, 10.0), np.full(500, 10.0), LaunchCosts(1e-3, 0, 1e-3))


@pytest.mark.parametrize(
    ("p", "g"), [([], []), ([1.0], [1.0, 2.0]), ([-1.0], [1.0]), ([1.0], [float("nan")]), ([float("inf")], [1.0])]
)
def test_times_that_make_no_sense_are_refused(p: list[float], g: list[float]) -> None:
    for call in (constant_curve, best_constant, best_schedule, floor_ns):
        with pytest.raises(ValueError, match=r"t_prod_ns|t_ker_ns|kernel"):
            call(p, g, LaunchCosts(1, 1, 1))


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_costs_that_make_no_sense_are_refused(bad: float, which: int) -> None:
    values = [1.0, 1.0, 1.0]
    values[which] = bad
    with pytest.raises(ValueError, match="finite time of at least 0"):
        LaunchCosts(*values)


@pytest.mark.parametrize("batches", [(), (2, 2), (3, 0), (4, -1), (1.5, 1.5)])
def test_batches_that_do_not_fit_are_refused(batches: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="batches"):
        simulate([1, 1, 1], [1, 1, 1], LaunchCosts(0, 0, 0), batches)


@pytest.mark.parametrize(("n", "k"), [(0, 1), (1, 0), (5, -2)])
def test_no_kernels_or_no_k_is_refused(n: int, k: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        constant_batches(n, k)


@pytest.mark.parametrize("wrong", [{"smoothing": 0.0}, {"smoothing": 1.5}, {"planning_ns": -1.0}])
def test_a_dynamic_policy_with_settings_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        simulate_dynamic([1.0], [1.0], LaunchCosts(0, 0, 0), profile_ns=1.0, **wrong)


def _cases(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, LaunchCosts]]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n = int(rng.integers(20, 80))
        yield rng.lognormal(2, 0.5, n), rng.lognormal(rng.uniform(1.5, 3), 0.5, n), LaunchCosts(*rng.uniform(0, 30, 3))


def test_the_dynamic_policy_finds_the_best_schedule_when_production_is_as_profiled() -> None:
    for p, g, costs in _cases(20, 1):
        best = best_schedule(p, g, costs)[1]
        for replan in ("kernel", "flush"):
            got = simulate_dynamic(p, g, costs, profile_ns=p, replan=replan)
            assert got.makespan_ns == pytest.approx(best, rel=1e-9)
            assert sum(got.batches) == p.size


def test_the_dynamic_policy_stays_within_3_percent_when_production_slows_down_half_way() -> None:
    regrets, stale = [], []
    for p, g, costs in _cases(60, 2):
        real = np.concatenate((p[: p.size // 2], p[p.size // 2 :] * 2))
        best = best_schedule(real, g, costs)[1]
        regrets.append(simulate_dynamic(real, g, costs, profile_ns=p).makespan_ns / best - 1)
        stale.append(simulate(real, g, costs, best_schedule(p, g, costs)[0]).makespan_ns / best - 1)
    assert np.median(regrets) < 0.03
    assert np.median(regrets) < np.median(stale) / 2


@pytest.mark.parametrize(("replan", "looks"), [("kernel", 19), ("flush", 0)])
def test_planning_time_is_paid_by_the_host(replan: Literal["kernel", "flush"], looks: int) -> None:
    """Once a batch, and after every kernel but the last where the policy looks again then."""
    p, g, costs = np.full(20, 10.0), np.full(20, 1.0), LaunchCosts(5, 5, 1, 0.5)
    paid = simulate_dynamic(p, g, costs, profile_ns=10.0, replan=replan, planning_ns=2.0)
    steps = looks + len(paid.batches)
    assert paid.ready_ns[-1] == 20 * 10 + len(paid.batches) * 5 + 20 * 0.5 + 2 * steps


def test_a_curve_without_noise_gives_the_k_within_the_tolerance() -> None:
    found = near_optimal_set([4, 1, 2, 8], [100.0, 150.0, 101.0, 103.0], tolerance=0.02)
    assert found.k == (2, 4)
    assert found.best == 4
    assert found.all_k == (1, 2, 4, 8)
    assert found.conclusive


def test_noise_widens_the_near_optimal_set_and_keeps_the_truth_in_it() -> None:
    rng = np.random.default_rng(11)
    k = np.arange(1, 9)
    truth = np.array([150, 120, 104, 100, 101, 103, 110, 130.0])
    kept = 0
    for trial in range(60):
        rows = truth * rng.lognormal(0, 0.02, (10, 8))
        found = near_optimal_set(k, rows, seed=trial, resamples=400)
        kept += 4 in found.k
        assert 1 not in found.k
        assert found.best in found.k
    assert kept >= 54  # 95% of 60 are 57; three standard deviations below are 52


def test_equal_k_all_stay_in_the_near_optimal_set_most_of_the_time() -> None:
    rng = np.random.default_rng(13)
    sizes = [
        len(near_optimal_set(np.arange(1, 7), rng.lognormal(5, 0.05, (12, 6)), resamples=400).k) for _ in range(40)
    ]
    assert np.mean(sizes) > 5.3


def test_a_k_that_takes_no_time_is_infinitely_better_than_one_that_takes_some() -> None:
    for rows in ([3.0, 0.0, 0.0], [[3.0, 0.0, 0.0]] * 8):
        found = near_optimal_set([1, 2, 4], rows)
        assert found.ratio.tolist() == [math.inf, 1, 1]
        assert found.best == 2
    assert near_optimal_set([1, 2, 4], [3.0, 0.0, 0.0]).k == (2, 4)
    some = near_optimal_set([1, 2, 4], [3.0, 1e-9, 1e-9])
    assert some.ratio[0] == pytest.approx(3e9)


def test_too_few_repetitions_exclude_no_k() -> None:
    found = near_optimal_set([1, 2], [[100.0, 900.0]] * 5)
    assert found.k == (1, 2)
    assert not found.conclusive


def test_missing_runs_are_left_out_of_the_near_optimal_set_not_taken_as_zero() -> None:
    rows = np.tile([100.0, 200.0], (9, 1)) * np.linspace(0.99, 1.01, 9)[:, None]
    rows[0, 0] = rows[3, 1] = np.nan
    found = near_optimal_set([1, 2], rows)
    assert found.k == (1,)
    assert found.n == 8


@pytest.mark.parametrize(
    ("k", "values"),
    [([1, 1], [1.0, 2.0]), ([0], [1.0]), ([1, 2], [1.0]), ([1, 2], [[1.0, np.nan]]), ([], []), ([1], [-1.0])],
)
def test_curves_that_make_no_sense_are_refused(k: list[int], values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"K|fit"):
        near_optimal_set(k, values)
