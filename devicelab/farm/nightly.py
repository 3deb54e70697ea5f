"""A whole night: read the farm file, conduct the tasks, conclude, publish, and say how it ended."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from devicelab.errors import ConfigError, LabError, MeasurementError, RestoreError
from devicelab.farm import closing
from devicelab.farm import night as conducting
from devicelab.farm.care import Left
from devicelab.farm.closing import Outputs
from devicelab.farm.engine import Hosts, ThisHost
from devicelab.farm.job import Job, load, understood
from devicelab.farm.night import Conductor, Watcher, worst
from devicelab.farm.pool import remembered
from devicelab.farm.schedule import Schedule
from devicelab.farm.selectors import Known
from devicelab.model.night import CellVerdict, NightStatus, Quarantine, Task
from devicelab.store import Store

_UNFINISHED = ("running", "interrupted")
INTERRUPTED = 130
"""Exit code of a night that a signal ended."""
_CHECK_FAILED = 7


@dataclass(frozen=True)
class NightResult:
    """How a night ended.

    Attributes:
        night: its id.
        status: ``failed`` if not a single task was completed.
        exit_code: 0 fine; else the worst of what happened (``devicelab.farm.night.SEVERITY``).
        tasks: with what became of each.
        verdicts: of its cells against the baseline nights.
        quarantined: devices that were taken out in this night.
        out: device → why it got no more work tonight.
        not_given_back: device → why nobody could look whether it is as it was found.
        failed_checks: checks of the experiments that failed.
    """

    night: str
    farm: str
    status: NightStatus
    exit_code: int
    tasks: tuple[Task, ...]
    verdicts: tuple[CellVerdict, ...]
    quarantined: tuple[Quarantine, ...]
    out: dict[str, str]
    not_given_back: dict[str, str]
    failed_checks: tuple[str, ...]


@dataclass(frozen=True)
class Foretold:
    """What a night would do now.

    Attributes:
        conductor: the one that would do it, with the tasks.
        schedule: what runs where and when.
        tasks: all, also those that are done or have no device.
    """

    conductor: Conductor
    schedule: Schedule
    tasks: tuple[Task, ...]


def foretell(path: Path, store: Store, *, resume: bool = False, hosts: Hosts | None = None) -> Foretold:
    """What ``nightly`` would do now. Nothing is stored and no task is begun; devices are asked what they are.

    Raises:
        ConfigError: the farm file is wrong, or there is no night to go on with.
    """
    pool = (hosts or ThisHost()).known_devices(store)
    job = _read(path, pool, store, resume=resume)
    conductor = Conductor(job, pool, store, conducting.SILENT)
    tasks = conductor.prepare()
    if resume:
        info = conducting.unfinished(store, job.farm.name)
        conductor = Conductor(understood(info.job, path), pool, store, conducting.SILENT)
        conductor.prepare(info.night)
        tasks = conductor.left_of(info)
    conductor.tasks = {task.task_id: task for task in tasks}
    return Foretold(conductor, conductor.foretell(), tasks)


def nightly(
    path: Path,
    store: Store,
    watcher: Watcher,
    *,
    resume: bool = False,
    hosts: Hosts | None = None,
    outputs: Outputs | None = None,
) -> NightResult:
    """Conduct a night of a farm file from beginning to end, or go on with the unfinished one.

    Args:
        path: of the farm file. A night that goes on does what the file said when it began.
        store: where everything goes.
        watcher: is told what happens.
        resume: go on.
        hosts: where the devices are; ``None``: whatever this computer reaches.
        outputs: files to write at the end.

    Raises:
        ConfigError: the farm file is wrong (a night that goes on needs none, if it is the only one), or there is no
            night to go on with.
        DeviceBusyError: another process of this machine conducts a night of this farm.
        StoreError: the results database fails; the night can go on later.
    """
    hosts = hosts or ThisHost()
    pool = hosts.known_devices(store)
    job = _read(path, pool, store, resume=resume)
    store.patience_s = job.farm.patience_s
    with conducting.alone(job.farm.name), conducting.alone_in(store, job.farm.name):
        conductor = _conductor(job, pool, store, watcher, hosts, resume=resume)
        watcher.begun(conductor.night, conductor.foretell(), conductor.ends_unix_s)
        _look_at_hosts(hosts, conductor, watcher)
        try:
            conductor.conduct()
            failed_checks, codes = ((), ()) if conductor.interrupted else _conclude(conductor, watcher)
        except KeyboardInterrupt:
            conductor.interrupted, failed_checks, codes = True, (), ()
        result = _finish(conductor, failed_checks, codes)
        return _publish(result, conductor, outputs or Outputs(), watcher)


def _read(path: Path, pool: Mapping[str, Known], store: Store, *, resume: bool) -> Job:
    """The farm file. A night that goes on was checked when it began; its devices may be away by now."""
    if not resume:
        return load(path, pool, remembered(store))
    try:
        return load(path)
    except ConfigError:
        # What the file said when the night began is stored with it; what became of the file since does not matter.
        farms = sorted({info.farm for info in store.nights()})
        begun = [info for info in map(store.last_begun, farms) if info is not None and info.status in _UNFINISHED]
        left = [info for info in begun if info.farm == path.stem] or begun
        if len(left) != 1:
            raise
        return understood(left[0].job, path)


def _conductor(
    job: Job, pool: Mapping[str, Known], store: Store, watcher: Watcher, hosts: Hosts, *, resume: bool
) -> Conductor:
    if not resume:
        left = store.last_begun(job.farm.name)
        if left is not None and left.status in _UNFINISHED:
            watcher.said(f"night {left.night} was not finished; `--resume` would have gone on with it")
        conductor = Conductor(job, pool, store, watcher, hosts)
        conductor.begin()
        return conductor
    info = conducting.unfinished(store, job.farm.name)
    if info.job != job.farm:
        watcher.said(
            f"going on with {info.night} as {job.path} was when it began; what changed since counts from the next"
        )
    conductor = Conductor(understood(info.job, job.path), pool, store, watcher, hosts)
    conductor.go_on(info)
    return conductor


def _look_at_hosts(hosts: Hosts, conductor: Conductor, watcher: Watcher) -> None:
    """What of the hosts needs a person is said and stored; it keeps no night from beginning."""
    try:
        for look in hosts.looks(conductor.store, conductor.night):
            conductor.store.add_health(look)
            for reason in look.reasons:
                watcher.said(f"{look.device}: {reason}")
    except (LabError, OSError) as error:
        watcher.said(f"the hosts were not looked at: {closing.trouble(error)}")


def _conclude(conductor: Conductor, watcher: Watcher) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Findings and verdicts, once more after what looked like a regression was measured again.

    Returns:
        Failed checks, and an exit code for each thing that went wrong in here.

    Raises:
        LabError: the engine or the database fails while cells are measured again; the night can go on later.
    """
    failed, unjudged = closing.find(conductor.store, conductor.tasks.values(), watcher.said)
    conductor.add(unjudged)
    verdicts, codes = _compared(conductor, watcher)
    again = closing.confirmations(conductor.tasks.values(), verdicts) if conductor.job.farm.confirm else ()
    if again:
        cells = sum(len(task.cells) for task in again)
        watcher.said(f"{cells} cells look worse than in the nights before; they are measured once more")
        conductor.add(again)
        conductor.conduct()
        if not conductor.interrupted:
            codes += _compared(conductor, watcher)[1]
    return failed, codes


def _compared(conductor: Conductor, watcher: Watcher) -> tuple[tuple[CellVerdict, ...], tuple[int, ...]]:
    """The night's verdicts; without them the night ends in order all the same, with the exit code of what it was."""
    try:
        return closing.judge(conductor.store, conductor.job.farm, conductor.night), ()
    except Exception as error:  # noqa: BLE001 - one bug in the comparison does not cost a night
        watcher.said(f"the night could not be compared with those before: {closing.trouble(error)}")
        return (), (closing.exit_code_of(error),)


def _finish(conductor: Conductor, failed_checks: tuple[str, ...], wrong: tuple[int, ...]) -> NightResult:
    store, night = conductor.store, conductor.night
    not_given_back = conductor.give_back()
    tasks = store.tasks(night)
    verdicts = store.verdicts(night=night)
    codes = [*wrong, *(task.exit_code for task in tasks), *_lost(not_given_back, tasks)]
    codes += [_CHECK_FAILED] if failed_checks or any(map(conductor.job.farm.alarms, verdicts)) else []
    done = any(task.status == "complete" for task in tasks) or all(task.at_rest for task in tasks)
    status: NightStatus = "complete" if done else "failed"
    exit_code = worst(codes) or (0 if status == "complete" else MeasurementError.exit_code)
    if conductor.interrupted:
        status, exit_code = "interrupted", RestoreError.exit_code if RestoreError.exit_code in codes else INTERRUPTED
    store.finish_night(night, status, exit_code)
    return NightResult(
        night=night,
        farm=conductor.job.farm.name,
        status=status,
        exit_code=exit_code,
        tasks=tasks,
        verdicts=verdicts,
        quarantined=tuple(q for q in store.quarantines() if q.night == night),
        out=dict(conductor.out),
        not_given_back={device: left.reason for device, left in not_given_back.items()},
        failed_checks=failed_checks,
    )


def _lost(not_given_back: Mapping[str, Left], tasks: Sequence[Task]) -> Iterator[int]:
    """Exit codes of devices that were not given back; a lost one whose tasks others did is no failure."""
    for device, left in not_given_back.items():
        own = (task for task in tasks if task.device == device)
        if left.exit_code == RestoreError.exit_code or any(one.status != "complete" or one.reason for one in own):
            yield left.exit_code


def _publish(result: NightResult, conductor: Conductor, outputs: Outputs, watcher: Watcher) -> NightResult:
    """Retention, files, messages. What does not work out is said, and may only make the exit code worse."""
    store, farm = conductor.store, conductor.job.farm
    try:
        problems = () if conductor.interrupted else _trouble_of(lambda: closing.tidy(store, farm, watcher.said))
        if outputs.site is not None:
            watcher.said(f"writing the farm's pages into {outputs.site}")
        problems += closing.publish(store, result.night, outputs)
        result = _with_trouble(result, problems, store, watcher)
        problems = _trouble_of(lambda: closing.tell(store, farm, result.night, result.exit_code, watcher.said))
        result = _with_trouble(result, problems, store, watcher)
    except KeyboardInterrupt:
        watcher.said("ended before all pages were written; `devicelab site` writes them")
    return result


def _trouble_of(step: Callable[[], None]) -> tuple[Exception, ...]:
    try:
        step()
    except Exception as error:  # noqa: BLE001 - the night is over and stored; its exit code has to be told
        return (error,)
    return ()


def _with_trouble(result: NightResult, problems: Sequence[Exception], store: Store, watcher: Watcher) -> NightResult:
    for problem in problems:
        watcher.said(closing.trouble(problem))
    if not problems:
        return result
    worse = replace(result, exit_code=worst((result.exit_code, *map(closing.exit_code_of, problems))))
    with contextlib.suppress(LabError):  # the database may be what is wrong
        store.finish_night(worse.night, worse.status, worse.exit_code)
    return worse


def as_json(result: NightResult) -> dict[str, Any]:
    """The result as plain data, for ``--json``."""
    return {
        "night": result.night,
        "farm": result.farm,
        "status": result.status,
        "exit_code": result.exit_code,
        "tasks": [task.model_dump(mode="json") for task in result.tasks],
        "verdicts": [verdict.model_dump(mode="json") for verdict in result.verdicts],
        "quarantined": [quarantine.model_dump(mode="json") for quarantine in result.quarantined],
        "out": result.out,
        "not_given_back": result.not_given_back,
        "failed_checks": list(result.failed_checks),
    }
