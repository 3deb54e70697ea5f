"""Power cuts: ``python -m tests.faults --power --n 200 [--seed S]``.

A sweep on this machine: the device's folder and the results database lie each on a disk that loses what was not synced
(see ``losing``). At a random instant the power of the host, of the device, or of both is cut: processes die at once,
and of the disk remains what was synced, or a random part of the rest as well. Then it is switched on again, and
somebody comes back with ``--resume``. Judged: every run that the database held is still there as it was, the database
is sound, all planned runs are stored once, and each as a whole line of a journal said it: none is from a torn one.
"""

import contextlib
import os
import random
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devicelab.errors import LabError
from devicelab.model.campaign import ENDED
from devicelab.model.journal import RunRecord, parse_line
from devicelab.report import page
from devicelab.store import Store
from tests.benches import Commands, finished, stored, wait_for
from tests.faults.losing import LosingDisk, possible
from tests.processes import kill_all

_EXPERIMENT = """question = "Is anything lost without power?"
foreign_pct = 100
foreign_core_pct = 100
repetitions = 4
settle_s = 0.02
hold_s = 0.1
seed = {seed}
analyses = []

[factors]
load = ["none", "1000 5000 20"]
placement = ["one-big"]
"""
_WHOSE = ("host", "device", "both")
# A sweep of eight such runs takes about so long, and a cut may also come before and after it.
_ABOUT_S = 1.8
_DONE = (0, 6)


@dataclass
class PowerOutcome:
    """What came of a cut.

    Attributes:
        whose: power was cut: of the host (with the database), of the device (with journal and undo), of both.
        held: runs that the database held at the cut.
        after: of those, how many it holds when the power is back.
        code: exit code of the sweep, -9 where it died with its host.
        violations: every promise that was not kept.
    """

    seed: int
    number: int
    whose: str
    moment_s: float
    held: int = 0
    after: int = 0
    code: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdict = "VIOLATION" if self.violations else "held"
        line = (
            f"{self.seed}:{self.number} power of {self.whose} after {self.moment_s:g} s: exit code {self.code}, "
            f"{self.after} of {self.held} stored runs still there: {verdict}"
        )
        return "\n    ".join([line, *self.violations])


class _Machine(Commands):
    """This machine as a device whose folder is on one losing disk, and a database on another."""

    def __init__(self, place: Path) -> None:
        self.host = LosingDisk(place / "host", place / "host.state")
        self.device = LosingDisk(place / "device", place / "device.state")
        super().__init__("cut", f'address = "local:"\ndir = "{self.device.where}/dir"', place, {})
        self.store = self.host.where / "results" / "lab.sqlite"
        # What every run's whole line said, from all journals that were seen: id → times of its start.
        self.true: dict[str, set[int]] = {}

    def processes(self) -> list[int]:
        """Whoever runs a program of the device's folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*/exe"):
            with contextlib.suppress(OSError):
                if path.readlink().is_relative_to(self.device.where):
                    found.append(int(path.parent.name))
        return found

    def note_journals(self) -> None:
        """Remember what whole lines say; only what is noted here may be in the database later."""
        for name, content in self.device.everything().items():
            for line in content.splitlines(keepends=True) if name.endswith("journal.jsonl") else ():
                with contextlib.suppress(ValueError):
                    event = parse_line(line)
                    if isinstance(event, RunRecord):
                        self.true.setdefault(event.run_id, set()).add(event.t_unix_ns)

    def in_store(self) -> dict[str, int]:
        """Runs that are committed: id → time of its start."""
        if not self.store.exists():
            return {}
        with (
            contextlib.suppress(sqlite3.OperationalError),
            contextlib.closing(sqlite3.connect(f"{self.store.as_uri()}?mode=ro", uri=True)) as opened,
        ):
            return {str(run): int(at) for run, at in opened.execute("SELECT run_id, t_unix_ns FROM runs")}
        return {}

    def close(self) -> None:
        """End everything that runs from the disks, and unmount them."""
        kill_all(self.processes())
        self.host.close()
        self.device.close()


def cut(seed: int, number: int, place: Path) -> PowerOutcome:
    """One power cut, from an empty database to the end of the resumed sweep."""
    chance = random.Random(f"{seed}/power/{number}")
    outcome = PowerOutcome(seed, number, chance.choice(_WHOSE), round(chance.uniform(0.0, 1.2) * _ABOUT_S, 2))
    machine = _Machine(place)
    machine.ready = _no_figures
    try:
        _play(machine, outcome, chance)
    except (AssertionError, LabError, OSError) as error:
        outcome.violations.append(f"{type(error).__name__}: {error}; said: {machine.said()}")
    finally:
        machine.close()
    return outcome


def _no_figures() -> None:
    page.built_in = lambda *_words, **_named: ()  # type: ignore[assignment]


def _play(machine: _Machine, outcome: PowerOutcome, chance: random.Random) -> None:
    experiment = machine._place / "e.toml"
    experiment.write_text(_EXPERIMENT.format(seed=outcome.number + 1), encoding="utf-8")
    words = ("sweep", str(experiment), "--store", str(machine.store))
    words += ("--report", str(machine.host.where / "report.html"))
    host = machine.start(*words)
    host.join(outcome.moment_s)
    if chance.random() < 0.5 and wait_for(lambda: machine.in_store() or not host.is_alive(), 20.0):
        host.join(outcome.moment_s / 4)
    with _still(host.pid if outcome.whose != "device" and host.is_alive() else None):
        before = machine.in_store()
        machine.note_journals()
        cut_unix_ns = time.time_ns()
        if outcome.whose != "device":
            host.kill()
            host.join()
        if outcome.whose != "host":
            _end(machine)
            machine.note_journals()
    outcome.held = len(before)
    if outcome.whose != "host":
        machine.device.cut(chance.randrange(1 << 30))
    if outcome.whose != "device":
        machine.host.cut(chance.randrange(1 << 30))
    outcome.code = finished(host)
    found = machine.in_store()
    outcome.after = sum(found.get(run) == at for run, at in before.items())
    if outcome.after != outcome.held:
        outcome.violations.append(f"lost: {sorted(before.items() - found.items())}")
    _come_back(machine, outcome, words, before, cut_unix_ns)


@contextlib.contextmanager
def _still(pid: int | None) -> Iterator[None]:
    """Nothing is committed between looking and cutting."""
    if pid is not None:
        os.kill(pid, signal.SIGSTOP)
    yield


def _end(machine: _Machine) -> None:
    deadline = time.monotonic() + 20.0
    while pids := machine.processes():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert time.monotonic() < deadline, "the device's programs do not die"
        time.sleep(0.02)


def _come_back(
    machine: _Machine, outcome: PowerOutcome, words: tuple[str, ...], before: dict[str, int], cut_unix_ns: int
) -> None:
    wrong = outcome.violations
    assert wait_for(lambda: not machine.processes()), "the agent does not end"
    machine.note_journals()
    campaigns = ()
    if machine.store.exists() and machine.store.stat().st_size:
        with Store.open(str(machine.store)) as store:
            wrong += [f"after the cut: {problem}" for problem in store.check().problems]
            campaigns = store.campaigns()
    if not campaigns or campaigns[0].status not in ENDED:
        code = machine.run(*words, *(("--resume",) if campaigns else ()))
        if code not in _DONE:
            wrong.append(f"{'--resume' if campaigns else 'anew'}: exit code {code}: {machine.last_words()[-800:]}")
            return
    if "Traceback" in machine.last_words():
        wrong.append(f"a traceback: {machine.last_words()[-2000:]}")
    ids, planned = stored(machine.store)
    if len(ids) != planned or len(set(ids)) != planned:
        wrong.append(f"{len(set(ids))} of {planned} runs are stored, {len(ids) - len(set(ids))} twice")
    with Store.open(str(machine.store)) as store:
        wrong += store.check().problems
    # Whatever began before the cut has to be what a whole line said; what came later has a line that is gone by now.
    wrong += [
        f"{run} was stored from no whole line"
        for run, at in machine.in_store().items()
        if run not in before and at < cut_unix_ns and at not in machine.true.get(run, ())
    ]


def cut_many(seed: int, count: int) -> list[PowerOutcome]:
    """So many power cuts, one after another; those done until Ctrl-C.

    Raises:
        SystemExit: they cannot be done on this machine.
    """
    if reason := possible():
        raise SystemExit(f"no power cuts here: {reason}")
    outcomes: list[PowerOutcome] = []
    with contextlib.suppress(KeyboardInterrupt):
        for number in range(count):
            with tempfile.TemporaryDirectory(prefix="power-", ignore_cleanup_errors=True) as place:
                outcomes.append(cut(seed, number, Path(place)))
            print(f"[{len(outcomes)}/{count}] {outcomes[-1]}", flush=True)
    return outcomes


def power_table(outcomes: Sequence[PowerOutcome]) -> str:
    """Cuts by whose power it was, as Markdown."""
    lines = ["| power of | cuts | runs stored before | lost | violations |", "|---|---|---|---|---|"]
    for whose in (*_WHOSE, "all"):
        own = [one for one in outcomes if whose in {one.whose, "all"}]
        held, after = sum(one.held for one in own), sum(one.after for one in own)
        lines.append(f"| {whose} | {len(own)} | {held} | {held - after} | {sum(bool(o.violations) for o in own)} |")
    return "\n".join(lines)
