"""Did the treatment hold? CPU use computed from the agent's samples."""

import itertools
from collections.abc import Sequence

from devicelab.model.journal import Samples


def _ticks(counters: Sequence[int | None]) -> list[int | None]:
    """Growth between neighbouring samples; ``None`` where one of the two is missing (the CPU was offline).

    The kernel's counters may step back (iowait is corrected, a core comes back from hotplug): growth is never negative.
    """
    return [
        None if now is None or before is None else max(0, now - before) for before, now in itertools.pairwise(counters)
    ]


def _use(busy: Sequence[int | None], total: Sequence[int | None]) -> tuple[int, int]:
    """Busy and total ticks over the intervals in which both counters are known."""
    pairs = [
        (min(b, t), t) for b, t in zip(_ticks(busy), _ticks(total), strict=False) if b is not None and t is not None
    ]
    return sum(b for b, _ in pairs), sum(t for _, t in pairs)


def cpu_use_pct(samples: Samples) -> dict[str, float]:
    """CPU use over the sampled window in percent of the time, per CPU number (as text) and for ``"all"`` together.

    Use is busy ticks over total ticks of /proc/stat (proc(5)), summed over the intervals in which a CPU was online.
    ``"all"`` is the sum of the busy ticks of all CPUs over the sum of their total ticks: 100 means that every online
    CPU was busy. A CPU without a counted tick (offline throughout, or fewer than two samples) has no entry; without
    any such CPU the result is empty.
    """
    use: dict[str, float] = {}
    busy_sum = total_sum = 0
    for cpu in sorted(samples.total.keys() & samples.busy.keys(), key=lambda name: (len(name), name)):
        busy, total = _use(samples.busy[cpu], samples.total[cpu])
        if total > 0:
            use[cpu] = 100.0 * busy / total
            busy_sum += busy
            total_sum += total
    if total_sum > 0:
        use["all"] = 100.0 * busy_sum / total_sum
    return use
