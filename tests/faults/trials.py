"""What can happen to a sweep, and when: faults, the transports they apply to, and seeded trials.

Every trial depends on the seed and its own number alone, so that one of them can be done again without the others.
"""

import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field

TRANSPORTS = ("adb", "ssh", "local")
_EVERY = TRANSPORTS
_WIRED = ("adb", "ssh")

# Exit codes of ``devicelab.errors``: 0 done, 2 store, 3 device unreachable, 4 device refuses, 6 flagged runs,
# 130 interrupted. A run that was disturbed is flagged, so 6 fits everywhere.
_DONE = frozenset({0, 6})


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        part: what is hit: host, agent, adb server, transport, others, clock, database or disk.
        transports: where it can happen.
        codes: exit codes with which the disturbed command may end, beside 0 and 6.
        says: exit code → what its message has to name (regular expression).
        whole: the store survives, so that what it held must still be there.
    """

    part: str
    codes: frozenset[int] = frozenset()
    transports: tuple[str, ...] = _EVERY
    says: dict[int, str] = field(default_factory=dict)
    whole: bool = True

    def fits(self, code: int) -> bool:
        """Such an ending is one to expect."""
        return code in _DONE | self.codes


def _codes(*codes: int) -> frozenset[int]:
    return frozenset(codes)


_KILLED, _TERMINATED = -signal.SIGKILL, -signal.SIGTERM
_STORE = {2: r"error: .*(database|the disk|another process)"}
_DISK = {2: r"error: .*(disk|No space left|File too large)"}
_DEVICE_DISK = {4: r"error: .*No space left on device"}
_GONE = {3: r"error: .*\n  hint: "}

KINDS: dict[str, Kind] = {
    "host-killed": Kind("host", _codes(_KILLED)),
    "ctrl-c": Kind("host", _codes(130)),
    "ctrl-c-twice": Kind("host", _codes(130)),
    "sigterm": Kind("host", _codes(130, _TERMINATED)),
    "agent-killed": Kind("agent", _codes(3), says=_GONE),
    "agent-ended": Kind("agent", _codes(3), says=_GONE),
    "both-killed": Kind("agent", _codes(_KILLED)),
    "adb-server-killed": Kind("adb server", _codes(3), ("adb",), says=_GONE),
    "drop": Kind("transport", _codes(3), _WIRED, says=_GONE),
    "drop-at-byte": Kind("transport", _codes(3), ("adb",), says=_GONE),
    "hang": Kind("transport", _codes(3), _WIRED, says=_GONE),
    "root-lost": Kind("transport", _codes(3, 4), ("adb",)),
    "reboot": Kind("transport", _codes(3), ("adb",), says=_GONE),
    # Stopped and woken again: nothing that was waited for is over by the clock of the one who slept.
    "host-stopped": Kind("host", _codes(3), says=_GONE),
    "slow": Kind("transport", _codes(3), ("adb",), says=_GONE),
    "corrupt": Kind("transport", _codes(3, 4, 6), ("adb",)),
    "second-sweep": Kind("others"),
    "reserved": Kind("others", _codes(3), says={3: "reserved by somebody"}),
    "read-meanwhile": Kind("others"),
    "clock-forward": Kind("clock"),
    "clock-back": Kind("clock"),
    "store-locked": Kind("database", _codes(2), says=_STORE),
    "store-locked-briefly": Kind("database"),
    "store-moved": Kind("database", _codes(2), says=_STORE),
    "store-deleted": Kind("database", _codes(2), says=_STORE, whole=False),
    "postgres-disconnects": Kind("database", _codes(2), says=_STORE),
    "postgres-stopped": Kind("database", _codes(2), says=_STORE),
    "postgres-restarted": Kind("database"),
    "device-disk-full": Kind("disk", _codes(4), says=_DEVICE_DISK),
    "host-disk-full": Kind("disk", _codes(2), says=_DISK),
    "host-quota": Kind("disk", _codes(2), says=_DISK),
}

BOARDS = ("note10", "qualcomm", "qualcomm-865", "pixel")
"""Virtual boards that take turns: root by ``su -c``, ``adb root``, ``su 0`` and ``su -c``."""

_LEVELS = {
    "cpu": ("max", "min"),
    "gpu": ("max", "min"),
    "idle_states": ("off",),
    "membus": ("max", "min"),
    "uclamp": ("50",),
    "daemons": ("stop",),
    "charging": ("off",),
}


@dataclass(frozen=True)
class Trial:
    """One sweep and what happens to it.

    Attributes:
        seed, number: from which everything else is drawn.
        kind: of the fault, a key of ``KINDS``.
        board: kind of the virtual board (transport ``adb``).
        wants: knob word → level, set in every run (``adb``).
        fraction: when it strikes, of an undisturbed sweep (``Calm.moment_s``), or of the bytes that pass.
        lasts_s: how long what passes by itself lasts.
        visitor: who comes afterwards: ``resume``, or ``restore`` and then resume.
        again: the resumed sweep's host is killed as well, at this fraction.
        repetitions: of each of the sweep's two cells.
        moment_s: strike so long after the start instead of at ``fraction``, to do a trial again.
    """

    seed: int
    number: int
    kind: str
    transport: str
    board: str
    wants: dict[str, str]
    fraction: float
    lasts_s: float
    visitor: str
    again: float | None
    repetitions: int = 2
    moment_s: float | None = None

    @property
    def part(self) -> str:
        """What is hit."""
        return KINDS[self.kind].part


def pairs(kinds: Sequence[str] = tuple(KINDS)) -> list[tuple[str, str]]:
    """Every kind of fault with every transport it applies to."""
    return [(kind, transport) for kind in kinds for transport in KINDS[kind].transports]


def draw(seed: int, number: int, *, moment_s: float | None = None) -> Trial:
    """Trial ``number`` of a seed. Pairs of kind and transport take turns, in an order that the seed shuffles."""
    order = pairs()
    random.Random(f"{seed}/order").shuffle(order)
    kind, transport = order[number % len(order)]
    chance = random.Random(f"{seed}/{number}")
    chosen = chance.sample(sorted(_LEVELS), chance.randint(0, 2))
    if "cpu" not in chosen:
        chosen.append("cpu")
    return Trial(
        seed=seed,
        number=number,
        kind=kind,
        transport=transport,
        board=chance.choice(BOARDS),
        wants={word: chance.choice(_LEVELS[word]) for word in chosen} if transport == "adb" else {},
        fraction=round(chance.random(), 4),
        lasts_s=round(chance.uniform(0.2, 2.5), 2),
        visitor=chance.choice(("resume", "resume", "resume", "restore")),
        again=round(chance.random(), 4) if chance.random() < 0.2 else None,
        moment_s=moment_s,
    )
