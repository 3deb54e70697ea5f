"""A race's arithmetic against plain ways to the same numbers, and where it stops."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from devicelab.experiment import racing
from devicelab.experiment.blocks import Block, End
from devicelab.experiment.racing import Standing
from devicelab.model.stop import Stop


def known(behind: float, error: float, freedom: int) -> Standing:
    return Standing(("a", "b"), np.array([0.0, behind]), np.array([0.0, error]), freedom)


@pytest.mark.parametrize("freedom", [1, 2, 30])
def test_a_setting_leaves_when_it_is_beyond_the_risk_that_is_shared_by_all(freedom: int) -> None:
    off = 0.1 * float(stats.t.isf(0.05 / 4, freedom))
    assert known(off * 0.9999, 0.1, freedom).alive() == ("a", "b")
    assert known(off * 1.0001, 0.1, freedom).alive() == ("a",)
    three = Standing(("a", "b", "c"), np.array([0, off, off]), np.array([0, 0.1, 0.1]), freedom)
    assert three.alive() == ("a", "b", "c"), "the risk is divided by their number"


def test_without_scatter_nobody_leaves_and_everything_may_be_gained() -> None:
    assert known(9.0, math.inf, 0).alive() == ("a", "b")
    assert known(9.0, math.inf, 0).to_gain() == math.inf
    assert Standing(("a",), np.zeros(1), np.zeros(1), 5).to_gain() == 0
    assert known(0.5, 0.0, 1).to_gain() == pytest.approx(0, abs=1e-12)


@settings(max_examples=20)
@given(st.floats(0, 0.3), st.floats(0.01, 0.2))
def test_what_is_to_gain_is_the_mean_of_what_the_other_may_be_better_by(behind: float, error: float) -> None:
    mean, _ = integrate.quad(
        lambda x: -x * stats.norm.pdf(x, behind, error), behind - 12 * error, min(0.0, behind + 12 * error)
    )
    assert known(behind, error, 5).to_gain() == pytest.approx(mean, abs=1e-9)


def test_the_error_of_a_comparison_is_that_of_the_residuals_of_all() -> None:
    """Two settings, three blocks: the mean of three differences, each with sqrt(2) of the scatter."""
    changes = (0.1, 0.2, 0.6)
    values = {"a": dict.fromkeys(range(3), 1.0), "b": {n: math.exp(x) for n, x in enumerate(changes)}}
    found = racing.standing(values)
    assert found.behind == pytest.approx([0, np.mean(changes)])
    assert found.freedom == 2
    assert found.error == pytest.approx([0, np.std(changes, ddof=1) / math.sqrt(3)])
    once = racing.standing({"a": {0: 1.0}, "b": {0: 2.0}})
    assert (once.freedom, list(once.error)) == (0, [0.0, math.inf])
    assert racing.standing({"a": {0: 0.0}, "b": {0: -1.0}}).cells == ()


def test_a_prediction_counts_as_one_measurement_that_is_as_exact_as_it_was() -> None:
    values = {"a": {0: 1.0, 1: 1.1}, "b": {0: 1.3, 1: 1.2}, "c": {0: 1.5, 1: 1.7}}
    plain = racing.standing(values)
    right = {cell: math.exp(far) for cell, far in zip(plain.cells, plain.behind, strict=True)}
    told = racing.standing(values, right)
    assert told.behind == pytest.approx(plain.behind), "it says the same"
    assert np.all(told.error[1:] < plain.error[1:]), "and so it is surer"
    # Each measured twice with scatter s; the prediction is a third time, with its own error (1 % at best).
    scatter = plain.error[1] / math.sqrt(2 / 2)
    assert told.error[1] == pytest.approx(scatter * math.sqrt(2 / (2 + (scatter / 0.01) ** 2)), rel=1e-6)
    wrong = {cell: x * (1.5 if cell == "b" else 1.0) for cell, x in right.items()}
    pulled = racing.standing(values, wrong)
    assert np.all(pulled.error[1:] > told.error[1:]), "one that missed is trusted less"
    at = pulled.cells.index("b")
    assert pulled.behind[at] > plain.behind[plain.cells.index("b")]


CELLS = tuple("abcdefghij")


def race(
    stop: Stop, scatter: float, truth: dict[str, float], few: tuple[str, ...] = CELLS
) -> tuple[list[Block], object]:
    """A race until its winner is to be measured afresh."""
    rng, blocks = np.random.default_rng(3), []
    values: dict[str, dict[int, float]] = {}
    stored: set[tuple[str, int]] = set()
    while True:
        step = racing.ask(stop, racing.all_at_once(few), CELLS, values, stored)
        if not isinstance(step, Block) or step.repetitions.start >= racing.FRESH:
            return blocks, step
        blocks.append(step)
        for cell, n in itertools.product(step.cells, step.repetitions):
            stored.add((cell, n))
            values.setdefault(cell, {})[n] = truth[cell] * math.exp(scatter * rng.normal())


@pytest.mark.parametrize("minimum", [6, 20])
def test_a_race_that_noise_hides_ends_with_its_share_of_the_runs(minimum: int) -> None:
    blocks, end = race(Stop(min_repetitions=minimum, max_repetitions=1000), 0.5, dict.fromkeys(CELLS, 1.0))
    assert isinstance(end, Block)
    spent = sum(len(one.cells) * len(one.repetitions) for one in blocks)
    trying = racing.FEW * len(CELLS)
    most = max(len(CELLS) * minimum // 5 - minimum, trying * 3 // 2)
    assert most - len(CELLS) < spent <= most
    assert end.repetitions == range(racing.FRESH, racing.FRESH + minimum)
    assert [len(one.repetitions) for one in blocks] == [racing.FEW] + [1] * (len(blocks) - 1)


def test_a_race_goes_no_further_than_the_most_repetitions() -> None:
    blocks, _ = race(Stop(min_repetitions=100, max_repetitions=100), 0.5, dict.fromkeys(CELLS, 1.0), CELLS[:3])
    assert blocks[-1].repetitions.stop <= 100
    short = Stop(min_repetitions=2, max_repetitions=3)
    blocks, _ = race(short, 0.5, dict.fromkeys(CELLS, 1.0), CELLS)
    assert sum(len(one.repetitions) for one in blocks) <= 3


def test_a_clear_winner_is_measured_afresh_at_once() -> None:
    truth = {cell: 1.0 + n for n, cell in enumerate(CELLS)}
    blocks, end = race(Stop(), 0.001, truth)
    assert [one.repetitions for one in blocks] == [range(racing.FEW)]
    assert isinstance(end, Block)
    assert end.cells == ("a",)


def test_what_keeps_no_constraint_cannot_win() -> None:
    values = {"a": {0: 1.0, 1: 1.0}, "b": {0: 2.0, 1: 2.0}}
    stored = {(cell, n) for cell in values for n in range(2)}

    def ask(*allowed: str) -> object:
        return racing.ask(Stop(), racing.all_at_once("ab"), "ab", values, stored, allowed=lambda _: allowed)

    step = ask("b")
    assert isinstance(step, Block)
    assert step.cells == ("b",)
    none = ask()
    assert isinstance(none, End)
    assert (none.why, none.reason) == ("cannot be judged", "no setting that was tried keeps the constraints")


@pytest.mark.parametrize(
    ("predicted", "tried"),
    [
        ((9, 9, 2.0, 2.04, 2.05, 9), "cd"),  # up to 2 % beyond the best
        ((2.0, 9, 2.0, 2.0, 9, 9), "cd"),  # what was tried is not tried again
        ((9, 2.0, 2.0, 2.0, 2.0, 2.0), "bcd"),  # three at most, in the order of the settings where they are alike
        ((2.0, 2.03, 2.01, 2.02, 2.04, 2.01), "cfd"),
    ],
)
def test_what_a_model_has_near_its_best_is_tried_after_the_scouts(predicted: tuple[float, ...], tried: str) -> None:
    said = dict(zip("abcdef", predicted, strict=True))
    propose = racing.from_prediction(tuple("abcdef"), lambda _: said, ("a", "e"))
    assert propose({}, ()) == ("a", "e")
    assert propose({}, ("a", "e")) == tuple(tried)
    assert propose({}, ("a", "e", *tried)) == ()
    without = racing.from_prediction(tuple("abcdef"), lambda _: None, ("a", "e"))
    assert without({}, ("a", "e")) == ("b", "c", "d", "f")


@pytest.mark.parametrize(("missed", "kept"), [(1.0999, True), (1.1001, False), (1 / 1.0999, True), (1 / 1.1001, False)])
def test_a_prediction_that_misses_a_ratio_by_a_tenth_is_kept(missed: float, kept: bool) -> None:
    values = {"a": {0: 1.0}, "b": {0: 2.0}}
    said = {"a": 5.0, "b": 10.0 * missed, "c": 1.0}
    assert (racing.trusted(said, "abc", values) == said) is kept
    assert racing.trusted(said, "abcd", values) is None, "not every setting"
    assert racing.trusted(said, "abc", {"a": {0: 1.0}, "b": {}}) is None, "one alone has no ratio"
    assert racing.trusted({**said, "c": 0.0}, "abc", values) is None
    assert racing.trusted(None, "abc", values) is None
