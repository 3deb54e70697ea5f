"""For every knob on every board: what was set and holds flags nothing, and what reads otherwise around a run does."""

import itertools
import re

import pytest
from board_trees import CPU, TREES, Texts, facts

from devicelab import knobs
from devicelab.knobs.base import Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import ProbeResult, RunRecord, Samples

EXTRA: Texts = {
    "/sys/class/power_supply/battery/input_suspend": "0\n",
    "/sys/class/power_supply/battery/capacity": "80\n",
    "/sys/class/backlight/panel0-backlight/brightness": "120\n",
    "/proc/ppm/enabled": "ppm is enabled\n",
    "/sys/module/cpu_boost/parameters/input_boost_ms": "40\n",
    **{f"{CPU}/cpu{cpu}/cpuidle/state{n}/disable": "0\n" for cpu in range(8) for n in (0, 1, 2)},
}
LEVELS: dict[str, tuple[Level, ...]] = {
    "cpu": ("min", "max"),
    "governor": ("performance",),
    "gpu": ("min", "max"),
    "membus": ("min", "max"),
    "idle_states": ("off", "on"),
    "isolation": ("hold",),
    "cores": ("0-2", "all-online"),
    "charging": ("off",),
    "screen": ("off",),
    "perf_manager": ("off",),
    "uclamp": (50,),
    "cpuset": ("top-app",),
}
CASES = [(tree, word, level) for tree in TREES for word, levels in LEVELS.items() for level in levels]
# Counters: they grow, and are judged by how.
_COUNTS = re.compile(r"time_in_state|gpu_clock_stats|throttle")
# An Adreno's power levels are proved by its clock alone, and max_cpus by what it allows.
_JUDGED_BY_THE_CLOCK = ("min_pwrlevel", "max_pwrlevel", "max_cpus", "dvfs_max_lock", "dvfs_min_lock")
_CEILINGS = ("scaling_max_freq", "devfreq/max_freq", "max_freq", "dvfs_max_lock", "clock", "gpu_max_clock")


def written(setting: Setting) -> dict[str, str]:
    """What each node reads once the steps are done."""
    return {step.path: step.expect or step.value for step in setting.steps if step.kind == "write"}


def reads(setting: Setting, device: Facts) -> dict[str, str]:
    """The nodes around a run, as they read while the setting holds."""
    texts = {path: device.tree.text(path) for path in setting.around if not _COUNTS.search(path)}
    shown = {path: text for path, text in {**texts, **written(setting)}.items() if path in texts and text is not None}
    if "/proc/ppm/enabled" in shown:
        shown["/proc/ppm/enabled"] = "ppm is disabled"
    return {path: ("0" if "brightness" in path and text != "0" else text) for path, text in shown.items()}


def clocks(setting: Setting, device: Facts) -> dict[str, tuple[str, ...]]:
    """Samples of every clock at its ceiling."""
    now = {path: node.text or "" for path, node in device.tree.items()} | written(setting)
    found = {}
    for path in setting.sample:
        folder = path.rpartition("/")[0]
        ceiling = next((now[at] for name in _CEILINGS if (at := f"{folder}/{name}") in now and at != path), None)
        found[path] = ((written(setting).get(path) or ceiling or now.get(path) or "0").split()[0],) * 4
    return found


def whole(tree: str, word: str, level: Level) -> tuple[Facts, Setting]:
    """A board and a setting that it can perform, all of it."""
    device = facts(tree, change=dict(EXTRA))
    if not knobs.families(word, device) or len(device.cpus_present) < 4:
        pytest.skip("the board has no such knob")
    setting = knobs.setting(word, level, device)
    if setting.unmet:
        pytest.skip(setting.unmet[0])
    return device, setting


def run(word: str, level: Level, device: Facts, before: dict[str, str], after: dict[str, str]) -> RunRecord:
    setting = knobs.setting(word, level, device)
    online = knobs.assume({word: level}, device).cpus_online
    return RunRecord.model_validate(
        {
            "event": "run", "run_id": "r", "seq": 0, "status": "done", "t_start_ns": 0, "t_end_ns": 1, "t_unix_ns": 0,
            "before": before, "after": after,
            "probes": [ProbeResult(cpus=probe.cpus, granted=probe.cpus) for probe in setting.probes],
            "samples": Samples(nodes=clocks(setting, device), busy={str(cpu): (1, 2, 3) for cpu in online}),
        }
    )  # fmt: skip


@pytest.mark.parametrize(("tree", "word", "level"), CASES)
def test_what_holds_is_believed_and_what_reads_otherwise_is_not(tree: str, word: str, level: Level) -> None:
    device, setting = whole(tree, word, level)
    later = knobs.assume({word: level}, device)
    held, new = reads(setting, device), written(setting)
    fine = run(word, level, device, held, held)
    assert knobs.prove(word, level, later, fine) == ()
    for path, when in itertools.product(new, ("before", "after")):
        was = device.tree.text(path) or ""
        if path not in held or was == held[path] or path.endswith(_JUDGED_BY_THE_CLOCK):
            continue
        other = {**held, path: was}
        record = run(word, level, device, *((other, held) if when == "before" else (held, other)))
        flags = knobs.prove(word, level, later, record)
        assert flags, f"{path} was {was} {when} the run"
        assert not any(flag.remark for flag in flags)


@pytest.mark.parametrize(("tree", "word", "level"), [case for case in CASES if case[1] in {"cpu", "gpu", "membus"}])
def test_a_clock_that_was_elsewhere_is_told_by_its_samples(tree: str, word: str, level: Level) -> None:
    device, setting = whole(tree, word, level)
    held = reads(setting, device)
    fine = run(word, level, device, held, held)
    for path, texts in fine.samples.nodes.items():
        if not (texts[0] or "").isdecimal() or texts[0] == "0":
            continue
        up = str(int(texts[0] or 0) * 2)
        nodes = {**fine.samples.nodes, path: (*texts[:3], up)}
        moved = fine.model_copy(update={"samples": fine.samples.model_copy(update={"nodes": nodes})})
        (flag,) = knobs.prove(word, level, device, moved)
        assert flag.code.endswith("-frequency-not-held")
        assert f"25.0% of the time at {up}" in flag.detail
        none = {**fine.samples.nodes, path: (None,) * 4}
        silent = fine.model_copy(update={"samples": fine.samples.model_copy(update={"nodes": none})})
        assert [one.code.rpartition("-")[2] for one in knobs.prove(word, level, device, silent)] == ["proven"]
