"""Faults on demand: a pulled cable, a reboot, a full disk; now, after a time, or at a count of bytes or runs.

What is random (which byte is damaged, when a campaign strikes) comes from the seed that was given, so that a failure
found once can be produced again.
"""

import contextlib
import math
import os
import random
import stat
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from devicelab.errors import ConfigError, LabError
from virtualboards.kernel import Kernel
from virtualboards.kernel import faults as kernel_faults
from virtualboards.loop import Loop, Timer

FAULTS = ("drop", "reboot", "hang", "slow", "disk-full", "kill-su", "corrupt", *kernel_faults.FAULTS, "clear")
CAMPAIGN_FAULTS = ("drop", "reboot", "hang", "slow", "kill-su", "corrupt")
"""What a random campaign draws from unless told otherwise: everything that passes by itself."""

_DURATION_S = {"drop": 1.0, "hang": 5.0, "slow": 10.0, "disk-full": 0.0}
"""How long a fault lasts unless told otherwise; 0: until ``clear``."""

_ARGS = {"slow": ("bytes_per_s",), "corrupt": ("count", "min_size")}
"""Arguments of faults that are not the kernel's: numbers, all of them."""
_MOST = 1e9
_MOST_DAMAGED = 1_000_000
_SLOW_BYTES_PER_S = 256 * 1024
_RUNS_POLL_S = 0.1
_RUN_LINE = b'"event":"run",'


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        fault: one of ``FAULTS``.
        after_s: perform it that many seconds from now.
        at_bytes: perform it once that many more bytes have passed over adb (both directions).
        at_runs: perform it once that many more runs have been journalled in /data.
        for_s: how long it lasts (``None``: the fault's own default, 0: until ``clear``).
        seed: of what is random in it.
        args: for ``slow``: ``bytes_per_s``; ``corrupt``: ``count`` of payloads and ``min_size`` of those that count;
            those of the kernel (``thermal``, ``daemon``, ``offline``, ``isolate``): ``virtualboards.kernel.faults``.
    """

    fault: str
    after_s: float | None = None
    at_bytes: int | None = None
    at_runs: int | None = None
    for_s: float | None = None
    seed: int = 0
    args: dict[str, float | str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For the control socket."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Fault":
        """The fault that ``as_dict`` described.

        Raises:
            ConfigError: unknown fault or key, or a number that makes no sense.
        """
        known = {item.name for item in fields(cls)}
        if data.get("fault") not in FAULTS or not set(data) <= known:
            raise ConfigError(f"not a fault: {data.get('fault')!r}", hint=f"known: {', '.join(FAULTS)}")
        fault = cls(**data)
        triggers = [fault.after_s, fault.at_bytes, fault.at_runs]
        if sum(trigger is not None for trigger in triggers) > 1:
            raise ConfigError("give one of --after-s, --at-bytes, --at-runs, not several")
        numbers = [number for number in (*triggers, fault.for_s) if number is not None]
        if any(number < 0 for number in numbers):
            raise ConfigError("times and counts cannot be negative")
        times = [number for number in (fault.after_s, fault.for_s) if number is not None]
        if not all(math.isfinite(number) for number in numbers) or any(number > _MOST for number in times):
            raise ConfigError(f"times have to be numbers of at most {_MOST:.0f} s")
        if fault.fault not in kernel_faults.FAULTS:
            _check_args(fault)
        return fault


def _check_args(fault: Fault) -> None:
    known = _ARGS.get(fault.fault, ())
    for name, value in fault.args.items():
        if name not in known:
            hint = f"known: {', '.join(known)}" if known else "it takes none"
            raise ConfigError(f"fault {fault.fault!r} knows no {name!r}", hint=hint)
        most = _MOST_DAMAGED if name == "count" else _MOST
        if isinstance(value, str) or not 0 <= value <= most:
            raise ConfigError(f"{name} has to be a number from 0 to {most:.0f}, not {value!r}")


def campaign(seed: int, count: int, every_s: float, among: tuple[str, ...] = CAMPAIGN_FAULTS) -> tuple[Fault, ...]:
    """``count`` faults drawn from ``among``, exponentially spaced with the mean ``every_s`` seconds.

    Raises:
        ConfigError: ``among`` is empty or names a fault that does not exist.
    """
    if not among or not set(among) <= set(FAULTS):
        raise ConfigError(f"cannot draw faults from {among}", hint=f"known: {', '.join(FAULTS)}")
    chance = random.Random(seed)  # noqa: S311 - repeatable by design
    at_s, drawn = 0.0, []
    for _ in range(count):
        at_s += chance.expovariate(1 / every_s)
        drawn.append(Fault(chance.choice(among), after_s=round(at_s, 3), seed=chance.randrange(2**31)))
    return tuple(drawn)


class Board(Protocol):
    """What faults do to a board."""

    loop: Loop
    kernel: Kernel

    def unplug(self) -> None:
        """Break every adb connection and refuse new ones."""
        ...

    def plug_in(self) -> None:
        """Accept connections again."""
        ...

    def hang(self, *, on: bool) -> None:
        """Stop answering, or go on."""
        ...

    def reboot(self) -> None:
        """Go down and come up again."""
        ...

    def fill_disk(self, *, full: bool) -> None:
        """Leave no space in /data, or give it back."""
        ...

    def kill_su(self) -> int:
        """End all root sessions."""
        ...

    def data_dir(self) -> Path:
        """The board's /data as this process sees it."""
        ...


class Faults:
    """Arms and performs the faults of one board; also the cable that carries every byte of adb."""

    def __init__(self, board: Board) -> None:
        self.done: list[dict[str, Any]] = []
        """Faults performed: name, time in seconds since this object was made, and ``error`` if it failed."""
        self._board = board
        self._born = time.monotonic()
        self._passed = 0
        self._at_bytes: list[tuple[int, Fault]] = []
        self._at_runs: list[tuple[int, Fault]] = []
        self._waiting: list[Timer] = []
        self._undo: list[Timer] = []
        self._bytes_per_s = 0.0
        self._corrupt: list[tuple[random.Random, int]] = []

    def arm(self, fault: Fault) -> None:
        """Perform the fault when its time comes, or now.

        Raises:
            ConfigError: the kernel does not know the fault's arguments, or a fault that is due now fails.
        """
        if fault.fault in kernel_faults.FAULTS:
            try:
                kernel_faults.check(self._board.kernel, fault.fault, **fault.args)
            except (ValueError, TypeError) as error:
                raise ConfigError(f"the board cannot do that: {error}") from error
        if fault.after_s is not None:
            self._waiting.append(self._board.loop.call_later(fault.after_s, lambda: self._perform_late(fault)))
        elif fault.at_bytes is not None:
            self._at_bytes.append((self._passed + fault.at_bytes, fault))
        elif fault.at_runs is not None:
            self._at_runs.append((self._runs() + fault.at_runs, fault))
            if len(self._at_runs) == 1:
                self._watch_runs()
        else:
            self._perform(fault)

    @property
    def armed(self) -> int:
        """Faults that wait for their time."""
        self._waiting = [timer for timer in self._waiting if timer.callback is not None]
        return len(self._waiting) + len(self._at_bytes) + len(self._at_runs)

    def outgoing(self, payload: bytes) -> bytes:
        """The payload, with one byte changed if a ``corrupt`` fault waits for one of its size."""
        if self._corrupt and len(payload) >= self._corrupt[0][1]:
            chance, _ = self._corrupt.pop(0)
            place = chance.randrange(len(payload))
            changed = payload[place] ^ chance.randrange(1, 256)
            return payload[:place] + bytes([changed]) + payload[place + 1 :]
        return payload

    def traffic(self, size: int) -> float:
        """Count bytes; for how long to pause so that a slow board stays slow."""
        self._passed += size
        due = [fault for at, fault in self._at_bytes if at <= self._passed]
        if due:
            self._at_bytes = [(at, fault) for at, fault in self._at_bytes if at > self._passed]
            for fault in due:
                # Not from here: the connection is in the middle of sending.
                self._board.loop.call_soon(lambda fault=fault: self._perform_late(fault))  # type: ignore[misc]
        return size / self._bytes_per_s if self._bytes_per_s else 0.0

    def _perform_late(self, fault: Fault) -> None:
        # Nobody waits for an answer any more: what went wrong stands in ``done``.
        with contextlib.suppress(ConfigError):
            self._perform(fault)

    def _perform(self, fault: Fault) -> None:
        entry: dict[str, Any] = {"fault": fault.fault, "at_s": round(time.monotonic() - self._born, 3)}
        self.done.append(entry)
        try:
            self._act(fault)
        except (LabError, OSError, OverflowError, TypeError, ValueError) as error:
            entry["error"] = getattr(error, "message", str(error))
            raise ConfigError(f"the board cannot do that: {entry['error']}") from error

    def _act(self, fault: Fault) -> None:
        if fault.fault in kernel_faults.FAULTS:
            kernel_faults.inject(self._board.kernel, fault.fault, **fault.args)
            return
        actions: dict[str, Callable[[Fault], Callable[[], None] | None]] = {
            "drop": self._drop,
            "hang": self._hang,
            "slow": self._slow,
            "disk-full": self._disk_full,
            "corrupt": self._damage,
            "reboot": self._reboot,
            "kill-su": self._kill_su,
            "clear": self._clear,
        }
        undo = actions[fault.fault](fault)
        lasts_s = _DURATION_S.get(fault.fault, 0.0) if fault.for_s is None else fault.for_s
        if undo is not None and lasts_s > 0:
            self._undo = [timer for timer in self._undo if timer.callback is not None]
            self._undo.append(self._board.loop.call_later(lasts_s, undo))

    def _reboot(self, _fault: Fault) -> None:
        self._board.reboot()

    def _kill_su(self, _fault: Fault) -> None:
        self._board.kill_su()

    def _drop(self, _fault: Fault) -> Callable[[], None]:
        self._board.unplug()
        return self._board.plug_in

    def _hang(self, _fault: Fault) -> Callable[[], None]:
        self._board.hang(on=True)
        return lambda: self._board.hang(on=False)

    def _slow(self, fault: Fault) -> Callable[[], None]:
        self._set_speed(float(fault.args.get("bytes_per_s", _SLOW_BYTES_PER_S)))
        return lambda: self._set_speed(0.0)

    def _set_speed(self, bytes_per_s: float) -> None:
        self._bytes_per_s = max(0.0, bytes_per_s)

    def _disk_full(self, _fault: Fault) -> Callable[[], None]:
        self._board.fill_disk(full=True)
        return lambda: self._board.fill_disk(full=False)

    def _damage(self, fault: Fault) -> None:
        chance = random.Random(fault.seed)  # noqa: S311
        least = max(1, int(fault.args.get("min_size", 1)))
        self._corrupt.extend((chance, least) for _ in range(int(fault.args.get("count", 1))))

    def _clear(self, _fault: Fault) -> None:
        for timer in (*self._waiting, *self._undo):
            timer.cancel()
        self._waiting.clear()
        self._undo.clear()
        self._at_bytes.clear()
        self._at_runs.clear()
        self._corrupt.clear()
        self._bytes_per_s = 0.0
        self._board.fill_disk(full=False)
        self._board.hang(on=False)
        self._board.plug_in()

    def _runs(self) -> int:
        """Runs journalled so far in any file of /data whose name says that it is a journal."""
        count = 0
        # Directories come and go while this looks; a link would lead out of the board.
        for place, _, names in os.walk(self._board.data_dir()):
            for path in (Path(place, name) for name in names if "journal" in name):
                with contextlib.suppress(OSError):
                    if stat.S_ISREG(path.lstat().st_mode):
                        count += path.read_bytes().count(_RUN_LINE)
        return count

    def _watch_runs(self) -> None:
        runs = self._runs()
        due = [fault for at, fault in self._at_runs if at <= runs]
        self._at_runs = [(at, fault) for at, fault in self._at_runs if at > runs]
        for fault in due:
            self._perform_late(fault)
        if self._at_runs:
            self._board.loop.call_later(_RUNS_POLL_S, self._watch_runs)
