"""What goes on right now, from the store alone: campaigns that run, what they still have to decide, the last flag."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from devicelab import __version__
from devicelab.analyses import sequential
from devicelab.errors import LabError
from devicelab.ground.times import duration
from devicelab.model.campaign import CampaignInfo
from devicelab.model.night import NightInfo, Task
from devicelab.model.results import Results
from devicelab.report.page import environment
from devicelab.report.units import clock
from devicelab.store.reading import StoreReader

_LATEST = 50
_SILENT_S = 900.0  # a campaign whose process was killed stays "running"; one that was silent for so long is said to be
REFRESH_S = 5


@dataclass(frozen=True)
class Board:
    """A device with what runs on it.

    Attributes:
        device, experiment, campaign: what runs where.
        done, planned, invalid: of its runs; with a stop rule ``planned`` are those asked for so far.
        undecided: claims that are open, each with where it stands.
        left: time left, for people; empty where nothing tells.
        flag: the last one that was raised, with its run's cell; empty without one.
        silent: for how long nothing was stored, if that is suspicious; else empty.
        simulated: a virtual board or an emulated part.
    """

    device: str
    experiment: str
    campaign: str
    done: int
    planned: int
    invalid: int
    undecided: tuple[str, ...] = ()
    left: str = ""
    flag: str = ""
    silent: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class Now:
    """What is going on.

    Attributes:
        at: time of the look, UTC.
        night: the night that runs, if one does; how many of its tasks are in which state.
        boards: campaigns that run, by device.
        ended: the newest campaigns that do not run any more, one a device.
    """

    at: str
    night: str
    tasks: tuple[tuple[str, int], ...]
    boards: tuple[Board, ...]
    ended: tuple[CampaignInfo, ...]


def look(reader: StoreReader, now_unix_ns: int | None = None) -> Now:
    """One look at the store; nothing is written there.

    Raises:
        StoreError: it cannot be read.
    """
    now = time.time_ns() if now_unix_ns is None else now_unix_ns
    infos = reader.campaigns(limit=_LATEST)
    running = [info for info in infos if info.status == "running"]
    busy = {info.device for info in running}
    ended = {info.device: info for info in reversed(infos) if info.status != "running" and info.device not in busy}
    night = next((one for one in reader.nights(limit=3) if one.status == "running"), None)
    return Now(
        at=clock(now),
        night=_said(night),
        tasks=_counts(reader.tasks(night.night)) if night is not None else (),
        boards=tuple(_board(reader, info, now) for info in sorted(running, key=lambda info: info.device)),
        ended=tuple(ended[device] for device in sorted(ended)),
    )


def page(reader: StoreReader) -> bytes:
    """The look as a page that loads itself anew every few seconds and runs no script."""
    context = {"now": look(reader), "version": __version__, "refresh_s": REFRESH_S}
    return environment().get_template("watch.html.j2").render(context).encode()


def _said(night: NightInfo | None) -> str:
    return "" if night is None else f"{night.farm}, begun {clock(night.started_unix_ns)[:16]}"


def _counts(tasks: Sequence[Task]) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(task.status for task in tasks).most_common())


def _board(reader: StoreReader, info: CampaignInfo, now: int) -> Board:
    results = reader.results(info.campaign)
    runs = results.runs()
    last = info.started_unix_ns if runs.empty else int((runs["t_unix_ns"] + runs["duration_ns"]).max())
    silent_s = (now - max(last, info.started_unix_ns)) / 1e9
    return Board(
        device=info.device,
        experiment=info.experiment,
        campaign=info.campaign,
        done=info.runs_done,
        planned=info.runs_planned,
        invalid=info.runs_invalid,
        undecided=_undecided(results),
        left=_left(info, now),
        flag=_last_flag(results),
        silent=duration(silent_s, roughly=True) if silent_s > _SILENT_S else "",
        simulated=info.simulated,
    )


def _left(info: CampaignInfo, now: int) -> str:
    """By the pace so far."""
    if not info.runs_done or info.runs_done >= info.runs_planned:
        return ""
    each_s = max(0.0, (now - info.started_unix_ns) / 1e9) / info.runs_done
    return f"about {duration(each_s * (info.runs_planned - info.runs_done), roughly=True)}"


def _undecided(results: Results) -> tuple[str, ...]:
    """Claims of a stop rule that are open; nothing where the number of repetitions is fixed."""
    if results.experiment.stop is None or results.experiment.search is not None or results.runs().empty:
        return ()
    try:
        found, _ = sequential.decisions(results, sequential.cells_of(results))
    except LabError:
        return ()
    return tuple(
        f"{one.claim.name}: {one.got.estimate:.3g} after {one.at} repetitions" for one in found if not one.done
    )


def _last_flag(results: Results) -> str:
    runs = results.runs()
    if runs.empty:
        return ""
    flagged = runs[runs["flags"].map(len) > 0].sort_values("seq")
    if flagged.empty:
        return ""
    last = flagged.iloc[-1]
    return f"{last['flags'][-1].code}: {last['flags'][-1].detail} ({last['cell']})"
