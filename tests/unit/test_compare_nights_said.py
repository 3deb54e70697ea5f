"""What is said of a night, in every case there is, beside what was read once; and a judgement at its borders."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from devicelab.compare.nights import words
from devicelab.compare.nights.assess import MIN_NIGHTS, One, Panel, _lately, assess
from devicelab.compare.nights.data import Key
from devicelab.compare.nights.held import ENOUGH, SIGN, Held
from devicelab.compare.nights.words import Case
from tests import goldens

NAN = float("nan")
CALM = One(
    0, 0.004, -0.002, 0.01, 0.3, 0.9, 0.02, moved=False, tonight=0.0, tonight_sd=0.01, evidence=0.2, established=False
)
HIGHER = replace(CALM, shift=0.08, low=0.05, high=0.11, p=1e-6, q=2e-5, moved=True)
LOWER = replace(HIGHER, shift=-0.08, low=-0.11, high=-0.05, q=0.012)


def case(one: One = CALM, **changed: Any) -> Case:
    """Nine nights of five runs of 10 ms, the last seven but one the baseline."""
    fields: dict[str, Any] = {
        "night": "n8",
        "key": Key("quick", "c1", "K = 4", "phone-1", "measure", "total_ns", "ns"),
        "worse": "more",
        "nights": tuple(f"n{number}" for number in range(9)),
        "has": np.ones(9, dtype=bool),
        "values": np.full((9, 5), 1e7),
        "again": np.empty(0),
        "base": tuple(range(1, 8)),
        "window": (8,),
        "scale": "log",
        "assessment": one,
        "again_shift": NAN,
        "platform": (),
        "programs": (),
        "since": None,
        **changed,
    }
    return Case(**fields)


def zeros(*tonight: float, past: float = 0.0) -> dict[str, Any]:
    values = np.zeros((9, len(tonight)))
    values[3, 0], values[8] = past, tonight
    return {"values": values, "scale": "none", "key": replace(case().key, metric="dropped", unit="1")}


def runs(tonight: int, usual: int = 5) -> np.ndarray:
    values = np.full((9, 5), 1e7)
    values[:8, usual:] = values[8, tonight:] = np.nan
    return values


def again(shift: float, runs: int = 5) -> dict[str, Any]:
    return {"again": np.full(runs, 1e7), "again_shift": shift}


CASES: dict[str, Case] = {
    "unchanged": case(),
    "without an interval": case(replace(CALM, low=NAN, high=NAN)),
    "a share of the level": case(HIGHER, scale="share"),
    "worse": case(HIGHER),
    "better": case(LOWER),
    "better, where more is better": case(HIGHER, worse="less"),
    "worse, where more is better": case(LOWER, worse="less"),
    "nobody knows which way is better": case(HIGHER, worse=None),
    "three nights": case(replace(HIGHER, window=1), since="n6"),
    "seven nights": case(replace(HIGHER, window=2)),
    "a drift of weeks": case(replace(HIGHER, window=3)),
    "a drift of months": case(replace(LOWER, window=4)),
    "established": case(replace(HIGHER, window=1, established=True, evidence=ENOUGH), since="n5"),
    "established against weeks ago": case(replace(HIGHER, window=3, established=True)),
    "established and not moved": case(replace(CALM, established=True)),
    "a sign of it": case(replace(CALM, evidence=SIGN)),
    "less than a sign": case(replace(CALM, evidence=np.nextafter(SIGN, 0))),
    "seen again": case(HIGHER, **again(0.07)),
    "seen again by half of what counts": case(HIGHER, **again(0.01)),
    "less than half of it": case(HIGHER, **again(0.0099)),
    "the other way": case(HIGHER, **again(-0.07)),
    "lower again": case(LOWER, **again(-0.07, 1)),
    "again, and not moved": case(CALM, **again(0.07)),
    "not sure among so many": case(replace(CALM, p=0.05, shift=0.02)),
    "not sure, lower": case(replace(CALM, p=0.04, shift=-0.03)),
    "sure alone but small": case(replace(CALM, p=0.04, shift=0.0199)),
    "large but not sure alone": case(replace(CALM, p=0.051, shift=0.03)),
    "noisy": case(replace(CALM, threshold=0.1001)),
    "as noisy as may be": case(replace(CALM, threshold=0.10)),
    "another program": case(HIGHER, programs=("klo is another build",)),
    "another system": case(HIGHER, platform=("another kernel", "another GPU driver")),
    "another system, nothing known": case(replace(CALM, shift=NAN), platform=("another kernel",)),
    "with its device": case(HIGHER, company=(9, 11, 0.06)),
    "unchanged with its device": case(CALM, company=(9, 11, 0.06)),
    "no run": case(values=runs(0)),
    "half of the runs": case(values=runs(2, 4)),
    "fewer than half": case(values=runs(2)),
    "three nights before": case(has=np.array([False] * 5 + [True] * 4), base=()),
    "two nights before": case(has=np.array([False] * 6 + [True] * 3), base=()),
    "no three to compare": case(replace(CALM, p=NAN)),
    "0 as before": case(**zeros(0.0, 0.0, 9.0)),
    "more than never": case(**zeros(2.0, 3.0, 4.0)),
    "more than never is better": case(**zeros(2.0, 3.0), worse="less"),
    "more than never, of which nothing is known": case(**zeros(2.0, 3.0), worse=None),
    "mostly 0": case(**zeros(2.0, 3.0, past=1.0)),
}  # fmt: skip


def said() -> str:
    lines = []
    for name, one in CASES.items():
        found = words.verdict(one)
        figures = (found.shift_pct, found.low_pct, found.high_pct, found.threshold_pct, found.p_value, found.q_value)
        lines.append(f"{name}: {found.verdict}")
        lines.append(f"  {' '.join(map(goldens.number, figures))}, evidence {goldens.number(found.evidence)}")
        known = f"n {found.n} of {found.n_baseline}, since {found.since}, confirmed {found.confirmed}"
        lines.append(f"  {known}, established {found.established}, {len(found.baseline)} nights, causes {found.causes}")
        lines += [f"  - {reason}" for reason in found.reasons]
    return "\n".join(lines) + "\n"


def test_what_is_said_of_a_night_is_what_was_read(request: pytest.FixtureRequest) -> None:
    goldens.same("nights", said(), write=request.config.option.write_goldens)


# --- the judgement at its borders ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alarm", "usable", "lately"),
    [(13, 3, True), (13, 2, False), (14, 3, True), (12, 3, False), (19, 3, True), (-1, 3, False)],
)
def test_a_change_counts_for_a_week_and_needs_three_known_nights_before_it(
    alarm: int, usable: int, lately: bool
) -> None:
    """At night 19 of twenty, of which few before the new level of night 10 can be used."""
    ok = np.zeros((1, 20), dtype=bool)
    ok[0, :usable] = ok[0, 10:] = True
    kept = Held(*(np.array([value]) for value in (1.0, alarm, 10, 1)))
    assert _lately(kept, np.array([19]), ok, 7).tolist() == [lately]


def history(before: int, after: int, *, step: float = 0.5, series: int = 3) -> np.ndarray:
    rng = np.random.default_rng(9)
    values = 0.001 * rng.normal(size=(series, before + after, 5))
    values[:, before:] += step
    return values


@pytest.mark.parametrize("before", [MIN_NIGHTS - 1, MIN_NIGHTS, MIN_NIGHTS + 1])
def test_three_nights_before_a_new_level_are_enough_to_compare_with(before: int) -> None:
    values = history(before, 1)
    got = assess(Panel.of(values, 7), np.full(3, before))
    assert np.isfinite(got.p).all() == (before >= MIN_NIGHTS)
    assert got.moved.all() == (before >= MIN_NIGHTS)
    if before >= MIN_NIGHTS:
        assert got.shift == pytest.approx(0.5, abs=0.01)
        assert got.base.sum(axis=1).tolist() == [before] * 3
        assert got.begins.tolist() == got.first.tolist() == [before] * 3


@pytest.mark.parametrize("nights", [6, 12, 40])
def test_nights_to_come_change_no_judgement(nights: int) -> None:
    values = history(nights - 2, 2, step=0.02)
    after = np.concatenate((values, np.random.default_rng(1).normal(5, 3, size=(3, 9, 5))), axis=1)
    now, then = (assess(Panel.of(some, 7), np.full(3, nights - 1)) for some in (values, after))
    for name in ("shift", "low", "high", "p", "q", "threshold", "begins", "tonight", "tonight_sd", "evidence", "moved"):
        np.testing.assert_allclose(getattr(now, name), getattr(then, name), rtol=1e-12, err_msg=name)
