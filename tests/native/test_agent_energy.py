"""What the agent does for energy: samples before anything works, and keeps to a floor of charge."""

import signal
from pathlib import Path

from agent_tools import Bench, codes, load, one_run, plan, shell

from devicelab.model.plan import Floor, Sampling, Write


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


def test_what_suspends_the_charger_is_undone_after_the_agents_death(bench: Bench) -> None:
    step, node, _ = _suspends(bench, "80")
    wanted = plan(one_run(load(), hold_ms=60_000, steps=(step,)))
    process = bench.start(wanted)
    bench.until_journal_says(wanted, '"run-start"')
    while not bench.loads():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Path(node).read_text() == "1\n"
    bench.ask("restore")
    assert Path(node).read_text() == "0"
    assert bench.loads() == []
