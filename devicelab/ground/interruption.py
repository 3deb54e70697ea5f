"""Ctrl-C, SIGTERM and SIGHUP while a device works for us: the first one interrupts, and no further one hurries the end.

Giving a device back takes a few seconds (its agent ends loads and restores), in which people get impatient and service
managers send another signal. All of it is bounded, so nothing is lost by going through with it.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# A closing terminal sends SIGHUP, its shell another, a service manager SIGTERM with it: one wish. Shorter than the time
# after which the command line repeats an interruption that Python dropped.
_BURST_S = 0.1


_announcers: list[Callable[[], None]] = []


@contextmanager
def announcing(say: Callable[[], None]) -> Iterator[None]:
    """While this lasts, ``say`` is called the moment an interruption is heard that ends work on a device.

    It is called from a signal handler: one write, nothing that waits.
    """
    _announcers.append(say)
    try:
        yield
    finally:
        _announcers.remove(say)


class Interruptible:
    """What was heard so far.

    Attributes:
        ending: set when the work is being ended: what is heard from then on changes nothing.
    """

    def __init__(self) -> None:
        self.ending = False
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._heard = -_BURST_S

    @property
    def numbers(self) -> tuple[signal.Signals, ...]:
        """The signals that interrupt; the others are ignored, or end the process at once, as its starter wished."""
        return tuple(number for number, handler in self._handlers.items() if callable(handler))

    def hear(self, number: int, frame: FrameType | None) -> None:
        """The handler while the work lasts."""
        now, handler = time.monotonic(), self._handlers[signal.Signals(number)]
        if self.ending or now - self._heard < _BURST_S or not callable(handler):
            return
        first = self._heard < 0
        self._heard = now
        if first:
            for say in _announcers:
                say()
        handler(number, frame)

    def give_back(self) -> None:
        """The handlers are as before."""
        for number in self.numbers:
            signal.signal(number, self._handlers[number])


@contextmanager
def interruptible() -> Iterator[Interruptible]:
    """Work on a device that a signal ends once; whoever catches the interruption sets ``ending`` first.

    Signals reach the main thread alone; in others this does nothing.
    """
    one = Interruptible()
    if threading.current_thread() is not threading.main_thread():
        yield one
        return
    try:
        for number in one.numbers:
            signal.signal(number, one.hear)
        yield one
    finally:
        one.give_back()
