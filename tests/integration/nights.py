"""A night on many virtual boards with faults: is every run stored once, every bad board out, every board given back?

    python -m tests.integration.nights --boards 20 --seed 1

starts boards of two kinds, gives some of them a bad night (``FAULTS``), conducts one night with ``devicelab nightly``
and prints what became of each board; it exits with 1 if something is not as it has to be.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devicelab.model.night import Health
from devicelab.store import Store
from tests.benches import Bench, Commands, finished, left_behind, wait_for
from virtualboards import lifecycle
from virtualboards.faults import Fault
from virtualboards.lifecycle import AdbServer, VirtualBoard

KINDS = ("note10", "qualcomm")

# For a whole night; it ends long before unless something is wrong.
_PATIENCE_S = 1200.0

_HOT: dict[str, float | str] = {"celsius": 95.0, "seconds": 1e6}
FAULTS = {
    "drop": (Fault("drop", at_runs=1, for_s=2.0),),
    "reboot": (Fault("reboot", at_runs=1),),
    "gone": (Fault("drop", at_runs=1, for_s=0.0),),
    "hang": (Fault("hang", at_runs=1, for_s=0.0),),
    "disk-full": (Fault("disk-full", at_runs=1, for_s=0.0),),
    "hot once": (Fault("thermal", at_runs=1, args=_HOT),),
    "runaway": tuple(Fault("thermal", after_s=float(second), args=_HOT) for second in range(0, 900, 2)),
}
"""What happens to a board in the night: once it has finished a run, or (``runaway``) from its beginning to its end.

``hot once`` does not cool down by itself either, but it does after a reboot.
"""

BAD = {
    "gone": "lost in the night",
    "hang": "lost in the night",
    "disk-full": "MiB free",
    "runaway": "°C, at most",
    "other tables": "clock tables changed",
    "out before": "by hand",
}
"""Boards that have to be in quarantine afterwards, with a piece of the reason."""

_ONE_OF_EACH = ("hang", "gone", "disk-full", "runaway", "hot once", "other tables", "out before")
LONG = Counter({"drop": 5, "reboot": 2} | dict.fromkeys(_ONE_OF_EACH, 1))
SHORT = Counter({"drop": 1, "reboot": 1, "gone": 1, "disk-full": 1, "runaway": 1})

EXPERIMENT = """\
question = "Does every run of a night come home?"
repetitions = {repetitions}
hold_s = 0.6
settle_s = 0.1
analyses = []
[factors]
load = ["none", "1000 5000 20"]
[set]
cpu = "min"
"""

FARM = """\
patience_s = 6
max_reboots = 1
wait_busy_s = 20
[health]
min_free_mib = 1
max_c = 80
cool_s = 4
root = true
[[jobs]]
experiment = "every.toml"
devices = "tag=farm"
[[jobs]]
experiment = "some.toml"
devices = "any {some} of tag=farm"
"""


@dataclass
class Outcome:
    """What came of a night: each board's fate, what is not as it has to be, and figures for a report."""

    fates: dict[str, str]
    violations: list[str] = field(default_factory=list)
    rows: list[tuple[str, ...]] = field(default_factory=list)
    code: int = 0
    took_s: float = 0.0

    def table(self) -> str:
        """A row for each board, as Markdown."""
        head = ("board", "what happened to it", "runs stored of its own job", "afterwards")
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in self.rows)])


class Night:
    """Boards, a lab, a farm file and a store in a folder.

    Args:
        boards: running, all with root.
        place: a folder.
        environment: variables with which commands find the boards.
    """

    def __init__(self, boards: Sequence[VirtualBoard], place: Path, environment: dict[str, str] | None = None) -> None:
        self.benches = {board.name: Bench(board, _folder(place / board.name), environment) for board in boards}
        first = boards[0]
        self.commands = Commands(first.name, f'address = "adb:{first.serial}"', place, environment or {})
        self.place, self.store = place, place / "night.sqlite"
        lab = "".join(
            f'[devices.{board.name}]\naddress = "adb:{board.serial}"\ntags = ["farm", "{board.kind}"]\n'
            for board in boards
        )
        (place / "lab.toml").write_text(lab, encoding="utf-8")

    def write(self, *, some: int, repetitions: int = 3, farm: str = FARM) -> None:
        """The farm file and its experiments."""
        for name in ("every", "some"):
            text = EXPERIMENT.format(repetitions=repetitions if name == "every" else 1)
            (self.place / f"{name}.toml").write_text(text, encoding="utf-8")
        (self.place / "farm.toml").write_text(farm.format(some=some), encoding="utf-8")

    def words(self, *more: str) -> tuple[str, ...]:
        """The command line of a night."""
        return ("nightly", "farm.toml", "--store", str(self.store), *more)

    def doom(self, fates: dict[str, str]) -> None:
        """Arm the boards' faults, and put into the store what has to be there before."""
        for board, fate in fates.items():
            if fate in FAULTS:
                lifecycle.arm(board, FAULTS[fate])
        with Store.open(str(self.store)) as store:
            for board, fate in fates.items():
                if fate == "out before":
                    store.quarantine(board, "taken out by hand")
                elif fate == "other tables":
                    facts = {"clock_tables": "of another kernel", "clocks /sys/policy0": "9 steps 100 to 900"}
                    store.add_health(Health(device=board, ok=True, facts=facts, at_unix_ns=time.time_ns()))

    def mend(self, fates: dict[str, str]) -> None:
        """What a person does in the morning: hanging boards are woken, full disks emptied, hot ones rebooted."""
        for board, fate in fates.items():
            if fate in BAD:
                lifecycle.arm(board, [Fault("clear")])
            if fate == "runaway":
                lifecycle.arm(board, [Fault("reboot")])


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def run_ids(store: Path, *, complete: bool = True) -> list[str]:
    """Ids of all runs, of complete campaigns alone if asked."""
    with Store.open(str(store)) as opened:
        campaigns = [info for info in opened.campaigns() if info.status == "complete" or not complete]
        return [str(run) for info in campaigns for run in opened.results(info.campaign).runs()["run_id"]]


def draw(boards: Sequence[str], fates: Counter[str], seed: int) -> dict[str, str]:
    """Which board has which night; the rest have a good one."""
    chance = random.Random(seed)
    names = chance.sample(list(boards), fates.total())
    return dict(zip(names, fates.elements(), strict=True))


def perform(night: Night, fates: dict[str, str], *, some: int, repetitions: int = 3) -> Outcome:
    """Conduct a night with faults, and look at everything afterwards."""
    outcome = Outcome(fates)
    night.write(some=some, repetitions=repetitions)
    night.doom(fates)
    began = time.monotonic()
    host = night.commands.start(*night.words(), board=False)
    host.join(_PATIENCE_S)
    outcome.code = finished(host)
    outcome.took_s = time.monotonic() - began
    night.mend(fates)
    _judge(night, outcome, repetitions=repetitions, some=some)
    return outcome


def _judge(night: Night, outcome: Outcome, *, repetitions: int, some: int) -> None:
    fates, wrong = outcome.fates, outcome.violations
    with Store.open(str(night.store)) as store:
        (info,) = store.nights()
        tasks = store.tasks(info.night)
        quarantined = {one.device: one.reason for one in store.quarantines(active=True)}
        campaigns = {one.campaign: one for one in store.campaigns()}
        runs = {name: list(store.results(name).runs()["run_id"]) for name in campaigns}
        if not store.check().ok:
            wrong.append("the store is damaged")
    every = [run for ids in runs.values() for run in ids]
    if len(every) != len(set(every)):
        wrong.append("a run is stored twice")
    if outcome.code != 4 or info.exit_code != 4:  # a board that is not fit (4) is worse than one that was lost (3)
        wrong.append(f"exit code {outcome.code}, stored {info.exit_code}: {night.commands.said()}")
    bad = {board: BAD[fate] for board, fate in fates.items() if fate in BAD}
    for board in sorted(bad.keys() | quarantined.keys()):
        if bad.get(board, "\0") not in quarantined.get(board, ""):
            wrong.append(f"{board} ({fates.get(board, 'well')}) in quarantine: {quarantined.get(board)}")
    extra = [task for task in tasks if task.job == 1]
    if len(extra) != some or any(task.status != "complete" for task in extra):
        wrong.append(f"not moved to boards that are well: {[task for task in extra if task.status != 'complete']}")
    for task in tasks:
        stored = len(runs.get(task.campaign or "", ()))
        planned = 2 * (repetitions if task.job == 0 else 1)
        fit = task.device not in bad
        if fit and (task.status != "complete" or stored != planned):
            wrong.append(f"{task.task_id} on {task.device}: {task.status} ({task.reason}), {stored} of {planned} runs")
        if task.status not in {"complete", "failed", "skipped"} or (not fit and task.job == 0 and not task.reason):
            wrong.append(f"nothing says what became of {task}")
    for name, bench in night.benches.items():
        own = next(task for task in tasks if task.job == 0 and task.device == name)
        wait_for(lambda bench=bench: not bench.programs("agent", "overhead"), 30.0)
        left = left_behind(bench, bench.fresh)
        wrong += [f"{name}: {what}" for what in left]
        stored = f"{len(runs.get(own.campaign or '', ()))} of {2 * repetitions}"
        after = f"quarantine: {quarantined[name]}" if name in quarantined else own.status
        outcome.rows.append((name, fates.get(name, "nothing"), stored, after + (", not restored" if left else "")))


def main() -> int:
    """One long night; see the module's text."""
    parser = argparse.ArgumentParser(description="A night with faults on virtual boards.")
    parser.add_argument("--boards", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--abi", default="x86_64", help="of the boards' programs; arm64-v8a runs in an emulator")
    args = parser.parse_args()
    AdbServer.of_user().start()
    half = (args.boards + 1) // 2
    with tempfile.TemporaryDirectory(prefix="night-") as place:
        boards: list[VirtualBoard] = []
        try:
            for kind, count in zip(KINDS, (half, args.boards - half), strict=True):
                boards += lifecycle.up(
                    kind, name=f"farm-{kind}", count=count, abi=args.abi, su="magisk", seed=args.seed
                )
            night = Night(boards, Path(place))
            fates = draw([board.name for board in boards], LONG, args.seed)
            outcome = perform(night, fates, some=4, repetitions=args.repetitions)
            print((Path(place) / "said.txt").read_text(encoding="utf-8"))
        finally:
            lifecycle.down([board.name for board in boards])
    print(f"seed {args.seed}, {args.boards} boards, {outcome.took_s:.0f} s, exit code {outcome.code}")
    print(outcome.table())
    print(json.dumps(outcome.violations, indent=1, ensure_ascii=False))
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
