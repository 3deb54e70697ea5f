"""Campaigns that stop when decided, their hosts killed at random instants: ``python -m tests.faults.adaptive --n 50``.

Each trial is a sweep of this machine with a stop rule (or a search), whose process is killed (SIGKILL) one to four
times at instants drawn from the seed and then resumed to its end. The program that is measured writes a line each time
it is executed. Promises: each run was executed once and is stored once; what is stored is what the rule asks for, block
by block, from the first repetition on; the rule ends where it would have ended; nothing is left to resume.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from devicelab.analyses import searching, sequential
from devicelab.experiment.blocks import End
from devicelab.experiment.claims import Cells
from devicelab.model.results import Results
from devicelab.store import Store
from tests import forks

_PROGRAM = """\
echo {k} >> LOG
sleep 0.02
date +%s%N | awk '{srand($1 % 2147483647); n = 0; for (i = 0; i < 12; i++) n += rand();
  effect[1] = 0; effect[2] = 0.004; effect[3] = 0.1; effect[4] = 0.3; effect[6] = 0.02; effect[8] = 0.2;
  printf "total_ns=%.0f\\n", 1e6 * exp(effect[{k}] + 0.012 * (n - 6))}'
"""
_EXPERIMENT = """\
question = "Is K = 1 another than the others?"
settle_s = 0
foreign_pct = 100
foreign_core_pct = 100
seed = SEED
RULE
[factors]
k = [1, 2, 4, 8]
[measure]
workload = "command"
[measure.params]
output = "regex"
pattern = 'total_ns=(?P<total_ns>\\d+)'
argv = ["sh", "PROGRAM", "{k}"]
"""
_RULES = {
    "stop": 'answer = { quantity = "total_ns", by = "k", against = { k = 1 } }\n[stop]\nmax_repetitions = 14',
    "search": '[search]\nminimise = "total_ns"',
}
_LONGEST_S = 300.0


@dataclass(frozen=True)
class Outcome:
    """Of one trial: kills that struck, runs stored and executed, how the rule ended, promises that were not kept."""

    kills: int
    runs: int
    ended: str
    wrong: tuple[str, ...]


class Trial:
    """One campaign in a folder of its own."""

    def __init__(self, folder: Path, seed: int, rule: str) -> None:
        self.folder, self.rule, self.chance = folder, rule, random.Random(f"{seed}/{rule}")
        self.log, self.store = folder / "log", folder / "s.sqlite"
        program = folder / "program.sh"
        text = _PROGRAM.replace("{k}", "$1").replace("effect[$1]", "effect[k]").replace("awk '", 'awk -v k="$1" \'')
        program.write_text(text.replace("LOG", f"'{self.log}'"), encoding="utf-8")
        said = _EXPERIMENT.replace("SEED", str(seed)).replace("RULE", _RULES[rule]).replace("PROGRAM", str(program))
        (folder / "adaptive.toml").write_text(said, encoding="utf-8")
        lab = folder / "lab.toml"
        lab.write_text(f'[devices.here]\naddress = "local:"\ndir = "{folder}/agent"\n', encoding="utf-8")
        self.environment = {"DEVICELAB_LAB": str(lab)}

    def start(self, *, resume: bool) -> "subprocess.Popen[str]":
        """The sweep in a process of its own."""
        words = ["sweep", str(self.folder / "adaptive.toml"), "--board", "here", "--store", str(self.store)]
        words += ["--report", str(self.folder / "r.html"), *(["--resume"] if resume else [])]
        with (self.folder / "said").open("ab") as said:
            return forks.start(*words, cwd=self.folder, environment=self.environment, said=said, session=True)

    def begun(self) -> bool:
        """A campaign is stored that can go on."""
        if not self.store.exists():
            return False
        with Store.open(self.store) as store:
            return any(info.status != "complete" for info in store.campaigns())

    def done(self) -> bool:
        """A campaign is stored that is complete."""
        if not self.store.exists():
            return False
        with Store.open(self.store) as store:
            return any(info.status == "complete" for info in store.campaigns())

    def play(self) -> Outcome:
        """Kill and resume, then look."""
        kills, wanted = 0, self.chance.randint(1, 4)
        for _ in range(wanted):
            host = self.start(resume=self.begun())
            time.sleep(self.chance.uniform(0.5, 6.0))
            if host.poll() is None:
                os.kill(host.pid, signal.SIGKILL)
                kills += 1
            host.wait()
            if self.done():
                break
        if not self.done():
            self.start(resume=self.begun()).wait(timeout=_LONGEST_S)
        return self.judge(kills)

    def judge(self, kills: int) -> Outcome:
        """The promises."""
        with Store.open(self.store) as store:
            info, *others = store.campaigns() or [None]
            if info is None:
                return Outcome(kills, 0, "not begun", ("no campaign is stored",))
            results = store.results(info.campaign)
            cells = {cell.cell_id: cell.levels for cell in store.cells(info.campaign)}
            runs = results.runs()
            pairs = [(str(cell), int(n)) for cell, n in zip(runs["cell_id"], runs["repetition"], strict=True)]
            executed = len(self.log.read_text(encoding="utf-8").splitlines()) if self.log.exists() else 0
            wrong = [f"{len(others)} other campaigns"] if others else []
            wrong += [f"ended as {info.status}"] if info.status != "complete" else []
            wrong += ["a run is stored twice"] if len(set(pairs)) != len(pairs) else []
            wrong += [f"{executed} executions, {len(pairs)} runs stored"] if executed != len(pairs) else []
            wrong += [f"{int((~runs['valid']).sum())} runs are flagged"] if not runs["valid"].all() else []
            asked, ended = self.replayed(results, cells)
            wrong += (
                [f"stored is not what the rule asks for: {len(asked ^ set(pairs))} differ"]
                if asked != set(pairs)
                else []
            )
        return Outcome(kills, len(pairs), ended, tuple(wrong))

    def replayed(self, results: Results, cells: Cells) -> tuple[set[tuple[str, int]], str]:
        """What the rule asks for from the first repetition on, as it decides by what is stored; and how it ends."""
        ask = searching.ask if self.rule == "search" else sequential.ask
        runs = results.runs()
        known = {
            (str(c), int(n)): str(r)
            for c, n, r in zip(runs["cell_id"], runs["repetition"], runs["run_id"], strict=True)
        }
        asked: set[tuple[str, int]] = set()
        while True:
            step = ask(_Part(results, {known[one] for one in asked if one in known}), cells)  # type: ignore[arg-type]
            if isinstance(step, End):
                return asked, step.why
            fresh = {(cell, n) for cell in step.cells for n in step.repetitions} - asked
            if not fresh or not fresh <= known.keys():
                return asked | fresh, "not ended"
            asked |= fresh


class _Part:
    """Results as if some of the runs alone were stored; all else is the whole's."""

    def __init__(self, whole: Results, runs: set[str]) -> None:
        self._whole, self._runs = whole, runs
        self.campaign, self.info, self.experiment = whole.campaign, whole.info, whole.experiment

    def runs(self) -> object:
        frame = self._whole.runs()
        return frame[frame["run_id"].isin(self._runs)].reset_index(drop=True)

    def metrics(self) -> object:
        frame = self._whole.metrics()
        return frame[frame["run_id"].isin(self._runs)].reset_index(drop=True)

    def samples(self, table: str) -> object:
        frame = self._whole.samples(table)
        return frame[frame["run_id"].isin(self._runs)].reset_index(drop=True)

    def evidence(self, run_id: str) -> object:
        return self._whole.evidence(run_id)


def main() -> int:
    """All trials, a line each, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rule", choices=sorted(_RULES), action="append")
    args = parser.parse_args()
    found: dict[str, list[Outcome]] = {}
    for number in range(args.n):
        rules = args.rule or sorted(_RULES)
        rule = rules[number % len(rules)]
        with tempfile.TemporaryDirectory(prefix="adaptive-") as name:
            began = time.monotonic()
            outcome = Trial(Path(name), args.seed * 1000 + number, rule).play()
            said = (Path(name) / "said").read_text(encoding="utf-8", errors="replace")
        verdict = f"VIOLATION: {'; '.join(outcome.wrong)}\n{said[-1500:]}" if outcome.wrong else "held"
        took = f"{time.monotonic() - began:.0f} s"
        print(
            f"{number} {rule}: {outcome.kills} kills, {outcome.runs} runs, {outcome.ended}, {took}: {verdict}",
            flush=True,
        )
        found.setdefault(rule, []).append(outcome)
    print("\n| rule | campaigns | hosts killed | runs | ended | violations |\n|---|---|---|---|---|---|")
    for rule, own in found.items():
        ends = ", ".join(f"{sum(o.ended == end for o in own)} {end}" for end in dict.fromkeys(o.ended for o in own))
        kills, runs, wrong = (
            sum(of) for of in ((o.kills for o in own), (o.runs for o in own), (bool(o.wrong) for o in own))
        )
        print(f"| {rule} | {len(own)} | {kills} | {runs} | {ends} | {wrong} |")
    return int(any(one.wrong for own in found.values() for one in own))


if __name__ == "__main__":
    sys.exit(main())
