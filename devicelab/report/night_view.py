"""Everything a page, a test report or a message says about one night, read once and sorted with the worst first."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from devicelab.model.campaign import CampaignInfo, lasted_s
from devicelab.model.glossary import figure_words
from devicelab.model.night import CellVerdict, NightInfo, NightVerdict, Quarantine, Task
from devicelab.report.units import number
from devicelab.store.reading import StoreReader

VERDICTS: tuple[NightVerdict, ...] = ("regression", "improvement", "too noisy", "not comparable", "unchanged")
"""In the order in which one reads them: what changed first, then what could not be judged."""

STATUSES = ("failed", "skipped", "running", "waiting", "complete")
"""Of tasks, likewise."""


@dataclass(frozen=True)
class FailedCheck:
    """A check or claim of an experiment that failed in a campaign."""

    campaign: str
    device: str
    experiment: str
    claim: str
    reasons: str


@dataclass(frozen=True)
class NightView:
    """One night.

    Attributes:
        info: the night.
        tasks: with what went wrong first, otherwise as they were planned.
        verdicts: regressions first, largest shift first.
        campaigns: by id.
        simulated: ids of those campaigns in which a virtual board or an emulated part had a share.
        quarantines: those that began in this night.
        failed: checks that failed.
    """

    info: NightInfo
    tasks: tuple[Task, ...]
    verdicts: tuple[CellVerdict, ...]
    campaigns: Mapping[str, CampaignInfo]
    simulated: frozenset[str]
    quarantines: tuple[Quarantine, ...]
    failed: tuple[FailedCheck, ...] = ()

    @cached_property
    def verdict_counts(self) -> Counter[str]:
        """Judged figures by verdict."""
        return Counter(verdict.verdict for verdict in self.verdicts)

    @cached_property
    def task_counts(self) -> Counter[str]:
        """Tasks by status."""
        return Counter("at rest" if task.at_rest else task.status for task in self.tasks)

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices that had a task or were judged, by name."""
        found = {task.device for task in self.tasks if task.device} | {verdict.device for verdict in self.verdicts}
        return tuple(sorted(found | {info.device for info in self.campaigns.values()}))

    @property
    def duration_s(self) -> float | None:
        """From start to end; ``None`` while it runs, and where the clock was set back in between."""
        return lasted_s(self.info.started_unix_ns, self.info.ended_unix_ns)

    @property
    def headline(self) -> str:
        """What matters most, a few words: "2 regressions, 1 task failed"."""
        counts = self.verdict_counts, self.task_counts
        said = [
            (counts[0]["regression"], "regression", "regressions"),
            (len(self.failed), "check failed", "checks failed"),
            (counts[1]["failed"], "task failed", "tasks failed"),
            (counts[1]["skipped"], "task skipped", "tasks skipped"),
            (len(self.quarantines), "device quarantined", "devices quarantined"),
        ]
        words = [f"{count} {one if count == 1 else many}" for count, one, many in said if count]
        if self.info.status != "complete":
            words.insert(0, self.info.status)
        if words:
            return ", ".join(words)
        if not self.verdicts:
            return "nothing was judged"
        return "no regression" if not self.info.exit_code else f"no regression, exit code {self.info.exit_code}"

    def is_simulated(self, verdict: CellVerdict) -> bool:
        """Whether the figures judged come from a simulation."""
        of = (info for info in self.campaigns.values() if info.device == verdict.device)
        return any(info.campaign in self.simulated for info in of if info.experiment == verdict.experiment)


def counted(verdict: str, count: int) -> str:
    """The verdict after a number: one regression, two regressions; "not comparable" is the same for any."""
    return f"{verdict}s" if verdict in {"regression", "improvement"} and count != 1 else verdict


def read_night(reader: StoreReader, night: str | None = None) -> NightView:
    """The night of that id or unique prefix, or the newest.

    Raises:
        StoreError: there is none; the store cannot be read.
    """
    info = reader.night(night)
    campaigns = {campaign.campaign: campaign for campaign in reader.night_campaigns(info.night)}
    return NightView(
        info=info,
        tasks=sorted_tasks(reader.tasks(info.night)),
        verdicts=sorted_verdicts(reader.verdicts(night=info.night)),
        campaigns=campaigns,
        simulated=reader.simulated_campaigns(info.night),
        quarantines=tuple(one for one in reader.quarantines() if one.night == info.night),
        failed=tuple(FailedCheck(*found) for found in reader.night_findings(info.night)),
    )


def sorted_tasks(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Failed ones first; the order of planning otherwise."""
    return tuple(sorted(tasks, key=lambda task: STATUSES.index(task.status)))


def sorted_verdicts(verdicts: Sequence[CellVerdict]) -> tuple[CellVerdict, ...]:
    """Regressions first, those that were confirmed and are large before the others."""
    return tuple(
        sorted(
            verdicts,
            key=lambda one: (VERDICTS.index(one.verdict), one.confirmed is not True, -abs(one.shift_pct or 0.0)),
        )
    )


def shift_text(verdict: CellVerdict) -> str:
    """The shift in percent with its sign: "+8.1 %"; empty if nothing can be said."""
    return "" if verdict.shift_pct is None else f"{_signed(verdict.shift_pct)}\N{NO-BREAK SPACE}%"


def interval_text(verdict: CellVerdict) -> str:
    """The interval of the shift: "[+6.2, +10.4] %"."""
    if verdict.low_pct is None or verdict.high_pct is None:
        return ""
    return f"[{_signed(verdict.low_pct)}, {_signed(verdict.high_pct)}]\N{NO-BREAK SPACE}%"


def figure_name(verdict: CellVerdict) -> str:
    """The figure's name for people: "total"."""
    return series_name(verdict.program, verdict.metric, verdict.unit)


def series_name(program: str, metric: str, unit: str) -> str:
    """A figure's name without its unit; a program that is one of several is named: "tenant-a latency_p99"."""
    title = figure_words(metric, unit)
    return title if program in {"", "measure"} else f"{program} {title}"


def _signed(value: float) -> str:
    text = number(value, 3 if abs(value) >= 1 else 2)
    return text if text.startswith("−") or text == "0" else f"+{text}"


def release_command(device: str) -> str:
    """What gives a device work again."""
    return shlex.join(["devicelab", "quarantine", "release", device])
