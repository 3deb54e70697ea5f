"""Runs as a Perfetto trace: what the agent, the loads, the host thread and the GPU did, over clocks and temperatures.

The file opens in ui.perfetto.dev and in trace_processor. Format: perfetto/protos/perfetto/trace/track_event.proto; a
track has a descriptor, slices are pairs of begin and end, counters are points, flows are ids on both slices.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from devicelab.errors import ConfigError
from devicelab.experiment.timeline import series, spans
from devicelab.ground import extras
from devicelab.model.results import Results, samples_of
from devicelab.report.page import written

if TYPE_CHECKING:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket

_SEQUENCE = 1
# Flow ids must not be zero; the low bits number kernels of a run, the high ones the run.
_KERNELS_PER_RUN = 1 << 24
_STAMPS = ("queued", "submit", "start", "end")
# Two boots are further apart than wall clocks are corrected within a campaign.
_REBOOTED_NS = 10_000_000_000


@dataclass(frozen=True)
class Span:
    """A slice: name, from, to (ns), what else is known, and the flows that begin or end with it."""

    name: str
    start_ns: int
    end_ns: int
    detail: str = ""
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Counter:
    """A quantity over time: its unit, and points of time (ns) and value."""

    unit: str
    points: tuple[tuple[int, float], ...]


@dataclass
class Lanes:
    """Everything of a trace by the name of its track, in the order in which tracks are shown."""

    spans: dict[str, list[Span]] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)

    def add(self, lane: str, span: Span) -> None:
        """One more slice of a track."""
        self.spans.setdefault(lane, []).append(span)


def write_trace(results: Results, run_ids: Iterable[str], to: Path) -> Path:
    """Write the runs as one trace.

    Raises:
        ConfigError: the package ``perfetto`` is not installed; the file cannot be written.
        SamplesDroppedError: raw samples were dropped from the database.
    """
    return write_traces(results, {to: tuple(run_ids)})[0]


def write_traces(results: Results, wanted: Mapping[Path, tuple[str, ...]]) -> tuple[Path, ...]:
    """Write several traces, each with its runs.

    Raises:
        ConfigError, SamplesDroppedError: as ``write_trace``.
    """
    try:
        from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder
    except ImportError as error:
        raise ConfigError("traces need the package perfetto", hint=extras.install("trace")) from error
    every = {run for runs in wanted.values() for run in runs}
    kernels, requests = _by_run(results, "kernels", every), _by_run(results, "requests", every)
    for to, run_ids in wanted.items():
        lanes = _lanes(results, run_ids, kernels, requests)
        with written(to) as temporary, temporary.open("wb") as file:
            _write(StreamingTraceProtoBuilder(file), lanes, str(results.info.get("device") or "device"))
    return tuple(wanted)


def choose_runs(results: Results, run: str | None) -> tuple[str, ...]:
    """Ids of the runs that are meant: all, one by its place in the campaign (from 1), or one by (the start of) its id.

    Raises:
        ConfigError: there is no such run, or several begin so, or the campaign has no runs at all.
    """
    ids = tuple(map(str, results.runs()["run_id"]))
    if not ids:
        raise ConfigError(f"campaign {results.campaign} has no runs")
    if run is None:
        return ids
    fits = [one for one in ids if one.startswith(run)]
    if run.isdecimal() and len(run) < 7 and 1 <= int(run) <= len(ids):
        fits = [ids[int(run) - 1]]
    if len(fits) != 1:
        what = f"{len(fits)} runs begin with {run!r}" if fits else f"no run {run!r}"
        raise ConfigError(f"{what} in campaign {results.campaign}", hint=f"a number from 1 to {len(ids)} names one")
    return (fits[0],)


def lanes_of(results: Results, run_ids: tuple[str, ...]) -> Lanes:
    """What the trace of these runs shows."""
    return _lanes(results, run_ids, *(_by_run(results, table, run_ids) for table in ("kernels", "requests")))


def _lanes(
    results: Results,
    run_ids: tuple[str, ...],
    kernels: Mapping[str, pd.DataFrame],
    requests: Mapping[str, pd.DataFrame],
) -> Lanes:
    lanes = Lanes()
    labels = dict(zip(results.runs()["run_id"], results.runs()["cell"], strict=True))
    parts: dict[str, list[tuple[int, float]]] = {}
    units: dict[str, str] = {}
    first_offset_ns: int | None = None
    for number, run_id in enumerate(run_ids):
        record = results.evidence(run_id)
        offset_ns = int(record["t_unix_ns"]) - int(record["t_start_ns"])
        first_offset_ns = offset_ns if first_offset_ns is None else first_offset_ns
        # After a reboot CLOCK_MONOTONIC begins again; small differences are the wall clock's own.
        later_ns = offset_ns - first_offset_ns if abs(offset_ns - first_offset_ns) > _REBOOTED_NS else 0
        for start_ns, end_ns, lane, name, detail in spans(record).to_numpy().tolist():
            shown = str(labels.get(run_id) or "run") if name == f"run {run_id}" else name
            lanes.add(lane, Span(shown, later_ns + start_ns, later_ns + end_ns, detail))
        for t_ns, quantity, name, value, unit in series(record).to_numpy().tolist():
            units[f"{quantity} {name}"] = unit
            parts.setdefault(f"{quantity} {name}", []).append((later_ns + t_ns, value))
        if run_id in kernels:
            _add_kernels(lanes, results, kernels[run_id], number, later_ns)
        if run_id in requests:
            window_start_ns = int(record.get("window_start_ns") or record["t_start_ns"])
            _add_requests(lanes, requests[run_id], later_ns + window_start_ns)
    lanes.counters = {track: Counter(units[track], tuple(points)) for track, points in sorted(parts.items())}
    return lanes


def _by_run(results: Results, table: str, wanted: Collection[str]) -> dict[str, pd.DataFrame]:
    rows = samples_of(results, table, wanted)
    return {str(run_id): own for run_id, own in rows.groupby("run_id", sort=False, observed=True)}


def _add_kernels(lanes: Lanes, results: Results, kernels: pd.DataFrame, number: int, later_ns: int) -> None:
    """The host thread's lane (each kernel from the one before until it was queued) and the GPU's, joined by flows.

    OpenCL's times are the device's; the program said how far that clock is ahead of CLOCK_MONOTONIC.
    """
    run_id = kernels["run_id"].iloc[0]
    flow = number * _KERNELS_PER_RUN
    for (program, inference), rows in kernels.groupby(["program", "inference"], sort=False, observed=True):
        ahead = int((results.info.get("programs") or {}).get(program, {}).get("device_minus_host_ns") or 0)
        stamps = {name: rows[f"{name}_ns"].to_numpy() + (later_ns - ahead) for name in _STAMPS}
        whole = (int(stamps["queued"].min()), int(stamps["end"].max()))
        lanes.add(f"inference {program}", Span(f"inference {inference}", *whole, f"run {run_id}"))
        before = None
        for kernel, batch, *times in zip(rows["kernel"], rows["batch"], *stamps.values(), strict=True):
            flow += 1
            queued, submit, start, end = map(int, times)
            # When the first one's production began is not known: an instant before, so that it holds no other slice.
            begun = queued - 1 if before is None else min(before, queued)
            submitted = f"submitted {(submit - queued) / 1e3:g} us later"
            lanes.add(f"host {program}", Span(f"kernel {kernel}", begun, queued, submitted, starts=(flow,)))
            lanes.add(
                f"GPU {program}", Span(f"kernel {kernel}", start, max(start, end), f"batch {batch}", ends=(flow,))
            )
            before = queued


def _add_requests(lanes: Lanes, requests: pd.DataFrame, window_start_ns: int) -> None:
    """Tenants' requests, whose times count from the common start: the wait before each, and its service."""
    for program, rows in requests.groupby("program", sort=False, observed=True):
        times = zip(rows["scheduled_ns"].tolist(), rows["start_ns"].tolist(), rows["end_ns"].tolist(), strict=True)
        for number, (scheduled, start, end) in enumerate(times):
            waited = f"scheduled {(start - scheduled) / 1e6:.3f} ms before"
            span = Span(f"request {number}", window_start_ns + start, window_start_ns + max(start, end), waited)
            lanes.add(f"requests {program}", span)


def _write(builder: Any, lanes: Lanes, device: str) -> None:
    root = 1
    packet = _packet(builder)
    packet.track_descriptor.uuid = root
    packet.track_descriptor.name = f"devicelab: {device}"
    builder.write_packet(packet)
    uuid = root
    for lane, found in lanes.spans.items():
        uuid += 1
        _describe(builder, uuid, lane, root)
        for packet in _slices(builder, uuid, found):
            builder.write_packet(packet)
    for track, counter in lanes.counters.items():
        uuid += 1
        _describe(builder, uuid, f"{track}, {counter.unit}", root, counter)
        for t_ns, value in sorted(counter.points):
            packet = _packet(builder, t_ns)
            packet.track_event.type = packet.track_event.TYPE_COUNTER
            packet.track_event.track_uuid = uuid
            packet.track_event.double_counter_value = value
            builder.write_packet(packet)


def _packet(builder: Any, t_ns: int | None = None) -> "TracePacket":
    packet: TracePacket = builder.create_packet()
    packet.trusted_packet_sequence_id = _SEQUENCE
    if t_ns is not None:
        packet.timestamp = max(0, t_ns)
    return packet


def _describe(builder: Any, uuid: int, name: str, parent: int, counter: Counter | None = None) -> None:
    packet = _packet(builder)
    packet.track_descriptor.uuid = uuid
    packet.track_descriptor.parent_uuid = parent
    packet.track_descriptor.name = name
    if counter is not None:
        packet.track_descriptor.counter.unit_name = counter.unit
    builder.write_packet(packet)


def _slices(builder: Any, uuid: int, found: Iterable[Span]) -> Iterator["TracePacket"]:
    """Begin and end of each slice, properly nested: one that would outlast the slice around it is cut there."""
    open_until: list[int] = []
    for span in sorted(found, key=lambda span: (span.start_ns, -span.end_ns)):
        while open_until and open_until[-1] <= span.start_ns:
            yield _end(builder, uuid, open_until.pop())
        end_ns = min([span.end_ns, *open_until])
        packet = _packet(builder, span.start_ns)
        event = packet.track_event
        event.type = event.TYPE_SLICE_BEGIN
        event.track_uuid = uuid
        event.name = span.name
        event.flow_ids.extend(span.starts)
        event.terminating_flow_ids.extend(span.ends)
        if span.detail:
            note = event.debug_annotations.add()
            note.name, note.string_value = "detail", span.detail
        yield packet
        open_until.append(end_ns)
    while open_until:
        yield _end(builder, uuid, open_until.pop())


def _end(builder: Any, uuid: int, t_ns: int) -> "TracePacket":
    packet = _packet(builder, t_ns)
    packet.track_event.type = packet.track_event.TYPE_SLICE_END
    packet.track_event.track_uuid = uuid
    return packet
