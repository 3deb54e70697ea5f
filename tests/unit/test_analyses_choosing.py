"""Who goes on in a tuning: bounds surely broken, aims surely behind, and what only seems so."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from devicelab.analyses.priority import choosing
from devicelab.analyses.priority.choosing import Candidate
from devicelab.experiment import aims
from devicelab.model.journal import Flag
from tests.tenantdata import campaign, experiment, response, tenants, throughput

AIM = aims.parse_aim("low.throughput", tenants())
KEEP = aims.parse_keep("high.p99_ratio < 2", tenants())
ABOVE = aims.parse_keep("low.share_pct > 30", tenants())
NONE_LEFT = aims.parse_keep("high.dropped <= 0", tenants())


def one(leg: str, aim: Sequence[float], ratios: Sequence[float]) -> Candidate:
    return Candidate(leg, dict(enumerate(aim)), (dict(enumerate(ratios)),))


def standing(*known: Candidate, wanted: Sequence[str] = ()) -> choosing.Standing:
    return choosing.standing(known, AIM, (KEEP,), wanted)


def test_a_bound_that_is_surely_broken_ends_it_and_an_aim_surely_behind_too() -> None:
    got = standing(
        one("fast", [90, 91, 89], [3.0, 3.1, 2.9]),
        one("good", [50, 51, 49], [1.2, 1.3, 1.1]),
        one("slow", [20, 21, 19], [1.2, 1.3, 1.1]),
        wanted=("good", "never"),
    )
    assert dict(got.broken) == {"fast": ("high.p99_ratio < 2",)}
    assert (got.going_on, got.best, got.unrun) == (("good",), "good", ("never",))
    assert got.decided
    assert [candidate.repetitions for candidate in got.candidates] == [3, 3, 3]


def test_what_only_seems_to_break_a_bound_goes_on_while_its_aim_is_ahead() -> None:
    seems = [1.5, 2.2, 2.6]
    ahead = standing(one("bold", [90, 91, 89], seems), one("good", [50, 51, 49], [1.2, 1.3, 1.1]))
    assert (ahead.going_on, ahead.best, ahead.decided) == (("bold", "good"), "good", False)
    behind = standing(one("bold", [40, 41, 39], seems), one("good", [50, 51, 49], [1.2, 1.3, 1.1]))
    assert (behind.going_on, behind.best) == (("good",), "good")


def test_where_none_seems_to_keep_the_bound_all_go_on_best_first() -> None:
    got = standing(one("b", [50, 51, 49], [1.5, 2.2, 2.6]), one("a", [90, 91, 89], [1.5, 2.2, 2.6]))
    assert (got.going_on, got.best) == (("a", "b"), "")


def test_a_figure_at_its_bound_seems_to_keep_it() -> None:
    (kept,) = choosing._beyond(one("a", [1.0], [2.0]), (KEEP,))
    assert kept == {0: 0.0}
    assert standing(one("a", [1.0, 1.0], [2.0, 2.0])).best == "a"
    assert standing(one("a", [1.0, 1.0], [2.001, 2.0])).best == ""
    assert choosing.standing([Candidate("a", {0: 1.0}, ({},))], AIM, (KEEP,)).best == "", "nothing is known of it"


def test_where_nothing_tells_schedulers_apart_native_sharing_comes_first() -> None:
    same = [one(leg, [50, 51], [1.1, 1.2]) for leg in ("fifo", "native", "nice")]
    assert standing(*same).going_on == ("native", "fifo", "nice")


@pytest.mark.parametrize(
    ("aim", "first"), [("low.throughput", "b"), ("high.p99_ms", "a"), ("low.share", "b"), ("high.dropped", "a")]
)
def test_rates_are_brought_up_and_times_down(aim: str, first: str) -> None:
    wanted = aims.parse_aim(aim, tenants())
    known = [one("a", [0.0, 1e-12, 0.0], [1.0, 1.0, 1.0]), one("b", [10.0, 11.0, 12.0], [1.0, 1.0, 1.0])]
    got = choosing.standing(known, wanted, (KEEP,))
    assert (got.best, got.going_on[0]) == (first, first)


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=6), st.floats(0.5, 40))
def test_beyond_is_the_logarithm_of_the_ratio_and_a_difference_where_there_is_none(
    values: list[float], bound: float
) -> None:
    def beyond(text: str, rows: list[float]) -> list[float]:
        keep = aims.parse_keep(text, tenants())
        (found,) = choosing._beyond(one("a", [1.0], rows), (keep,))
        return [*found.values()]

    ratios = [math.log(x / bound) for x in values]
    assert beyond(f"high.p99_ratio < {bound}", values) == pytest.approx(ratios)
    assert beyond(f"low.share_pct > {bound}", values) == pytest.approx([-x for x in ratios])
    assert beyond("high.dropped <= 0", values) == pytest.approx(values)
    assert beyond(f"high.p99_ratio < {bound}", [*values, 0.0]) == pytest.approx([x - bound for x in [*values, 0.0]])


@given(st.integers(0, 10_000), st.floats(0, 0.6))
def test_surely_is_students_t_of_the_scatter_within_all_legs(seed: int, off: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"a": 3, "b": 2, "c": 4}
    middle = {"a": off, "b": -0.3, "c": -0.3}  # skewed, so that a mean is no median
    rows = {leg: middle[leg] - 0.3 + rng.exponential(0.3, size) for leg, size in sizes.items()}
    beyond = {leg: [dict(enumerate(values.tolist()))] for leg, values in rows.items()}
    freedom = sum(sizes.values()) - len(sizes)
    pooled = math.sqrt(sum(values.var() * values.size for values in rows.values()) / freedom)
    for leg, values in rows.items():
        chance = reference.t.sf(values.mean() / (pooled / math.sqrt(values.size)), freedom)
        assert bool(choosing._surely(leg, beyond, (KEEP,))) is bool(chance < 0.05 / 3)


def test_one_repetition_of_each_shows_nothing_surely() -> None:
    assert not standing(one("a", [1.0], [99.0]), one("b", [1.0], [1.0])).broken
    assert not choosing._surely("a", {"a": [{}], "b": [{0: 1.0, 1: 2.0}]}, (KEEP,))
    assert choosing._surely("a", {"a": [{0: 9.0}], "b": [{0: 1.0, 1: 1.1}]}, (KEEP,)), "the others' scatter counts"


def test_candidates_are_all_who_ran_together_with_the_repetitions_of_all_rounds() -> None:
    def broken(scheduler: str, repetition: int) -> tuple[Flag, ...]:
        return (Flag(code="x", detail="y"),) if scheduler == "nice" and repetition == 0 else ()

    rounds = [
        campaign(experiment(repetitions=2), response, throughput=throughput, dropped=lambda *_: 3, seed=seed, flags=bad)
        for seed, bad in ((1, lambda *_: ()), (2, broken))
    ]
    found = {one.leg: one for one in choosing.candidates(rounds, AIM, (KEEP, ABOVE, NONE_LEFT))}
    assert set(found) == {"native", "nice"}
    assert found["native"].repetitions == 4
    assert sorted(found["native"].aim) == [0, 1, 1_000_000, 1_000_001]
    assert sorted(found["nice"].aim) == [0, 1, 1_000_001]
    assert [*found["nice"].aim.values()] == pytest.approx([40.0, 40.01, 40.01])
    ratios, shares, dropped = found["nice"].keeps
    assert sorted(ratios) == sorted(shares) == sorted(dropped) == sorted(found["nice"].aim)
    assert [*shares.values()] == pytest.approx([40.0] * 3, abs=0.1)
    assert {*dropped.values()} == {3.0}
