"""The dynamic policy, as a reference: plan the rest anew from what production was seen to take so far."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from devicelab.analyses.klo.model.core import Floats, LaunchCosts, Timeline, plan, timeline, times

Replan = Literal["kernel", "flush"]


@dataclass
class _Host:
    """What the policy knows while an inference runs."""

    profile: Floats
    g: Floats
    costs: LaunchCosts
    slower: float = 1.0
    now_ns: float = 0.0
    busy_until_ns: float = -math.inf

    def wanted(self, done: int, pending: int) -> int:
        """Length of the next batch when ``pending`` kernels after the first ``done`` are produced but not flushed."""
        p = self.profile[done + pending :] * self.slower
        g = self.g[done + pending :]
        if pending:  # they go together whatever happens: one kernel of which only the flush is to come
            p = np.concatenate(([self.costs.flush_per_kernel_ns * (pending - 1)], p))
            g = np.concatenate(([self.g[done : done + pending].sum()], g))
        first = plan(p, g, self.costs, busy_until_ns=self.busy_until_ns - self.now_ns)[0]
        return first + pending - 1 if pending else first

    def saw(self, kernel: int, p_ns: float, smoothing: float) -> None:
        """Production of one kernel took ``p_ns``."""
        self.now_ns += p_ns
        if self.profile[kernel] > 0:
            self.slower += smoothing * (p_ns / float(self.profile[kernel]) - self.slower)


def simulate_dynamic(
    t_prod_ns: ArrayLike,
    t_ker_ns: ArrayLike,
    costs: LaunchCosts,
    *,
    profile_ns: ArrayLike,
    smoothing: float = 0.3,
    replan: Replan = "kernel",
    planning_ns: float = 0.0,
    believed: LaunchCosts | None = None,
) -> Timeline:
    """One inference under a receding horizon: the rest is planned anew and only the first batch of the plan is used.

    The policy knows the kernel times, a profile of production times, and how much slower or faster than the profile
    production has been so far (smoothed exponentially, one step a kernel). It never sees a production time before
    that kernel was produced. With ``replan="kernel"`` it looks again after every kernel whether to flush now; with
    ``"flush"`` it stays with a batch length once chosen, which costs it the most when production slows down within
    a long last batch.

    Args:
        t_prod_ns: what production really takes, shape (N,).
        t_ker_ns: kernel times, shape (N,).
        costs: the true launch costs.
        profile_ns: profiled production times, shape (N,), or their mean as one number (not the first reading).
        smoothing: weight of the newest kernel, above 0 and at most 1.
        replan: when to plan.
        planning_ns: CPU time of one planning step, spent by the host.
        believed: the costs that the policy plans with, if they differ from the true ones.

    Raises:
        ValueError: see ``core.times``; smoothing or planning time out of range; a profile of another length.
    """
    p, g = times(t_prod_ns, t_ker_ns)
    if not 0 < smoothing <= 1:
        raise ValueError(f"smoothing must be above 0 and at most 1, not {smoothing!r}")
    if not (math.isfinite(planning_ns) and planning_ns >= 0):
        raise ValueError(f"planning_ns must be a finite time of at least 0, not {planning_ns!r}")
    profile, _ = times(np.broadcast_to(np.asarray(profile_ns, dtype=np.float64), p.shape), g)
    host = _Host(profile, g, believed or costs)
    ready: list[float] = []
    lengths: list[int] = []
    done = 0
    while done < p.size:
        pending = 0
        wanted = host.wanted(done, pending)
        host.now_ns += planning_ns
        while pending < wanted:
            host.saw(done + pending, float(p[done + pending]), smoothing)
            pending += 1
            if replan == "kernel" and done + pending < p.size:
                wanted = host.wanted(done, pending)
                host.now_ns += planning_ns
        host.now_ns += costs.flush_ns + pending * costs.flush_per_kernel_ns
        start = max(host.now_ns + host.costs.start_idle_ns, host.busy_until_ns + host.costs.gap_ns)
        host.busy_until_ns = start + float(g[done : done + pending].sum())
        ready.append(host.now_ns)
        lengths.append(pending)
        done += pending
    return timeline(np.array(ready), g, costs, np.array(lengths, dtype=np.int64))
