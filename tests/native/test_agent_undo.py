"""What the agent changed comes back, whatever ends it: by itself, by a signal, by SIGKILL, by a reboot."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from agent_tools import Bench, codes, load, one_run, plan, shell, until

from devicelab.model.journal import seal_line
from devicelab.model.plan import Command, Plan, Run, Write
from tests.faults import losing

pytestmark = pytest.mark.slow

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write(path: str, value: str, **more: object) -> Write:
    return Write.model_validate({"path": path, "value": value, "why": "x", **more})


def undo_lines(bench: Bench) -> list[dict[str, object]]:
    path = bench.state / "undo.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def leave_behind(bench: Bench, *entries: dict[str, object], boot_id: str = BOOT_ID) -> Path:
    """An undo journal as a dead agent would have left it."""
    bench.state.mkdir(exist_ok=True)
    path = bench.state / "undo.jsonl"
    first = {"undo": "open", "boot_id": boot_id, "token": "DEVICELAB_TOKEN=none"}
    path.write_bytes(b"".join(seal_line(entry) for entry in (first, *entries)))
    return path


def node_entry(path: str, old: str, **more: object) -> dict[str, object]:
    return {
        "undo": "node",
        "path": path,
        "write": old,
        "before": old,
        "set": "7",
        "verify": "exact",
        "verify_ms": 0,
        **more,
    }


def busy_plan(bench: Bench) -> Plan:
    """A plan with setup, steps, commands and loads in every run."""
    made = bench.root / "made"
    setup = (
        write(bench.node("governor", "schedutil\n"), "performance"),
        Command(do=("mkdir", "-p", str(made)), undo=("rm", "-rf", str(made)), why="x"),
    )
    low, high = bench.node("min", "300000\n"), bench.node("max", "2841600\n")
    odd = bench.node("odd", "no newline")
    runs: list[Run] = []
    for i in range(6):
        steps = (
            write(high, str(1000 + i)),
            write(low, str(1000 + i)),
            write(high, str(2000 + i)),
            write(odd, "x" * 3000),
        )
        runs.append(one_run(load("a"), load("b"), shell("sleep 0.05; echo x"), run_id=f"r{i}", steps=steps))
    return plan(*runs, setup=setup)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_after_sigkill_at_any_instant_all_is_restored_and_each_run_is_done_once(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    wanted = busy_plan(bench)
    before = bench.nodes()
    for _ in range(4):
        process = bench.start(wanted)
        time.sleep(chance.random() * 0.6)
        process.kill()
        process.wait()
        if chance.random() < 0.3:  # the restore itself may be killed too
            restoring = subprocess.Popen(
                bench.argv("restore", "--state", bench.state), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(chance.random() * 0.05)
            restoring.kill()
            restoring.wait()
        if chance.random() < 0.7:
            answer = bench.ask("restore")
            assert answer["failed"] == []
            assert bench.nodes() == before
            assert not (bench.root / "made").exists()
            assert bench.loads() == []
            assert bench.ask("status")["undo"]["pending"] == []
    told = bench.run(wanted)
    assert bench.nodes() == before
    assert bench.loads() == []
    assert [r.run_id for r in told.records] == [f"r{i}" for i in range(6)]
    assert told.end.reason == "complete"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_restores_and_is_told(bench: Bench, number: signal.Signals) -> None:
    wanted = busy_plan(bench)
    before = bench.nodes()
    process = bench.start(wanted)
    until(lambda: len(bench.loads()) == 2, "both loads")
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert bench.nodes() == before
    assert bench.loads() == []
    assert not (bench.root / "made").exists()
    told = bench.told(wanted)
    assert told.end.reason == "signal"
    assert "interrupted" in codes(told.records[-1])
    assert told.records[-1].status == "failed"


def test_the_starter_may_die_and_the_terminal_hang_up(bench: Bench) -> None:
    wanted = plan(one_run(load(), shell("sleep 0.5")))
    words = " ".join(f"'{word}'" for word in bench.argv(*bench.words(wanted)))
    script = f"{words} </dev/null >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout)
    until(bench.loads, "the load")
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGHUP)
    bench.until_journal_says(wanted, "plan-end")
    assert (bench.told(wanted).record.status, codes(bench.told(wanted).record)) == ("done", [])
    until(lambda: not Path(f"/proc/{pid}").exists(), "the agent's end")


def test_an_undo_is_written_before_the_write(bench: Bench) -> None:
    node = bench.node("a", "old\n")
    see = Command(do=("cp", str(bench.state / "undo.jsonl"), str(bench.root / "seen")), undo=None, why="x")
    bench.run(plan(one_run(steps=(write(node, "new"), see), hold_ms=1)))
    last = json.loads((bench.root / "seen").read_bytes().splitlines()[-1])
    assert (last["undo"], last["path"], last["write"]) == ("node", node, "old\n")
    assert undo_lines(bench) == []


def test_the_value_saved_first_wins(bench: Bench) -> None:
    node = bench.node("a", "7\n")
    leave_behind(bench, node_entry(node, "1\n"), node_entry(node, "2\n"), node_entry(node, "3\n"))
    assert bench.ask("restore")["restored"] == [f"{node} = 1"]
    assert bench.nodes() == {"a": b"1\n"}


def test_a_torn_last_line_is_harmless(bench: Bench) -> None:
    one, two = bench.node("a", "7\n"), bench.node("b", "old\n")
    path = leave_behind(bench, node_entry(one, "1\n"), node_entry(two, "other\n"))
    path.write_bytes(path.read_bytes()[:-20])
    bench.ask("restore")
    assert bench.nodes() == {"a": b"1\n", "b": b"old\n"}


def test_a_damaged_undo_journal_is_used_as_far_as_it_goes_and_kept(bench: Bench) -> None:
    one, two = bench.node("a", "7\n"), bench.node("b", "7\n")
    path = leave_behind(bench, node_entry(one, "1\n"), node_entry(two, "2\n"))
    path.write_bytes(path.read_bytes().replace(b'"write":"1', b'"write":"9'))
    answer = bench.ask("restore", code=8)
    assert answer["damaged"] == 1
    assert bench.nodes() == {"a": b"7\n", "b": b"2\n"}
    told = bench.call(*bench.words(plan(one_run(hold_ms=1))))
    assert told.returncode == 8
    bench.ask("restore", "--forget")
    assert not path.exists()


def test_after_a_reboot_only_lasting_effects_are_undone(bench: Bench) -> None:
    node = bench.node("a", "7\n")
    lasting = {"undo": "command", "argv": ["touch", str(bench.root / "lasting")], "env": {}, "timeout_ms": 9000}
    passing = {**lasting, "argv": ["touch", str(bench.root / "passing")]}
    leave_behind(bench, node_entry(node, "1\n"), {**lasting, "survives_reboot": True}, passing, boot_id="another-boot")
    undo = bench.ask("status")["undo"]
    assert undo["pending"] == [f"touch {bench.root}/lasting"]
    assert len(undo["stale"]) == 2
    answer = bench.ask("restore")
    assert answer["restored"] == [f"touch {bench.root}/lasting"]
    assert bench.nodes() == {"a": b"7\n"}
    assert (bench.root / "lasting").exists()
    assert not (bench.root / "passing").exists()
    assert bench.ask("status")["undo"]["stale"] == []


@pytest.mark.slow
@pytest.mark.skipif(bool(losing.possible()), reason=losing.possible())
def test_what_outlives_a_power_cut_is_on_the_disk_before_it_happens(bench: Bench, tmp_path: Path) -> None:
    disk = losing.LosingDisk(tmp_path / "disk", tmp_path / "disk-state")
    try:
        (disk.where / "state").mkdir(mode=0o700)
        folder = os.open(disk.where, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        bench.state.symlink_to(disk.where / "state")
        first, second = bench.node("first", "1\n"), bench.node("second", "1\n")
        mark = str(bench.root / "mark")
        lasting = Command(do=("touch", mark), undo=("rm", mark), why="x", survives_reboot=True)
        wanted = plan(one_run(load(), hold_ms=60_000, steps=(write(first, "2"), lasting, write(second, "2"))))
        process = bench.start(wanted)
        until(bench.loads, "the load")
        process.kill()
        process.wait()
        disk.cut(next(seed for seed in range(100) if losing.merciless(seed)))
        left = [json.loads(line)["undo"] for line in disk.everything()["state/undo.jsonl"].splitlines()]
        assert left == ["open", "node", "command"]
    finally:
        bench.state.unlink()
        disk.close()


def test_a_hole_that_a_power_cut_left_is_passed_over(bench: Bench) -> None:
    node = bench.node("a", "7\n")
    path = leave_behind(bench, node_entry(node, "1\n"), node_entry(node, "2\n"), node_entry(node, "3\n"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join((*lines[:2], b"\0" * (len(lines[2]) - 1), lines[2][-1:], *lines[3:])))
    answer = bench.ask("restore")
    assert (answer["damaged"], bench.nodes()) == (0, {"a": b"1\n"})


def test_a_node_that_cannot_be_restored_is_named_and_stays_in_the_journal(bench: Bench) -> None:
    gone, other = bench.node("gone", "1\n"), bench.node("other", "1\n")
    remove = Command(do=("rm", gone), why="x")
    runs = [one_run(hold_ms=1, run_id=f"r{i}", steps=(write(gone, "2"), write(other, "2"), remove)) for i in range(2)]
    told = bench.run(plan(*runs), code=8)
    assert [codes(r) for r in told.records] == [["restore-failed"]]
    assert gone in told.records[0].flags[0].detail
    assert told.end.reason == "failure"
    assert bench.nodes() == {"other": b"1\n"}
    assert f"{gone} = 1" in bench.ask("status")["undo"]["pending"]
    answer = bench.ask("restore", code=8)
    assert answer["failed"] == [f"{gone}: No such file or directory"]
    bench.node("gone", "5\n")
    assert f"{gone} = 1" in bench.ask("restore")["restored"]
    assert bench.nodes() == {"gone": b"1\n", "other": b"1\n"}
    assert bench.ask("status")["undo"]["pending"] == []


def test_a_node_that_cannot_be_read_is_not_written(bench: Bench) -> None:
    fifo = bench.root / "nodes" / "fifo"
    os.mkfifo(fifo)
    record = bench.run(plan(one_run(steps=(write("/proc/self/mem", "1"),), hold_ms=1))).record
    assert (record.status, codes(record)) == ("failed", ["write-failed"])
    assert "cannot read the value to restore" in record.flags[0].detail
    # A pipe nobody reads: reading gives nothing, writing is refused, and neither hangs.
    record = bench.run(plan(one_run(steps=(write(str(fifo), "1"),), hold_ms=1), plan_id="p2")).record
    assert (record.status, record.steps[0].errno) == ("failed", 6)


def test_a_write_the_kernel_refuses_fails_the_run_and_changes_nothing(bench: Bench) -> None:
    path = Path("/proc/sys/vm/overcommit_memory")
    before = path.read_text()
    record = bench.run(plan(one_run(steps=(write(str(path), "77"),), hold_ms=1))).record
    assert (record.status, codes(record), record.steps[0].errno) == ("failed", ["write-failed"], 22)
    assert path.read_text() == before


def test_a_write_that_does_not_hold_fails_the_run_unless_it_is_optional(bench: Bench) -> None:
    steps = (write("/dev/null", "1", restore="", verify_ms=50),)
    record = bench.run(plan(one_run(steps=steps, hold_ms=1))).record
    assert (record.status, codes(record), record.steps[0].held) == ("failed", ["write-failed"], False)
    assert "after writing '1'" in record.flags[0].detail
    steps = (write("/dev/null", "1", restore="", verify_ms=0, required=False),)
    record = bench.run(plan(one_run(steps=steps, hold_ms=1), plan_id="p2")).record
    assert (record.status, codes(record), record.steps[0].held) == ("done", [], False)


@pytest.mark.parametrize(
    ("verify", "before", "value", "expect", "held", "after"),
    [
        ("exact", " 5 \n", "7", None, True, " 5 \n"),
        ("exact", "5\n", "7", "8", False, "5\n"),
        ("first-int", "5 / user\n", "7", None, True, "5\n"),
        ("first-int", "5\n", "07", "7", True, "5\n"),
        ("at-most", "5\n", "7", "9", True, "5\n"),
        ("at-most", "5\n", "7", "6", False, "5\n"),
        ("word", "always [madvise] never\n", "a [b] c", "b", True, "madvise\n"),
        ("word", "[x]\n", "a b", "c", False, "x\n"),
        ("none", "5\n", "7", "nonsense", True, "5\n"),
    ],
)
def test_a_read_back_is_compared_as_asked(
    bench: Bench, verify: str, before: str, value: str, expect: str | None, held: bool, after: str
) -> None:
    node = bench.node("a", before)
    step = write(node, value, verify=verify, expect=expect, verify_ms=0, required=False)
    record = bench.run(plan(one_run(steps=(step,), hold_ms=1))).record
    assert record.steps[0].held is held
    assert record.restore[0].held
    assert bench.nodes() == {"a": after.encode()}


def test_a_node_of_any_bytes_is_restored(bench: Bench) -> None:
    node = bench.node("a", "")
    Path(node).write_bytes(b"\xff\x00\xfe\x80 binary\n")
    bench.run(plan(one_run(steps=(write(node, "7"),), hold_ms=1)))
    assert bench.nodes() == {"a": b"\xff\x00\xfe\x80 binary\n"}


def test_an_explicit_undo_text_is_written(bench: Bench) -> None:
    node = bench.node("lock", "-1\n")
    step = write(node, "377000", restore="0", verify="first-int")
    record = bench.run(plan(one_run(steps=(step,), hold_ms=1))).record
    assert bench.nodes() == {"lock": b"0\n"}
    assert record.restore[0].held


def test_processes_are_ended_only_if_they_are_still_the_same(bench: Bench) -> None:
    stranger = subprocess.Popen(["sleep", "1000"])
    stat = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()
    start_time = int(stat[19])
    exe = Path(f"/proc/{stranger.pid}/exe").stat()
    entry = {
        "undo": "program", "name": "load", "pid": stranger.pid, "exe": "/bin/sleep",
        "exe_device": exe.st_dev, "exe_inode": exe.st_ino, "by_exe": False,
    }  # fmt: skip
    try:
        leave_behind(bench, {**entry, "start_time": start_time + 1})
        assert bench.ask("restore")["killed"] == 0
        leave_behind(bench, {**entry, "start_time": start_time, "exe_inode": exe.st_ino + 1})
        assert bench.ask("restore")["killed"] == 0
        assert stranger.poll() is None
        leave_behind(bench, {**entry, "start_time": start_time})
        assert bench.ask("restore")["killed"] == 1
        assert stranger.wait(10) == -signal.SIGKILL
    finally:
        stranger.kill()
        stranger.wait()


def test_restore_finds_what_a_dead_agents_load_became(bench: Bench) -> None:
    script = "setsid setsid sleep 4242 & sleep 1000"
    wanted = plan(one_run(load(argv=("sh", "-c", script)), load("b"), hold_ms=60_000))
    process = bench.start(wanted)

    def sleepers() -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if path.read_bytes() == b"sleep\x004242\x00":
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    until(sleepers, "the grandchild")
    until(bench.loads, "the load")
    process.kill()
    process.wait()
    assert bench.ask("status")["undo"]["pending"] != []
    assert bench.ask("restore")["killed"] >= 3
    assert sleepers() == []
    assert bench.loads() == []


def test_the_next_agent_undoes_what_a_dead_one_left(bench: Bench) -> None:
    node = bench.node("a", "7\n")
    leave_behind(bench, node_entry(node, "1\n"))
    record = bench.run(plan(one_run(shell(f"cat {node}")))).record
    assert record.programs[0].output() == b"1\n"


def test_a_kept_setup_stays_until_restore_and_others_work_on_top(bench: Bench) -> None:
    node = bench.node("a", "1\n")
    pinned = bench.run(plan(plan_id="pin", setup=(write(node, "2"),), keep=True))
    assert (pinned.end.reason, pinned.end.restore) == ("complete", ())
    assert bench.nodes() == {"a": b"2\n"}
    undo = bench.ask("status")["undo"]
    assert (undo["kept"], undo["pending"]) == ([f"{node} = 1"], [])
    record = bench.run(plan(one_run(shell(f"cat {node}"), steps=(write(node, "3"),)))).record
    assert record.programs[0].output() == b"3\n"
    assert bench.nodes() == {"a": b"2\n"}
    killed = plan(one_run(load(), hold_ms=60_000, steps=(write(node, "4"),)), plan_id="p2")
    process = bench.start(killed)
    until(bench.loads, "the load")
    process.kill()
    process.wait()
    bench.run(plan(one_run(hold_ms=1), plan_id="p3"))  # undoes what the dead one left, not the pin
    assert bench.nodes() == {"a": b"2\n"}
    bench.ask("restore")
    assert bench.nodes() == {"a": b"1\n"}


def test_a_setup_that_does_not_hold_is_undone_and_refused(bench: Bench) -> None:
    node = bench.node("a", "1\n")
    steps = (write(node, "2"), write("/no/such/node", "3"))
    told = bench.run(plan(plan_id="pin", setup=steps, keep=True), code=4)
    assert codes(told.starts[0]) == ["write-failed"]
    assert told.end.reason == "failure"
    assert bench.nodes() == {"a": b"1\n"}
    assert undo_lines(bench) == []


def test_held_files_stay_open_for_the_run(bench: Bench) -> None:
    node = bench.node("qos", "0\n")
    see = shell(f"ls -l /proc/$PPID/fd | grep -c {node}; cat {node}")
    record = bench.run(plan(one_run(see, steps=(write(node, "5", hold=True, verify="none"),)))).record
    assert record.programs[0].output() == b"1\n5\n"
    assert record.restore[0].path == node


def test_a_kept_hold_keeps_an_agent_until_it_is_stopped(bench: Bench) -> None:
    held, other = bench.node("qos", "0\n"), bench.node("a", "1\n")
    pin = plan(plan_id="pin", setup=(write(held, "5", hold=True, verify="none"), write(other, "2")), keep=True)
    process = bench.start(pin)
    bench.until_journal_says(pin, "plan-end")
    until(lambda: bench.ask("status")["agent"]["state"] == "keeping", "the keeper")
    assert process.poll() is None
    bench.run(plan(one_run(hold_ms=1)))  # work goes on beside it
    assert bench.ask("stop")["stopped"] is True
    assert process.wait(10) == 128 + signal.SIGTERM
    assert bench.nodes()["a"] == b"1\n"
    assert undo_lines(bench) == []
    process = bench.start(plan(plan_id="pin2", setup=pin.setup, keep=True))
    until(lambda: bench.ask("status")["agent"]["state"] == "keeping", "the keeper")
    bench.ask("restore")
    assert process.wait(10) == -signal.SIGKILL
    assert bench.nodes()["a"] == b"1\n"
