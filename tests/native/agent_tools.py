"""Running the agent in tests: a directory with binaries, plain files as nodes, and plans made from the model."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devicelab.model.journal import Event, PlanEnd, PlanStart, RunRecord, parse_line
from devicelab.model.plan import Plan, Program, Run, Sampling
from tests.processes import kill_all

WAIT_S = 30.0


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, at most ``WAIT_S``."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.005)


def processes_of(exe: Path) -> list[int]:
    """Pids of the processes that run a file."""
    wanted = exe.stat()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                seen = (entry / "exe").stat()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino) and state != "Z":
                found.append(int(entry.name))
    return found


@dataclass
class Bench:
    """One device's directory: ``bin`` with the agent, ``state``, ``nodes``, and an output directory a plan."""

    root: Path
    prefix: tuple[str, ...] = ()
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def agent(self) -> Path:
        return self.root / "bin" / "agent"

    @property
    def state(self) -> Path:
        return self.root / "state"

    def node(self, name: str, text: str) -> str:
        """A plain file that stands for a sysfs node; its path."""
        path = self.root / "nodes" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    def nodes(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in sorted((self.root / "nodes").iterdir()) if p.is_file()}

    def argv(self, *words: object) -> list[str]:
        return [*self.prefix, str(self.agent), *map(str, words)]

    def call(self, *words: object, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(self.argv(*words), input=stdin, capture_output=True, timeout=120, check=False)

    def ask(self, *words: object, code: int = 0) -> dict[str, Any]:
        """A command about the state directory that answers with one object."""
        done = self.call(*words, "--state", self.state)
        assert done.returncode == code, (done.returncode, done.stderr.decode())
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return answer

    def out(self, plan: Plan) -> Path:
        return self.root / "plans" / plan.plan_id

    def words(self, plan: Plan) -> tuple[object, ...]:
        self.out(plan).mkdir(parents=True, exist_ok=True)
        path = self.out(plan) / "plan.json"
        path.write_text(plan.to_json())
        return "run", path, "--state", self.state, "--out", self.out(plan)

    def run(self, plan: Plan, *, code: int = 0) -> "Told":
        done = self.call(*self.words(plan))
        assert done.returncode == code, (done.returncode, done.stderr.decode())
        return self.told(plan)

    def start(self, plan: Plan, **options: Any) -> "subprocess.Popen[bytes]":
        with (self.root / "agent.log").open("ab") as log:
            process = subprocess.Popen(
                self.argv(*self.words(plan)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
            )
        self.started.append(process)
        return process

    def journal(self, plan: Plan) -> Path:
        return self.out(plan) / "journal.jsonl"

    def told(self, plan: Plan) -> "Told":
        return Told(list(events(self.journal(plan))))

    def until_journal_says(self, plan: Plan, text: str) -> None:
        """Wait until it does, as long as it grows within every ``WAIT_S``."""
        journal, wanted, seen, tail = self.journal(plan), text.encode(), 0, b""

        def grown() -> bool:
            return journal.exists() and journal.stat().st_size > seen

        while wanted not in tail:
            until(grown, f"{text!r} in the journal")
            with journal.open("rb") as file:
                file.seek(seen)
                new = file.read()
            seen += len(new)
            tail = tail[-len(wanted) :] + new

    def loads(self) -> list[int]:
        return processes_of(self.root / "bin" / "overhead")

    def end(self) -> None:
        """Nothing that a test started is left."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
        kill_all([*self.loads(), *processes_of(self.agent)])
        log = self.root / "agent.log"
        said = log.read_text(errors="replace") if log.exists() else ""
        assert not re.search("Sanitizer|runtime error", said), said


def events(journal: Path) -> Iterator[Event]:
    for line in journal.read_bytes().splitlines(keepends=True):
        yield parse_line(line)


@dataclass(frozen=True)
class Told:
    """A journal."""

    events: list[Event]

    @property
    def records(self) -> list[RunRecord]:
        return [event for event in self.events if isinstance(event, RunRecord)]

    @property
    def record(self) -> RunRecord:
        (record,) = self.records
        return record

    @property
    def starts(self) -> list[PlanStart]:
        return [event for event in self.events if isinstance(event, PlanStart)]

    @property
    def end(self) -> PlanEnd:
        last = self.events[-1]
        assert isinstance(last, PlanEnd)
        return last


def codes(record: RunRecord | PlanStart | PlanEnd) -> list[str]:
    return [flag.code for flag in record.flags]


def plan(*runs: Run, plan_id: str = "p1", **more: Any) -> Plan:
    fields = {"campaign": "c", "device": "bench", "holder": "tester", **more}
    return Plan(plan_id=plan_id, runs=runs, **fields)


def one_run(*programs: Program, run_id: str = "r1", **more: Any) -> Run:
    """A run that is short in every part that is not given."""
    fields: dict[str, Any] = {
        "cell_id": "c1",
        "repetition": 0,
        "settle_ms": 0,
        "sampling": Sampling(period_ms=20),
        **more,
    }
    return Run(run_id=run_id, programs=programs, **fields)


def load(
    name: str = "load", *, argv: tuple[str, ...] = ("{dir}/overhead", "1000", "5000", "30"), **more: Any
) -> Program:
    return Program(name=name, role="load", argv=argv, **more)


def measure(*argv: str, name: str = "measured", **more: Any) -> Program:
    return Program(name=name, role="measure", argv=argv, **more)


def shell(script: str, name: str = "measured", **more: Any) -> Program:
    return measure("sh", "-c", script, name=name, **more)
