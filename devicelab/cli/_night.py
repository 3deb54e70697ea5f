"""How a night is watched: a line for each device at a terminal, plain lines in a log, nothing for machines."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from devicelab.cli._out import say, time_left
from devicelab.ground.safe_text import terminal

if TYPE_CHECKING:
    from devicelab.farm.night import Watcher
    from devicelab.farm.schedule import Schedule
    from devicelab.jobs.conductor import Progress
    from devicelab.model.night import Task

# Where lines stay (a log), a task reports its progress at most this often.
_EVERY_S = 60.0


def clock_time(unix_s: float) -> str:
    """A point in time for people: ``22:04``, with the date if it is not today."""
    then, now = time.localtime(unix_s), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%Y-%m-%d %H:%M", then)


def headline(night: str, foretold: "Schedule", ends_unix_s: float | None) -> str:
    """What a night is going to be, in a line."""
    devices = len({slot.device for slot in foretold.slots})
    until = f", ends at {clock_time(ends_unix_s)} at the latest" if ends_unix_s is not None else ""
    about = clock_time(time.time() + foretold.end_s)
    dropped = f", {len(foretold.dropped)} do not fit" if foretold.dropped else ""
    return f"night {night}: {len(foretold.slots)} tasks on {devices} devices, until about {about}{dropped}{until}"


class Lines:
    """Plain lines on stderr, each with the time: for logs."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()

    def _print(self, text: str) -> None:
        say(f"{time.strftime('%H:%M:%S')} {text}")

    def begun(self, night: str, foretold: "Schedule", ends_unix_s: float | None) -> None:
        """See ``Watcher``."""
        self._print(headline(night, foretold, ends_unix_s))
        for text in _beforehand(foretold):
            self._print(text)

    def started(self, task: "Task") -> None:
        """See ``Watcher``."""
        self._last[task.task_id] = time.monotonic()
        again = f", attempt {task.attempts + 1}" if task.attempts else ""
        self._print(f"{_name(task)}: begins{again}")

    def progress(self, task: "Task", progress: "Progress") -> None:
        """See ``Watcher``."""
        with self._lock:
            now = time.monotonic()
            if now - self._last.get(task.task_id, 0.0) < _EVERY_S:
                return
            self._last[task.task_id] = now
        self._print(f"{_name(task)}: {_how_far(progress)}")

    def ended(self, task: "Task", device: str) -> None:
        """See ``Watcher``."""
        self._print(_end(task, device))

    def said(self, text: str) -> None:
        """See ``Watcher``."""
        self._print(text)


class Live:
    """A bar for each task that runs, and one for the night; what has ended scrolls by above them."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._of: dict[str, Any] = {}
        self._all: Any = None

    def begun(self, night: str, foretold: "Schedule", ends_unix_s: float | None) -> None:
        """See ``Watcher``."""
        self.said(headline(night, foretold, ends_unix_s))
        for text in _beforehand(foretold):
            self.said(text)
        self._all = self._bars.add_task("the night", total=len(foretold.slots), left="")

    def started(self, task: "Task") -> None:
        """See ``Watcher``."""
        self._of[task.task_id] = self._bars.add_task(_escaped(_name(task)), total=None, left="begins")

    def progress(self, task: "Task", progress: "Progress") -> None:
        """See ``Watcher``."""
        bar = self._of.get(task.task_id)
        if bar is not None:
            left = time_left(progress.eta_s)
            flagged = f" ({progress.invalid} flagged)" if progress.invalid else ""
            self._bars.update(bar, completed=progress.done, total=progress.total, left=left + flagged)

    def ended(self, task: "Task", device: str) -> None:
        """See ``Watcher``."""
        bar = self._of.pop(task.task_id, None)
        if bar is not None:
            self._bars.remove_task(bar)
        if task.status != "waiting":
            self._bars.advance(self._all)
        self.said(_end(task, device))

    def said(self, text: str) -> None:
        """See ``Watcher``."""
        self._bars.console.print(_escaped(f"{time.strftime('%H:%M:%S')} {text}"), highlight=False)


def _beforehand(foretold: "Schedule") -> Iterator[str]:
    """What will not be done, and how much of the others."""
    for task, reason in foretold.dropped:
        yield f"will not be done: {_name(task)}: {reason}"
    for slot in foretold.slots:
        for share in () if slot.task.confirms is not None else slot.task.shares:
            yield f"{_name(slot.task)}: {share.text()}"


def _name(task: "Task") -> str:
    where = f" on {task.device}" if task.device else f" ({task.selector})"
    confirms = ", once more" if task.confirms else ""
    return f"{task.task_id} {task.experiment}{where}{confirms}"


def _how_far(progress: "Progress") -> str:
    left = f", {time_left(progress.eta_s)}" if progress.eta_s is not None else ""
    flagged = f", {progress.invalid} flagged" if progress.invalid else ""
    return f"{progress.done} of {progress.total} runs{flagged}{left}"


def _end(task: "Task", device: str) -> str:
    again = "to be tried again" if task.status == "waiting" else task.status
    reason = f": {task.reason}" if task.reason else ""
    return f"{task.task_id} {task.experiment} on {device}: {again}{reason}"


def _escaped(text: str) -> str:
    """For rich, which reads markup and passes on whatever a terminal obeys."""
    from rich.markup import escape

    return escape(terminal(text))


@contextmanager
def night_watcher(*, quiet: bool) -> Iterator["Watcher"]:
    """Bars at a terminal, lines elsewhere, nothing when quiet."""
    # Tries to reach a device again are not shown one by one; what becomes of its task is.
    logging.getLogger("stamina").setLevel(logging.ERROR)
    if quiet:
        from devicelab.farm.night import SILENT

        yield SILENT
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            yield Live(bars)
    else:
        yield Lines()
