"""What runs where and when: pure functions, used to foretell a night (``--dry-run``) and to conduct it.

One rule serves both: a free device takes, of the waiting tasks that fit it and the time left, the one with the highest
priority; among those what measures an undecided change (``dose``); among those its own before those that others could
do as well; among those the longest. That is list scheduling by longest processing time (Graham 1969), at most 4/3 of
the shortest possible makespan for equal devices.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from devicelab.farm.job import Job
from devicelab.farm.selectors import Known, matching, parse
from devicelab.ground.times import duration
from devicelab.model.night import Task

Fits = Callable[[Task, str], bool]
Alike = Callable[[Task], Hashable]
Seconds = Callable[[Task, str], float]


def _each_its_own(task: Task) -> Hashable:
    return task.task_id


@dataclass(frozen=True)
class Slot:
    """A task on a device, seconds from the night's start."""

    task: Task
    device: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Schedule:
    """A foretold night: slots in order of their start, and the tasks that find no place, each with the reason."""

    slots: tuple[Slot, ...]
    dropped: tuple[tuple[Task, str], ...] = ()

    @property
    def end_s(self) -> float:
        """When the last task ends, seconds from the start."""
        return max((slot.end_s for slot in self.slots), default=0.0)


def make_tasks(job: Job, pool: Mapping[str, Known]) -> tuple[Task, ...]:
    """The farm's jobs as tasks: one for each device that is meant, or as many as ``any N of`` asks for.

    A job whose selector means no device now becomes one skipped task, so that it is not forgotten silently.
    """
    tasks = []
    for number, (entry, experiment, selector) in enumerate(
        zip(job.farm.jobs, job.experiments, job.selectors, strict=True)
    ):
        found = [device.entry.name for device in matching(selector, pool.values())]
        # Those that are away now have a task, too, which the conductor skips with the reason.
        found += sorted({word.value for word in selector.words if word.by == "name" and word.value not in pool})
        places: Sequence[str | None] = found if selector.count is None else [None] * selector.count
        common = {"job": number, "experiment": experiment.name, "selector": entry.devices, "priority": entry.priority}
        for place, device in enumerate(places, 1):
            tasks.append(Task(task_id=f"{number + 1}.{place}", device=device, **common))
        if not places:
            reason = f"no device fits {entry.devices!r} now"
            tasks.append(Task(task_id=f"{number + 1}.1", status="skipped", reason=reason, exit_code=3, **common))
    return tuple(tasks)


def movable(task: Task) -> bool:
    """The task may be done by any device that fits its selector (``any N of …``); a confirmation stays where it is."""
    return task.confirms is None and parse(task.selector).count is not None


def pick(
    waiting: Iterable[Task], device: str, fits: Fits, seconds: Seconds, left_s: float | None = None
) -> Task | None:
    """The next task for a free device, by the rule above; ``None`` if nothing fits it or the time left (seconds)."""
    fitting = [task for task in waiting if fits(task, device)]
    if left_s is not None:
        fitting = [task for task in fitting if seconds(task, device) <= left_s]
    return min(
        fitting,
        key=lambda task: (
            -task.priority,
            not task.undecided,
            task.device is None,
            -seconds(task, device),
            task.task_id,
        ),
        default=None,
    )


class Waiting:
    """Tasks that wait, by who may take them: a thousand boards choose without looking at each other's tasks.

    Args:
        tasks: those that wait.
        seconds: how long a task takes on a device.
        alike: what is the same for tasks that any device may take and that differ in nothing but their ids; of those,
            a device looks at the first that fits it.
    """

    def __init__(self, tasks: Iterable[Task], seconds: Seconds, alike: Alike) -> None:
        self._own: dict[str, dict[str, Task]] = defaultdict(dict)
        self._free: dict[Hashable, dict[str, Task]] = defaultdict(dict)
        self._own_s: dict[str, float] = defaultdict(float)
        self._seconds, self._alike = seconds, alike
        for task in sorted(tasks, key=lambda task: task.task_id):
            if task.device is not None:
                self._own[task.device][task.task_id] = task
                self._own_s[task.device] += seconds(task, task.device)
            else:
                self._free[alike(task)][task.task_id] = task

    def own_s(self, device: str) -> float:
        """The work that nobody but this device does, seconds."""
        return self._own_s.get(device, 0.0)

    def eager(self, devices: Iterable[str]) -> list[str]:
        """Free devices in the order in which they choose: those with the least work of their own first."""
        return sorted(devices, key=lambda device: (self.own_s(device), device))

    def candidates(self, device: str, fits: Fits) -> list[Task]:
        """What the device may choose from: its own, and of the others the first of each sort that fits it."""
        firsts = (next((task for task in sort.values() if fits(task, device)), None) for sort in self._free.values())
        return [*self._own.get(device, {}).values(), *(task for task in firsts if task is not None)]

    def remove(self, task: Task) -> None:
        """It waits no longer."""
        if task.device is not None:
            del self._own[task.device][task.task_id]
            self._own_s[task.device] -= self._seconds(task, task.device)
        else:
            sort = self._free[self._alike(task)]
            del sort[task.task_id]
            if not sort:
                del self._free[self._alike(task)]

    def left(self) -> list[Task]:
        """All that still wait, by id."""
        found = [task for sort in (*self._own.values(), *self._free.values()) for task in sort.values()]
        return sorted(found, key=lambda task: task.task_id)


def foretell(
    tasks: Iterable[Task],
    devices: Iterable[str],
    fits: Fits,
    seconds: Seconds,
    limit_s: float | None = None,
    alike: Alike = _each_its_own,
) -> Schedule:
    """How a night will go if everything takes as long as it is estimated to.

    Args:
        tasks: those that wait.
        devices: names of those that work.
        fits: whether a device may do a task.
        seconds: how long a task takes on a device.
        limit_s: budget or deadline, seconds from now; what would end after it is dropped.
        alike: see ``Waiting``.
    """
    waiting = Waiting(tasks, seconds, alike)
    all_devices = tuple(dict.fromkeys(devices))
    # Whoever is free first chooses; of several, the one with the least work of its own, which nobody else takes away.
    free = [(0.0, waiting.own_s(device), device) for device in all_devices]
    heapq.heapify(free)
    done_by: dict[int, set[str]] = defaultdict(set)
    slots = []

    def may(task: Task, device: str) -> bool:
        taken = task.device is None and device in done_by[task.job]
        return not taken and fits(task, device)

    while free:
        now_s, _, device = heapq.heappop(free)
        task = pick(waiting.candidates(device, may), device, may, seconds, None if limit_s is None else limit_s - now_s)
        if task is None:
            continue
        waiting.remove(task)
        done_by[task.job].add(device)
        slots.append(Slot(task, device, now_s, now_s + seconds(task, device)))
        heapq.heappush(free, (slots[-1].end_s, waiting.own_s(device), device))
    reasons: dict[Hashable, str] = {}
    dropped = []
    for task in waiting.left():
        key = (alike(task), task.device)
        if key not in reasons:
            reasons[key] = _why(task, all_devices, fits, seconds, limit_s)
        dropped.append((task, reasons[key]))
    return Schedule(tuple(slots), tuple(dropped))


def _why(task: Task, devices: Iterable[str], fits: Fits, seconds: Seconds, limit_s: float | None) -> str:
    takes = [seconds(task, device) for device in devices if fits(task, device)]
    if not takes:
        return f"{task.device} takes no work" if task.device else f"no device fits {task.selector!r} now"
    if limit_s is None:
        return f"fewer devices fit {task.selector!r} than it asks for"
    return f"takes about {duration(min(takes))}, and that much is not left"
