"""What runs where and when: pure functions, used to foretell a night (``--dry-run``) and to conduct it.

One rule serves both: a free device takes, of the waiting tasks that fit it and the time left, the one with the highest
priority; among those what measures an undecided change (``dose``); among those its own before those that others could
do as well; among those the longest. That is list scheduling by longest processing time (Graham 1969), at most 4/3 of
the shortest possible makespan for equal devices.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from devicelab.farm.job import Job
from devicelab.farm.selectors import Known, matching, parse
from devicelab.ground.times import duration
from devicelab.model.night import Task

Fits = Callable[[Task, str], bool]
Seconds = Callable[[Task, str], float]


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


def eager(devices: Iterable[str], waiting: Sequence[Task], seconds: Seconds) -> list[str]:
    """Free devices in the order in which they choose: those with the least work of their own first."""

    def own(device: str) -> float:
        return sum(seconds(task, device) for task in waiting if task.device == device)

    return sorted(devices, key=lambda device: (own(device), device))


def foretell(
    tasks: Iterable[Task], devices: Iterable[str], fits: Fits, seconds: Seconds, limit_s: float | None = None
) -> Schedule:
    """How a night will go if everything takes as long as it is estimated to.

    Args:
        tasks: those that wait.
        devices: names of those that work.
        fits: whether a device may do a task.
        seconds: how long a task takes on a device.
        limit_s: budget or deadline, seconds from now; what would end after it is dropped.
    """
    waiting = list(tasks)
    free_at = dict.fromkeys(devices, 0.0)
    all_devices = tuple(free_at)
    done_by: dict[int, set[str]] = {}
    slots = []

    def may(task: Task, device: str) -> bool:
        taken = task.device is None and device in done_by.get(task.job, ())
        return not taken and fits(task, device)

    while free_at and waiting:
        now_s = min(free_at.values())
        device = eager((name for name, at in free_at.items() if at == now_s), waiting, seconds)[0]
        task = pick(waiting, device, may, seconds, None if limit_s is None else limit_s - now_s)
        if task is None:
            del free_at[device]
            continue
        waiting.remove(task)
        done_by.setdefault(task.job, set()).add(device)
        free_at[device] = now_s + seconds(task, device)
        slots.append(Slot(task, device, now_s, free_at[device]))
    dropped = tuple((task, _why(task, all_devices, fits, seconds, limit_s)) for task in waiting)
    return Schedule(tuple(slots), dropped)


def _why(task: Task, devices: Iterable[str], fits: Fits, seconds: Seconds, limit_s: float | None) -> str:
    takes = [seconds(task, device) for device in devices if fits(task, device)]
    if not takes:
        return f"{task.device} takes no work" if task.device else f"no device fits {task.selector!r} now"
    if limit_s is None:
        return f"fewer devices fit {task.selector!r} than it asks for"
    return f"takes about {duration(min(takes))}, and that much is not left"
