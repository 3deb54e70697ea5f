"""GPU clock of Adreno under the ``kgsl`` driver (word ``gpu``; table in Hz).

Three things hold the clock: the devfreq limits, the power levels, and flags that keep the GPU from napping between two
kernels. Level 0 is the fastest. The driver never refuses a level: one beyond its partner is silently clamped to it, so
the order matters and everything is read back: the low-power end is opened first, then the fast end set, then the slow
end (androidx' lockClocks.sh and AOSP's c2f2-setup.sh write both twice for the same reason). The flags are written
before the levels; kernels without one of them do without. A kernel with the ``msm-adreno-tz`` governor alone is pinned
by the levels. (kgsl_pwrctrl.c of the Note10's 4.14 kernel.)
"""

from devicelab.knobs import _heat, _levels, _limits, _proof
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Write
from devicelab.model.tree import whole

WORDS = ("gpu",)
PHASE = Phase.CLOCKS

_KGSL = "/sys/class/kgsl/kgsl-3d0"
_AWAKE = (
    ("bus_split", "0", "the bus votes do not change with the load"),
    ("force_clk_on", "1", "clocks stay on between kernels"),
    ("force_bus_on", "1", "the bus stays on between kernels"),
    ("force_rail_on", "1", "power stays on between kernels"),
    ("force_no_nap", "1", "no nap between kernels"),
    ("idle_timer", "10000", "ms until it sleeps"),
)
_READ = (
    "gpu_model",
    "gpu_available_frequencies",
    "num_pwrlevels",
    "min_pwrlevel",
    "max_pwrlevel",
    "thermal_pwrlevel",
    "gpuclk",
    "max_gpuclk",
    "gpu_clock_stats",
    "temp",
    "devfreq/governor",
    "devfreq/available_governors",
    "devfreq/available_frequencies",
    "devfreq/min_freq",
    "devfreq/max_freq",
    "devfreq/cur_freq",
)
GLOBS = (*(f"{_KGSL}/{node}" for node in _READ), *(f"{_KGSL}/{node}" for node, _, _ in _AWAKE), *_heat.GLOBS)

# ``gpuclk`` asks the clock driver, which may be a few kHz beside the table; entries of a table are far further apart.
_SLACK = 0.01


def _path(node: str) -> str:
    return f"{_KGSL}/{node}"


def table_hz(facts: Facts) -> tuple[int, ...]:
    """The clock of every power level, fastest first."""
    tree = facts.tree
    listed = tree.numbers(_path("gpu_available_frequencies")) or tree.numbers(_path("devfreq/available_frequencies"))
    return tuple(sorted({hz for hz in listed if hz > 0}, reverse=True))


def applies(facts: Facts) -> bool:
    """The device has a kgsl GPU with a frequency table."""
    return bool(table_hz(facts))


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Hold the GPU at one clock.

    Raises:
        ConfigError: no such level in the table.
    """
    table = table_hz(facts)
    target = _levels.pick(word, want, table, where="the Adreno GPU", unit="Hz")
    limits, no_limits = _devfreq(target, facts)
    levels, no_levels = _power_levels(target, table, facts)
    evidence = _evidence(facts)
    if not limits and not levels:
        return Setting(sample=evidence.sample, around=evidence.around, unmet=(no_levels or no_limits or "",))
    return Setting(
        steps=(*_stay_awake(facts), *_performance(facts), *limits, *levels),
        sample=evidence.sample,
        around=evidence.around,
    )


def _evidence(facts: Facts) -> Setting:
    heat = tuple(device.path for device in _heat.cooling(facts, "gpu"))
    names = ("min_pwrlevel", "max_pwrlevel", "thermal_pwrlevel", "max_gpuclk", "gpu_clock_stats", "temp")
    around = tuple(path for name in names if (path := _path(name)) in facts.tree)
    clock = next((path for n in ("gpuclk", "devfreq/cur_freq") if (path := _path(n)) in facts.tree), None)
    return Setting(sample=(clock,) if clock else (), around=(*around, *heat))


def _stay_awake(facts: Facts) -> list[Write]:
    return [
        Write(path=path, value=value, why=f"GPU: {why}", verify="first-int", required=False)
        for node, value, why in _AWAKE
        if (path := _path(node)) in facts.tree and facts.tree[path].writable and facts.tree.text(path) != value
    ]


def _performance(facts: Facts) -> list[Write]:
    path = _path("devfreq/governor")
    offered = facts.tree.words(_path("devfreq/available_governors"))
    if "performance" not in offered or _limits.blocked(facts, path):
        return []
    now = facts.tree.text(path)
    why = f"GPU: governor that does not choose ({now} now)"
    return [] if now == "performance" else [Write(path=path, value="performance", why=why, required=False)]


def _devfreq(target: int, facts: Facts) -> tuple[tuple[Write, ...], str | None]:
    floor, ceiling = _path("devfreq/min_freq"), _path("devfreq/max_freq")
    why_not = _limits.blocked(facts, ceiling, floor)
    if why_not is not None:
        return (), why_not
    table = table_hz(facts)
    limits = _limits.Limits(
        where="GPU",
        unit="Hz",
        floor_path=floor,
        ceiling_path=ceiling,
        floor=facts.tree.number(floor),
        ceiling=facts.tree.number(ceiling),
        lowest=table[-1],
        highest=table[0],
        heat=_heat.now(facts, "gpu"),
    )
    return _limits.pin(limits, target), None


def _power_levels(target: int, table: tuple[int, ...], facts: Facts) -> tuple[list[Write], str | None]:
    slow, fast = _path("min_pwrlevel"), _path("max_pwrlevel")
    why_not = _limits.blocked(facts, fast, slow)
    if why_not is not None:
        return [], why_not
    count = facts.tree.number(_path("num_pwrlevels")) or len(table)
    if count != len(table):
        return [], f"num_pwrlevels says {count}, the table has {len(table)} entries"
    level, last = table.index(target), len(table) - 1
    shown_slow, shown_fast = facts.tree.number(slow), facts.tree.number(fast)
    steps = []
    if shown_slow != last:
        why = f"GPU: slowest level out of the way ({shown_slow} now)"
        steps.append(Write(path=slow, value=str(last), why=why, restore=_text(shown_slow)))
    why = f"GPU: fastest level to {level}, {target} Hz ({shown_fast} now)"
    steps.append(Write(path=fast, value=str(level), why=why, restore=_text(shown_fast)))
    why = f"GPU: slowest level to {level} as well"
    steps.append(Write(path=slow, value=str(level), why=why, restore=_text(shown_slow if not steps[:-1] else last)))
    return steps, None


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """What did not hold. Codes: ``gpu-frequency-not-held``, ``gpu-frequency-not-proven``, ``throttled``."""
    table = table_hz(facts)
    target = _levels.pick(word, want, table, where="the Adreno GPU", unit="Hz")
    flags = []
    limit = whole(record.after.get(_path("thermal_pwrlevel")))
    if limit is not None and table.index(target) < limit < len(table):
        detail = f"GPU: heat allows level {limit} ({table[limit]} Hz) at most, instead of {target} Hz"
        flags.append(Flag(code="throttled", detail=detail))
    seen = _level_times(record, table)
    for path in (_path("gpuclk"), _path("devfreq/cur_freq")):
        seen = seen or {hz: count for hz, count in _proof.sampled(record, path).items() if hz > 0}
    if not seen:
        detail = f"GPU: neither gpu_clock_stats nor a sample tells whether {target} Hz held"
        return (*flags, Flag(code="gpu-frequency-not-proven", detail=detail))
    off = _proof.held("gpu-frequency", "GPU", seen, target, "Hz", slack=_SLACK)
    return (*flags, *([off] if off else []))


def _level_times(record: RunRecord, table: tuple[int, ...]) -> dict[int, int]:
    """Active time at each clock during the run, from the counters of ``gpu_clock_stats`` (one a level)."""
    before, after = (
        [count for word in (texts.get(_path("gpu_clock_stats")) or "").split() if (count := whole(word)) is not None]
        for texts in (record.before, record.after)
    )
    if len(before) != len(table) or len(after) != len(table):
        return {}
    spent = {hz: late - early for hz, early, late in zip(table, before, after, strict=True)}
    return {hz: ticks for hz, ticks in spent.items() if ticks > 0}
