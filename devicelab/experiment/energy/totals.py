"""From readings to joules: power over time integrated, counters differenced, each with what it may be wrong by.

Pure functions on times (ns, CLOCK_MONOTONIC) and values. A total is whole or there is none: a reading that is missing,
a counter that began anew or a window that the readings do not cover raises ``FaultError`` with a code for the flag.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Readings of one series may be so many sampling periods apart; beyond it the time between them was not seen.
_GAP_PERIODS = 5.0
# Two readings are the least that span time; with fewer than this the scatter of them is not known.
_FEW = 5
# Of a counter that falls: the power it would have had between the two readings if it had only run over at its range,
# as a multiple of the highest power of all other intervals. Beyond it, it was reset.
_PLAUSIBLE = 4.0


class FaultError(ValueError):
    """Why there is no total: ``code`` names the kind, the message the figures."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Total:
    """Energy of a span of time.

    Attributes:
        joules: what was used.
        error_j: half the width of the interval that holds it (95 %): scatter of readings, and what happened between the
            ends of the span and the readings next to them.
        span_ns: how long.
        readings: how many lie in it.
    """

    joules: float
    error_j: float
    span_ns: int
    readings: int

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.span_ns * 1e9 if self.span_ns > 0 else 0.0

    def __add__(self, other: "Total") -> "Total":
        """Two meters of one span together; their errors are independent."""
        error = float(np.hypot(self.error_j, other.error_j))
        return Total(self.joules + other.joules, error, self.span_ns, min(self.readings, other.readings))


def of_power(t_ns: Sequence[int], watts: Sequence[float | None], start_ns: int, end_ns: int) -> Total:
    """Integral of sampled power from ``start_ns`` to ``end_ns`` by the trapezoidal rule.

    Its error: half of what holding each reading until the next would change (the ends, a step between two readings),
    what a gauge did not show yet that measures more slowly than it is read (the window's ends, at its own age), and
    the scatter of the readings by their successive differences (von Neumann 1941), which a trend does not enter,
    over as many readings as lie in the span. A gauge that is read more often than it measures repeats itself; only
    readings that differ from the one before count then.

    Raises:
        FaultError: ``energy-gap`` or ``energy-too-short``.
    """
    times, power = _known(t_ns, watts)
    _covered(times, start_ns, end_ns)
    inside = (times > start_ns) & (times < end_ns)
    at = np.concatenate(([start_ns], times[inside], [end_ns])).astype(np.float64)
    values = np.concatenate((
        [np.interp(start_ns, times, power)], power[inside], [np.interp(end_ns, times, power)],
    ))  # fmt: skip
    widths = np.diff(at) / 1e9
    joules = float(np.sum(widths * (values[1:] + values[:-1]) / 2))
    held = abs(float(np.sum(widths * (values[1:] - values[:-1])))) / 2
    late = _age_ns(times, power) / 1e9 * abs(float(values[-1] - values[0]))
    scatter = _scatter_j(values, (end_ns - start_ns) / 1e9)
    return Total(joules, held + late + scatter, end_ns - start_ns, int(inside.sum()))


def _age_ns(times: Floats, power: Floats) -> float:
    """How old a reading may be: how often a gauge measures that is read more often; 0 if each reading is new."""
    fresh = times[1:][np.diff(power) != 0]
    if fresh.size < 3:
        return 0.0
    every_ns = float(np.median(np.diff(fresh)))
    return every_ns if every_ns > 1.5 * float(np.median(np.diff(times))) else 0.0


def _scatter_j(values: Floats, seconds: float) -> float:
    """Twice the standard error of the mean power, times the time."""
    fresh = 1 + int(np.count_nonzero(np.diff(values)))
    if fresh < _FEW:
        return 0.0
    steps = np.diff(values)
    # Steps that are rare and large are the power's own: their place between two readings is what is unknown of them.
    noise = steps[np.abs(steps) <= 5 * max(float(np.median(np.abs(steps))), 1e-12)]
    deviation = float(np.sqrt(np.mean(noise**2) / 2)) if noise.size else 0.0
    rare = steps[np.abs(steps) > 5 * max(float(np.median(np.abs(steps))), 1e-12)]
    placed = float(np.sqrt(np.sum(rare**2) / 12)) * seconds / (values.size - 1)
    return 2 * float(np.hypot(deviation * seconds / np.sqrt(fresh), placed))


def of_counter(
    t_ns: Sequence[int], joules: Sequence[float | None], start_ns: int, end_ns: int, *, range_j: float | None = None
) -> Total:
    """What a cumulative counter grew by, interpolated at both ends.

    Args:
        t_ns: when each reading was taken.
        joules: the readings.
        start_ns: of the span.
        end_ns: of the span.
        range_j: where the counter begins again at 0; ``None``: it never does, so that every fall is a reset.

    Its error: the power at the ends, for as long as the counter stood still between two of its updates.

    Raises:
        FaultError: ``energy-counter-reset``, ``energy-counter-stands``, ``energy-gap`` or ``energy-too-short``.
    """
    times, counts = _known(t_ns, joules)
    _covered(times, start_ns, end_ns)
    counts = _unwrapped(times, counts, range_j)
    first, last = (float(np.interp(moment, times, counts)) for moment in (start_ns, end_ns))
    inside = (times >= start_ns) & (times <= end_ns)
    grown = last - first
    if grown <= 0:
        raise FaultError(
            "energy-counter-stands", f"the counter shows {first:g} J at both ends of {_s(end_ns - start_ns)}"
        )
    updates = times[1:][np.diff(counts) > 0]
    every_ns = float(np.median(np.diff(updates))) if updates.size > 1 else float(end_ns - start_ns)
    # One that is new at every reading is no older than a reading is apart; its age is then not told by it.
    stale_ns = every_ns if every_ns > 1.5 * float(np.median(np.diff(times))) else 0.0
    return Total(grown, grown / (end_ns - start_ns) * stale_ns, end_ns - start_ns, int(inside.sum()))


def _unwrapped(times: Floats, counts: Floats, range_j: float | None) -> Floats:
    steps = np.diff(counts)
    seconds = np.diff(times) / 1e9
    falls = np.flatnonzero(steps < 0)
    if not falls.size:
        return counts
    usual_w = float(np.max(steps[steps >= 0] / seconds[steps >= 0], initial=0.0))
    for fall in falls:
        over_w = (steps[fall] + range_j) / seconds[fall] if range_j is not None else np.inf
        if not 0 <= over_w <= max(_PLAUSIBLE * usual_w, 1e-9):
            raise FaultError(
                "energy-counter-reset", f"the counter fell from {counts[fall]:.6g} J to {counts[fall + 1]:.6g} J"
            )
        steps[fall] += range_j or 0.0
    return np.concatenate(([counts[0]], counts[0] + np.cumsum(steps)))


def _known(t_ns: Sequence[int], values: Sequence[float | None]) -> tuple[Floats, Floats]:
    pairs = [(t, v) for t, v in zip(t_ns, values, strict=False) if v is not None]
    if len(pairs) < 2:
        raise FaultError("energy-too-short", f"{len(pairs)} readings do not span any time")
    times, known = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    if np.any(np.diff(times) <= 0):
        raise FaultError("energy-gap", "the readings are not in order of their times")
    return times, known


def _covered(times: Floats, start_ns: int, end_ns: int) -> None:
    if end_ns <= start_ns:
        raise FaultError("energy-too-short", f"a span of {end_ns - start_ns} ns")
    around = times[np.searchsorted(times, start_ns, "right") - 1 if times[0] <= start_ns else 0 :]
    around = around[: np.searchsorted(around, end_ns, "left") + 1]
    if around.size < 2:
        raise FaultError("energy-too-short", f"{around.size} readings in {_s(end_ns - start_ns)}")
    period_ns = float(np.median(np.diff(times)))
    gaps = np.diff(np.concatenate(([min(start_ns, around[0])], around, [max(end_ns, around[-1])])))
    if (longest := float(np.max(gaps))) > _GAP_PERIODS * period_ns:
        raise FaultError("energy-gap", f"nothing was read for {_s(longest)} of {_s(end_ns - start_ns)}")


def _s(ns: float) -> str:
    return f"{ns / 1e9:.3g} s"
