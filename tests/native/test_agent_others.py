"""Whose CPU time the agent says it was. The programs and their CPU time are real."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from agent_tools import Bench, load, one_run, plan, shell

from devicelab.model.journal import Others
from devicelab.model.plan import Sampling

pytestmark = pytest.mark.slow

_SPIN = "while True: pass"


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    """A program that is not the agent's and takes all it can get."""
    with subprocess.Popen([sys.executable, "-c", _SPIN]) as process:
        with contextlib.suppress(PermissionError):  # seen among the heaviest on a busy machine too
            os.setpriority(os.PRIO_PROCESS, process.pid, -15)
        yield process
        process.kill()


def looked(bench: Bench, *programs: object, **more: object) -> Others:
    record = bench.run(plan(one_run(*programs, **more))).record  # type: ignore[arg-type]
    assert record.others is not None
    return record.others


def test_a_stranger_is_named_and_its_time_is_not_ours(bench: Bench, stranger: "subprocess.Popen[bytes]") -> None:
    others = looked(bench, shell("sleep 1"))
    (found,) = [one for one in others.heaviest if one.pid == stranger.pid]
    assert found.name
    assert found.cpu >= 0
    assert others.during is not None
    # It shares the machine with whatever else runs there.
    assert found.cpu_ns > others.during.span_ns / 20
    assert others.others_ns >= found.cpu_ns
    assert others.ours_ns < found.cpu_ns
    assert others.before is not None
    assert sum(others.before.work.values()) > 0
    assert others.before.work.keys() == others.before.total.keys()


def test_what_a_run_starts_is_ours_wherever_it_goes(bench: Bench) -> None:
    """A load, a child in another session whose parent is gone, and one that has ended within the run."""
    spin = f"{sys.executable} -c 'import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass'"
    others = looked(bench, load(), shell(f"(setsid {spin} &); {spin}; sleep 0.3"))
    assert others.ours_ns >= 400_000_000
    assert others.hidden is False


def test_who_reads_the_journal_on_this_machine_is_ours_and_its_other_children_are_not(
    bench: Bench, stranger: "subprocess.Popen[bytes]"
) -> None:
    """A sweep of ``local:``: the command line commits a run while the next one is looked at."""
    run = one_run(shell("sleep 1"))
    here = bench.run(plan(run, holder=f"me@{socket.gethostname()} pid {stranger.pid} campaign c")).record.others
    assert here is not None
    assert stranger.pid not in {one.pid for one in here.heaviest}
    assert here.ours_ns > here.during.span_ns / 20 if here.during else False
    child = bench.run(plan(run, plan_id="p2", holder=f"me@{socket.gethostname()} pid {os.getpid()}")).record.others
    away = bench.run(plan(run, plan_id="p3", holder=f"me@elsewhere pid {stranger.pid}")).record.others
    for others in (child, away):
        assert others is not None
        assert stranger.pid in {one.pid for one in others.heaviest}


def test_looks_end_with_the_samples(bench: Bench) -> None:
    record = bench.run(plan(one_run(shell("true"), sampling=Sampling(period_ms=0)))).record
    assert record.others is None


def test_a_look_that_found_nobody_stands_for_the_runs_of_a_minute(bench: Bench) -> None:
    """Longer than a look that found somebody stands for; what it found is judged as the agent does."""
    records = bench.run(plan(*(one_run(load(), run_id=name, hold_ms=2500) for name in ("first", "second")))).records
    first, second = (record.others.before for record in records if record.others is not None)
    assert first is not None
    assert second is not None
    tick_ns = 10_000_000
    calm = (sum(first.work.values()) * tick_ns - first.agent_ns) * 20 <= sum(first.total.values()) * tick_ns
    assert (second.t_ns == first.t_ns) == calm
