"""A meter between the power supply and the device, read on this host: a Monsoon, a wall plug, anything that prints.

Its clock is not the device's. The marker is the run itself: the board idles before every run and then works, and the
step shows in the agent's CPU use as in the meter's power. The shift at which both fit best aligns the clocks; where
none stands out, there is no number.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devicelab.experiment.energy.totals import FaultError, Total, of_power
from devicelab.model.journal import RunRecord, Samples

Floats = NDArray[np.float64]
Rows = Sequence[tuple[int, float]]
"""Time (ns, the meter's clock, brought near to the device's) and power (W)."""

_LINE = re.compile(
    r"\s*([0-9]{1,15}(?:\.[0-9]{1,12})?)\s*[,;\s]\s*(-?[0-9]{1,9}(?:\.[0-9]{1,12})?(?:e-?[0-9]{1,2})?)\s*"
)
_STEP_NS = 20_000_000
_REACH_NS = 5_000_000_000
# Shape of power against shape of CPU use: below this the step from idle to work is not in the meter's readings.
_FITS = 0.7
# Shifts that fit so nearly as well as the best are as likely.
_AS_GOOD = 0.98


@dataclass(frozen=True)
class Aligned:
    """Readings on the device's clock; the shift is known to ``error_ns``."""

    t_ns: Floats
    watts: Floats
    error_ns: float


def parse(line: str) -> tuple[float, float] | None:
    """``time, watts`` of a line (seconds and watts; comma, semicolon or blanks); ``None`` for anything else."""
    match = _LINE.fullmatch(line)
    return (float(match[1]), float(match[2])) if match is not None else None


def read(record: RunRecord, rows: Rows, span: tuple[int, int]) -> Total:
    """Energy of a span of a run by the meter's readings, whose times lie within five seconds of the device's.

    Raises:
        FaultError: ``energy-meter-unaligned``, or what ``totals`` finds wrong.
    """
    aligned = align(record, rows)
    total = of_power(aligned.t_ns.astype(np.int64).tolist(), aligned.watts.tolist(), *span)
    begin_w, end_w = (float(np.interp(moment, aligned.t_ns, aligned.watts)) for moment in span)
    low = float(np.percentile(aligned.watts, 5))
    # An end that lies elsewhere by the shift's error takes in, or leaves out, so much of work instead of idling.
    moved = aligned.error_ns / 1e9 * float(np.hypot(max(0.0, begin_w - low), max(0.0, end_w - low)))
    return Total(total.joules, float(np.hypot(total.error_j, moved)), total.span_ns, total.readings)


def align(record: RunRecord, rows: Rows) -> Aligned:
    """Readings around a run, shifted to where their power fits the run's CPU use best.

    Raises:
        FaultError: ``energy-meter-unaligned`` or ``energy-too-short``.
    """
    use_t, use = _cpu_use(record)
    if not record.idle.t_ns or use_t.size < 5:
        raise FaultError("energy-meter-unaligned", "without an idle time before the run nothing marks its begin")
    near = [(t, w) for t, w in rows if use_t[0] - 2 * _REACH_NS <= t <= use_t[-1] + 2 * _REACH_NS]
    if len(near) < 5:
        raise FaultError("energy-too-short", f"the meter gave {len(near)} readings around the run")
    times, watts = (np.array(column, dtype=np.float64) for column in zip(*sorted(near), strict=True))
    grid = np.arange(use_t[0], use_t[-1], _STEP_NS)
    wanted = _standard(np.interp(grid, use_t, use))
    shifts = np.arange(-_REACH_NS, _REACH_NS + 1, _STEP_NS)
    fits = np.array([float(np.mean(wanted * _standard(np.interp(grid - shift, times, watts)))) for shift in shifts])
    best = int(np.argmax(fits))
    if fits[best] < _FITS:
        said = f"its power and the run's CPU use fit by {fits[best]:.2f} at best ({_FITS:g} is the least)"
        raise FaultError("energy-meter-unaligned", said)
    as_good = shifts[fits >= _AS_GOOD * fits[best]]
    error_ns = max(float(as_good[-1] - as_good[0]) / 2, float(np.median(np.diff(times))) / 2)
    return Aligned(times + shifts[best], watts, error_ns)


def _cpu_use(record: RunRecord) -> tuple[Floats, Floats]:
    """Busy share of all CPUs between samples, idle and window together, at the middle between them."""
    times: list[float] = []
    shares: list[float] = []
    for samples in (record.idle, record.samples):
        ticks = _sums(samples)
        for (t0, busy0, total0), (t1, busy1, total1) in itertools.pairwise(ticks):
            if total1 > total0:
                times.append((t0 + t1) / 2)
                shares.append(max(0.0, busy1 - busy0) / (total1 - total0))
    return np.array(times), np.array(shares)


def _sums(samples: Samples) -> list[tuple[int, int, int]]:
    def summed(counters: Mapping[str, Sequence[int | None]], row: int) -> int:
        return sum(values[row] or 0 for values in counters.values() if row < len(values))

    return [(t, summed(samples.busy, row), summed(samples.total, row)) for row, t in enumerate(samples.t_ns)]


def _standard(values: Floats) -> Floats:
    spread = float(np.std(values))
    return (values - float(np.mean(values))) / spread if spread > 0 else np.zeros_like(values)
