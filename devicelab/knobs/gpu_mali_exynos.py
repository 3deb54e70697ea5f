"""GPU clock of a Mali under Samsung's Exynos driver (word ``gpu``; table in kHz, up to the Exynos 8890 in MHz).

``clock`` is the best single node: writing a frequency switches DVFS off, keeps the GPU powered and fixes the clock;
writing 0 gives all of that back. Meanwhile the driver's own throttling is off; the chip's emergency limits stay. Where
``clock`` cannot be written, ``dvfs_max_lock`` and ``dvfs_min_lock`` do (heat may then still lower the clock), and on
kernels that have only ``/sys/kernel/gpu``, ``gpu_max_clock`` and ``gpu_min_clock``. Where nobody may write those (some
kernels only inform there, as beside the devfreq of an Xclipse), this family stands back. Kernels 3.10 and 3.18 have the
device outside of ``platform``.

What these nodes show is not what they take: a lock reads "locked / user" or -1 (also after a write of the table's own
end, which means no lock), ``clock`` reads 0 while the GPU sleeps. So the undo is said with every write, and a node is
written twice: once with the undo, whose effect cannot be read back there, and once to be compared.
(gpu_custom_interface.c of the Exynos 9820 kernel.) ``/sys/kernel/gpu`` exists on Qualcomm kernels too, hence the look
at ``gpu_model``.
"""

import re

from devicelab.knobs import _heat, _levels, _limits, _proof
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Write

WORDS = ("gpu",)
PHASE = Phase.CLOCKS

_MALI = "/sys/devices/platform/*.mali"
_PLACES = (_MALI, "/sys/devices/*.mali")
_KERNEL = "/sys/kernel/gpu"
_NODES = (
    "clock",
    "dvfs",
    "dvfs_table",
    "dvfs_max_lock",
    "dvfs_min_lock",
    "dvfs_governor",
    "power_state",
    "time_in_state",
    "tmu",
    "utilization",
)
_KERNEL_NODES = ("gpu_model", "gpu_freq_table", "gpu_clock", "gpu_min_clock", "gpu_max_clock", "gpu_busy", "gpu_tmu")
GLOBS = (
    *(f"{place}/{node}" for place in _PLACES for node in _NODES),
    *(f"{_KERNEL}/{node}" for node in _KERNEL_NODES),
    *_heat.GLOBS,
)

_LANDS_MS = 500


def _folder(facts: Facts) -> str | None:
    tables = [path for place in _PLACES for path in facts.tree.glob(f"{place}/dvfs_table")]
    return tables[0].removesuffix("/dvfs_table") if tables else None


def table_of(facts: Facts) -> tuple[int, ...]:
    """The clocks as the driver counts them (see ``_unit``), ascending; empty if this is no such GPU."""
    folder = _folder(facts)
    if folder is not None:
        return tuple(sorted({khz for khz in facts.tree.numbers(f"{folder}/dvfs_table") if khz > 0}))
    model = (facts.tree.text(f"{_KERNEL}/gpu_model") or "").lower()
    ceiling = facts.tree.get(f"{_KERNEL}/gpu_max_clock")
    if "adreno" in model or ceiling is None or not ceiling.mode & 0o222:
        return ()
    return tuple(sorted({khz for khz in facts.tree.numbers(f"{_KERNEL}/gpu_freq_table") if khz > 0}))


def _unit(table: tuple[int, ...]) -> str:
    """What the table counts in: no GPU runs at 100 GHz, or below 100 kHz."""
    return "MHz" if table and table[-1] < 100_000 else "kHz"


def applies(facts: Facts) -> bool:
    """The device has a Mali under this driver."""
    return bool(table_of(facts))


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Hold the GPU at one clock.

    Raises:
        ConfigError: no such level in the table.
    """
    table = table_of(facts)
    target = _levels.pick(word, want, table, where="the Mali GPU", unit=_unit(table))
    folder = _folder(facts)
    evidence = _evidence(facts, folder)
    if folder is not None and _limits.blocked(facts, f"{folder}/clock") is None:
        steps, why_not = _fix(f"{folder}/clock", target, facts, folder), None
    elif folder is not None:
        steps, why_not = _locks(folder, target, table, facts)
    else:
        steps, why_not = _kernel_limits(target, table, facts)
    return Setting(
        steps=tuple(steps), sample=evidence.sample, around=evidence.around, unmet=(why_not,) if why_not else ()
    )


def _evidence(facts: Facts, folder: str | None) -> Setting:
    heat = tuple(device.path for device in _heat.cooling(facts, "gpu"))
    if folder is None:
        return Setting(sample=(f"{_KERNEL}/gpu_clock",), around=heat)
    names = ("time_in_state", "dvfs_max_lock", "dvfs_min_lock", "tmu", "dvfs")
    around = tuple(path for name in names if (path := f"{folder}/{name}") in facts.tree)
    return Setting(sample=(f"{folder}/clock",), around=(*around, *heat))


def _written(path: str, value: int, why: str, restore: str, *, at_most: bool = False) -> list[Write]:
    """The write with its undo, and the same again to be compared: the undo's own effect does not show in this node."""
    first = Write(path=path, value=str(value), why=why, verify="none", restore=restore)
    compare = "at-most" if at_most else "first-int"
    again = Write(
        path=path,
        value=str(value),
        why="the same again, to be read back",
        verify=compare,
        verify_ms=_LANDS_MS,
        restore=restore,
    )
    return [first, again]


def _fix(path: str, target: int, facts: Facts, folder: str) -> list[Write]:
    """Fix the clock; somebody else's fixed clock (DVFS already off) is what goes back then."""
    now = facts.tree.number(path) or 0
    fixed = facts.tree.number(f"{folder}/dvfs") == 0 and now > 0
    how = f"fixed at {now} now" if fixed else "free now"
    why = f"GPU: clock fixed at {target} {_unit(table_of(facts))} ({how}); the driver's own throttling is off meanwhile"
    return _written(path, target, why, str(now) if fixed else "0")


def _users_part(path: str, facts: Facts) -> str:
    """What undoes our write to a lock: the user's part of ``702000 / 377000`` (in force / user's), 0 for none."""
    match = re.fullmatch(r"-?[0-9]{1,18}\s*/\s*(-?[0-9]{1,18})", facts.tree.text(path) or "")
    return str(max(int(match[1]), 0)) if match else "0"


def _locks(folder: str, target: int, table: tuple[int, ...], facts: Facts) -> tuple[list[Write], str | None]:
    """Both locks at the target; the driver refuses no order, and the ends of the table read back as no lock."""
    high, low = f"{folder}/dvfs_max_lock", f"{folder}/dvfs_min_lock"
    why_not = _limits.blocked(facts, high, low)
    if why_not is not None:
        return [], why_not
    why = f"GPU: upper lock at {target} {_unit(table)} ({facts.tree.text(high)} now)"
    steps = _written(high, target, why, _users_part(high, facts), at_most=True)
    why = f"GPU: lower lock at {target} {_unit(table)} ({facts.tree.text(low)} now)"
    return steps + _written(low, target, why, _users_part(low, facts), at_most=target == table[0]), None


def _kernel_limits(target: int, table: tuple[int, ...], facts: Facts) -> tuple[list[Write], str | None]:
    floor, ceiling = f"{_KERNEL}/gpu_min_clock", f"{_KERNEL}/gpu_max_clock"
    why_not = _limits.blocked(facts, ceiling, floor)
    if why_not is not None:
        return [], why_not
    limits = _limits.Limits(
        where="GPU",
        unit=_unit(table),
        floor_path=floor,
        ceiling_path=ceiling,
        floor=facts.tree.number(floor),
        ceiling=facts.tree.number(ceiling),
        lowest=table[0],
        highest=table[-1],
        heat=_heat.now(facts, "gpu"),
    )
    return list(_limits.pin(limits, target)), None


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """What did not hold. Codes: ``gpu-frequency-not-held``, ``gpu-frequency-not-proven``, ``throttled``."""
    table = table_of(facts)
    unit = _unit(table)
    target = _levels.pick(word, want, table, where="the Mali GPU", unit=unit)
    folder = _folder(facts)
    seen = _proof.spent(record, f"{folder}/time_in_state") if folder else {}
    for path in (f"{folder}/clock", f"{_KERNEL}/gpu_clock"):
        # 0 means that the GPU sleeps: what does not run does not run at a wrong clock either.
        seen = seen or {khz: count for khz, count in _proof.sampled(record, path).items() if khz > 0}
    if not seen:
        detail = f"GPU: neither time_in_state nor a sample tells whether {target} {unit} held"
        return (Flag(code="gpu-frequency-not-proven", detail=detail),)
    off = _proof.held("gpu-frequency", "GPU", seen, target, unit)
    return (*_heat.throttled(facts, record, "gpu"), off) if off else ()
