"""Traces parsed back with Perfetto's own protos."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

protos = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")


class Parsed:
    """A trace as a viewer sees it: tracks by name, slices that were closed, counters, both ends of flows.

    ``slices``: track → name, begin, end (ns), depth; ``notes``: track → what is said of its slices.
    """

    def __init__(self, path: Path) -> None:
        trace: Any = protos.Trace()
        trace.ParseFromString(path.read_bytes())
        names: dict[int, str] = {}
        self.slices: dict[str, list[tuple[str, int, int, int]]] = defaultdict(list)
        self.counters: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.notes: dict[str, str] = defaultdict(str)
        self.starts, self.ends = Counter[int](), Counter[int]()
        stack: dict[int, list[tuple[str, int]]] = defaultdict(list)
        last: dict[int, int] = {}
        for packet in trace.packet:
            if packet.HasField("track_descriptor"):
                names[packet.track_descriptor.uuid] = packet.track_descriptor.name
                continue
            event = packet.track_event
            uuid = event.track_uuid
            assert packet.timestamp >= last.get(uuid, 0), names[uuid]
            last[uuid] = packet.timestamp
            if event.type == event.TYPE_SLICE_BEGIN:
                stack[uuid].append((event.name, packet.timestamp))
                self.notes[names[uuid]] += " ".join(note.string_value for note in event.debug_annotations)
                self.starts.update(event.flow_ids)
                self.ends.update(event.terminating_flow_ids)
            elif event.type == event.TYPE_SLICE_END:
                name, begun = stack[uuid].pop()
                self.slices[names[uuid]].append((name, begun, packet.timestamp, len(stack[uuid])))
            else:
                self.counters[names[uuid]].append((packet.timestamp, event.double_counter_value))
        assert not any(stack.values()), "a slice was never closed"
