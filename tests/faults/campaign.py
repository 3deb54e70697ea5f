"""Many trials: ``python -m tests.faults --n 1000 [--seed S] [--jobs J] [--kind KIND] [--only SEED:NUMBER[@SECONDS]]``.

``--night``: whole nights of a farm instead (``tests.faults.night``). ``--power``: power cuts
(``tests.faults.powercut``).

Prints a line for each trial, which begins with what ``--only`` takes to do it again, and at the end, or when
interrupted, a table by fault and transport. Exits with 1 if a promise was not kept.
"""

import argparse
import itertools
import multiprocessing
import os
import queue
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import Any

from tests.faults.performing import Outcome
from tests.faults.sites import Calm
from tests.faults.trials import KINDS, TRANSPORTS, Trial, draw, pairs
from tests.faults.workshop import Workshop, impossible

_FORK = multiprocessing.get_context("fork")
_LOOK_S = 1.0


def chosen(args: argparse.Namespace) -> list[Trial]:
    """The trials asked for.

    Raises:
        SystemExit: ``--only`` cannot be read.
    """
    asked = dict(one.split("=", 1) for one in args.want or ())
    if args.only:
        return [_wanting(_only(text), asked) for text in args.only]
    kinds = args.kind or list(KINDS)
    for kind in kinds:
        if reason := impossible(kind):
            print(f"left out: {kind}: {reason}", flush=True)
    wanted = [kind for kind in kinds if not impossible(kind)]
    transports = args.transport or TRANSPORTS
    if not any(kind in wanted and transport in transports for kind, transport in pairs()):
        raise SystemExit("no fault of that kind happens on that transport")
    drawn: Iterator[Trial] = (draw(args.seed, number) for number in itertools.count())
    fitting = (trial for trial in drawn if trial.kind in wanted and trial.transport in transports)
    return [_wanting(trial, asked) for trial in itertools.islice(fitting, args.n)]


def _wanting(trial: Trial, asked: dict[str, str]) -> Trial:
    """The trial with these knobs beside those it drew, on a virtual board."""
    return replace(trial, wants={**trial.wants, **asked}) if trial.transport == "adb" else trial


def _only(text: str) -> Trial:
    match = re.fullmatch(r"(\d+):(\d+)(?:@(\d+(?:\.\d+)?))?", text)
    if match is None:
        raise SystemExit(f"not a trial: {text!r}; write SEED:NUMBER or SEED:NUMBER@SECONDS")
    return draw(int(match[1]), int(match[2]), moment_s=float(match[3]) if match[3] else None)


def table(outcomes: Sequence[Outcome]) -> str:
    """Trials by fault and transport, as Markdown."""
    lines = ["| hit | fault | transport | trials | struck | resumed | violations |", "|---|---|---|---|---|---|---|"]
    for kind, about in KINDS.items():
        for transport in about.transports:
            own = [o for o in outcomes if (o.trial.kind, o.trial.transport) == (kind, transport)]
            if own:
                lines.append(f"| {about.part} | {kind} | {transport} | {_counts(own)} |")
    return "\n".join([*lines, f"| all | | | {_counts(outcomes)} |"])


def _counts(own: Sequence[Outcome]) -> str:
    numbers = (
        len(own), sum(o.struck for o in own), sum(o.resumed for o in own), sum(bool(o.violations) for o in own)
    )  # fmt: skip
    return " | ".join(map(str, numbers))


def _work(number: int, assumed: Calm | None, todo: Any, done: Any, stop: Any) -> None:
    """One worker: trials from ``todo``, outcomes to ``done``, until there are no more."""
    os.setsid()  # Ctrl-C at the terminal is for the one who started us
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parent = os.getppid()
    with Workshop(number, assumed) as workshop:
        while not stop.is_set() and os.getppid() == parent:
            try:
                trial = todo.get_nowait()
            except queue.Empty:
                break
            done.put(_done(workshop, trial))


def _done(workshop: Workshop, trial: Trial) -> Outcome:
    try:
        return workshop.do(trial)
    except Exception as error:  # noqa: BLE001 - one trial that cannot be done must not end the campaign
        return Outcome(trial, violations=[f"the trial could not be done: {type(error).__name__}: {error}"])


def run(trials: Sequence[Trial], jobs: int, assumed: Calm | None = None) -> list[Outcome]:
    """All trials, on so many workers at the same time; those done until Ctrl-C. ``assumed``: see ``Workshop``."""
    todo, done, stop = _FORK.Queue(), _FORK.Queue(), _FORK.Event()
    for trial in trials:
        todo.put(trial)
    # What was put travels by a thread; a worker that looks too early would see nothing.
    while todo.empty() and trials:
        time.sleep(0.01)
    workers = [_FORK.Process(target=_work, args=(number, assumed, todo, done, stop)) for number in range(jobs)]
    for worker in workers:
        worker.start()
    outcomes: list[Outcome] = []
    try:
        _collect(outcomes, len(trials), done, workers)
    except KeyboardInterrupt:
        print("interrupted: the trials at work are ended first; again to end at once", flush=True)
        stop.set()
        try:
            _collect(outcomes, len(trials), done, workers)
        except KeyboardInterrupt:
            for worker in workers:
                worker.terminate()
    except BaseException:
        # A test whose time is over: nobody may go on alone beside the tests that follow.
        for worker in workers:
            worker.terminate()
        raise
    finally:
        for worker in workers:
            worker.join()
        todo.cancel_join_thread()
    return outcomes


def _collect(outcomes: list[Outcome], count: int, done: Any, workers: Sequence[BaseProcess]) -> None:
    began = time.monotonic()
    first = len(outcomes)
    while len(outcomes) < count:
        try:
            outcome = done.get(timeout=_LOOK_S)
        except queue.Empty:
            if not any(worker.is_alive() for worker in workers) and done.empty():
                return
            continue
        outcomes.append(outcome)
        each_s = (time.monotonic() - began) / (len(outcomes) - first)
        left_min = (count - len(outcomes)) * each_s / 60
        print(f"[{len(outcomes)}/{count}, about {left_min:.0f} min left] {outcome}", flush=True)


def _nights(args: argparse.Namespace) -> int:
    from tests.faults import night, night_trials

    names = [re.fullmatch(r"(\d+):(\d+)", text) for text in args.only or ()]
    only = [night_trials.draw_night(int(match[1]), int(match[2])) for match in names if match is not None]
    outcomes = night.run_nights(only or night.drawn(args.seed, args.n))
    print(f"\n{len(outcomes)} nights, {sum(one.runs for one in outcomes)} runs\n{night_trials.night_table(outcomes)}")
    return 1 if any(outcome.violations for outcome in outcomes) or not outcomes else 0


def _cuts(args: argparse.Namespace) -> int:
    from tests.faults import powercut

    outcomes = powercut.cut_many(args.seed, args.n)
    print(f"\n{powercut.power_table(outcomes)}")
    return 1 if any(outcome.violations for outcome in outcomes) or not outcomes else 0


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Is anything lost, whatever happens?")
    parser.add_argument("--n", type=int, default=100, help="number of trials")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="trials at the same time")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only this fault (repeatable)")
    parser.add_argument("--transport", action="append", choices=TRANSPORTS, help="only this transport (repeatable)")
    parser.add_argument("--only", action="append", metavar="SEED:NUMBER[@SECONDS]", help="one trial (repeatable)")
    parser.add_argument("--want", action="append", metavar="WORD=LEVEL", help="set this in every run (repeatable)")
    parser.add_argument("--night", action="store_true", help="whole nights of a farm instead of sweeps")
    parser.add_argument("--power", action="store_true", help="power cuts instead (tests.faults.powercut)")
    args = parser.parse_args()
    began = time.monotonic()
    if args.night:
        return _nights(args)
    if args.power:
        return _cuts(args)
    trials = chosen(args)
    outcomes = run(trials, min(args.jobs, len(trials)))
    print(f"\n{len(outcomes)} of {len(trials)} trials in {(time.monotonic() - began) / 60:.0f} min\n")
    print(table(outcomes))
    return 1 if any(outcome.violations for outcome in outcomes) or not outcomes else 0
