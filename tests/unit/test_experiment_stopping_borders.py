"""Bounds of claims and stop rules: at them, just below and just above."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest

from devicelab.experiment import claims, sequences, stopping
from devicelab.experiment.blocks import Block, End
from devicelab.experiment.bounds import COMPARE, parse_bound
from devicelab.experiment.claims import Claim
from devicelab.experiment.sequences import Anytime
from devicelab.model.experiment import Answer, Check, Experiment, Level
from devicelab.model.stop import Stop

CELLS = ("a", "b", "c")


def experiment(**more: Any) -> Experiment:
    return Experiment.model_validate({"name": "x", "question": "?", **more})


# --- bounds and claims ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sign", "kept"),
    [
        ("<", (True, False, False)),
        ("<=", (True, True, False)),
        (">", (False, False, True)),
        (">=", (False, True, True)),
    ],
)
def test_a_sign_is_kept_below_at_and_above_its_number(sign: str, kept: tuple[bool, ...]) -> None:
    got, number, unit = parse_bound(f"{sign} 5.5 %")
    assert (number, unit) == (5.5, "%")
    assert tuple(COMPARE[got](x, number) for x in (5.4, 5.5, 5.6)) == kept


ALIKE: dict[str, Mapping[str, Level]] = {
    f"{load}-{k}": {"load": load, "k": k} for load, k in itertools.product(("none", "heavy"), (1, 2))
}


def test_a_comparison_is_in_the_unit_of_what_is_compared() -> None:
    def of(quantity: str) -> Claim:
        answer = Answer(quantity=quantity, by="load", against={"load": "none"}, within_pct=5)
        (claim,) = claims.of(experiment(answer=answer, factors={"load": ["none", "heavy"]}), ALIKE)
        return claim

    ratio, points = of("total_ns"), of("cpu_use_pct")
    assert (ratio.scale, ratio.low, ratio.high) == ("ratio", pytest.approx(0.95), pytest.approx(1.05))
    assert (points.scale, points.low, points.high) == ("points", -5, 5)
    assert ratio.region == (pytest.approx(math.log(0.95)), pytest.approx(math.log(1.05)))
    assert points.region == (-5, 5)


def check(bound: str, against: bool) -> Claim:
    one = Check(
        name="c", metric="m", where={"load": "heavy"}, against={"load": "none"} if against else None, bound=bound
    )
    (claim,) = claims.of(experiment(checks=(one,)), ALIKE)
    return claim


@pytest.mark.parametrize(
    ("bound", "against", "low", "high", "alike"),
    [
        ("< 5 %", True, -math.inf, 1.05, 0.0),
        ("> 5 %", True, 1.05, math.inf, math.log(1.05)),
        ("< -5 %", True, -math.inf, 0.95, math.log(0.95)),
        ("<= 1.2", True, -math.inf, 1.2, 0.0),
        (">= 2 x", True, 2.0, math.inf, math.log(2)),
        ("< 30 ms", False, -math.inf, 30.0, 0.0),
        ("> 30 ms", False, 30.0, math.inf, 30.0),
    ],
)
def test_a_bound_opens_to_the_side_it_names(bound: str, against: bool, low: float, high: float, alike: float) -> None:
    claim = check(bound, against)
    assert (claim.low, claim.high) == (pytest.approx(low), pytest.approx(high))
    assert claim.alike == pytest.approx(alike)


def test_an_open_side_of_a_ratio_is_open_as_a_logarithm_too() -> None:
    assert check("> 5 %", True).region == (pytest.approx(math.log(1.05)), math.inf)
    assert check("< 5 %", True).region == (-math.inf, pytest.approx(math.log(1.05)))


# --- stop rules ----------------------------------------------------------------------------------------------------

LEVEL = check("< 30 ms", False)
RATIO = check("< 5 %", True)


def figures(over: float, under: float, n: int = 6) -> dict[str, dict[int, float]]:
    return {cell: dict.fromkeys(range(n), over if "heavy" in cell else under) for cell in ALIKE}


def test_a_figure_of_a_repetition_is_compared_on_its_own_scale() -> None:
    points = Claim("p", "cpu_use_pct", ("heavy-1",), ("none-1",), "points", -5, 5, "no", "yes")
    assert stopping.values(points, figures(12, 4), 3, 3).tolist() == [8, 8, 8]
    assert stopping.values(RATIO, figures(12, 4), 3, 3) == pytest.approx([math.log(3)] * 3)
    assert stopping.values(LEVEL, figures(12, 4), 3, 3).tolist() == [12, 12, 12]
    assert stopping.values(LEVEL, figures(12, 4), 0, 3).size == 0
    for nought in (figures(0, 4), figures(4, 0), figures(-1, 4)):
        assert all(math.isnan(x) for x in stopping.values(RATIO, nought, 3, 3))


@pytest.mark.parametrize(("valid", "kept"), [(2, False), (3, False), (4, True)])
def test_a_cell_counts_if_more_than_half_of_its_first_repetitions_are_there(valid: int, kept: bool) -> None:
    found = figures(12, 4)
    found["heavy-1"] = dict.fromkeys(range(valid), 1000.0)
    got = stopping.values(LEVEL, found, 6, 6).tolist()
    assert got[0] == ((1000 + 12) / 2 if kept else 12)


@pytest.mark.parametrize(
    ("scale", "estimate", "half"),
    [("points", 40.0, 25.0), ("ratio", 1.5, 0.25), ("level", 40.0, 10.0), ("level", -40.0, 10.0)],
)
def test_an_interval_is_precise_at_the_width_asked_for_and_not_above(scale: Any, estimate: float, half: float) -> None:
    claim = Claim("c", "m", ("a",), (), scale, -1, 1, "no", "yes")

    def enough(half: float, low: bool = True, high: bool = True) -> bool:
        got = Anytime(estimate, estimate - half if low else None, estimate + half if high else None, 9)
        return stopping._enough(got, "inconclusive", claim, Stop(until="± 25 %"))

    assert enough(half)
    assert not enough(half + 2**-20)
    assert not enough(half / 4, low=False)
    assert not enough(half / 4, high=False)


@pytest.mark.parametrize(
    ("low", "high", "within", "beyond"),
    [
        (-1, 1, True, False),
        (-1.1, 1, False, False),
        (-1, 1.1, False, False),
        (1, 2, False, False),
        (1.1, 2, False, True),
        (-2, -1, False, False),
        (-2, -1.1, False, True),
        (None, 0, False, False),
        (0, None, False, False),
        (None, -1.1, False, True),
        (1.1, None, False, True),
    ],
)
def test_what_touches_the_region_is_neither_outside_nor_beyond(
    low: float | None, high: float | None, within: bool, beyond: bool
) -> None:
    got = Anytime(0.0, low, high, 9)
    assert (stopping._within(got, -1, 1), stopping._beyond(got, -1, 1)) == (within, beyond)


def test_an_open_side_of_the_region_needs_no_bound() -> None:
    assert stopping._within(Anytime(0, None, 1, 9), -math.inf, 1)
    assert stopping._within(Anytime(0, -1, None, 9), -1, math.inf)
    assert not stopping._within(Anytime(0, -1, None, 9), -math.inf, 1)


@pytest.mark.parametrize(("more", "blocks"), [(1, 1), (2, 1), (3, 1), (4, 2), (15, 7), (16, 8), (17, 8), (400, 8)])
def test_half_of_what_is_expected_is_measured_before_the_next_look(more: int, blocks: int) -> None:
    assert stopping._chunk(more) == blocks


def test_no_block_goes_beyond_the_most_repetitions() -> None:
    stored: set[tuple[str, int]] = set()
    measured: dict[str, dict[int, float]] = {cell: {} for cell in ALIKE}
    stop, undecidable, blocks = Stop(max_repetitions=11), 30.0, []
    while isinstance(step := stopping.ask(stop, (LEVEL,), tuple(ALIKE), lambda _: measured, stored), Block):
        blocks.append(step.repetitions)
        for cell, n in itertools.product(step.cells, step.repetitions):
            stored.add((cell, n))
            measured[cell][n] = undecidable + (-1) ** n
    assert isinstance(step, End)
    assert (step.why, step.done) == ("max_repetitions", 11)
    assert [n for one in blocks for n in one] == list(range(11))
    assert len(blocks[0]) == stop.min_repetitions


def noisy(around: float, scatter: float = 0.5, n: int = 8) -> dict[str, dict[int, float]]:
    return {cell: {i: around + (scatter if i % 2 else -scatter) for i in range(n)} for cell in ALIKE}


@pytest.mark.parametrize(("around", "until"), [(29.8, "decided"), (30.2, "decided"), (29.8, "± 1 %"), (10.0, "± 1 %")])
def test_a_claim_takes_as_many_repetitions_as_its_scatter_and_distance_need(around: float, until: str) -> None:
    stop, alpha = Stop(until=until, max_repetitions=90), 0.05
    width = 0.01 * around if until != "decided" else abs(around - 30)
    # A median has 2/pi of the efficiency of a mean; the eight values spread by 0.5 * sqrt(8 / 7).
    scatter = 0.5 * math.sqrt(8 / 7) * math.sqrt(math.pi / 2)
    needed = sequences.expected(scatter, width, alpha)
    assert needed is not None
    assert stopping.likely(LEVEL, noisy(around), stop) == max(needed, 6)
    decided = stopping.decide(LEVEL, noisy(around), 8, stop, 1)
    assert decided.more == max(1, needed - 8)


def test_a_comparison_takes_as_many_as_its_logarithms_scatter() -> None:
    pairs = {cell: {n: (1.2 if "heavy" in cell and n % 2 else 1.0) for n in range(8)} for cell in ALIKE}
    step = math.log(1.2)
    distance = abs(step / 2 - math.log(1.05))
    needed = sequences.expected(step / 2 * math.sqrt(8 / 7), distance, 0.05)
    assert needed is not None
    assert stopping.likely(RATIO, pairs, Stop()) == max(needed, 6)


def test_one_repetition_or_an_unlucky_cell_tells_no_number() -> None:
    assert stopping.likely(LEVEL, {}, Stop()) is None
    assert stopping.likely(LEVEL, noisy(20.0, n=1), Stop()) is None
    assert stopping.likely(LEVEL, noisy(20.0, n=2), Stop()) is not None
    holes = {"heavy-1": {0: 19.5, 2: 20.5}}  # two of three repetitions: it counts
    assert stopping.likely(LEVEL, holes, Stop()) is not None


def test_where_nothing_tells_how_many_are_left_one_more_block_is_measured() -> None:
    stored = {(cell, n) for cell in ALIKE for n in range(6)}
    at_bound = noisy(30.0, n=6)  # no distance, so no number
    step = stopping.ask(Stop(), (LEVEL,), tuple(ALIKE), lambda _: at_bound, stored)
    assert isinstance(step, Block)
    assert (step.repetitions, step.more) == (range(6, 7), None)
