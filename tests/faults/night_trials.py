"""What can happen in a night of a farm, and seeded nights: one fault that takes its turn, and others drawn to it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class NightKind:
    """One kind of fault of a night.

    Attributes:
        part: what is hit.
        codes: with which the night may end at its first try, beside 0 and 6; it is gone on with then.
        last: exit codes with which the night may be over, beside 0 and 6.
        longest_s: how long it lasts at most; it passes, or is mended, by itself.
    """

    part: str
    codes: frozenset[int] = frozenset()
    last: frozenset[int] = frozenset()
    longest_s: float = 6.0


_INTERRUPTED, _UNREACHABLE = frozenset({130, -15}), frozenset({3})
_KILLED, _STORE, _REFUSED = frozenset({-9}), frozenset({2}), frozenset({4})

NIGHT_KINDS: dict[str, NightKind] = {
    "worker-killed": NightKind("worker"),
    "worker-ended": NightKind("worker"),
    "worker-stopped": NightKind("worker", longest_s=25.0),
    "workers-killed": NightKind("worker"),
    "scheduler-killed": NightKind("scheduler", _UNREACHABLE),
    "scheduler-and-worker-killed": NightKind("scheduler", _UNREACHABLE),
    "conductor-killed": NightKind("conductor", _KILLED),
    "conductor-interrupted": NightKind("conductor", _INTERRUPTED),
    "conductor-ended": NightKind("conductor", _INTERRUPTED),
    "database-restarted": NightKind("database"),
    "database-disconnects": NightKind("database"),
    "board-dropped": NightKind("board"),
    "board-hangs": NightKind("board"),
    "board-rebooted": NightKind("board"),
    "board-root-lost": NightKind("board"),
    "board-agent-killed": NightKind("board"),
    # A full board is not fit for work: its tasks fail or move, and the night says so.
    "board-disk-full": NightKind("disk", last=_REFUSED),
    "hub-off": NightKind("hub"),
    "hub-off-and-adb-server": NightKind("hub"),
    "adb-server-killed": NightKind("adb server"),
    # Pages and temporary files of the conductor; what it measured is in the database.
    "host-disk-full": NightKind("disk", _STORE, _STORE),
    "clock-forward": NightKind("clock"),
    "clock-back": NightKind("clock"),
}


@dataclass(frozen=True)
class Strike:
    """One fault of a night.

    Attributes:
        kind: a key of ``NIGHT_KINDS``.
        after_s: seconds after the one before, or for the first after the night has begun to measure.
        lasts_s: until it is mended.
        whom: chooses the worker or the board, from 0 to 1.
        with_next: the next one strikes while this one still lasts.
    """

    kind: str
    after_s: float
    lasts_s: float
    whom: float
    with_next: bool


@dataclass(frozen=True)
class NightTrial:
    """One night: from which seed and number, whether it strikes before anything is measured, and what happens."""

    seed: int
    number: int
    early: bool
    strikes: tuple[Strike, ...]

    def allows(self, which: Callable[[NightKind], frozenset[int]]) -> frozenset[int]:
        """Exit codes that one of the strikes explains, with 0 and 6."""
        return frozenset({0, 6}).union(*(which(NIGHT_KINDS[strike.kind]) for strike in self.strikes))

    def __str__(self) -> str:
        when = "early " if self.early else ""
        return f"{self.seed}:{self.number} {when}" + ", ".join(
            f"{s.kind} (+{s.after_s:g} s, {s.lasts_s:g} s{', not waited for' if s.with_next else ''})"
            for s in self.strikes
        )


def draw_night(seed: int, number: int, most: int = 3) -> NightTrial:
    """Night ``number`` of a seed: kinds take turns in an order that the seed shuffles, others are drawn to them."""
    order = list(NIGHT_KINDS)
    random.Random(f"{seed}/nights").shuffle(order)
    chance = random.Random(f"{seed}/night/{number}")
    kinds = [order[number % len(order)], *chance.choices(order, k=chance.randint(0, most - 1))]
    chance.shuffle(kinds)
    return NightTrial(seed, number, chance.random() < 0.15, tuple(_strike(kind, chance) for kind in kinds))


def _strike(kind: str, chance: random.Random) -> Strike:
    return Strike(
        kind,
        after_s=round(chance.uniform(0.0, 9.0), 2),
        lasts_s=round(chance.uniform(0.3, NIGHT_KINDS[kind].longest_s), 2),
        whom=chance.random(),
        with_next=chance.random() < 0.3,
    )


@dataclass
class NightOutcome:
    """What came of a night: exit codes of its tries, and every promise that was not kept."""

    trial: NightTrial
    codes: list[int] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    took_s: float = 0.0
    runs: int = 0

    def __str__(self) -> str:
        verdict = "VIOLATION" if self.violations else "held"
        line = f"{self.trial}: exit codes {self.codes}, {self.runs} runs: {verdict}, {self.took_s:.0f} s"
        return "\n    ".join([line, *self.violations])


def night_table(outcomes: Sequence[NightOutcome]) -> str:
    """Nights by fault, as Markdown; one with several faults counts for each of them."""
    lines = ["| hit | fault | nights | gone on with | violations |", "|---|---|---|---|---|"]
    for kind, about in NIGHT_KINDS.items():
        own = [one for one in outcomes if any(strike.kind == kind for strike in one.trial.strikes)]
        if own:
            lines.append(f"| {about.part} | {kind} | {_counted(own)} |")
    return "\n".join([*lines, f"| all | | {_counted(outcomes)} |"])


def _counted(own: Sequence[NightOutcome]) -> str:
    return f"{len(own)} | {sum(len(o.codes) > 1 for o in own)} | {sum(bool(o.violations) for o in own)}"
