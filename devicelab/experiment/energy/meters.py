"""What measured a run's energy, from its sampled nodes alone: one meter for everything that was read.

Of several the one that says most comes first: on-device power monitors (they do not see the charger), a battery that
discharges, NVIDIA's counters, RAPL, sensors on the board. Every meter says what it covers.
"""

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from devicelab.experiment.energy import battery, nvml
from devicelab.experiment.energy.totals import FaultError, Total, of_counter, of_power

Texts = Sequence[str | None]
Span = tuple[int, int]

_INTEGER = re.compile(r"[0-9]{1,19}")
_ODPM = re.compile(r"/sys/bus/iio/devices/iio:device[0-9]+/energy_value")
# "CH0(T=349894)[S10M_VDD_TPU], 5578756": channel, ms of its update, rail, uJ (Pixel kernels, odpm.c).
_CHANNEL = re.compile(r"CH([0-9]{1,3})\(T=([0-9]{1,15})\)\[([A-Za-z0-9_.:-]{1,40})\], *([0-9]{1,19})")
_RAPL = re.compile(r"(/sys/class/powercap/[^/]*rapl[^/]*)/energy_uj")
_SENSOR = re.compile(r"(/sys/class/hwmon/hwmon[0-9]+)/(power|energy|curr)([0-9]{1,3})_(input|average)")
# What a phone's rails, a processor's packages (each) and a GPU card (each) draw at least and at most: counters in nJ or
# mJ instead of uJ are beyond.
_DRAWN_W = {"odpm": (0.01, 100.0), "rapl": (0.2, 2_000.0), "nvml": (1.0, 5_000.0)}
# How boards call the input of the whole of it: Jetson's carriers, AC meters, ACPI's power meter.
_WHOLE = re.compile(r"VDD_IN|.*5V_IN|total|system|psys|power_meter", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """What one meter says of a span.

    Attributes:
        meter: ``odpm``, ``battery``, ``nvml``, ``rapl``, ``sensor`` or ``meter``.
        scope: what it covers: "whole device" or the rails it is the sum of.
        total: of everything it covers; ``None`` if no sum can be made of its rails.
        rails: joules by rail.
        told: how its readings were understood.
    """

    meter: str
    scope: str
    total: Total | None
    rails: Mapping[str, Total] = field(default_factory=dict)
    told: str = ""


def read(
    t_ns: Sequence[int], nodes: Mapping[str, Texts], names: Mapping[str, str | None], span: Span
) -> Reading | None:
    """The first meter that has readings; ``None`` if there is none.

    Args:
        t_ns: times of the samples.
        nodes: texts by path, one a sample.
        names: what was read once: types, ranges, labels.
        span: from, to (ns).

    Raises:
        FaultError: a meter is there, and its readings give no total that could be believed.
    """
    for meter in (_odpm, _battery, _nvml, _rapl, _sensors):
        found = meter(t_ns, nodes, names, span)
        if found is not None:
            _believable(found)
            return found
    return None


def _believable(found: Reading) -> None:
    """A counter in another unit is off by a thousand or a million, which no such device draws."""
    if found.total is None or found.meter not in _DRAWN_W:
        return
    least, most = _DRAWN_W[found.meter]
    if not least <= found.total.watts <= most * max(1, len(found.rails)):
        said = f"{found.scope} would have drawn {found.total.watts:.3g} W: the counter's unit is another"
        raise FaultError("energy-unit-unknown", said)


def powers(
    t_ns: Sequence[int], nodes: Mapping[str, Texts], names: Mapping[str, str | None]
) -> Iterator[tuple[str, int, float]]:
    """Power as it was sampled, to be looked at: meter or rail, time, watts; what cannot be understood is left out."""
    with contextlib.suppress(FaultError):
        if (folder := battery.folder_of(nodes, names)) is not None:
            # What leaves the battery, whoever else feeds the device.
            told = battery.read(folder, nodes)
            yield from (("battery", t, watts) for t, watts in zip(t_ns, told.watts, strict=False) if watts is not None)
    for path, texts in nodes.items():
        if _ODPM.fullmatch(path):
            yield from _channel_powers(texts)
        elif nvml.NODE.fullmatch(path):
            for card, counts in nvml.counters(texts).items():
                yield from _growth(card, list(counts), list(counts.values()))
        elif match := _RAPL.fullmatch(path):
            name = (names.get(f"{match[1]}/name") or match[1].rpartition("/")[2]).strip()
            yield from _growth(name, t_ns, _scaled(texts, 1e-6))
        elif (match := _SENSOR.fullmatch(path)) and match[2] == "power":
            name = (
                names.get(f"{match[1]}/power{match[3]}_label") or f"{names.get(f'{match[1]}/name')} {match[3]}"
            ).strip()
            watts_of = zip(t_ns, _scaled(texts, 1e-6), strict=False)
            yield from ((name, t, watts) for t, watts in watts_of if watts is not None)


def _channel_powers(texts: Texts) -> Iterator[tuple[str, int, float]]:
    rails: dict[str, dict[int, float]] = {}
    for text in texts:
        for _, at_ms, rail, micro in _CHANNEL.findall(text or ""):
            rails.setdefault(rail, {})[int(at_ms) * 1_000_000] = int(micro) * 1e-6
    for rail, counts in rails.items():
        yield from _growth(rail, list(counts), list(counts.values()))


def _growth(name: str, t_ns: Sequence[int], joules: Sequence[float | None]) -> Iterator[tuple[str, int, float]]:
    for (t0, before), (t1, after) in itertools.pairwise(zip(t_ns, joules, strict=False)):
        if before is not None and after is not None and t1 > t0 and after >= before:
            yield name, t1, (after - before) / (t1 - t0) * 1e9


def _odpm(
    t_ns: Sequence[int], nodes: Mapping[str, Texts], _names: Mapping[str, str | None], span: Span
) -> Reading | None:
    rails: dict[str, Total] = {}
    for path, texts in nodes.items():
        if not _ODPM.fullmatch(path):
            continue
        channels: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
        for moment, text in zip(t_ns, texts, strict=False):
            for channel, at_ms, rail, micro in _CHANNEL.findall(text or ""):
                channels.setdefault((rail, channel), []).append((moment, int(at_ms) * 1_000_000, int(micro) * 1e-6))
        for (rail, channel), rows in channels.items():
            # Several monitors, or channels of one, may call their rails alike.
            own = rail if rail not in rails else f"{rail} CH{channel} {path.split('/')[-2]}"
            rails[own] = _stamped(own, rows, span)
    if not rails:
        return None
    if all(total.joules <= 0 for total in rails.values()):
        raise FaultError("energy-counter-stands", f"none of {len(rails)} rails counted anything")
    return Reading("odpm", f"{len(rails)} rails of on-device power monitors", _sum(rails.values()), rails)


def _stamped(rail: str, rows: Sequence[tuple[int, int, float]], span: Span) -> Total:
    """A counter that says when it was updated, on a clock of its own: the reading with the least delay aligns both."""
    if any(later[1] < earlier[1] for earlier, later in itertools.pairwise(rows)):
        raise FaultError("energy-counter-reset", f"rail {rail}: the times of its updates went back")
    ahead = min(moment - at for moment, at, _ in rows)
    return _updated(rail, {at + ahead: joules for _, at, joules in rows}, span)


def _updated(rail: str, fresh: Mapping[int, float], span: Span) -> Total:
    """A counter by the times of its updates."""
    times = sorted(fresh)
    # The last update before the span's end may lie a period earlier: the rail went on as it did before.
    try:
        return (
            of_counter(times, [fresh[t] for t in times], max(span[0], times[0]), min(span[1], times[-1]))
            if span[0] >= times[0] and span[1] <= times[-1]
            else _stretched(times, [fresh[t] for t in times], span)
        )
    except FaultError as error:
        if error.code == "energy-counter-stands":
            return Total(0.0, 0.0, span[1] - span[0], len(times))  # a rail that is off
        raise FaultError(error.code, f"rail {rail}: {error}") from None


def _stretched(times: Sequence[int], joules: Sequence[float], span: Span) -> Total:
    inner = (max(span[0], times[0]), min(span[1], times[-1]))
    got = of_counter(times, joules, *inner)
    beyond_ns = (span[1] - span[0]) - (inner[1] - inner[0])
    more = got.watts * beyond_ns / 1e9
    if beyond_ns > 0.1 * (span[1] - span[0]):
        raise FaultError("energy-too-short", f"its updates span {(inner[1] - inner[0]) / 1e9:.3g} s of the window")
    return Total(got.joules + more, got.error_j + more / 2, span[1] - span[0], got.readings)


def _nvml(
    _t_ns: Sequence[int], nodes: Mapping[str, Texts], _names: Mapping[str, str | None], span: Span
) -> Reading | None:
    rails: dict[str, Total] = {}
    for path, texts in nodes.items():
        if nvml.NODE.fullmatch(path):
            rails |= {card: _updated(card, counts, span) for card, counts in nvml.counters(texts).items()}
    if not rails:
        return None
    if all(total.joules <= 0 for total in rails.values()):
        raise FaultError("energy-counter-stands", "no card counted anything")
    scope = (
        "whole NVIDIA card, with all that ran on it" if len(rails) == 1 else f"{len(rails)} whole NVIDIA cards together"
    )
    return Reading("nvml", f"{scope}, not the machine", _sum(rails.values()), rails)


def _battery(
    t_ns: Sequence[int], nodes: Mapping[str, Texts], names: Mapping[str, str | None], span: Span
) -> Reading | None:
    folder = battery.folder_of(nodes, names)
    if folder is None:
        return None
    battery.charging(folder, t_ns, nodes, names, span)
    inside = [span[0] <= moment <= span[1] for moment in t_ns]
    # Signs are judged where the battery was known to discharge.
    seen = {
        p: [x for x, ok in zip(v, inside, strict=False) if ok] for p, v in nodes.items() if p.startswith(f"{folder}/")
    }
    times = [moment for moment, ok in zip(t_ns, inside, strict=True) if ok]
    found = battery.read(folder, seen)
    proof = battery.prove(found, times, seen, span)
    total = of_power(times, found.watts, *span)
    return Reading("battery", "whole device", total, told="; ".join(filter(None, (found.told, proof))))


def _rapl(
    t_ns: Sequence[int], nodes: Mapping[str, Texts], names: Mapping[str, str | None], span: Span
) -> Reading | None:
    rails: dict[str, Total] = {}
    parts: dict[str, str] = {}
    for path, texts in nodes.items():
        if not (match := _RAPL.fullmatch(path)):
            continue
        name = (names.get(f"{match[1]}/name") or match[1].rpartition("/")[2]).strip()
        top = match[1].count(":") == 1
        if name in rails:
            name = f"{name} {match[1].rpartition('/')[2]}"
        range_uj = (names.get(f"{match[1]}/max_energy_range_uj") or "").strip()
        range_j = int(range_uj) * 1e-6 if _INTEGER.fullmatch(range_uj) else None
        try:
            rails[name] = of_counter(t_ns, _scaled(texts, 1e-6), *span, range_j=range_j)
        except FaultError as error:
            if error.code == "energy-counter-stands" and not top:
                continue  # a GPU inside that is not used
            raise FaultError(error.code, f"{name}: {error}") from None
        parts[name] = "psys" if name.startswith("psys") else "package" if top else "dram" if name == "dram" else "part"
    if not rails:
        return None
    # psys is the platform, packages are in it; DRAM is beside the packages; cores are in them.
    whole = [name for name, part in parts.items() if part == "psys"]
    summed = whole or [name for name, part in parts.items() if part in {"package", "dram"}]
    scope = "platform by RAPL (psys)" if whole else f"processor by RAPL ({' + '.join(summed)}), not the whole device"
    return Reading("rapl", scope, _sum(rails[name] for name in summed) if summed else None, rails)


def _sensors(
    t_ns: Sequence[int], nodes: Mapping[str, Texts], names: Mapping[str, str | None], span: Span
) -> Reading | None:
    rails: dict[str, Total] = {}
    chips: dict[str, str] = {}
    for path, texts in nodes.items():
        if not (match := _SENSOR.fullmatch(path)):
            continue
        folder, kind, number, _ = match.groups()
        chip = (names.get(f"{folder}/name") or folder.rpartition("/")[2]).strip()
        label = names.get(f"{folder}/{'in' if kind == 'curr' else kind}{number}_label")
        name = (label or f"{chip} {number}").strip()
        if kind == "energy":
            got = of_counter(t_ns, _scaled(texts, 1e-6), *span)
        elif kind == "power":
            got = of_power(t_ns, _scaled(texts, 1e-6), *span)
        else:
            volts = _scaled(nodes.get(f"{folder}/in{number}_input", ()), 1e-3)
            both = zip(volts, _scaled(texts, 1e-3), strict=False)
            got = of_power(t_ns, [None if v is None or i is None else v * i for v, i in both], *span)
        rails.setdefault(name, got)
        chips.setdefault(name, chip)
    if not rails:
        return None
    whole = [name for name in rails if _WHOLE.fullmatch(name) or _WHOLE.fullmatch(chips[name])]
    chosen = whole[0] if whole else next(iter(rails)) if len(rails) == 1 else None
    scope = (
        "whole device" if whole else f"rail {chosen}" if chosen else f"{len(rails)} rails, of which none is the whole"
    )
    return Reading("sensor", scope, rails[chosen] if chosen else None, rails)


def _sum(totals: Iterable[Total]) -> Total:
    first, *rest = totals
    for one in rest:
        first += one
    return first


def _scaled(texts: Texts, unit: float) -> list[float | None]:
    stripped = (None if text is None else text.strip() for text in texts)
    return [int(text) * unit if text is not None and _INTEGER.fullmatch(text) else None for text in stripped]
