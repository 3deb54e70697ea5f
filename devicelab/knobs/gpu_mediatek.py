"""GPU clock of a MediaTek (word ``gpu``; table in kHz), through the driver's own files under ``/proc``.

Since the Dimensity 9000 ``/proc/gpufreqv2/fix_target_opp_index`` takes the index of a table entry, and -1 for free;
where the shaders have a clock of their own (``stack_working_opp_table``, on some kernels ``gstack_…``) the index is one
of that table. Several entries may have one clock (and other voltages): the first is written, each is that clock.
Before, ``/proc/gpufreq/gpufreq_opp_freq`` takes a clock in kHz, and 0 for free. Both read as sentences
("fix OPP index: 3", "fixed OPP is disabled", a table's line behind them), so they are judged by what is read around the
run, and by the clock that the driver tells in ``/sys/kernel/ged/hal/current_freqency`` (so spelt): index and kHz.

Sources: MediaTek's kernels 4.14 to 6.1, ``mtk_gpufreq_core.c`` and ``gpufreq/v2/gpufreq_debug.c``, ``ged_hal.c``.
"""

import re
from dataclasses import dataclass

from devicelab.knobs import _heat, _levels, _limits, _proof
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Write

WORDS = ("gpu",)
PHASE = Phase.CLOCKS

_V2 = "/proc/gpufreqv2"
_V1 = "/proc/gpufreq"
_FIX_INDEX = f"{_V2}/fix_target_opp_index"
_FIX_KHZ = f"{_V1}/gpufreq_opp_freq"
_NOW = "/sys/kernel/ged/hal/current_freqency"
_TABLES = (
    *(f"{_V2}/{name}_working_opp_table" for name in ("stack", "gstack", "gpu")),
    f"{_V1}/gpufreq_opp_dump",
)
GLOBS = (*_TABLES, _FIX_INDEX, _FIX_KHZ, _NOW, *_heat.GLOBS)

_ENTRY = re.compile(r"\[\s*(\d{1,3})\*?\] freq\s*[:=]\s*(\d{1,9})")
_INDEX = re.compile(r"OPP index: (\d{1,3})(?:/(\d{1,3}))?")
_FIRST = re.compile(r"\[\s*(\d{1,3})\] freq")
_KHZ = re.compile(r"freq\s*[:=]\s*(\d{1,9})")


@dataclass(frozen=True)
class _Driver:
    """One of the two interfaces: clock (kHz) by what is written for it, the node that fixes, what frees it."""

    clocks: dict[str, int]
    node: str
    free: str

    def written(self, khz: int) -> str:
        """What fixes a clock."""
        return next(word for word, clock in self.clocks.items() if clock == khz)


def _driver(facts: Facts) -> _Driver | None:
    for path in _TABLES:
        entries = {int(index): int(khz) for index, khz in _ENTRY.findall(facts.tree.text(path) or "") if int(khz)}
        if entries and path.startswith(f"{_V2}/") and _FIX_INDEX in facts.tree:
            return _Driver({str(index): khz for index, khz in entries.items()}, _FIX_INDEX, "-1")
        if entries and path.startswith(f"{_V1}/") and _FIX_KHZ in facts.tree:
            return _Driver({str(khz): khz for khz in entries.values()}, _FIX_KHZ, "0")
    return None


def _fixed(text: str | None, driver: _Driver) -> int | None:
    """The clock (kHz) that a node says is fixed; ``None``: it is free, or says nothing."""
    return driver.clocks.get(_fixed_by(text, driver) or "")


def _fixed_by(text: str | None, driver: _Driver) -> str | None:
    """What was written for the clock that a node says is fixed."""
    if text is None or "disabled" in text:
        return None
    index = _INDEX.search(text) or (_FIRST.search(text) if driver.node == _FIX_INDEX else None)
    if index is not None:
        return str(int((index[2] if index.re is _INDEX else None) or index[1]))
    khz = _KHZ.search(text)
    return str(int(khz[1])) if khz else None


def applies(facts: Facts) -> bool:
    """The device has a GPU under MediaTek's driver."""
    return _driver(facts) is not None


def _target(word: str, want: Level, driver: _Driver) -> int:
    return _levels.pick(word, want, tuple(driver.clocks.values()), where="the GPU", unit="kHz")


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Hold the GPU at one clock.

    Raises:
        ConfigError: no such level in the table.
    """
    driver = _driver(facts)
    if driver is None:
        return Setting(unmet=("this device has no GPU under MediaTek's driver",))
    target = _target(word, want, driver)
    heat = tuple(device.path for device in _heat.cooling(facts, "gpu"))
    sample, around = ((_NOW,) if _NOW in facts.tree else ()), (driver.node, *heat)
    why_not = _limits.blocked(facts, driver.node)
    if why_not is not None:
        return Setting(sample=sample, around=around, unmet=(why_not,))
    text = facts.tree.text(driver.node)
    now = _fixed(text, driver)
    restore = _fixed_by(text, driver) or driver.free if now is not None else driver.free
    why = f"GPU: clock fixed at {target} kHz ({f'fixed at {now} kHz' if now is not None else 'free'} now)"
    step = Write(path=driver.node, value=driver.written(target), why=why, verify="none", restore=restore)
    return Setting(steps=(step,), sample=sample, around=around)


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """What did not hold.

    Codes: ``limits-changed``, the driver did not say around the run that this clock was fixed; ``throttled``;
    ``gpu-frequency-not-held`` and ``gpu-frequency-not-proven``.
    """
    driver = _driver(facts)
    if driver is None:
        return ()
    target = _target(word, want, driver)
    heat = _heat.throttled(facts, record, "gpu")
    for when, texts in (("before", record.before), ("after", record.after)):
        text = texts.get(driver.node)
        if text is not None and _fixed(text, driver) != target:
            said = " ".join(text.split())[:80]
            flag = Flag(code="limits-changed", detail=f"GPU: {driver.node} said {when} the run: {said}")
            return (*heat, flag)
    seen: dict[int, int] = {}
    for text in record.samples.nodes.get(_NOW, ()):
        words = (text or "").split()
        if len(words) == 2 and words[1].isdecimal() and int(words[1][:9]) > 0:
            seen[int(words[1][:9])] = seen.get(int(words[1][:9]), 0) + 1
    if not seen:
        detail = f"GPU: no sample tells whether {target} kHz held"
        return (*heat, Flag(code="gpu-frequency-not-proven", detail=detail))
    off = _proof.held("gpu-frequency", "GPU", seen, target, "kHz")
    return (*heat, off) if off else ()
