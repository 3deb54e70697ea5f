"""Stop rules: what is claimed, when it is decided, which runs come next."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from devicelab.errors import ConfigError, DeviceRefusedError, MeasurementError
from devicelab.experiment import claims, sequences, stopping
from devicelab.experiment.blocks import Block, End
from devicelab.experiment.claims import Claim
from devicelab.experiment.hopeless import Streak
from devicelab.model.experiment import Answer, Check, Experiment, Level
from devicelab.model.journal import Flag
from devicelab.model.stop import Stop

LOADS, KS = ("none", "light", "heavy"), (1, 4)
CELLS: dict[str, dict[str, Level]] = {
    f"{load}-{k}": {"load": load, "k": k, **({} if load == "none" else {"placement": "free"})}
    for load, k in itertools.product(LOADS, KS)
}
ANSWER = Answer(quantity="total_ns", by="load", against={"load": "none"}, within_pct=5)


def experiment(answer: Answer | None = ANSWER, checks: Sequence[Check] = ()) -> Experiment:
    return Experiment(
        name="e", question="?", answer=answer, factors={"load": LOADS, "k": KS}, checks=tuple(checks), stop=Stop()
    )


class Bench:
    """Runs of cells with known levels, a drift of each block and scatter."""

    def __init__(self, logs: Mapping[str, float], scatter: float = 0.01, seed: int = 1) -> None:
        self.logs, self.scatter, self.rng = logs, scatter, np.random.default_rng(seed)
        self.figures: dict[str, dict[int, float]] = {}
        self.stored: set[tuple[str, int]] = set()

    def run(self, cell: str, n: int) -> None:
        drift = 0.1 * np.random.default_rng([5, n]).normal()
        value = self.logs[cell] + drift + self.scatter * self.rng.normal()
        self.figures.setdefault(cell, {})[n] = math.exp(value)
        self.stored.add((cell, n))

    def ask(self, stop: Stop, found: Sequence[claims.Claim]) -> Block | End:
        return stopping.ask(stop, found, tuple(self.logs), lambda _: self.figures, self.stored)

    def to_end(self, stop: Stop, found: Sequence[claims.Claim]) -> End:
        while isinstance(step := self.ask(stop, found), Block):
            for n in step.repetitions:
                for cell in step.cells:
                    if (cell, n) not in self.stored:
                        self.run(cell, n)
        return step


def logs(**effects: float) -> dict[str, float]:
    return {cell: effects.get(str(levels["load"]), 0.0) for cell, levels in CELLS.items()}


def test_an_answer_claims_each_level_over_the_same_cell_without_it() -> None:
    light, heavy = claims.of(experiment(), CELLS)
    assert (light.level, heavy.level, light.family) == ("light", "heavy", 2)
    assert list(zip(light.over, light.under, strict=True)) == [("light-1", "none-1"), ("light-4", "none-4")]
    assert (light.inside, light.outside) == ("no", "yes")


def test_an_answer_that_is_concluded_or_names_no_factor_claims_nothing() -> None:
    assert claims.of(experiment(), CELLS, {"total_ns"}) == ()
    with pytest.raises(ConfigError, match="nothing that can be decided"):
        claims.required(experiment(Answer(quantity="constant_k")), CELLS, {"constant_k"})


def test_a_check_claims_its_bound() -> None:
    relative = Check(name="slower", metric="m", where={"load": "heavy"}, against={"load": "none"}, bound="< 5 %")
    absolute = Check(name="fast", metric="m", where={"k": 4.0}, bound="< 30 ms")
    first, second = claims.of(experiment(None, [relative, absolute]), CELLS)
    assert (first.scale, first.low, first.high) == ("ratio", -math.inf, pytest.approx(1.05))
    assert (first.over, first.under) == (("heavy-1", "heavy-4"), ("none-1", "none-4"))
    assert (second.scale, second.high, second.unit) == ("level", 30.0, "ms")
    assert second.over == ("none-4", "light-4", "heavy-4")


def test_what_is_decided_gets_no_more_and_what_is_open_goes_on() -> None:
    bench = Bench(logs(light=0.045, heavy=0.4), scatter=0.01)
    end = bench.to_end(Stop(max_repetitions=40), claims.of(experiment(), CELLS))
    assert end.why in {"decided", "max_repetitions"}
    runs = {cell: len(bench.figures[cell]) for cell in CELLS}
    assert runs["heavy-1"] < runs["light-1"] == runs["none-1"]


def test_a_change_within_what_matters_is_no_and_a_larger_one_yes() -> None:
    found = claims.of(experiment(), CELLS)
    bench = Bench(logs(light=0.0, heavy=0.2))
    end = bench.to_end(Stop(), found)
    assert (end.why, end.undecided) == ("decided", ())
    got = [stopping.decide(claim, bench.figures, end.done, Stop(), 2) for claim in found]
    assert [one.verdict for one in got] == ["no", "yes"]
    assert all(one.got.low < math.exp(e) < one.got.high for one, e in zip(got, (0.0, 0.2), strict=True))  # type: ignore[operator]


def test_campaigns_without_a_difference_hardly_ever_alarm() -> None:
    strict = experiment(ANSWER.model_copy(update={"within_pct": 0.0}))
    found = claims.of(strict, CELLS)
    alarms = 0
    for seed in range(15):
        bench = Bench(logs(), scatter=0.03, seed=seed)
        end = bench.to_end(Stop(max_repetitions=20), found)
        alarms += any(stopping.decide(one, bench.figures, end.done, Stop(), 2).verdict == "yes" for one in found)
    assert alarms == 0


def test_a_decision_is_the_same_whenever_it_is_looked_for() -> None:
    (claim, _) = claims.of(experiment(), CELLS)
    bench = Bench(logs(light=0.1), scatter=0.03)
    bench.to_end(Stop(max_repetitions=30), (claim,))
    for cell in claim.cells:
        for n in range(40):
            if (cell, n) not in bench.stored:
                bench.run(cell, n)
    first = next(d for n in range(6, 41) if (d := stopping.decide(claim, bench.figures, n, Stop(), 1)).done)
    assert stopping.decide(claim, bench.figures, 40, Stop(), 1) == first
    assert first.at < 40


def test_a_block_that_was_cut_off_is_finished_before_anything_is_decided() -> None:
    found = claims.of(experiment(), CELLS)
    bench = Bench(logs(light=0.0, heavy=0.2), scatter=0.03)
    rng = np.random.default_rng(3)
    whole = Bench(logs(light=0.0, heavy=0.2), scatter=0.03)
    whole.to_end(Stop(), found)
    while isinstance(step := bench.ask(Stop(), found), Block):
        todo = [(cell, n) for n in step.repetitions for cell in step.cells if (cell, n) not in bench.stored]
        for cell, n in todo[: int(rng.integers(1, len(todo) + 1))]:  # the host dies after some of them
            bench.figures.setdefault(cell, {})[n] = whole.figures[cell][n]
            bench.stored.add((cell, n))
    assert bench.figures == whole.figures


def test_a_precision_is_reached_or_the_most_repetitions_are() -> None:
    (claim,) = claims.of(experiment(None, [Check(name="c", metric="m", where={"load": "none"}, bound="< 9 s")]), CELLS)
    end = Bench(logs(), scatter=0.01).to_end(Stop(until="± 20 %"), (claim,))
    assert end.why == "precise"
    end = Bench(logs(), scatter=0.5).to_end(Stop(until="± 1 %", max_repetitions=10), (claim,))
    assert (end.why, end.undecided, end.done) == ("max_repetitions", (claim.name,), 10)


def test_a_claim_without_a_valid_pair_ends_and_is_not_waited_for() -> None:
    found = claims.of(experiment(), CELLS)
    bench = Bench(logs())
    bench.stored = {(cell, n) for cell in CELLS for n in range(6)}
    step = bench.ask(Stop(), found)
    assert isinstance(step, End)
    assert step.why == "cannot be judged"


def test_one_cell_that_is_never_valid_does_not_stand_for_the_others() -> None:
    (claim, _) = claims.of(experiment(), CELLS)
    bench = Bench(logs(light=0.3))
    for cell in CELLS:
        for n in range(6):
            if cell != "light-4":
                bench.run(cell, n)
    values = stopping.values(claim, bench.figures, 6, 6)
    assert values == pytest.approx([0.3] * 6, abs=0.06)


def test_an_open_claim_says_how_many_repetitions_it_is_likely_to_take() -> None:
    (claim, _) = claims.of(experiment(), CELLS)
    bench = Bench(logs(light=0.02), scatter=0.06)
    for cell in CELLS:
        for n in range(8):
            bench.run(cell, n)
    got = stopping.decide(claim, bench.figures, 8, Stop(), 1)
    assert not got.done
    assert got.more is not None
    assert got.more >= 1


def test_an_earlier_campaign_tells_how_many_repetitions_it_is_likely_to_take() -> None:
    (claim, _) = claims.of(experiment(), CELLS)
    quiet, noisy = (Bench(logs(), scatter=scatter) for scatter in (0.01, 0.08))
    for bench in (quiet, noisy):
        for cell in CELLS:
            for n in range(8):
                bench.run(cell, n)
    few, many = (stopping.likely(claim, bench.figures, Stop()) for bench in (quiet, noisy))
    assert few is not None
    assert many is not None
    assert 6 <= few < 10 < many
    assert stopping.likely(claim, {}, Stop()) is None


@pytest.mark.parametrize("rule", [{"until": "soon"}, {"until": "0 %"}, {"budget": "long"}, {"min_repetitions": 70}])
def test_a_stop_rule_that_makes_no_sense_is_refused(rule: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Stop.model_validate(rule)


@pytest.mark.parametrize(("text", "seconds"), [("90 s", 90), ("20m", 1200), ("30 min", 1800), ("1.5 h", 5400)])
def test_budgets_are_times(text: str, seconds: float) -> None:
    assert Stop(budget=text).budget_s == seconds
    assert [Stop(until=one).precision for one in ("decided", "± 2 %", "+-2%", "2 %")] == [None, 0.02, 0.02, 0.02]


def flags(*codes: str, remark: bool = False) -> tuple[Flag, ...]:
    return tuple(Flag(code=code, detail="why", remark=remark) for code in codes)


def test_the_same_flag_whatever_the_levels_ends_a_sweep() -> None:
    streak = Streak(4, CELLS)
    order = list(CELLS)
    for cell in order[:4]:
        streak.see(cell, flags("output-unusable", f"own-{cell}"))
        assert not streak.over
    streak.see(order[4], flags("output-unusable"))
    error = streak.error("note10")
    assert isinstance(error, MeasurementError)
    assert "5 runs in a row are flagged output-unusable" in error.message
    refused = Streak(1, {"a": {}})
    refused.see("a", flags("affinity-refused"))
    assert isinstance(refused.error("note10"), DeviceRefusedError)


def test_a_level_that_cannot_be_set_spoils_its_own_cells_alone() -> None:
    streak = Streak(3, CELLS)
    for _ in range(10):
        for cell, levels in CELLS.items():
            if levels["load"] == "heavy":
                streak.see(cell, flags("load-not-running"))
    assert not streak.over


@pytest.mark.parametrize("found", [(), flags("gate-timeout"), flags("throttled"), flags("slow", remark=True)])
def test_what_passes_or_is_a_remark_is_waited_for(found: tuple[Flag, ...]) -> None:
    streak = Streak(2, {"a": {}})
    for _ in range(9):
        streak.see("a", found)
    assert streak.error("note10") is None


def test_a_valid_run_between_begins_anew_and_nought_never_gives_up() -> None:
    streak, never = Streak(3, {"a": {}}), Streak(0, {"a": {}})
    for found in (flags("x"), flags("x"), (), flags("x"), flags("x")):
        streak.see("a", found)
        never.see("a", flags("x"))
    assert not streak.over
    assert not never.over


@pytest.mark.parametrize("spoiled", ["a", "b"])
def test_a_cell_whose_runs_are_all_flagged_from_some_point_on_is_not_waited_for(spoiled: str) -> None:
    stop, rng = Stop(max_repetitions=500), np.random.default_rng(1)
    both = Claim("c", "t", ("a",), ("b",), "ratio", 0.98, 1.02, "no", "yes")
    stored: set[tuple[str, int]] = set()
    figures: dict[str, dict[int, float]] = {"a": {}, "b": {}}
    while isinstance(step := stopping.ask(stop, (both,), ("a", "b"), lambda _: figures, stored), Block):
        for cell, n in ((cell, n) for cell in step.cells for n in step.repetitions):
            stored.add((cell, n))
            if n < 8 or cell != spoiled:
                figures[cell][n] = float(np.exp(0.03 * rng.normal()))
    assert (step.why, step.undecided) == ("cannot be judged", ("c",))
    assert "no valid pair of runs in the last 12 repetitions" in step.reason
    assert step.done <= 40


@pytest.mark.parametrize(("effect", "verdict"), [(0.0, "no"), (0.045, "yes")])
def test_a_decision_is_the_same_whether_it_is_looked_for_often_or_once(effect: float, verdict: str) -> None:
    rng, stop = np.random.default_rng(2), Stop(max_repetitions=150)
    both = Claim("c", "t", ("a",), ("b",), "ratio", 0.98, 1.02, "no", "yes")
    for _ in range(3):
        figures = {
            cell: {n: float(np.exp(size + 0.015 * rng.normal())) for n in range(150)}
            for cell, size in (("a", effect), ("b", 0.0))
        }
        looks = (stopping.decide(both, figures, n, stop, 1) for n in range(6, 61))
        first = next(one for one in looks if one.done)
        assert (first.verdict, first.at <= 60) == (verdict, True)
        assert {stopping.decide(both, figures, n, stop, 1) for n in (first.at + 1, 60, 61, 97, 150)} == {first}
        undone = {**figures, "a": figures["a"] | {n: 3.0 if n % 2 else 1 / 3 for n in range(first.at, 150)}}
        assert {stopping.decide(both, undone, n, stop, 1) for n in (first.at + 1, 60, 150)} == {first}


def test_thousands_of_repetitions_are_judged() -> None:
    x = np.random.default_rng(3).normal(size=3000)
    got = sequences.location(x)
    assert got.low is not None
    assert got.high is not None
    assert got.low < 0 < got.high < 0.2
    upper = np.triu_indices(x.size)
    assert got.estimate == pytest.approx(np.median((x[upper[0]] + x[upper[1]]) / 2), abs=1e-6)
    assert sequences.closes(100_000)
