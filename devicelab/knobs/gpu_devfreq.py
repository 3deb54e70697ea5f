"""Clocks under the kernel's generic devfreq interface: GPUs (``gpu``) and memory buses (``membus``).

Also the GPU nodes of Google's Tensor, which are the same thing under other names. Limits are pinned as for CPUs
(``devicelab.knobs._limits``): floor = ceiling under any governor. Tables are in the device's own unit (Hz, kHz, or MB/s
for Qualcomm's bandwidth votes); an entry of 0 is no operating point but "no vote", and old kernels take a ceiling of 0
for "no ceiling", so it is never used. Several buses vote on one memory clock and the highest vote wins, so ``membus``
sets all of them.
"""

import fnmatch
import re
from dataclasses import dataclass

from devicelab.errors import ConfigError
from devicelab.knobs import _heat, _levels, _limits, _proof
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Write

WORDS = ("membus", "gpu")
PHASE = Phase.CLOCKS

GENERIC = True
"""Other families that know the device's GPU driver come first."""

_DEVFREQ = "/sys/class/devfreq/*"
_TENSOR = "/sys/devices/platform/*.mali"
GLOBS = (
    *(f"{_DEVFREQ}/{node}" for node in ("governor", "min_freq", "max_freq", "cur_freq", "available_frequencies")),
    f"{_DEVFREQ}/device/uevent",
    *(f"{_TENSOR}/{n}" for n in ("scaling_min_freq", "scaling_max_freq", "cur_freq", "available_frequencies")),
    *_heat.GLOBS,
)

# What a device is shows in its driver, its device tree and the governor it runs under; its name is the last resort.
_GPU_DRIVER = re.compile(
    r"^DRIVER=(?:mali|panfrost|panthor|lima|msm_gpu|adreno|kgsl-3d|gk20a|nvgpu|etnaviv-gpu|pvrsrvkm|v3d|bifrost|sgpu)\b"
    r"|^OF_NAME=gpu|^OF_COMPATIBLE_\d+=(?:[^\n]*(?:-gpu|,gpu|mali|adreno|kgsl-3d)|nvidia,(?:tegra\w+-)?g[a-z]{1,2}\d{2}b?$)",
    re.MULTILINE,
)
_GPU_GOVERNORS = frozenset(("msm-adreno-tz", "adreno_tz", "pvr_governor"))
_BUS_GOVERNORS = frozenset(
    ("bw_hwmon", "bw_vbif", "mem_latency", "memlat", "gpubw_mon", "cache_hwmon", "dmc_ondemand", "interactive_mif")
)
_GPUS = ("*kgsl-3d0", "*gpu", "*gpu[0-9]", "*.mali", "*mali*", "*g3d*", "*.g[a-z][0-9][0-9][a-z]", "gpu-gpc-*")
_BUSES = ("*bw", "*bw-*", "*-lat", "*lat-*", "*latfloor", "*mif*", "*dmc*", "*emc*", "*ddr*", "*memory-controller*")
_SLACK = 0.01


@dataclass(frozen=True)
class Scaled:
    """One device with a floor, a ceiling and a table (ascending, in ``unit``)."""

    name: str
    floor: str
    ceiling: str
    current: str
    table: tuple[int, ...]
    unit: str


def _devices(word: str, facts: Facts) -> tuple[Scaled, ...]:
    tree = facts.tree
    if word == "gpu":
        tensor = [path.rpartition("/")[0] for path in tree.glob(f"{_TENSOR}/scaling_max_freq")]
        if tensor:
            return tuple(_scaled(facts, folder, "scaling_min_freq", "scaling_max_freq") for folder in tensor)
    folders = [path.rpartition("/")[0] for path in tree.glob(f"{_DEVFREQ}/max_freq")]
    return tuple(_scaled(facts, folder, "min_freq", "max_freq") for folder in folders if _role(facts, folder) == word)


def _role(facts: Facts, folder: str) -> str | None:
    """``gpu``, ``membus``, or ``None`` for what is neither (video engines, a CPU's cache)."""
    governor = facts.tree.text(f"{folder}/governor")
    if _GPU_DRIVER.search(facts.tree.text(f"{folder}/device/uevent") or ""):
        return "gpu"
    if _is_one(folder, _BUSES):
        return "membus"
    if governor in _GPU_GOVERNORS or _is_one(folder, _GPUS):
        return "gpu"
    return "membus" if governor in _BUS_GOVERNORS else None


def _is_one(folder: str, patterns: tuple[str, ...]) -> bool:
    name = folder.rsplit("/", 1)[-1].lower()
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _scaled(facts: Facts, folder: str, floor: str, ceiling: str) -> Scaled:
    table = tuple(sorted({point for point in facts.tree.numbers(f"{folder}/available_frequencies") if point > 0}))
    return Scaled(
        name=folder.rsplit("/", 1)[-1],
        floor=f"{folder}/{floor}",
        ceiling=f"{folder}/{ceiling}",
        current=f"{folder}/cur_freq",
        table=table,
        unit=_unit(folder, table),
    )


def _unit(folder: str, table: tuple[int, ...]) -> str:
    """What the numbers are: no memory or GPU clock lies outside of 50 MHz to 50 GHz."""
    top = table[-1] if table else 0
    if top >= 50_000_000:
        return "Hz"
    if top >= 50_000:
        return "kHz"
    return "MB/s" if _is_one(folder, _BUSES) else "MHz"


def applies(facts: Facts) -> bool:
    """The device has a GPU or a memory bus here."""
    return bool(_devices("gpu", facts) or _devices("membus", facts))


def _targets(word: str, want: Level, facts: Facts) -> dict[Scaled, int]:
    """The value each device is to have; a number goes to those whose table has it.

    Raises:
        ConfigError: a level that none of them knows.
    """
    targets: dict[Scaled, int] = {}
    refused: ConfigError | None = None
    for device in _devices(word, facts):
        if device.table:
            try:
                targets[device] = _levels.pick(word, want, device.table, where=device.name, unit=device.unit)
            except ConfigError as error:
                refused = error
    if not targets and refused is not None:
        raise refused
    return targets


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Hold all these devices at one value each.

    Raises:
        ConfigError: no such level in any table.
    """
    if not _devices(word, facts):
        return Setting(unmet=(f"this device shows no devfreq device for {word}",))
    targets = _targets(word, want, facts)
    if not targets:
        return Setting(unmet=(f"none of the devfreq devices for {word} tells its frequencies",))
    steps: list[Write] = []
    unmet: list[str] = []
    for device, target in targets.items():
        why_not = _limits.blocked(facts, device.ceiling, device.floor)
        if why_not is not None:
            unmet.append(f"{device.name}: {why_not}")
            continue
        ceiling = facts.tree.number(device.ceiling)
        limits = _limits.Limits(
            where=device.name,
            unit=device.unit,
            floor_path=device.floor,
            ceiling_path=device.ceiling,
            floor=facts.tree.number(device.floor),
            ceiling=ceiling,
            lowest=device.table[0],
            highest=device.table[-1],
            heat=_heat.now(facts, "gpu") if word == "gpu" else None,
        )
        steps += _limits.pin(limits, target)
    return Setting(
        steps=tuple(steps),
        sample=tuple(device.current for device in targets if device.current in facts.tree),
        around=tuple(path for device in targets for path in (device.floor, device.ceiling)),
        unmet=tuple(unmet),
    )


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """What did not hold.

    Codes: ``gpu-`` or ``membus-frequency-not-held`` and ``-not-proven``, ``limits-changed``, ``throttled``.
    """
    flags: list[Flag | None] = []
    for device, target in _targets(word, want, facts).items():
        heat = ", ".join(flag.detail for flag in _heat.throttled(facts, record, "gpu")) if word == "gpu" else None
        flags.append(
            _proof.limits_moved(device.name, record, device.floor, device.ceiling, target, device.unit, heat or None)
        )
        seen = {point: count for point, count in _proof.sampled(record, device.current).items() if point > 0}
        if seen:
            flags.append(_proof.held(f"{word}-frequency", device.name, seen, target, device.unit, slack=_SLACK))
        else:
            detail = f"{device.name}: no sample tells whether {target} {device.unit} held"
            flags.append(Flag(code=f"{word}-frequency-not-proven", detail=detail))
    return tuple(flag for flag in flags if flag is not None)
