"""A small event loop over ``epoll``: descriptors, timers, and calls from other threads.

asyncio would do, at twice the memory and four times the start time of a board's whole host process; fifty boards have
to fit on a two-core machine. With nothing to do the loop sleeps in ``epoll_wait`` without a time-out.
"""

import heapq
import itertools
import os
import select
import time
from collections import deque
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
_LONGEST_WAIT_S = 86400.0
"""epoll takes milliseconds in 32 bits; a timer further away is looked at in between."""
_GONE = select.EPOLLHUP | select.EPOLLERR
Callback = Callable[[], None]


class Timer:
    """A pending call; ``cancel`` makes it a no-op."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Forget the call. Harmless when it was made already."""
        self.callback = None


class Loop:
    """Calls back when descriptors are ready or times come; all methods but ``call_soon`` are for its own thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._soon: deque[Callback] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._running = False

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(ready_events)`` while ``fd`` is ready for ``events`` (``READ``, ``WRITE``; 0 parks it).

        A peer's end or an error counts as ready for what was asked, so that the next read or write tells.
        """
        events &= READ | WRITE
        known = self._watched.get(fd)
        self._watched[fd] = (events, callback)
        if events == (known[0] if known else 0):
            return
        # A parked descriptor is taken out altogether: epoll reports a hang-up even with an empty event mask, which
        # would keep the loop spinning while we deliberately do not read.
        if not events:
            self._epoll.unregister(fd)
        elif known and known[0]:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching; to be called before the descriptor is closed. Harmless for one that is not watched."""
        known = self._watched.pop(fd, None)
        if known and known[0]:
            self._epoll.unregister(fd)

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        """Call once after ``delay_s`` seconds."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + max(0.0, delay_s), next(self._order), timer))
        return timer

    def call_soon(self, callback: Callback) -> None:
        """Call once from the loop; may be used from any thread."""
        self._soon.append(callback)
        os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Serve until ``stop``."""
        self._running = True
        while self._running:
            self._step()

    def stop(self) -> None:
        """Make ``run`` return once the current callbacks are done."""
        self._running = False

    def close(self) -> None:
        """Release the loop's own descriptors."""
        self._epoll.close()
        os.close(self._wake)

    def _step(self) -> None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        wait = -1.0
        if self._timers:
            wait = min(_LONGEST_WAIT_S, max(0.0, self._timers[0][0] - time.monotonic()))
        for fd, ready in self._epoll.poll(wait):
            if fd == self._wake:
                os.eventfd_read(self._wake)
                continue
            # An earlier callback of this round may have closed or parked the descriptor.
            events, callback = self._watched.get(fd, (0, None))
            happened = ready & events or (events if ready & _GONE else 0)
            if callback is not None and happened:
                callback(happened)
        for _ in range(len(self._soon)):
            self._soon.popleft()()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            due, timer.callback = timer.callback, None
            if due is not None:
                due()
