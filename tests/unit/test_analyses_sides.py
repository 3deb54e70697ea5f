"""A figure of several levels side by side, and answers that compare by another factor than the load."""

import itertools
import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import _sides, answer
from devicelab.ground import registry
from devicelab.model.experiment import Experiment, Finding
from devicelab.model.journal import Flag
from tests import goldens
from tests.klodata import FrameResults, run_row


def table(levels: tuple[str, ...], cells: int, *, scale: float = 1.0) -> pd.DataFrame:
    """Each level slower than the one before; the first cell has no intervals."""
    rows: list[dict[str, object]] = []
    for level, cell in itertools.product(range(len(levels)), range(cells)):
        estimate = scale * (1 + level) * (cells - cell)
        ends = {"low": 0.9 * estimate, "high": 1.2 * estimate} if cell else {"low": None, "high": None}
        rows.append({"cell": f"K = {cell}", "level": levels[level], "estimate": estimate, **ends, "n": 6 + level})
    return pd.DataFrame(rows)


def test_three_levels_are_drawn_side_by_side_and_what_has_no_partner_is_not(request: pytest.FixtureRequest) -> None:
    three = table(("idle", "load a", "load b"), 3, scale=1e6)
    alone = pd.DataFrame([{"cell": "K = 9", "level": "idle", "estimate": 9e9, "low": None, "high": None, "n": 1}])
    two = three[(three["cell"] != "K = 1") | (three["level"] != "load b")]
    text = goldens.figures(_sides.figures(pd.concat([two, alone]), "total_ns", "the time of an inference", "ns"))
    goldens.same("sides-of-three", text, write=request.config.option.write_goldens)


@pytest.mark.parametrize(
    ("largest", "unit", "shown", "estimate"),
    [
        (1e9, "ns", "s", 1),
        (math.nextafter(1e9, 0), "ns", "ms", 1000),
        (1e6, "ns", "ms", 1),
        (1e3, "ns", "µs", 1),
        (999.0, "ns", "ns", 999),
        (0.5, "ns", "ns", 0.5),
        (0.5, "pct", "%", 0.5),
        (5e9, "1", "", 5e9),
        (5e9, "W", "W", 5e9),
    ],
)
def test_figures_side_by_side_have_the_largest_unit_that_holds_one(
    largest: float, unit: str, shown: str, estimate: float
) -> None:
    data = pd.DataFrame(
        {
            "cell": ["", ""],
            "level": ["idle", "load a"],
            "estimate": [-largest, largest / 2],
            "low": [-largest, None],
            "high": [largest, None],
            "n": [3, 3],
        }
    )
    (figure,) = _sides.figures(data, "x", "the figure", unit)
    assert set(figure.data["unit"]) == {shown}
    assert figure.data["estimate"].tolist() == pytest.approx([-estimate, estimate / 2])
    assert figure.data["high"][0] == pytest.approx(estimate)
    assert figure.title == f"Figure{f' in {shown}' if shown else ''}: idle and load a"
    assert figure.answers == ("x",)


@pytest.mark.parametrize(("cells", "cut"), [(24, False), (25, True)])
def test_two_dozen_rows_are_drawn_and_the_data_has_all(cells: int, cut: bool) -> None:
    (figure,) = _sides.figures(table(("idle", "load a"), cells), "x", "the figure", "1")
    assert figure.data["cell"].nunique() == cells
    assert (f"The first 24 of {cells} rows" in figure.caption) is cut
    assert "(n = 6 to 7)" in figure.caption
    assert isinstance(figure.draw, partial)
    assert figure.draw.keywords["table"]["cell"].nunique() == 24


@pytest.mark.parametrize("levels", [(), ("idle",)])
def test_one_side_alone_is_no_figure(levels: tuple[str, ...]) -> None:
    columns = ["cell", "level", "estimate", "low", "high", "n"]
    assert _sides.figures(table(levels, 2) if levels else pd.DataFrame(columns=columns), "x", "the x", "1") == ()
    apart = table(("idle", "load a"), 2)[lambda some: (some["level"] == "idle") == (some["cell"] == "K = 0")]
    assert _sides.figures(apart, "x", "the x", "1") == (), "each cell has one level only"


# --- answers by another factor ---------------------------------------------------------------------------------------

LOADS = (("none", None), ("a", "free"), ("a", "one-per-core"), ("b", "free"))


def campaign(
    metric: str = "total_ns", *, base: float = 1e6, n: int = 8, lost: Any = lambda _: False, **asked: Any
) -> FrameResults:
    """A base time; a load doubles it, one a core trebles it; the slow clock adds 20 % under load and 40 % without."""
    rows, figures = [], []
    levels: dict[str, Any]
    for repetition, (load, placement), cpu in itertools.product(range(n), LOADS, ("max", "mid", "min")):
        levels = {"load": load, "placement": placement, "cpu": cpu}
        run = f"{load}-{placement}-{cpu}-{repetition}"
        flags = (Flag(code="hot", detail="x"),) if lost(levels) else ()
        rows.append(run_row(run, repetition, len(rows), levels, flags))
        value = base * {None: 1.0, "free": 2.0, "one-per-core": 3.0}[placement]
        value *= {"max": 1.0, "mid": 1.0, "min": 1.4 if load == "none" else 1.2}[cpu] * (1 + 0.001 * (repetition % 3))
        figures.append({"run_id": run, "program": "measure", "metric": metric, "value": value, "unit": "ns"})
    factors = {"load": ("none", "a", "b"), "placement": ("free", "one-per-core"), "cpu": ("max", "mid", "min")}
    chosen = {"quantity": metric, "by": "cpu", "against": {"cpu": "max"}, "within_pct": 5, **asked}
    of = Experiment.model_validate({"name": "e", "question": "?", "factors": factors, "answer": chosen})
    return FrameResults(of, pd.DataFrame(rows), pd.DataFrame(figures))


def answered(**more: Any) -> Finding:
    (found,) = answer.analyse(campaign(**more))
    return found


def test_an_answer_by_another_factor_pairs_runs_of_the_same_load_and_placement() -> None:
    mid, slow = answer.claims(campaign())
    assert (mid.claim.verdict, slow.claim.verdict) == ("no", "yes")
    assert slow.claim.estimate == pytest.approx((1.4 * 1.2**3) ** 0.25)
    cells = {name: got.estimate for name, got in slow.cells.items()}
    assert cells == pytest.approx({"idle": 1.4, "load a free": 1.2, "load a one-per-core": 1.2, "load b free": 1.2})
    found = answered()
    assert found.claim == "Does the CPU clock change the time of an inference?"
    assert (found.verdict, found.comparison) == ("yes", "CPU clock min / CPU clock max")
    assert found.reasons[0] == "the figure is that of CPU clock min / CPU clock max; intervals hold for all 2"


def test_an_answer_by_load_pairs_every_placement_with_the_one_idle_run() -> None:
    results = campaign(by="load", against={"load": "none"})
    found = {one.claim.comparison: one for one in answer.claims(results)}
    assert found["load b / idle"].cells.keys() == {"CPU clock max", "CPU clock mid", "CPU clock min"}
    assert found["load b / idle"].claim.estimate == pytest.approx(2 * (1.2 / 1.4) ** (1 / 3))
    assert found["load a / idle"].claim.estimate == pytest.approx(2.5 * (1.2 / 1.4) ** (1 / 3), rel=0.03)


@pytest.mark.parametrize(
    ("where", "estimate", "cells"),
    [({"load": "none"}, 1.4, [""]), ({"placement": "free"}, 1.2, ["load a", "load b"])],
)
def test_an_answer_of_some_runs_rests_on_those_alone(where: dict[str, str], estimate: float, cells: list[str]) -> None:
    results = campaign(where=where)
    assert answer.claims(results)[1].claim.estimate == pytest.approx(estimate)
    assert results.experiment.answer is not None
    sides = answer.sides(results.experiment.answer, results)
    assert [list(rows) for _, rows in sides.groupby("level")["cell"]] == [cells] * 3


@pytest.mark.parametrize(("base", "verdict"), [(8.0, "no"), (11.0, "inconclusive"), (11.2, "yes")])
def test_a_percentage_is_compared_in_points_and_not_in_percents_of_it(base: float, verdict: str) -> None:
    """Five points matter: one load a core gains 0.6 of the base, all together 0.45 of it."""
    found = answered(metric="use_pct", base=base)
    assert found.unit == "points"
    assert found.estimate == pytest.approx(base * np.mean([0.4, 0.4, 0.6, 0.4]), rel=0.01)
    assert found.verdict == verdict


@pytest.mark.parametrize(("n", "said"), [(1, "1 repetition"), (2, "2 repetitions"), (5, "5 repetitions")])
def test_too_few_repetitions_are_counted(n: int, said: str) -> None:
    found = answered(n=n)
    assert found.verdict == "insufficient n"
    assert f"{said}; six are the least, more where several levels are compared at once" in found.reasons


def test_a_level_whose_runs_all_failed_stays_open_and_one_that_never_ran_is_not_asked() -> None:
    mid, slow = answer.claims(campaign(lost=lambda levels: levels["cpu"] == "mid"))
    assert (mid.claim.verdict, slow.claim.verdict) == ("insufficient n", "yes")
    assert mid.claim.n == 0
    found = answered(lost=lambda levels: levels["cpu"] == "mid")
    assert "CPU clock mid / CPU clock max: no pair of valid runs" in found.reasons
    assert found.reasons[0].endswith("intervals hold for all 2")
    results = campaign()
    results.run_rows = results.run_rows[results.run_rows["cpu"] != "mid"]
    assert [one.claim.comparison for one in answer.claims(results)] == ["CPU clock min / CPU clock max"]
    results.run_rows = results.run_rows[results.run_rows["cpu"] != "max"]
    assert answer.claims(results) == ()
    (nothing,) = answer.analyse(results)
    assert nothing.reasons == ("no cell with another cpu than cpu = max, and the same cell with that",)


def test_an_answer_may_be_what_any_of_the_experiments_analyses_concludes() -> None:
    of = campaign().experiment.model_copy(update={"analyses": ("klo", "load", "contract")})
    assert answer.known(of).keys() == registry.answers("klo").keys() | registry.answers("contract").keys()
    assert registry.answers("klo")
    assert registry.answers("contract")
