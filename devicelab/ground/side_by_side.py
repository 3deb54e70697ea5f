"""Many things asked at once, each with its deadline, answers as they come: one that is silent keeps nobody waiting."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_AT_ONCE = 64
"""Each is a process or a socket of this machine, and a command on a device."""

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


def asked(
    ask: Callable[[_Item], _Answer], items: Sequence[_Item], *, deadline_s: float, at_once: int = _AT_ONCE
) -> Iterator[tuple[_Item, _Answer | None]]:
    """Each item with its answer, in the order in which they come; ``None``: none came within its deadline.

    Whoever is late is left to itself; it does not keep the process from ending. What ``ask`` raises is raised here.
    """
    answers: queue.Queue[tuple[int, _Answer | None, BaseException | None]] = queue.Queue()
    turns = threading.Semaphore(at_once)
    open_ones = set(range(len(items)))
    timers: dict[int, threading.Timer] = {}

    def run(number: int) -> None:
        try:
            answers.put((number, ask(items[number]), None))
        except BaseException as error:  # noqa: BLE001 - raised where it is read
            answers.put((number, None, error))

    def begin() -> None:
        for number in range(len(items)):
            turns.acquire()
            late = threading.Timer(deadline_s, answers.put, ((number, None, None),))
            late.daemon = True
            timers[number] = late
            late.start()
            threading.Thread(target=run, args=(number,), daemon=True).start()

    threading.Thread(target=begin, daemon=True).start()
    try:
        while open_ones:
            number, answer, error = answers.get()
            if number not in open_ones:
                continue  # it was late
            open_ones.discard(number)
            timers[number].cancel()
            turns.release()
            if error is not None:
                raise error
            yield items[number], answer
    finally:
        for timer in tuple(timers.values()):
            timer.cancel()
