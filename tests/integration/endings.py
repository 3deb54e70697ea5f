"""Random work with random endings on virtual boards, and whether each board is given back as it was found.

One trial: the board is put into a state of its own (so that "as it was" is not "as it boots"), a sweep or a pin with
random knobs starts as a process of its own, is ended in one of ``ENDINGS`` at a random moment, and then somebody comes
back with ``devicelab restore`` or the next command. Afterwards every writable node must hold the bytes it held before
(after a reboot: those of a fresh boot), and no load, no agent, no lease and nothing to undo may be left. Everything
random comes from the seed.

    python -m tests.integration.endings --n 100 --seed 1

prints a line for each trial and a table at the end; it exits with 1 if there was a violation.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from devicelab.device import agent
from devicelab.store import Store
from tests.benches import Bench, Host, finished, left_behind, stored, wait_for
from tests.processes import kill_all
from virtualboards import lifecycle
from virtualboards.faults import Fault
from virtualboards.lifecycle import AdbServer
from virtualboards.users import Su

_FORK = multiprocessing.get_context("fork")

ENDINGS = ("normal", "ctrl-c", "sigterm", "host-killed", "agent-killed", "both-killed", "drop", "reboot")
# Without root there is nothing to give back.
ROOT: dict[str, Su] = {"oddball": "su-0"}
KINDS = ("note10", "note10-sd855", "oddball", "pixel", "qualcomm", "qualcomm-865")
AFTERWARDS = ("restore", "restore", "next command")

# Exit codes with which a command may end: done, flagged runs (the disturbance shows in them), device lost, interrupted.
# Others would mean that nothing was tried, or a bug.
_CODES = {0, 3, 6, 130, -signal.SIGKILL}

_SIGNALS = {"ctrl-c": signal.SIGINT, "sigterm": signal.SIGTERM, "host-killed": signal.SIGKILL}
_LOAD = "1000 5000 20"


@dataclass(frozen=True)
class Trial:
    """One piece of work and its ending.

    Attributes:
        job: ``sweep`` or ``pin``.
        wants: knob word → level (a sweep has the levels joined by a bar as a factor).
        seen_first: the moment counts from when the agent was seen on the board, not from the host's start.
        moment_s: when the ending comes.
        drop_s: how long a pulled cable stays out.
        afterwards: what the next visitor does.
        seed: of the board's state before.
    """

    number: int
    kind: str
    ending: str
    job: str
    wants: dict[str, str]
    seen_first: bool
    moment_s: float
    drop_s: float
    afterwards: str
    seed: int

    def __str__(self) -> str:
        wants = " ".join(f"{word}={level}" for word, level in self.wants.items())
        since = "agent" if self.seen_first else "host"
        return f"#{self.number} {self.kind}: {self.job} {wants}; {self.ending} {self.moment_s:.2f} s after {since}"


def draw(seed: int, count: int, kinds: Sequence[str] = KINDS, endings: Sequence[str] = ENDINGS) -> tuple[Trial, ...]:
    """``count`` trials; kinds and endings take turns, so that each pair comes equally often, the rest is random."""
    chance = random.Random(seed)
    pairs = [(kind, ending) for ending in endings for kind in kinds]
    chance.shuffle(pairs)
    return tuple(_draw_one(number, *pairs[number % len(pairs)], chance) for number in range(count))


def _draw_one(number: int, kind: str, ending: str, chance: random.Random) -> Trial:
    job = chance.choice(("sweep", "sweep", "pin"))
    if kind == "oddball":
        job = "sweep"  # there is nothing to pin, but loads run
    words = {
        "cpu": ("max", "min", "honest-min"),
        "gpu": ("max", "min"),
        "governor": ("performance",),
        "isolation": ("hold",),
        "idle_states": ("off",),
        "membus": ("max", "min"),
        "uclamp": ("50",),
        "daemons": ("stop",),
    }
    chosen = chance.sample(sorted(words), chance.randint(1, 4))
    if kind == "oddball" and "governor" in chosen:
        chosen.remove("governor")  # it has one alone
    if "governor" not in chosen and "cpu" not in chosen:
        chosen.append("cpu")
    elif "governor" in chosen and "cpu" in chosen:
        chosen.remove("governor")
    wants = {word: chance.choice(words[word]) for word in chosen}
    return Trial(
        number=number,
        kind=kind,
        ending=ending,
        job=job,
        wants=wants,
        seen_first=chance.random() < 0.75,
        moment_s=round(chance.uniform(0, 2.5), 3),
        drop_s=round(chance.uniform(0.3, 3.0), 3),
        afterwards=chance.choice(AFTERWARDS),
        seed=chance.randrange(2**31),
    )


@dataclass
class Outcome:
    """What came of a trial.

    Attributes:
        violations: the reasons why the board was not given back (none: it was).
        code: exit code of the command that was disturbed; minus the signal that killed it.
        stored: how many runs the store holds, where the sweep was resumed.
    """

    trial: Trial
    violations: list[str] = field(default_factory=list)
    code: int = 0
    stored: str = ""
    took_s: float = 0.0

    def __str__(self) -> str:
        verdict = "given back" if not self.violations else "VIOLATION"
        stored = f", {self.stored}" if self.stored else ""
        line = (
            f"{self.trial}: exit code {self.code}, then {self.trial.afterwards}{stored}: {verdict}, {self.took_s:.0f} s"
        )
        return "\n  ".join([line, *self.violations])


def perform(bench: Bench, trial: Trial, store: Path) -> Outcome:
    """Do one trial and look at what is left."""
    began = time.monotonic()
    outcome = Outcome(trial)
    bench.disturb(trial.seed)
    before = bench.tree()
    host = bench.start(*_command(trial, store))
    try:
        _end(bench, trial, host)
    finally:
        code = outcome.code = finished(host)
    if code not in _CODES:
        outcome.violations.append(f"exit code {code}: {bench.said()}")
    expected = bench.fresh if trial.ending == "reboot" else before
    if trial.job == "sweep" and trial.ending in {"normal", "ctrl-c", "sigterm"}:
        # These give the board back by themselves.
        outcome.violations += [f"before anybody came back: {what}" for what in left_behind(bench, expected)]
    _come_back(bench, trial, store, code, outcome)
    outcome.violations += left_behind(bench, expected)
    outcome.took_s = time.monotonic() - began
    return outcome


def _command(trial: Trial, store: Path) -> tuple[str, ...]:
    if trial.job == "pin":
        return ("pin", *(word for name, level in trial.wants.items() for word in ("--knob", f"{name}={level}")))
    file = store.with_suffix(".toml")
    settings = "\n".join(f'{word} = "{level}"' for word, level in trial.wants.items())
    file.write_text(
        f'question = "Is the board given back?"\n'
        "foreign_pct = 100\nforeign_core_pct = 100\n"
        f"repetitions = 2\nhold_s = 0.4\nsettle_s = 0.1\nseed = {trial.seed}\n"
        f'[factors]\nload = ["none", "{_LOAD}"]\nplacement = ["one-per-core"]\n[set]\n{settings}\n',
        encoding="utf-8",
    )
    return ("sweep", str(file), "--store", str(store), "--report", str(store.with_suffix(".html")))


def _end(bench: Bench, trial: Trial, host: Host) -> None:
    if trial.ending == "normal":
        return
    if trial.seen_first:
        wait_for(lambda: bench.agents() or not host.is_alive())
    host.join(trial.moment_s)
    if trial.ending in _SIGNALS:
        if host.pid is not None and host.is_alive():
            os.kill(host.pid, _SIGNALS[trial.ending])
    elif trial.ending in {"agent-killed", "both-killed"}:
        wait_for(lambda: bench.agents() or not host.is_alive())
        host_too = [host.pid] if trial.ending == "both-killed" and host.pid is not None and host.is_alive() else []
        kill_all((*host_too, *bench.agents()))
    elif trial.ending == "drop":
        lifecycle.arm(bench.board.name, [Fault("drop", for_s=trial.drop_s)])
    else:
        lifecycle.arm(bench.board.name, [Fault("reboot")])


def _come_back(bench: Bench, trial: Trial, store: Path, code: int, outcome: Outcome) -> None:
    """The next visitor: ``restore``, or the next command, which undoes first. A working agent is waited for."""
    again = trial.afterwards == "next command"
    resumable = trial.job == "sweep" and code not in (0, 6) and trial.ending != "both-killed"
    if again and resumable and _unfinished(store, bench.name):
        after = bench.run("sweep", str(store.with_suffix(".toml")), "--store", str(store), "--resume")
        outcome.stored = _stored_once(store, outcome)
        if after not in (0, 6):
            outcome.violations.append(f"sweep --resume: exit code {after}: {bench.said()}")
        return
    if again and trial.job == "sweep" and trial.ending == "both-killed":
        # New work instead of the old: it plans for the board as it is after the undo, not as it was found.
        after = bench.run(*_command(trial, store))
        if after not in (0, 6):
            outcome.violations.append(f"a new sweep: exit code {after}: {bench.said()}")
        return
    if again:
        # A short load is the next piece of work; it refuses while the board's own agent goes on alone.
        wait_for(lambda: not _working(bench))
        after = bench.run("load", *_LOAD.split(), "--seconds", "0.5")
        if after != 0:
            outcome.violations.append(f"the next command: exit code {after}: {bench.said()}")
        if trial.job == "sweep":
            return
    wait_for(lambda: not _working(bench))
    after = bench.run("restore")
    if after != 0:
        outcome.violations.append(f"restore: exit code {after}: {bench.said()}")


def _working(bench: Bench) -> bool:
    """An agent executes a plan; one that only holds a pin does not count."""
    if not bench.agents():
        return False
    with bench.device() as device:
        return agent.status(device).alive


def _unfinished(store: Path, device: str) -> bool:
    if not store.exists():
        return False
    with Store.open(str(store)) as opened:
        return bool(opened.unfinished(device=device, experiment=store.stem))


def _stored_once(store: Path, outcome: Outcome) -> str:
    runs, planned = stored(store)
    if len(runs) != planned or len(set(runs)) != planned:
        outcome.violations.append(f"{len(runs)} runs stored, {planned} were planned")
    return f"{len(runs)} of {planned} runs stored"


def table(outcomes: Sequence[Outcome]) -> str:
    """Trials by ending and kind, with the violations, as Markdown."""
    kinds = sorted({outcome.trial.kind for outcome in outcomes})
    count = Counter((outcome.trial.ending, outcome.trial.kind) for outcome in outcomes)
    bad = Counter(outcome.trial.ending for outcome in outcomes if outcome.violations)
    lines = [f"| ending | {' | '.join(kinds)} | all | violations |", "|---" * (len(kinds) + 3) + "|"]
    for ending in ENDINGS:
        row = [count[ending, kind] for kind in kinds]
        lines.append(f"| {ending} | {' | '.join(map(str, row))} | {sum(row)} | {bad[ending]} |")
    total = [sum(count[ending, kind] for ending in ENDINGS) for kind in kinds]
    lines.append(f"| all | {' | '.join(map(str, total))} | {sum(total)} | {sum(bad.values())} |")
    return "\n".join(lines)


def _on_one_board(work: tuple[str, list[Trial], str, int, AdbServer]) -> list[Outcome]:
    kind, trials, abi, seed, server = work
    if not trials:
        return []
    board = lifecycle.up(kind, name=f"endings-{kind}", abi=abi, su=ROOT.get(kind), seed=seed, server=server)[0]
    outcomes = []
    try:
        with tempfile.TemporaryDirectory(prefix="endings-") as place:
            bench = Bench(board, Path(place))
            for trial in trials:
                outcome = perform(bench, trial, Path(place) / f"trial{trial.number}.sqlite")
                outcomes.append(outcome)
                print(outcome, flush=True)
    finally:
        lifecycle.down([board.name])
    return outcomes


def main() -> int:
    """Many trials on boards of every kind; see the module's text."""
    parser = argparse.ArgumentParser(description="Random endings on virtual boards: is each given back as it was?")
    parser.add_argument("--n", type=int, default=100, help="number of trials")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--only", type=int, action="append", help="number of a trial to do alone (repeatable)")
    parser.add_argument("--jobs", type=int, default=2, help="boards at work at the same time")
    parser.add_argument("--abi", default="x86_64", help="of the boards' programs; arm64-v8a runs in an emulator")
    args = parser.parse_args()
    kinds = args.kinds.split(",")
    trials = [t for t in draw(args.seed, args.n, kinds) if args.only is None or t.number in args.only]
    server = AdbServer.of_user()
    server.start()
    work = [(kind, [t for t in trials if t.kind == kind], args.abi, args.seed, server) for kind in kinds]
    with ProcessPoolExecutor(args.jobs, mp_context=_FORK) as pool:
        outcomes = [outcome for done in pool.map(_on_one_board, work) for outcome in done]
    print(f"seed {args.seed}, {len(outcomes)} trials, programs for {args.abi}")
    print(table(outcomes))
    return 1 if any(outcome.violations for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
