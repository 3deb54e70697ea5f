"""Cuts a journal's bytes into events, within bounds that no agent of ours reaches."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from devicelab.errors import DistrustError
from devicelab.model.journal import Event, parse_line

MOST_DAMAGED = 10_000
"""Damaged and empty lines of one journal, each; a cut leaves one of each kind."""

# The longest line believed: two outputs of a run as long as the agent lets them be (``Program.max_output_bytes``).
_MAX_LINE = 128 << 20
_KEPT = 10


@dataclass
class JournalReader:
    """Reads one journal. Damaged lines are counted and skipped, an unfinished one is waited for.

    Attributes:
        device: named in errors.
        offset: behind the last complete line.
        most_events: more than these are no journal of the plan; ``None``: any number.
        damaged: what was wrong with the first damaged lines.
        lost: how many damaged lines there were.
    """

    device: str | None = None
    most_events: int | None = None
    offset: int = 0
    damaged: list[str] = field(default_factory=list)
    lost: int = 0
    _empty: int = 0
    _events: int = 0
    _pieces: list[bytes] = field(default_factory=list)
    _held: int = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events completed by a chunk.

        Raises:
            DistrustError: what comes is no journal: a line without end, damage without end, events without end.
        """
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            line = chunk[start:end]
            if self._pieces:
                line = b"".join((*self._pieces, line))
                self._pieces.clear()
                self._held = 0
            start = end + 1
            at, self.offset = self.offset, self.offset + len(line) + 1
            event = self._event(line, at)
            if event is not None:
                yield event
        if start < len(chunk):
            self._pieces.append(chunk[start:])
            self._held += len(chunk) - start
            self._within("a line without end", self._held, _MAX_LINE)

    def reopen(self) -> int:
        """Where to read on after the connection broke: what was not a complete line is read again."""
        self._pieces.clear()
        self._held = 0
        return self.offset

    def _event(self, line: bytes, at: int) -> Event | None:
        self._within("a line without end", len(line), _MAX_LINE)
        if not line:
            self._empty += 1
            self._within("empty lines without end", self._empty, MOST_DAMAGED)
            return None
        try:
            event = parse_line(line)
        except ValueError as error:
            self.lost += 1
            if len(self.damaged) < _KEPT:
                self.damaged.append(f"at byte {at}: {error}")
            self._within("damaged lines without end", self.lost, MOST_DAMAGED)
            return None
        self._events += 1
        if self.most_events is not None:
            self._within("more events than its plan has", self._events, self.most_events)
        return event

    def _within(self, what: str, found: int, most: int) -> None:
        if found > most:
            raise DistrustError(
                f"the journal has {what}; the device sends garbage",
                device=self.device,
                hint="look at the device; `devicelab sweep --resume` does what is missing",
            )
