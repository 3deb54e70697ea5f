"""Who may use a device: lease, lock, status, stop."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from agent_tools import Bench, load, one_run, plan, until

from devicelab.model.plan import Write

pytestmark = pytest.mark.slow

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def lease_file(bench: Bench, holder: str, *, left_s: float = 1000, boot_id: str = BOOT_ID, pid: int = 0) -> None:
    bench.state.mkdir(exist_ok=True)
    now_s = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    said = {"holder": holder, "expires": int(now_s + left_s), "boot_id": boot_id, "pid": pid, "start_time": 0}
    (bench.state / "lease.json").write_text(json.dumps(said))


def test_a_second_agent_is_told_who_is_at_work(bench: Bench) -> None:
    first = bench.start(plan(one_run(load(), hold_ms=60_000), holder="alice@lab"))
    until(bench.loads, "the load")
    second = bench.call(*bench.words(plan(one_run(hold_ms=1), plan_id="p2", holder="bob")))
    assert second.returncode == 3
    assert b"busy:" in second.stderr
    assert b"alice@lab" in second.stderr
    same = bench.call(*bench.words(plan(one_run(hold_ms=1), plan_id="p3", holder="alice@lab")))
    assert same.returncode == 3
    refused = bench.call("restore", "--state", bench.state)
    assert refused.returncode == 3
    assert len(bench.loads()) == 1
    assert first.poll() is None


def test_anothers_lease_keeps_an_agent_out_until_it_ends(bench: Bench) -> None:
    wanted = plan(one_run(hold_ms=1), holder="bob")
    lease_file(bench, "alice")
    done = bench.call(*bench.words(wanted))
    assert (done.returncode, b"busy: alice" in done.stderr) == (3, True)
    assert not bench.journal(wanted).exists()
    lease_file(bench, "alice", left_s=-1)
    bench.run(wanted)
    lease_file(bench, "alice", boot_id="another-boot")
    bench.run(plan(one_run(hold_ms=1), plan_id="p2", holder="bob"))
    lease_file(bench, "bob")
    bench.run(plan(one_run(hold_ms=1), plan_id="p3", holder="bob"))


def test_an_agents_own_lease_ends_with_it(bench: Bench) -> None:
    process = bench.start(plan(one_run(load(), hold_ms=60_000), lease_ttl_s=500))
    until(bench.loads, "the load")
    said = bench.ask("status")
    assert said["lease"]["holder"] == "tester"
    assert 400 < said["lease"]["remaining_s"] <= 500
    assert said["agent"]["alive"] is True
    assert (said["undo"]["pending"], len(said["undo"]["active"])) == ([], 1)
    process.terminate()
    assert process.wait(30) == 143
    assert bench.ask("status")["lease"] is None


def test_restoring_after_a_dead_agent_frees_its_lease(bench: Bench) -> None:
    process = bench.start(plan(one_run(load(), hold_ms=60_000)))
    until(bench.loads, "the load")
    process.kill()
    process.wait()
    said = bench.ask("status")
    assert (said["lease"]["expired"], said["agent"]["alive"]) == (True, False)
    bench.ask("restore")
    assert bench.ask("status")["lease"] is None
    assert bench.loads() == []


def test_the_lease_of_a_dead_agent_keeps_nobody_out(bench: Bench) -> None:
    process = bench.start(plan(one_run(load(), hold_ms=60_000), holder="alice"))
    until(bench.loads, "the load")
    process.kill()
    process.wait()
    bench.run(plan(one_run(hold_ms=1), plan_id="p2", holder="bob"))
    assert bench.loads() == []


def test_a_lease_is_renewed_while_the_agent_works(bench: Bench) -> None:
    bench.start(plan(one_run(load(), hold_ms=60_000), lease_ttl_s=3))
    until(bench.loads, "the load")
    first = bench.ask("status")["lease"]["expires_s"]
    until(lambda: bench.ask("status")["lease"]["expires_s"] > first + 1, "a renewal")
    assert bench.ask("status")["lease"]["expired"] is False


def test_a_lease_taken_away_ends_the_plan(bench: Bench) -> None:
    node = bench.node("a", "1\n")
    runs = [one_run(load(), run_id=f"r{i}", hold_ms=1500) for i in range(20)]
    wanted = plan(*runs, lease_ttl_s=1, setup=(Write(path=node, value="2", why="x"),))
    process = bench.start(wanted)
    until(bench.loads, "the load")
    lease_file(bench, "mallory")
    assert process.wait(30) == 3
    assert bench.told(wanted).end.reason == "lease-lost"
    assert bench.nodes() == {"a": b"1\n"}


def test_stop_ends_the_agent_and_tells_how(bench: Bench) -> None:
    node = bench.node("a", "1\n")
    wanted = plan(one_run(load(), hold_ms=60_000, steps=(Write(path=node, value="2", why="x"),)))
    process = bench.start(wanted)
    until(bench.loads, "the load")
    said = bench.ask("stop")
    assert (said["stopped"], said["plan_id"], said["plan_end"]["reason"]) == (True, "p1", "signal")
    assert process.wait(30) == 143
    assert bench.nodes() == {"a": b"1\n"}
    assert bench.loads() == []
    assert bench.ask("stop")["stopped"] is False


def test_stop_does_not_signal_a_stranger_with_the_same_pid(bench: Bench) -> None:
    process = bench.start(plan(one_run(load(), hold_ms=60_000)))
    until(bench.loads, "the load")
    process.kill()
    process.wait()
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        path = bench.state / "agent.json"
        said = json.loads(path.read_text())
        path.write_text(json.dumps({**said, "pid": stranger.pid}))
        assert bench.ask("stop")["stopped"] is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_restore_by_force_ends_even_a_frozen_agent(bench: Bench) -> None:
    node = bench.node("a", "1\n")
    process = bench.start(plan(one_run(load(), hold_ms=60_000, steps=(Write(path=node, value="2", why="x"),))))
    until(bench.loads, "the load")
    bench.ask("restore", "--force")
    assert process.wait(10) == 143
    assert bench.nodes() == {"a": b"1\n"}
    assert bench.loads() == []


def test_the_lock_is_not_inherited_by_what_outlives_the_agent(bench: Bench) -> None:
    process = bench.start(plan(one_run(load(), hold_ms=60_000)))
    until(bench.loads, "the load")
    process.kill()
    process.wait()
    assert len(bench.loads()) == 1  # it lives on, and must not keep the next agent out
    bench.run(plan(one_run(hold_ms=1), plan_id="p2"))
    assert bench.loads() == []


def test_files_of_the_state_are_for_the_owner_alone(bench: Bench) -> None:
    wanted = plan(one_run(hold_ms=1))
    bench.run(wanted)
    for path in [*bench.state.iterdir(), bench.journal(wanted)]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert bench.state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "{", "[]", '{"holder": 7}', '{"holder": "x", "expires": "soon"}', "\xff" * 5000])
def test_garbage_in_the_state_is_nobodys_lease(bench: Bench, text: str) -> None:
    bench.state.mkdir()
    for name in ("lease.json", "agent.json"):
        (bench.state / name).write_bytes(text.encode("latin-1"))
    bench.ask("status")
    bench.run(plan(one_run(hold_ms=1)))


def test_a_second_signal_while_restoring_changes_nothing(bench: Bench) -> None:
    nodes = [bench.node(f"n{i}", "1\n") for i in range(40)]
    wanted = plan(one_run(load(), hold_ms=60_000, steps=tuple(Write(path=n, value="2", why="x") for n in nodes)))
    process = bench.start(wanted)
    until(bench.loads, "the load")
    for _ in range(20):
        os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 143
    assert set(bench.nodes().values()) == {b"1\n"}
