"""A phone's battery as a meter of the whole device: units and signs that vendors choose as they like, and charging.

The kernel's interface says microvolts, microamperes and a negative current while discharging; phones are known that say
milliamperes, millivolts, or a positive current. What a reading means is told by its size, and proved by the battery's
own count of charge where that moves enough. While anything charges, the battery says nothing of what the device uses.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from devicelab.experiment.energy.totals import FaultError
from devicelab.knobs import charging as charging_knob

_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_BATTERY = re.compile(r"(/sys/class/power_supply/[^/]+)/(?:current_now|power_now)")

Texts = Sequence[str | None]

# A device that runs an agent and a measurement draws more than 5 mA, and no phone's battery gives 20 A: a largest
# reading of up to 5000 is in milliamperes, one above 20000 in microamperes. Between them both could be.
_MILLI_UP_TO = 5_000
_MICRO_FROM = 20_000
# A cell has 2.5 to 4.5 V, packs of laptops up to 26 V; in millivolts five digits at most.
_MILLIVOLTS = (2_000, 30_000)
_MICROVOLTS = (2_000_000, 30_000_000)
# Up to so many readings may have the other sign: a gauge settles after a step.
_OTHER_SIGN = 0.02
# The charge count proves a unit if it moved by so many of its own steps; it is right within this factor then.
_STEPS = 5
_PROVES = 2.0


@dataclass(frozen=True)
class Battery:
    """A battery's readings in volts, amperes and ampere-hours.

    Attributes:
        folder: of the power supply.
        watts: power drawn at each sample, positive while discharging.
        charge_ah: the battery's own count at each sample, ``None`` where it has none.
        told: how units and sign were found, for people.
    """

    folder: str
    watts: tuple[float | None, ...]
    charge_ah: tuple[float | None, ...]
    told: str


def folder_of(nodes: Mapping[str, Texts], names: Mapping[str, str | None]) -> str | None:
    """The battery whose current or power was sampled: the one whose type says so, or that is called so.

    Raises:
        FaultError: ``energy-several-batteries``: one of them does not tell what the device draws.
    """
    found = [match[1] for path in nodes if (match := _BATTERY.fullmatch(path))]
    real = [one for one in found if (names.get(f"{one}/type") or "").strip() == "Battery"]
    real = real or [one for one in found if one.endswith(("/battery", "/BAT0", "/BAT1"))]
    real = sorted(set(real))
    # Several gauges of one battery (bms, main): Android's own speaks for all of them.
    own = [one for one in real if one.endswith("/battery")]
    if len(real) > 1 and not own:
        shown = ", ".join(one.rpartition("/")[2] for one in real)
        raise FaultError("energy-several-batteries", f"{shown} feed the device, in turn or together")
    return next(iter((*own, *real)), None)


def read(folder: str, nodes: Mapping[str, Texts]) -> Battery:
    """The battery's power at each sample.

    Raises:
        FaultError: ``energy-unit-unknown``, ``energy-voltage``, ``energy-sign``, ``energy-gap``.
    """
    charge, charge_unit = _charge(folder, nodes)
    if f"{folder}/current_now" not in nodes:
        watts = tuple(None if one is None else abs(one) * 1e-6 for one in _numbers(nodes[f"{folder}/power_now"]))
        return Battery(folder, watts, charge, f"power in uW{charge_unit}")
    current = _numbers(nodes[f"{folder}/current_now"])
    volts, volt_unit = _volts(_numbers(nodes.get(f"{folder}/voltage_now", ())))
    sign, sign_said = _sign(current)
    scale, unit = _amperes(current)
    watts = tuple(
        None if i is None or v is None else sign * i * scale * v for i, v in zip(current, volts, strict=False)
    )
    return Battery(folder, watts, charge, f"current in {unit}, {sign_said} while discharging, {volt_unit}{charge_unit}")


def charging(
    folder: str, t_ns: Sequence[int], nodes: Mapping[str, Texts], names: Mapping[str, str | None], span: tuple[int, int]
) -> None:
    """Nothing but the battery fed the device in the span: its status, and every supply beside it.

    A supply that is plugged in feeds the device unless a node says that its input is suspended.

    Raises:
        FaultError: ``energy-charging`` (throughout) or ``energy-charger-changed`` (for a part of the span).
    """
    states = nodes.get(f"{folder}/status", ())
    plugged = {path: texts for path, texts in nodes.items() if path.endswith("/online") and "/power_supply/" in path}
    suspended = suspended_by(names)
    fed: list[bool] = []
    reasons: set[str] = set()
    for index, moment in enumerate(t_ns):
        if not span[0] <= moment <= span[1]:
            continue
        why = []
        state = (states[index] or "").strip() if index < len(states) else ""
        if state != "Discharging":
            why.append(f"its status is {state or 'not told'!r}")
        if not suspended:
            supplies = [
                path.split("/")[4] for path, texts in plugged.items() if index < len(texts) and _on(texts[index])
            ]
            why += [f"{name} is plugged in" for name in supplies]
        fed.append(bool(why))
        reasons.update(why)
    if not any(fed):
        if not fed:
            raise FaultError("energy-too-short", "the battery was not looked at in the span")
        return
    code = "energy-charging" if all(fed) else "energy-charger-changed"
    share = "" if all(fed) else f" in {sum(fed)} of {len(fed)} readings"
    raise FaultError(code, f"the battery does not feed the device alone{share}: {', '.join(sorted(reasons))}")


def suspended_by(names: Mapping[str, str | None]) -> str | None:
    """The node that says that no charger feeds the device; one that only spares the battery does not say that."""
    for pattern in charging_knob.SUSPENDERS:
        shape = re.compile(re.escape(pattern).replace(r"\*", "[^/]+"))
        for path, text in names.items():
            if shape.fullmatch(path) and (text or "").strip() == "1":
                return path
    return None


def prove(battery: Battery, t_ns: Sequence[int], nodes: Mapping[str, Texts], span: tuple[int, int]) -> str:
    """Compare the current with the battery's own count of charge: what that shows, empty if it moved too little.

    Raises:
        FaultError: ``energy-unit-disproved`` or ``energy-charging``.
    """
    current = nodes.get(f"{battery.folder}/current_now")
    volts, _ = _volts(_numbers(nodes.get(f"{battery.folder}/voltage_now", ())))
    rows = [
        (t, charge, watts / volt)
        for t, charge, watts, volt in zip(t_ns, battery.charge_ah, battery.watts, volts, strict=False)
        if charge is not None and watts is not None and volt and span[0] <= t <= span[1]
    ]
    if current is None or len(rows) < _STEPS:
        return ""
    times, charges, amperes = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    moved = np.abs(np.diff(charges))
    steps = moved[moved > 0]
    fell_ah = float(charges[0] - charges[-1])
    if steps.size < _STEPS or abs(fell_ah) < _STEPS * float(np.median(steps)):
        return ""
    drawn_ah = float(np.sum((amperes[1:] + amperes[:-1]) / 2 * np.diff(times)) / 3.6e12)
    if fell_ah < 0:
        raise FaultError("energy-charging", f"its count of charge rose by {-fell_ah * 1e3:.3g} mAh")
    ratio = drawn_ah / fell_ah
    if not 1 / _PROVES <= ratio <= _PROVES:
        said = f"the current amounts to {drawn_ah * 1e3:.4g} mAh, the battery counted {fell_ah * 1e3:.4g} mAh"
        raise FaultError("energy-unit-disproved", said)
    return f"its count of charge agrees within {abs(ratio - 1):.1%}"


def _amperes(current: Sequence[float | None]) -> tuple[float, str]:
    largest = max((abs(one) for one in current if one is not None), default=0.0)
    if 0 < largest <= _MILLI_UP_TO:
        return 1e-3, "mA"
    if largest >= _MICRO_FROM:
        return 1e-6, "uA"
    raise FaultError("energy-unit-unknown", f"a current of at most {largest:g} may be in uA or in mA")


def _sign(current: Sequence[float | None]) -> tuple[int, str]:
    known = [one for one in current if one]
    negative = sum(one < 0 for one in known)
    few = min(negative, len(known) - negative)
    if known and few > _OTHER_SIGN * len(known):
        raise FaultError("energy-sign", f"the current changes its sign: {few} of {len(known)} readings have the other")
    return (-1, "negative") if negative > len(known) - negative else (1, "positive")


def _volts(voltage: Sequence[float | None]) -> tuple[tuple[float | None, ...], str]:
    known = [one for one in voltage if one is not None]
    for scale, name, (low, high) in ((1e-3, "mV", _MILLIVOLTS), (1e-6, "uV", _MICROVOLTS)):
        if known and all(low <= one <= high for one in known):
            return tuple(None if one is None else one * scale for one in voltage), f"voltage in {name}"
    shown = f"{min(known):g} to {max(known):g}" if known else "not told"
    raise FaultError("energy-voltage", f"no battery has a voltage of {shown}")


def _charge(folder: str, nodes: Mapping[str, Texts]) -> tuple[tuple[float | None, ...], str]:
    for name in ("charge_counter", "charge_now"):
        raw = _numbers(nodes.get(f"{folder}/{name}", ()))
        largest = max((abs(one) for one in raw if one is not None), default=0.0)
        if largest > 0:
            # A phone's battery has 1 to 30 Ah: uAh by the interface, mAh by some.
            scale, unit = (1e-3, "mAh") if largest < 50_000 else (1e-6, "uAh")
            return tuple(None if one is None else one * scale for one in raw), f", charge in {unit}"
    return (), ""


def _numbers(texts: Texts) -> tuple[float | None, ...]:
    stripped = (None if text is None else text.strip() for text in texts)
    return tuple(float(text) if text is not None and _INTEGER.fullmatch(text) else None for text in stripped)


def _on(text: str | None) -> bool:
    return (text or "").strip() not in {"", "0"}
