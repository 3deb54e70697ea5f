"""A run's energy as figures: gross and net, of the window and of one inference, or the reason why there are none."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from devicelab.experiment.energy import external, meters, nvml
from devicelab.experiment.energy.external import Rows
from devicelab.experiment.energy.meters import Reading, Span
from devicelab.experiment.energy.totals import FaultError, Total
from devicelab.model.journal import Flag, RunRecord, Samples
from devicelab.model.measurement import Column, Measurement, Metric, Table

PROGRAM = "energy"
"""Under this name a run's energy is stored beside its programs."""

# Known to this much, a total is given without a word.
_GOOD_SHARE = 0.01
# Of a board with dozens of rails these are named, the largest first.
_RAILS = 24


@dataclass(frozen=True)
class Work:
    """What the energy was used for: ``count`` inferences or requests between two moments (ns, CLOCK_MONOTONIC)."""

    span: Span
    count: int
    unit: str


def measure(
    record: RunRecord, measurements: Mapping[str, Measurement], *, required: bool = False, meter: Rows | None = None
) -> tuple[Measurement | None, tuple[Flag, ...]]:
    """The energy of a run's window; ``None`` where the device tells none, and what is to be said of it.

    Metrics: ``energy_j`` and ``power_mean_w`` of the window, gross; ``power_idle_w`` while nothing of the run worked
    and ``energy_net_j`` beyond that, where the run had such a time; ``energy_error_j``. Where it is known when the
    inferences (or requests, of a program alone) were: ``energy_per_inference_j``, ``energy_net_per_inference_j``, and
    ``energy_delay_js``, joules times seconds of one. ``rail_NAME_j`` of every rail. All are of what the meter covers,
    which ``info`` says.

    ``meter`` are readings of an external meter, which comes before everything the device tells.

    Flags: see ``FaultError``; ``energy-uncertain`` as a remark. They make the run invalid only if energy is
    ``required``; a figure that a flag speaks against is not there.
    """
    if record.status == "failed" or record.window_end_ns <= record.window_start_ns:
        return None, ()
    try:
        whole = _read(record, record.samples, (record.window_start_ns, record.window_end_ns), meter)
    except FaultError as error:
        # A phone at its cable is the usual case: worth a word only to whoever asked, or if it was not so throughout.
        silent = error.code == "energy-charging" and not required
        flag = Flag(code=error.code, detail=str(error), remark=not required)
        return Measurement(info={"missing": f"{error.code}: {error}"}), () if silent else (flag,)
    if whole is None:
        said = nvml.missing(record.steps) or "nothing that was sampled tells energy"
        return (None, ()) if not required else (Measurement(info={"missing": said}), _none(said))
    if whole.total is None:
        metrics = {name: Metric(total.joules, "J") for name, total in _named(whole.rails)}
        left = _none(f"{whole.scope}: no total can be made of them") if required else ()
        return Measurement(metrics=metrics, info=_info(whole)), left
    flags: list[Flag] = []
    metrics = {
        "energy_j": Metric(whole.total.joules, "J"),
        "energy_error_j": Metric(whole.total.error_j, "J"),
        "power_mean_w": Metric(whole.total.watts, "W"),
    }
    idle_w = _idle_w(record, whole, flags, meter, required=required)
    if idle_w is not None:
        metrics["power_idle_w"] = Metric(idle_w, "W")
        metrics["energy_net_j"] = Metric(_net(whole.total, idle_w), "J")
    uncertain = [whole.total]
    if (work := _work(record, measurements)) is not None and (part := _part(record, work, meter)) is not None:
        metrics |= _of_one(part, work, idle_w)
        uncertain.append(part)
    metrics |= {name: Metric(total.joules, "J") for name, total in _named(whole.rails)}
    worst = max(uncertain, key=_share)
    if _share(worst) > _GOOD_SHARE:
        said = f"known to {_share(worst):.1%} only, from {worst.readings} readings in {worst.span_ns / 1e9:.3g} s"
        hint = "a longer window or a higher sample_hz tells more"
        flags.append(Flag(code="energy-uncertain", detail=f"{said}; {hint}", remark=True))
    return Measurement(metrics=metrics, info=_info(whole)), tuple(flags)


def _none(why: str) -> tuple[Flag, ...]:
    return (Flag(code="energy-not-told", detail=why),)


def _read(record: RunRecord, samples: Samples, span: Span, meter: Rows | None) -> Reading | None:
    if meter is not None:
        return Reading("external meter", "what the meter supplies", external.read(record, meter, span))
    # What suspends a charger must have done so throughout: it is believed if it did before and after.
    names = {
        path: text for path, text in record.before.items() if path not in record.after or text == record.after[path]
    }
    return meters.read(samples.t_ns, samples.nodes, names, span)


def _idle_w(
    record: RunRecord, whole: Reading, flags: list[Flag], meter: Rows | None, *, required: bool
) -> float | None:
    times = record.idle.t_ns
    if len(times) < 2:
        return None
    try:
        idle = _read(record, record.idle, (times[0], times[-1]), meter)
    except FaultError as error:
        flags.append(Flag(code=error.code, detail=f"while idle: {error}", remark=not required))
        return None
    return idle.total.watts if idle is not None and idle.total is not None and idle.scope == whole.scope else None


def _part(record: RunRecord, work: Work, meter: Rows | None) -> Total | None:
    try:
        found = _read(record, record.samples, work.span, meter)
    except FaultError:
        return None  # so short that no reading lies in it: the window's own total stands
    return found.total if found is not None else None


def _of_one(part: Total, work: Work, idle_w: float | None) -> dict[str, Metric]:
    each_s = part.span_ns / 1e9 / work.count
    metrics = {
        f"energy_per_{work.unit}_j": Metric(part.joules / work.count, "J"),
        "energy_delay_js": Metric(part.joules / work.count * each_s, "J s"),
    }
    if idle_w is not None:
        metrics[f"energy_net_per_{work.unit}_j"] = Metric(_net(part, idle_w) / work.count, "J")
    return metrics


def _work(record: RunRecord, measurements: Mapping[str, Measurement]) -> Work | None:
    """When the only measured program worked; programs that share a device share its energy."""
    if len(programs := [one for one in record.programs if one.role == "measure"]) != 1:
        return None
    tables = measurements[programs[0].name].tables if programs[0].name in measurements else {}
    window = (record.window_start_ns, record.window_end_ns)
    for table, unit in ((tables.get("inferences", {}), "inference"), (tables.get("requests", {}), "request")):
        if (moments := _moments(table, record.window_start_ns)) is None:
            continue
        begin, end = moments
        span = (int(begin.min()), int(end.max()))
        if window[0] <= span[0] < span[1] <= window[1]:
            return Work(span, int(begin.size), unit)
    return None


def _moments(table: Table, window_start_ns: int) -> tuple[Column, Column] | None:
    if "begin_ns" in table and "total_ns" in table and table["begin_ns"].size and np.all(table["begin_ns"] > 0):
        return table["begin_ns"], table["begin_ns"] + table["total_ns"]
    if "scheduled_ns" in table and "end_ns" in table and table["end_ns"].size:
        return table["start_ns"] + window_start_ns, table["end_ns"] + window_start_ns
    return None


def _net(total: Total, idle_w: float) -> float:
    return total.joules - idle_w * total.span_ns / 1e9


def _share(total: Total) -> float:
    return total.error_j / total.joules if total.joules > 0 else 0.0


def _named(rails: Mapping[str, Total]) -> list[tuple[str, Total]]:
    largest = sorted(rails, key=lambda rail: -rails[rail].joules)[:_RAILS]
    return [(f"rail_{rail}_j", rails[rail]) for rail in largest]


def _info(reading: Reading) -> dict[str, str | int | float | bool]:
    return {"meter": reading.meter, "scope": reading.scope, **({"understood_as": reading.told} if reading.told else {})}
