"""What the agent does for energy: samples before anything works, and keeps to a floor of charge."""

import shutil
import signal
import subprocess
from pathlib import Path

from agent_tools import Bench, codes, load, one_run, plan, processes_of, shell, until

from devicelab.model.plan import Floor, Plan, Sampling, Write


def test_idle_is_sampled_before_the_loads_start_and_lasts_as_long_as_asked(bench: Bench) -> None:
    gauge = bench.node("current_now", "-250000")
    sampling = Sampling(period_ms=20, nodes=(gauge,), idle_ms=200)
    record = bench.run(plan(one_run(load(), shell("sleep 0.1"), sampling=sampling))).record
    assert codes(record) == []
    assert len(record.idle.t_ns) >= 8
    assert record.idle.t_ns[-1] - record.idle.t_ns[0] >= 180_000_000
    assert record.idle.nodes[gauge] == ("-250000",) * len(record.idle.t_ns)
    begun = {phase.name: phase.t_ns for phase in record.phases}
    assert begun["gates"] <= begun["idle"] <= record.idle.t_ns[0]
    assert record.idle.t_ns[-1] <= begun["loads"] <= min(one.start_ns for one in record.programs)
    assert bench.run(plan(one_run(shell("true")), plan_id="p2")).record.idle.t_ns == ()


def _suspends(bench: Bench, charge: str) -> tuple[Write, str, str]:
    node, capacity = bench.node("input_suspend", "0"), bench.node("capacity", charge)
    return Write(path=node, value="1", why="t", floor=Floor(path=capacity, min_value=30)), node, capacity


def test_below_the_floor_a_write_is_not_done_and_the_run_says_so(bench: Bench) -> None:
    step, node, capacity = _suspends(bench, "29\n")
    for text in ("29\n", "no number\n"):
        Path(capacity).write_text(text)
        record = bench.run(plan(one_run(shell("true"), steps=(step,)), plan_id=f"low{len(text)}")).record
        assert record.status == "failed"
        assert codes(record) == ["below-floor"]
        assert Path(node).read_text() == "0"
    Path(capacity).write_text("30\n")
    record = bench.run(plan(one_run(shell(f"cat {node}"), steps=(step,)), plan_id="p3")).record
    assert codes(record) == []
    assert record.programs[0].stdout == "1\n"
    assert Path(node).read_text() == "0"


def test_a_run_that_sinks_below_the_floor_ends_and_gives_the_charger_back(bench: Bench) -> None:
    step, node, capacity = _suspends(bench, "31")
    wanted = plan(one_run(load(), shell(f"echo 29 >{capacity}; exec sleep 600"), steps=(step,)))
    record = bench.run(wanted).record
    assert codes(record) == ["below-floor"]
    assert record.left_behind == 0
    assert Path(node).read_text() == "0"
    assert bench.loads() == []


def _begun(bench: Bench, wanted: Plan, node: str) -> "subprocess.Popen[bytes]":
    """An agent in the middle of its run, with the charger kept away."""
    process = bench.start(wanted)
    until(lambda: Path(node).read_text() == "1\n" and bench.loads(), "a run without a charger")
    return process


def _killed(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_the_charger_comes_back_by_itself_when_the_agent_is_killed(bench: Bench) -> None:
    step, node, _ = _suspends(bench, "80")
    wanted = plan(one_run(load(), hold_ms=60_000, steps=(step,)))
    _killed(_begun(bench, wanted, node))
    until(lambda: Path(node).read_text() == "0" and not processes_of(bench.agent), "the charger, and no guard")
    # All else is left to the next visitor, who finds in the undo journal what he has to do.
    assert bench.loads()
    assert bench.ask("restore")["failed"] == []
    assert bench.loads() == []
    assert Path(node).read_text() == "0"


def test_a_guard_does_nothing_while_its_agent_works_and_ends_with_the_undo(bench: Bench) -> None:
    step, node, capacity = _suspends(bench, "80")
    sampling = Sampling(period_ms=50, nodes=(node,))
    pinned = one_run(load(), hold_ms=4500, steps=(step,), sampling=sampling)
    record = bench.run(plan(pinned, one_run(shell(f"cat {node}"), run_id="r2"))).records
    assert set(record[0].samples.nodes[node]) == {"1"}
    assert record[1].programs[0].stdout == "0"
    assert processes_of(bench.agent) == []
    assert bench.ask("status")["undo"] == {"pending": [], "active": [], "kept": [], "stale": [], "damaged": 0}
    assert Path(capacity).read_text() == "80"


def test_a_dead_agents_guard_does_not_disturb_the_next_agents_run(bench: Bench) -> None:
    step, node, _ = _suspends(bench, "80")
    for number in range(2):
        killed = plan(one_run(load(), hold_ms=60_000, steps=(step,)), plan_id=f"killed{number}")
        _killed(_begun(bench, killed, node))
        sampling = Sampling(period_ms=20, nodes=(node,))
        after = plan(one_run(shell("sleep 2.5"), steps=(step,), sampling=sampling), plan_id=f"after{number}")
        assert set(bench.run(after).record.samples.nodes[node]) == {"1"}
        assert Path(node).read_text() == "0"
        assert processes_of(bench.agent) == []


def test_a_charger_that_a_plan_keeps_away_comes_back_at_the_floor(bench: Bench) -> None:
    step, node, capacity = _suspends(bench, "80")
    kept = plan(setup=(step,), keep=True)
    assert bench.call(*bench.words(kept)).returncode == 0
    (guard,) = processes_of(bench.agent)
    # Somebody works on top of it and is killed: what was kept on purpose stays.
    _killed(_begun(bench, plan(one_run(load(), hold_ms=60_000), plan_id="top"), node))
    bench.run(plan(one_run(shell("sleep 2.5")), plan_id="later"))
    assert processes_of(bench.agent) == [guard]
    assert Path(node).read_text() == "1\n"
    Path(capacity).write_text("29")
    until(lambda: Path(node).read_text() == "0" and not processes_of(bench.agent), "the charger at the floor")
    assert bench.ask("restore")["failed"] == []


def test_an_agent_that_hangs_does_not_let_the_phone_run_empty(bench: Bench) -> None:
    step, node, capacity = _suspends(bench, "80")
    process = _begun(bench, plan(one_run(load(), hold_ms=60_000, steps=(step,))), node)
    process.send_signal(signal.SIGSTOP)
    Path(capacity).write_text("29")
    until(lambda: Path(node).read_text() == "0", "the charger at the floor")
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 0


def test_a_removed_state_directory_leaves_no_charger_away(bench: Bench) -> None:
    step, node, _ = _suspends(bench, "80")
    process = _begun(bench, plan(one_run(load(), hold_ms=60_000, steps=(step,))), node)
    (guard,) = (pid for pid in processes_of(bench.agent) if pid != process.pid)
    until(lambda: _waits(guard), "a guard that has read what it guards")
    _killed(process)
    shutil.rmtree(bench.state)
    until(lambda: Path(node).read_text() == "0" and not processes_of(bench.agent), "the charger, and no guard")


def _waits(pid: int) -> bool:
    """It sleeps between two looks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
