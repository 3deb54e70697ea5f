"""The end of a night: findings, verdicts against the nights before, confirmations, retention, pages and messages.

Everything here happens in one thread: drawing figures is not safe in several.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from devicelab.errors import ConfigError, HostError, LabError
from devicelab.farm.night import worst
from devicelab.model.experiment import Finding
from devicelab.model.night import CellVerdict, Farm, Task
from devicelab.report.build import conclude
from devicelab.store import Store

_LOG = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outputs:
    """Files to write at the end of a night; ``None``: not asked for.

    Attributes:
        junit: JUnit XML, for CI.
        summary: Markdown, for a chat.
        site: folder of the farm's pages.
    """

    junit: Path | None = None
    summary: Path | None = None
    site: Path | None = None


def find(store: Store, tasks: Iterable[Task], say: Say) -> tuple[tuple[str, ...], tuple[Task, ...]]:
    """Have the complete tasks' campaigns analysed, each once.

    Returns:
        What their checks failed, one sentence each; and the tasks that could not be judged, with the reason and code.
    """
    failed, unjudged = [], []
    for task in tasks:
        if task.status != "complete" or task.campaign is None or task.confirms is not None:
            continue
        try:
            findings = _findings(store, task.campaign)
        except Exception as error:  # noqa: BLE001 - one bug in an analysis does not cost the other tasks' findings
            why, code = f"could not be analysed: {trouble(error)}", exit_code_of(error)
            say(f"{task.experiment} on {task.device} {why}")
            unjudged.append(_worse(task, why, code))
            continue
        failed += [f"{task.device}: {finding.claim}" for finding in findings if finding.verdict == "fail"]
        partly = bool(task.cells)  # checks of cells that are at rest have nothing to judge
        without = [one for one in findings if one.analysis == "checks" and one.verdict == "invalid" and not partly]
        for one in without[:1]:
            why = f"a check cannot be judged: {one.claim}: {'; '.join(one.reasons[:1])}"
            say(f"{task.experiment} on {task.device}: {why}")
            unjudged.append(_worse(task, why, ConfigError.exit_code))
    return tuple(failed), tuple(unjudged)


def _findings(store: Store, campaign: str) -> tuple[Finding, ...]:
    findings = store.findings(campaign)
    if not findings:
        findings = conclude(store.results(campaign))
        store.add_findings(campaign, findings)
    return findings


def _worse(task: Task, why: str, code: int) -> Task:
    """The task with one more reason; a night that goes on comes here twice."""
    reason = task.reason if why in task.reason else "; ".join(filter(None, (task.reason, why)))
    return task.model_copy(update={"reason": reason, "exit_code": worst((task.exit_code, code))})


def trouble(error: Exception) -> str:
    """An error for people; one that nobody foresaw is logged with its traceback."""
    known = _known(error)
    if known is not None:
        return known.message
    _LOG.error("at the end of a night", exc_info=error)
    return f"a bug in devicelab, please report it: {type(error).__name__}: {error}"


def exit_code_of(error: Exception) -> int:
    """What a night with this error ends with at least."""
    known = _known(error)
    return known.exit_code if known is not None else 1


def _known(error: Exception) -> LabError | None:
    return error if isinstance(error, LabError) else HostError.of(error)


def judge(store: Store, farm: Farm, night: str) -> tuple[CellVerdict, ...]:
    """Compare the night with those before it, and store the verdicts."""
    from devicelab.compare import nights

    verdicts = nights.judge(store, night, baseline_nights=farm.baseline_nights)
    store.put_verdicts(night, verdicts)
    return verdicts


def confirmations(tasks: Iterable[Task], verdicts: tuple[CellVerdict, ...]) -> tuple[Task, ...]:
    """Tasks that measure the suspicious cells once more, each where they were measured."""
    from devicelab.compare import nights

    cells: dict[tuple[str, str], set[str]] = defaultdict(set)
    for verdict in nights.suspicious(verdicts):
        cells[verdict.experiment, verdict.device].add(verdict.cell_id)
    known = {task.task_id: task for task in tasks}
    again = []
    for task in known.values():
        wanted = cells.get((task.experiment, task.device or ""), set())
        task_id = f"{task.task_id}c"
        if wanted and task.status == "complete" and task.confirms is None and task_id not in known:
            # Measured where the first measurement was; a job that is there twice is confirmed by its first task alone.
            cells[task.experiment, task.device or ""] = set()
            again.append(
                Task(
                    task_id=task_id,
                    job=task.job,
                    experiment=task.experiment,
                    selector=task.selector,
                    device=task.device,
                    priority=task.priority,
                    confirms=task.task_id,
                    cells=tuple(sorted(wanted)),
                )
            )
    return tuple(again)


def tidy(store: Store, farm: Farm, say: Say) -> None:
    """Delete what the farm's retention says, of this farm alone."""
    from devicelab.store.retention import prune

    done = prune(store, farm.retention, farms={farm.name: farm.baseline_nights})
    if done.deleted:
        say(f"deleted as retention says: {', '.join(done.deleted)}")
    if done.thinned:
        say(f"raw samples dropped as retention says: {', '.join(done.thinned)}")
    if done.short_bytes:
        say(f"the store is {done.short_bytes / 1e9:.1f} GB above max_gb; what is left is needed as a baseline")


def publish(store: Store, night: str, outputs: Outputs) -> tuple[Exception, ...]:
    """Write the files that were asked for; what was in the way of those that could not be written."""
    from devicelab.report.night import junit, markdown
    from devicelab.report.site import update_site

    def write(path: Path, text_of: Callable[[Store, str], str]) -> None:
        _write(path, text_of(store, night))

    def pages(folder: Path) -> None:
        missing = update_site(store, folder).problems
        if missing:
            more = f"; and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ConfigError(f"pages in {folder} are missing: {missing[0]}{more}", hint="`devicelab site` makes them")

    steps: list[Callable[[], object]] = [
        partial(write, path, text_of)
        for path, text_of in ((outputs.junit, junit), (outputs.summary, markdown))
        if path is not None
    ]
    if outputs.site is not None:
        steps.append(partial(pages, outputs.site))
    problems: list[Exception] = []
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - one page's bug spares the others and the messages
            problems.append(error)
    return tuple(problems)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def tell(store: Store, farm: Farm, night: str, exit_code: int, say: Say) -> None:
    """Notify whom the farm names, if it is time to."""
    from devicelab.farm.notify import notify
    from devicelab.report.night import headline, markdown

    if farm.notify.when == "always" or (farm.notify.when == "failure" and exit_code != 0):
        for problem in notify(farm.notify, headline(store, night), markdown(store, night)):
            say(problem)
