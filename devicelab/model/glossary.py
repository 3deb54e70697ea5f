"""The words of findings, pages and tables: one list, used by whatever prints them and explained on every page.

A word that is not here is either plain English or the name of something the user wrote.
"""

from dataclasses import dataclass

MEASURED_BEST_K = "measured best K"
CONSTANT_K = "constant K"
STATIC = "static schedule"
DYNAMIC_K = "dynamic K"
MODEL_K = "the model's K"


@dataclass(frozen=True)
class Term:
    """A word and what it means, one or two sentences."""

    word: str
    meaning: str


TERMS = (
    Term(
        "cell, run, repetition",
        "A cell is one combination of levels. A run is one repetition of it in a fresh process.",
    ),
    Term("n", "How many repetitions a figure rests on. Samples within a run do not count: they are not independent."),
    Term(
        "[low, high]",
        "The 95 % interval: a range made in this way holds the true value in 95 of 100 such campaigns. "
        "Without one there were too few repetitions.",
    ),
    Term("idle", "No background load was started; what the device does by itself goes on."),
    Term("K", "Flush period: the queue is flushed after every K kernels. Large K: few flushes, the GPU starts later."),
    Term(CONSTANT_K, "The same K for the whole inference; the one chosen is the model's best, or the measured best."),
    Term(MEASURED_BEST_K, "Of the K that were run, the one with the least time."),
    Term(MODEL_K, "The K of the least time that the fitted launch costs predict."),
    Term("within noise", "K whose time cannot be told from that of the best: any of them may be the best."),
    Term(STATIC, "Batches of different lengths, fixed before the run for one network and device."),
    Term(DYNAMIC_K, "The batch lengths are chosen while the inference runs, from what the kernels took so far."),
    Term("T_prod", "Time between two kernels handed to the queue by the CPU: how fast work is produced."),
    Term("T_ker", "Time a kernel runs on the GPU, by the device's own time stamps."),
    Term("launch overhead", "The time of an inference in which no kernel runs: starved, launching, or not begun."),
    Term("speed-up", "Time with K = 1 over the time with the K in question: 1.2 is a fifth faster."),
    Term("flagged, invalid", "The treatment did not hold in this run. It is kept with the reason, and counts nowhere."),
    Term("simulated", "A virtual board or an emulated part produced numbers: they test the method, not silicon."),
)
"""In the order in which a reader meets them."""


@dataclass(frozen=True)
class Sign:
    """How a verdict is shown: a sign that is read without colour, a tone, and what it means."""

    sign: str
    tone: str
    meaning: str


VERDICTS = {
    "yes": Sign("●", "calm", "The answer to the question in the row is yes; the whole interval says so."),
    "no": Sign("○", "calm", "The answer is no, and shown: the whole interval lies within what does not matter."),
    "pass": Sign("✓", "good", "The bound that the check sets is kept by the whole interval."),
    "fail": Sign("✗", "bad", "The bound is broken by the whole interval."),
    "inconclusive": Sign("?", "warn", "The interval holds both answers. More repetitions narrow it."),
    "insufficient n": Sign("…", "warn", "Too few repetitions for an interval, so nothing is said."),
    "cannot tell here": Sign("–", "warn", "This device or campaign cannot show it; the reason stands below."),
    "invalid": Sign("!", "bad", "It cannot be judged: the treatment did not hold, or what it needs is missing."),
    "info": Sign("i", "calm", "A figure, no judgement."),
}
"""Verdict → how it is shown."""

ANALYSES = {
    "answer": "The answer",
    "checks": "Checks of the experiment",
    "klo": "Kernel launch overhead",
    "load": "Background loads",
    "placement": "Placement of loads",
    "lut": "Launch costs by clock and load",
    "priority": "Tenants that share a processor",
    "opencl_app": "A program under the OpenCL layer",
    "searching": "The search for the best setting",
    "sequential": "Claims of the stop rule",
    "energy": "Energy",
}
"""Analysis → heading of its findings."""

_FIGURES = {
    "total": "time of an inference",
    "total_profiled": "time of an inference, profiled",
    "total_profiled_wall": "time of an inference, profiled",
    "t_ker_sum": "T_ker of all kernels",
    "klo_total": "launch overhead",
    "idle_sum": "GPU idle between kernels",
    "starved_sum": "GPU starved of kernels",
    "launch_sum": "GPU waiting for a launch",
    "wait_for_flush_mean": "wait for the flush, mean",
    "t_prod_mean": "T_prod, mean",
    "t_prod_median": "T_prod, median",
    "flush_mean": "flush, mean",
    "gpu_use": "GPU use",
    "profiling_cost": "cost of profiling",
    "response": "response time",
    "service": "service time",
    "frame": "frame time",
    "foreground": "foreground time",
    "longest_gap": "longest gap",
    "throughput_per_s": "throughput",
    "energy": "energy, gross",
    "energy_net": "energy, net of idle",
    "energy_error": "error of the energy",
    "energy_delay": "energy × time",
    "power_mean": "power, mean",
    "power_idle": "power when idle",
    "own_flushes": "flushes of its own",
    "k": "K",
}
_UNITS = {
    "1": "",
    "pct": "%",
    "1/s": "1/s",
    "points": "points",
    # As databases of earlier versions have them.
    "x idle": "times that when idle",
    "x idle K": "times the K when idle",
    "x speed-up": "times as fast",
}


def times(base: str, what: str = "that") -> str:
    """The unit of a ratio, read after a number: ``1.8 times that when idle``."""
    return f"times {what} {'when idle' if base in {'none', 'idle'} else f'with {base}'}"


def unit_words(unit: str) -> str:
    """A unit as it is read after a number; one that is not in the list is its own word."""
    if unit in _UNITS:
        return _UNITS[unit]
    return times(unit.removeprefix("x ")) if unit.startswith("x ") else unit


def figure_words(metric: str, unit: str) -> str:
    """A figure's name for people, without its unit; one that is not in the list is its own word.

    ``response_p99_ns`` is "response time P99", ``total_ns`` "time of an inference".
    """
    name = metric.removesuffix(f"_{unit.replace('·', '').lower()}") or metric
    base, mark, share = name.rpartition("_p")
    if mark and share.isdecimal() and len(share) < 4:
        return f"{_FIGURES.get(base, base)} P{share}"
    return _FIGURES.get(name, name)


def shown_verdict(verdict: str) -> str:
    """The verdict with its sign: ``✓ pass``; a word that is no verdict stays as it is."""
    found = VERDICTS.get(verdict)
    return f"{found.sign} {verdict}" if found is not None else verdict
