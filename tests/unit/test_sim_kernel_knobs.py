"""Every knob, planned from a virtual board's nodes and performed on it: it holds, and its undo leaves nothing."""

from functools import cache

import pytest
from sim_kernel_board import Bench, facts_of

from devicelab import knobs
from devicelab.model.device import Facts
from devicelab.model.plan import Write

KINDS = ("note10", "qualcomm", "qualcomm-865", "pixel")
LEVELS = {
    "cores": ("0-3", "all-online"),
    "isolation": ("hold",),
    "governor": ("performance",),
    "cpu": ("min", "max", "honest-min"),
    "membus": ("min", "max"),
    "gpu": ("min", "max"),
    "cpuset": ("top-app", "background"),
    "uclamp": ("50",),
    "idle_states": ("off", "on"),
}
# What changes by itself, or remembers the user's last number by design.
MOVING = (
    *("cur_freq", "time_in_state", "total_trans", "temp", "gpuclk", "gpubusy", "clock_stats", "global_state"),
    *("active_cpus", "need_cpus", "cgroup.procs", "isolate", "gpu_clock", "power_state"),
    *("/dvfs_max_lock", "/dvfs_min_lock"),
)
CASES = [(kind, word, level) for kind in KINDS for word, levels in LEVELS.items() for level in levels]


def holds(write: Write, text: str) -> bool:
    want = write.value if write.expect is None else write.expect
    if write.verify == "none":
        return True
    if write.verify == "first-int":
        return text.replace(",", " ").split()[:1] == [want]
    if write.verify == "word":
        return want in text.replace("[", " ").replace("]", " ").split()
    return text.strip() == want


def lasting(bench: Bench, facts: Facts) -> dict[str, str]:
    return {path: bench.r(path) for path in facts.tree if not path.endswith(MOVING)}


@cache
def read(kind: str) -> Facts:
    bench = Bench(kind)
    bench.wait(1)
    return facts_of(bench, knobs.globs())


@pytest.mark.parametrize(("kind", "word", "level"), CASES)
def test_a_knob_holds_and_leaves_nothing_behind(kind: str, word: str, level: str) -> None:
    bench = Bench(kind)
    bench.wait(1)
    facts = read(kind)
    before = lasting(bench, facts)
    setting = knobs.setting(word, level, facts)
    if setting.unmet:
        pytest.skip("; ".join(setting.unmet))
    undo: list[tuple[str, str]] = []
    for step in setting.steps:
        assert isinstance(step, Write)
        was = bench.r(step.path)
        assert bench.w(step.path, step.value) == "ok", step
        undo.append((step.path, step.restore or was))
        bench.wait(0.02)
        assert not step.required or holds(step, bench.r(step.path)), (step, bench.r(step.path))
    bench.tasks.parents = {2001: 0}
    for probe in setting.probes:
        assert bench.taskset(2001, set(probe.cpus)) == "ok", probe
        assert bench.granted(2001) == set(probe.cpus)
    for path, text in reversed(undo):
        assert bench.w(path, text) == "ok", (path, text)
    bench.wait(0.5)
    assert lasting(bench, facts) == before
