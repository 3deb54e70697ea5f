"""A full disk, a torn journal, plans that are continued: nothing is lost, nothing is done twice, all is restored."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_tools import Bench, codes, events, load, one_run, plan, shell, until

from devicelab.model.journal import RunRecord, RunStart, seal_line
from devicelab.model.plan import Command, Plan, Write

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    where = tmp_path / "small"
    where.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "devicelab-test", where], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {done.stderr.decode().strip()}")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def sealed_and_whole(journal: Path) -> None:
    text = journal.read_bytes()
    assert text == b"" or text.endswith(b"\n")
    list(events(journal))


def fill(where: Path) -> Command:
    return Command(do=("sh", "-c", f"cat /dev/zero > {where}/filler 2>/dev/null; true"), why="fill the disk")


def test_a_full_disk_for_results_stops_the_plan_and_restores(bench: Bench, small_disk: Path) -> None:
    (bench.root / "plans").symlink_to(small_disk)
    node = bench.node("a", "1\n")
    steps = (Write(path=node, value="2", why="x"),)
    large = shell("head -c 400000 /dev/zero | tr '\\0' '\\001'")  # in JSON six times as long
    runs = [one_run(shell("true"), run_id="small", steps=steps), one_run(large, load(), run_id="large", steps=steps)]
    wanted = plan(*runs, one_run(hold_ms=1, run_id="never"))
    done = bench.call(*bench.words(wanted))
    assert done.returncode == 4
    assert b"No space left on device" in done.stderr
    sealed_and_whole(bench.journal(wanted))
    assert [r.run_id for r in bench.told(wanted).records] == ["small"]
    assert bench.nodes() == {"a": b"1\n"}
    assert bench.loads() == []
    assert bench.ask("status")["undo"]["pending"] == []


def test_without_room_for_the_undo_nothing_is_written(bench: Bench, small_disk: Path) -> None:
    bench.state.symlink_to(small_disk)
    node, other = bench.node("a", "1\n"), bench.node("b", "1\n")
    steps = (Write(path=other, value="2", why="x"), fill(small_disk), Write(path=node, value="x" * 5000, why="x"))
    see = Command(do=("cp", node, str(bench.root / "seen")), why="x")
    told = bench.run(plan(one_run(load(), hold_ms=1, steps=(*steps, see))))
    assert (told.record.status, codes(told.record)) == ("failed", ["write-failed"])
    assert "cannot journal the undo: No space left on device" in told.record.flags[0].detail
    assert told.record.programs == ()
    assert bench.nodes() == {"a": b"1\n", "b": b"1\n"}
    assert not (bench.root / "seen").exists()


def test_with_no_room_at_all_the_agent_refuses_to_start(bench: Bench, small_disk: Path) -> None:
    bench.state.symlink_to(small_disk)
    subprocess.run(["sh", "-c", f"cat /dev/zero > {small_disk}/filler"], stderr=subprocess.DEVNULL, check=False)
    node = bench.node("a", "1\n")
    done = bench.call(*bench.words(plan(one_run(steps=(Write(path=node, value="2", why="x"),), hold_ms=1))))
    assert (done.returncode, b"No space left on device" in done.stderr) == (4, True)
    assert bench.nodes() == {"a": b"1\n"}


def test_a_limit_on_file_sizes_is_a_full_disk(bench: Bench) -> None:
    node = bench.node("a", "1\n")
    steps = (Write(path=node, value="2", why="x"),)
    wanted = plan(*(one_run(shell("true"), run_id=f"r{i}", steps=steps) for i in range(20)))
    words = [str(word) for word in bench.argv(*bench.words(wanted))]
    done = subprocess.run(["prlimit", "--fsize=6000", *words], capture_output=True, check=False)
    assert done.returncode == 4
    sealed_and_whole(bench.journal(wanted))
    assert 0 < len(bench.told(wanted).records) < 20
    assert bench.nodes() == {"a": b"1\n"}


def three_runs(bench: Bench) -> Plan:
    count = bench.root / "count"
    return plan(*(one_run(shell(f"echo r{i} >> {count}"), run_id=f"r{i}") for i in range(3)))


def test_a_torn_journal_is_continued_where_it_is_whole(bench: Bench) -> None:
    wanted = three_runs(bench)
    bench.run(wanted)
    journal = bench.journal(wanted)
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 8
    # plan-start, run-start, run, run-start, and half of the second run's line.
    journal.write_bytes(b"".join(lines[:4]) + lines[4][: len(lines[4]) // 2])
    (bench.root / "count").unlink()
    told = bench.run(wanted)
    assert (bench.root / "count").read_text() == "r1\nr2\n"
    assert [r.run_id for r in told.records] == ["r0", "r1", "r2"]
    assert journal.read_bytes().startswith(b"".join(lines[:4]))
    assert len(told.starts) == 2


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -2, -70])
def test_a_journal_cut_anywhere_gets_every_run_once(bench: Bench, cut: int) -> None:
    wanted = three_runs(bench)
    bench.run(wanted)
    journal = bench.journal(wanted)
    text = journal.read_bytes()
    lines = text.splitlines(keepends=True)
    inside = len(b"".join(lines[:4]))  # the second run's line
    end = inside + (cut if cut >= 0 else len(lines[4]) + cut)
    journal.write_bytes(text[:end])
    told = bench.run(wanted)
    assert sorted(r.run_id for r in told.records) == ["r0", "r1", "r2"]


def test_a_damaged_line_in_the_middle_is_done_again(bench: Bench) -> None:
    wanted = three_runs(bench)
    bench.run(wanted)
    journal = bench.journal(wanted)
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"status":"done"', b'"status":"dine"')
    journal.write_bytes(b"".join(lines))
    bench.call(*bench.words(wanted))
    good = []
    for line in journal.read_bytes().splitlines(keepends=True):
        try:
            event = json.loads(line)
            good.extend([event["run_id"]] if event["event"] == "run" and event["status"] == "done" else [])
        except ValueError:
            continue
    assert sorted(good) == ["r0", "r1", "r2"]


def test_a_run_that_was_cut_off_by_a_signal_is_done_again(bench: Bench) -> None:
    script = f"echo $RUN >> {bench.root}/count; until [ -e {bench.root}/go -o $RUN = r0 ]; do sleep 0.05; done"
    wanted = plan(*(one_run(shell(script, env={"RUN": f"r{i}"}), run_id=f"r{i}") for i in range(3)))
    process = bench.start(wanted)
    until(lambda: (bench.root / "count").exists() and "r1" in (bench.root / "count").read_text(), "the second run")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert [(r.run_id, codes(r)[-1:]) for r in bench.told(wanted).records] == [("r0", []), ("r1", ["interrupted"])]
    assert bench.ask("status")["agent"]["runs_done"] == 1
    (bench.root / "go").touch()
    told = bench.run(wanted)
    assert (bench.root / "count").read_text() == "r0\nr1\nr1\nr2\n"
    whole = [r.run_id for r in told.records if "interrupted" not in codes(r)]
    assert whole == ["r0", "r1", "r2"]
    assert (told.end.reason, told.end.runs_done) == ("complete", 2)
    bench.run(wanted)  # and not a third time
    assert (bench.root / "count").read_text() == "r0\nr1\nr1\nr2\n"


def test_a_run_that_was_cut_off_is_known_by_its_flags_however_many_and_by_no_other_text(bench: Bench) -> None:
    wanted = three_runs(bench)
    bench.run(wanted)
    journal = bench.journal(wanted)
    text = '},{"code":"interrupted","detail":"]'
    many = [{"code": f"c{i}", "detail": f'{i} \\ ], "code":"interrupted" {"ü" * 500}'} for i in range(255)]
    changes = {
        "r0": {"flags": [{"code": "timeout", "detail": text}], "witnesses": [{"name": "w", "stdout": text}]},
        "r1": {"flags": [*many, {"code": "interrupted", "detail": "the agent was ended by signal 15"}]},
        "r2": {"flags": [*many, {"code": "program-failed", "detail": "interrupted"}]},
    }
    lines = []
    for line in journal.read_bytes().splitlines():
        event = json.loads(line)
        event.pop("line_sha256")
        if event["event"] == "run":
            event |= changes[event["run_id"]]
        lines.append(seal_line(event))
    journal.write_bytes(b"".join(lines))
    (bench.root / "count").unlink()
    bench.run(wanted)
    assert (bench.root / "count").read_text() == "r1\n"


def test_a_finished_plan_run_again_does_nothing(bench: Bench) -> None:
    wanted = three_runs(bench)
    bench.run(wanted)
    told = bench.run(wanted)
    assert (bench.root / "count").read_text() == "r0\nr1\nr2\n"
    assert len([event for event in told.events if isinstance(event, RunStart)]) == 3
    assert (told.end.reason, told.end.runs_done) == ("complete", 0)


def test_another_plan_does_not_write_into_this_journal(bench: Bench) -> None:
    wanted = three_runs(bench)
    bench.run(wanted)
    other = plan(one_run(hold_ms=1), plan_id="other")
    path = bench.root / "other.json"
    path.write_text(other.to_json())
    done = bench.call("run", path, "--state", bench.state, "--out", bench.out(wanted))
    assert (done.returncode, b"plan invalid:" in done.stderr, b"p1" in done.stderr) == (2, True, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's rights")
def test_without_rights_the_agent_says_what_it_cannot_do(bench: Bench) -> None:
    node = bench.node("a", "1\n")
    open_dir = bench.root / "open"
    open_dir.mkdir()
    for path in [bench.root, *bench.root.parents]:
        if "pytest" in str(path):
            path.chmod(0o755)
    open_dir.chmod(0o777)
    wanted = plan(one_run(load(), hold_ms=50, steps=(Write(path=node, value="2", why="x", required=False),)))
    (bench.root / "plan.json").write_text(wanted.to_json())
    words = bench.argv("run", bench.root / "plan.json", "--state", open_dir / "state", "--out", open_dir / "out")
    done = subprocess.run(words, capture_output=True, check=False, user=65534, group=65534)
    assert done.returncode == 0, done.stderr
    (record,) = [e for e in events(open_dir / "out" / "journal.jsonl") if isinstance(e, RunRecord)]
    assert (codes(record), record.steps[0].errno, record.restore[0].held) == ([], 13, True)
    assert record.programs[0].signal == 9
    assert bench.nodes() == {"a": b"1\n"}


def test_thousands_of_runs_need_little_memory(plain_bench: Bench) -> None:
    bench = plain_bench
    node = bench.node("a", "1\n")
    steps = tuple(
        Write(path=node, value=str(i), why="a phrase for people, as plans have it", verify_ms=0) for i in range(8)
    )
    runs = [one_run(run_id=f"run-{i}", steps=steps, hold_ms=600_000) for i in range(5000)]
    wanted = plan(*runs)
    text = wanted.to_json()
    process = bench.start(wanted)
    bench.until_journal_says(wanted, "run-start")
    status = Path(f"/proc/{process.pid}/status").read_text()
    (peak_kb,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    assert len(text) > 10_000_000
    assert peak_kb * 1024 < 2.5 * len(text)
    process.terminate()
    assert process.wait(30) == 143
    until(lambda: not bench.loads(), "the end")
