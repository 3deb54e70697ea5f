"""Races of settings: the best wins with few runs, and is then measured afresh."""

from collections.abc import Mapping

import numpy as np
import pytest

from devicelab.experiment import blocks, racing
from devicelab.experiment.blocks import Block, End, Spent, rest_of
from devicelab.model.stop import Stop

STOP = Stop(max_repetitions=20)
CELLS = tuple(f"k{k}" for k in (1, 2, 4, 8, 16, 32))
TRUTH = dict(zip(CELLS, (1.6, 1.3, 1.1, 1.0, 1.15, 1.4), strict=True))


class Bench:
    """Runs with a known truth, a drift of each block and scatter."""

    def __init__(self, truth: Mapping[str, float], scatter: float = 0.01, seed: int = 1) -> None:
        self.truth, self.scatter = truth, scatter
        self.rng = np.random.default_rng(seed)
        self.values: dict[str, dict[int, float]] = {}
        self.stored: set[tuple[str, int]] = set()
        self.blocks: list[Block] = []

    def run(self, block: Block) -> None:
        self.blocks.append(block)
        for n in block.repetitions:
            drift = 0.05 * self.rng.normal()
            for cell in block.cells:
                noise = np.exp(drift + self.scatter * self.rng.normal())
                self.values.setdefault(cell, {})[n] = self.truth[cell] * float(noise)
                self.stored.add((cell, n))

    def race(self, propose: racing.Proposer, predict: racing.Predictor = lambda _: None) -> End | racing.Won:
        while True:
            step = racing.ask(STOP, propose, CELLS, self.values, self.stored, predict=predict)
            if not isinstance(step, Block):
                return step
            self.run(step)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_wins_and_is_measured_afresh(seed: int) -> None:
    bench = Bench(TRUTH, seed=seed)
    won = bench.race(racing.all_at_once(CELLS))
    assert isinstance(won, racing.Won)
    assert won.cell == "k8"
    assert [cell for cell, n in bench.stored if n in won.fresh] == ["k8"] * STOP.min_repetitions
    assert won.fresh.start > max(n for cell, n in bench.stored if cell != "k8")
    first, *_, last = bench.blocks
    assert [blocks.beyond(one, lambda _: False) for one in (first, last)] == [STOP.min_repetitions, 0]


def test_what_is_clearly_slower_gets_no_more_runs() -> None:
    bench = Bench({**TRUTH, "k4": 1.001}, scatter=0.01)
    bench.race(racing.all_at_once(CELLS))
    assert len(bench.values["k1"]) == racing.FEW
    assert len(bench.values["k4"]) > racing.FEW


def test_a_good_prediction_spares_what_it_rules_out() -> None:
    bench = Bench(TRUTH)
    predicted = {cell: 1000 * x * (1.02 if cell == "k4" else 1) for cell, x in TRUTH.items()}

    def predict(values: racing.Values) -> racing.Predicted | None:
        return racing.trusted(predicted, CELLS, values)

    won = bench.race(racing.from_prediction(CELLS, predict, ("k1", "k32")), predict)
    assert isinstance(won, racing.Won)
    assert won.cell == "k8"
    assert set(bench.values) == {"k1", "k32", "k8"}


def test_a_prediction_that_misses_what_ran_is_not_followed() -> None:
    bench = Bench(TRUTH)
    wrong = dict(zip(CELLS, (1.0, 1.1, 1.2, 1.3, 1.4, 1.5), strict=True))

    def predict(values: racing.Values) -> racing.Predicted | None:
        return racing.trusted(wrong, CELLS, values)

    won = bench.race(racing.from_prediction(CELLS, predict, ("k1", "k32")), predict)
    assert isinstance(won, racing.Won)
    assert won.cell == "k8"
    assert set(bench.values) == set(CELLS)


def test_a_block_that_was_cut_off_is_asked_for_again() -> None:
    bench = Bench({**TRUTH, "k4": 1.0}, scatter=0.05, seed=0)
    for _ in range(3):
        step = racing.ask(STOP, racing.all_at_once(CELLS), CELLS, bench.values, bench.stored)
        assert isinstance(step, Block)
        bench.run(step)
    last = bench.blocks[-1]
    bench.stored.discard((last.cells[0], last.repetitions[-1]))
    again = racing.ask(STOP, racing.all_at_once(CELLS), CELLS, bench.values, bench.stored)
    assert isinstance(again, Block)
    assert again.cells == last.cells
    assert again.repetitions == last.repetitions[-1:]


def test_settings_without_a_valid_run_cannot_be_judged() -> None:
    stored = {(cell, n) for cell in CELLS for n in range(racing.FEW)}
    step = racing.ask(STOP, racing.all_at_once(CELLS), CELLS, {}, stored)
    assert isinstance(step, End)
    assert step.why == "cannot be judged"


def test_a_budget_ends_the_race_with_the_best_so_far() -> None:
    bench = Bench({**TRUTH, "k4": 1.0}, scatter=0.03)
    first = racing.ask(STOP, racing.all_at_once(CELLS), CELLS, {}, set())
    assert isinstance(first, Block)
    bench.run(first)
    step = racing.ask(STOP, racing.all_at_once(CELLS), CELLS, bench.values, bench.stored, lambda _: False)
    assert isinstance(step, Block)
    assert len(step.cells) == 1
    assert len(step.repetitions) == STOP.min_repetitions


def test_a_repetition_that_was_begun_is_finished_whatever_the_budget() -> None:
    cells, stored = ("a", "b"), {("a", 0), ("b", 0), ("a", 1)}
    assert rest_of(cells, range(4), stored, lambda _: False) == range(1, 2)
    assert rest_of(cells, range(4), stored, lambda runs: runs <= 3) == range(1, 3)
    assert rest_of(cells, range(1), stored, lambda _: False) is None
    assert rest_of(cells, range(4), {*stored, ("b", 1)}, lambda _: False) == Spent(2)
