"""What a trace of the system's own tracer holds: kinds of packets, the time it spans, and which clocks it relates.

Read with Perfetto's protos, packet by packet, so that a large trace needs little memory; nothing in it is trusted.
Format: perfetto/protos/perfetto/trace/trace.proto, a repetition of field 1.
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from devicelab.errors import ConfigError
from devicelab.ground import extras
from devicelab.model.results import SYSTEM_TRACE
from devicelab.report.page import written
from devicelab.store.export import file_stem
from devicelab.store.frames import StoredResults

if TYPE_CHECKING:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket

# A packet of ftrace events is some 10 KiB, one of symbols may have a few MiB.
_MAX_PACKET = 64 << 20
_PACKET_TAG = 0x0A  # field 1, length-delimited
# Of perfetto/protos/perfetto/common/builtin_clock.proto: not said, and BUILTIN_CLOCK_BOOTTIME.
_OWN_CLOCKS = frozenset((0, 6))
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class SystemTrace:
    """What a trace holds.

    Attributes:
        packets: number of packets by kind ("ftrace_events", "process_tree", ...).
        events: number of ftrace events.
        start_ns, end_ns: of everything that has a time, in the trace's clock (boot time as a rule); 0 if nothing has.
        clocks: builtin clocks (perfetto's numbers) of which the trace tells readings taken together.
    """

    packets: dict[str, int]
    events: int
    start_ns: int
    end_ns: int
    clocks: tuple[int, ...]


def read(path: Path) -> SystemTrace:
    """What a Perfetto trace holds.

    Raises:
        ConfigError: the package ``perfetto`` is not installed, the file cannot be read, or it is no such trace.
    """
    kinds: Counter[str] = Counter()
    clocks: set[int] = set()
    events, first, last = 0, 0, 0
    for packet in _packets(path):
        kinds[str(packet.WhichOneof("data") or "none")] += 1
        clocks.update(clock.clock_id for clock in packet.clock_snapshot.clocks)
        # Other clocks than the trace's own (0 or boot time) count from elsewhere, or from the packet before.
        stamps = [packet.timestamp] if packet.timestamp_clock_id in _OWN_CLOCKS else []
        if packet.HasField("ftrace_events"):
            events += len(packet.ftrace_events.event)
            stamps += [event.timestamp for event in packet.ftrace_events.event]
        for stamp in stamps:
            if stamp > 0:
                first, last = min(first or stamp, stamp), max(last, stamp)
    return SystemTrace(dict(kinds), events, first, last, tuple(sorted(clocks)))


def write_system_trace(results: StoredResults, runs: Sequence[str], to: Path | None) -> tuple[tuple[str, ...], Path]:
    """Write what the system's tracer recorded of the first of these runs that it recorded; that run, and the file.

    Perfetto's and atrace's open in ui.perfetto.dev, ftrace's is text, perf's and simpleperf's are read by their tools.

    Raises:
        ConfigError: of none of them, or the file cannot be written.
    """
    for run in runs:
        if data := results.output(run, SYSTEM_TRACE):
            path = to or Path("devicelab-report") / f"{file_stem(f'{results.campaign}-{run}')}.system-trace"
            with written(path) as temporary:
                temporary.write_bytes(data)
            return (run,), path.absolute()
    raise ConfigError(
        f"the system's tracer recorded {'that run' if len(runs) == 1 else 'no run'} of campaign {results.campaign}",
        hint='[trace] when = "flagged" or "always" in the experiment records',
    )


def _packets(path: Path) -> Iterator["TracePacket"]:
    try:
        from google.protobuf.message import DecodeError
        from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket
    except ImportError as error:
        raise ConfigError("traces need the package perfetto", hint=extras.install("trace")) from error
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == _GZIP
            plain.seek(0)
            # Chrome's traces come zipped; viewers open them as they are.
            file = cast("BinaryIO", gzip.GzipFile(fileobj=plain)) if zipped else plain
            while tag := file.read(1):
                size = _varint(file) if tag[0] == _PACKET_TAG else -1
                data = file.read(size) if 0 <= size <= _MAX_PACKET else b""
                if len(data) != size:
                    raise ConfigError(f"{path} is no Perfetto trace, or it was cut")
                packet = TracePacket()
                packet.ParseFromString(data)
                yield packet
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except DecodeError as error:
        raise ConfigError(f"{path} is no Perfetto trace: {error}") from error


def _varint(file: BinaryIO) -> int:
    """A length; -1 if it is longer than any is."""
    value = 0
    for shift in range(0, 35, 7):
        byte = file.read(1)
        if not byte:
            return -1
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return -1
