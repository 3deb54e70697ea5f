"""What a run does and what it leaves in the journal. The loads and their CPU time are real."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from agent_tools import Bench, codes, load, measure, one_run, plan, shell, until

from devicelab.model.journal import LiveSample, RunRecord, RunStart
from devicelab.model.plan import Command, Gate, Probe, Sampling, Write

pytestmark = pytest.mark.slow

CPUS = sorted(os.sched_getaffinity(0))
LAST = CPUS[-1]


def test_a_run_pins_its_load_measures_samples_and_restores(bench: Bench) -> None:
    node = bench.node("freq", "300000\n")
    told = bench.run(
        plan(
            one_run(
                load(cpus=(LAST,)),
                shell("sleep 0.4; echo done"),
                steps=(Write(path=node, value="2400000", why="pin"),),
                probes=(Probe(cpus=(LAST,), why="placement"),),
                sampling=Sampling(period_ms=50, nodes=(node, "/no/such/node"), around=("/proc/uptime",)),
                settle_ms=50,
            )
        )
    )
    record = told.record
    assert (record.status, codes(record)) == ("done", [])
    assert (record.steps[0].before, record.steps[0].after, record.steps[0].held) == ("300000", "2400000", True)
    assert record.probes[0].granted == (LAST,)
    burner, measured = record.programs
    assert burner.granted == burner.granted_end == (LAST,)
    assert burner.signal == signal.SIGKILL
    window_ns = record.window_end_ns - record.window_start_ns
    assert 0 < burner.window_cpu_ns <= min(window_ns * 1.1, burner.cpu_ns)
    assert measured.output() == b"done\n"
    assert measured.exit_code == 0
    samples = record.samples
    assert samples.t_ns[0] >= record.window_start_ns - 10_000_000
    assert len(samples.t_ns) >= 3
    busy, total = samples.busy[str(LAST)], samples.total[str(LAST)]
    assert len(busy) == len(total) == len(samples.t_ns)
    assert set(samples.nodes[node]) == {"2400000"}
    assert set(samples.nodes["/no/such/node"]) == {None}
    assert float((record.before["/proc/uptime"] or "").split()[0]) < float(
        (record.after["/proc/uptime"] or "").split()[0]
    )
    told_phases = [phase.name for phase in record.phases]
    assert told_phases == ["pin", "verify", "gates", "loads", "settle", "start", "measure", "restore"]
    begun = [record.t_start_ns, *(phase.t_ns for phase in record.phases), record.t_end_ns]
    assert begun == sorted(begun)
    assert {phase.name: phase.t_ns for phase in record.phases}["measure"] == record.window_start_ns
    assert bench.nodes() == {"freq": b"300000\n"}
    assert (record.restore[0].after, record.restore[0].held) == ("300000", True)
    assert record.left_behind == 0
    assert bench.loads() == []
    assert told.end.reason == "complete"
    assert told.end.runs_done == 1


def test_a_run_without_measurement_lasts_as_long_as_asked(bench: Bench) -> None:
    record = bench.run(plan(one_run(load(), hold_ms=300))).record
    assert 300e6 <= record.window_end_ns - record.window_start_ns < 2000e6
    assert record.programs[0].window_cpu_ns > 0


def test_two_loads_a_core_all_end(bench: Bench) -> None:
    programs = [load(f"load{i}", cpus=(CPUS[i % len(CPUS)],)) for i in range(2 * len(CPUS))]
    record = bench.run(plan(one_run(*programs, hold_ms=100))).record
    assert [p.signal for p in record.programs] == [signal.SIGKILL] * len(programs)
    assert bench.loads() == []


def test_a_cpu_that_does_not_exist_is_refused_and_named(bench: Bench) -> None:
    told = bench.run(plan(one_run(load(cpus=(4095,)), hold_ms=100)))
    assert told.record.status == "failed"
    assert codes(told.record) == ["affinity-refused"]
    assert "4095" in told.record.flags[0].detail
    probed = bench.run(plan(one_run(probes=(Probe(cpus=(4094,), why="x"),), hold_ms=10), plan_id="p2")).record
    assert (probed.status, codes(probed), probed.probes[0].errno) == ("failed", ["probe-failed"], 22)


@pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs")
def test_an_affinity_that_is_widened_from_outside_flags_the_run(bench: Bench) -> None:
    one = plan(one_run(load(cpus=(LAST,)), hold_ms=1500))
    process = bench.start(one)
    until(bench.loads, "a load")
    until(lambda: os.sched_getaffinity(bench.loads()[0]) == {LAST}, "the load in its place")
    os.sched_setaffinity(bench.loads()[0], set(CPUS))
    assert process.wait(30) == 0
    record = bench.told(one).record
    assert codes(record) == ["affinity-changed"]
    assert record.programs[0].granted == (LAST,)
    assert record.programs[0].granted_end == tuple(CPUS)


def test_a_load_that_ends_early_flags_the_run(bench: Bench) -> None:
    record = bench.run(plan(one_run(load(argv=("sh", "-c", "sleep 0.1; exit 7")), hold_ms=300))).record
    assert (record.status, codes(record)) == ("done", ["load-died"])
    assert "exit code 7" in record.flags[0].detail
    killed = bench.run(plan(one_run(load(argv=("sh", "-c", "kill -9 $$")), hold_ms=100), plan_id="p2")).record
    assert "signal 9" in killed.flags[0].detail


def test_a_program_that_does_not_exist_fails_the_run(bench: Bench) -> None:
    record = bench.run(plan(one_run(measure("{dir}/nothing")))).record
    assert (record.status, codes(record)) == ("failed", ["program-failed"])
    assert "No such file" in record.flags[0].detail


def test_a_load_in_another_session_is_found_by_its_binary(bench: Bench) -> None:
    # As under Magisk's su: the wrapper ends, the load lives on in a session and with an environment of its own.
    wrapper = """
import os, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.execve(sys.argv[1], sys.argv[1:], {})
"""
    argv = (sys.executable, "-c", wrapper, "{dir}/overhead", "1000", "5000", "30")
    one = plan(one_run(load(argv=argv), hold_ms=400))
    process = bench.start(one)
    until(bench.loads, "the load")
    assert process.wait(30) == 0
    assert bench.loads() == []
    record = bench.told(one).record
    assert record.left_behind == 0
    assert codes(record) == ["load-died"]  # the wrapper did; what it started cannot be watched


def test_descendants_of_any_program_are_ended(bench: Bench) -> None:
    marker = bench.root / "pid"
    script = f"(setsid sleep 1000 & echo $! > {marker}.new; mv {marker}.new {marker}) & wait"
    record = bench.run(plan(one_run(shell(script)))).record
    assert codes(record) == []
    pid = int(marker.read_text())
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()


def test_other_processes_with_the_same_name_live_on(bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "overhead"
    other.write_bytes((bench.root / "bin" / "overhead").read_bytes())
    other.chmod(0o755)
    process = subprocess.Popen([other, "1000", "10", "30"])
    try:
        bench.run(plan(one_run(load(), hold_ms=50)))
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_measurement_that_takes_too_long_is_ended(bench: Bench) -> None:
    record = bench.run(plan(one_run(shell("echo begun; exec sleep 1000", timeout_ms=200)))).record
    assert codes(record) == ["timeout"]
    assert record.programs[0].signal == signal.SIGKILL
    assert record.programs[0].output() == b"begun\n"


def test_a_measurement_that_fails_flags_the_run(bench: Bench) -> None:
    record = bench.run(plan(one_run(shell("echo bad news >&2; exit 3")))).record
    assert (record.status, codes(record)) == ("done", ["program-failed"])
    assert record.programs[0].exit_code == 3
    assert record.programs[0].stderr_tail == "bad news\n"


def test_gates_wait_for_their_band_or_flag_the_run(bench: Bench) -> None:
    node = bench.node("temp", "91000\n")
    warm = Gate(path=node, max_value=40_000, timeout_ms=200, why="cool")
    record = bench.run(plan(one_run(gates=(warm,), hold_ms=10))).record
    assert (record.status, codes(record)) == ("done", ["gate-timeout"])
    assert (record.gates[0].value, record.gates[0].reached) == (91000, False)
    one = plan(
        one_run(gates=(Gate(path=node, max_value=40_000, timeout_ms=60_000, why="cool"),), hold_ms=10), plan_id="p2"
    )
    process = bench.start(one)
    bench.until_journal_says(one, "run-start")
    bench.node("temp", "39999\n")
    assert process.wait(30) == 0
    gate = bench.told(one).record.gates[0]
    assert (gate.value, gate.reached) == (39999, True)


def test_a_gate_waits_until_the_reading_is_flat(bench: Bench) -> None:
    node = bench.node("temp", "50000\n")
    gate = Gate(path=node, min_value=1, flat_within=100, window_ms=300, timeout_ms=5000, why="flat")
    record = bench.run(plan(one_run(gates=(gate,), hold_ms=10))).record
    assert codes(record) == []
    assert 300 <= record.gates[0].waited_ms < 5000


def test_setup_is_done_once_and_undone_at_the_end(bench: Bench) -> None:
    outer, inner = bench.node("outer", "1\n"), bench.node("inner", "1\n")
    see = shell(f"cat {outer} {inner}")
    runs = [one_run(see, run_id=f"r{i}", steps=(Write(path=inner, value=str(i + 7), why="x"),)) for i in range(3)]
    told = bench.run(plan(*runs, setup=(Write(path=outer, value="2", why="x"),)))
    assert [r.programs[0].output() for r in told.records] == [b"2\n7\n", b"2\n8\n", b"2\n9\n"]
    assert told.starts[0].setup[0].held
    assert told.end.restore[0].held
    assert bench.nodes() == {"outer": b"1\n", "inner": b"1\n"}


def test_commands_are_steps_with_an_undo(bench: Bench) -> None:
    made = bench.root / "made"
    make = Command(do=("mkdir", str(made)), undo=("rmdir", str(made)), why="x")
    told = bench.run(plan(one_run(shell(f"ls -d {made}"), steps=(make,))))
    assert told.record.programs[0].exit_code == 0
    assert told.record.steps[0].do == ("mkdir", str(made))
    assert told.record.restore[0].exit_code == 0
    assert not made.exists()


def test_a_command_that_fails_or_hangs_fails_the_run(bench: Bench) -> None:
    steps = (Command(do=("sh", "-c", "echo why; exit 9"), why="x"),)
    record = bench.run(plan(one_run(steps=steps, hold_ms=10))).record
    assert (record.status, codes(record)) == ("failed", ["write-failed"])
    assert (record.steps[0].exit_code, record.steps[0].output) == (9, "why\n")
    steps = (Command(do=("sleep", "1000"), why="x", timeout_ms=100), Command(do=("true",), why="x"))
    record = bench.run(plan(one_run(steps=steps, hold_ms=10), plan_id="p2")).record
    assert (record.status, len(record.steps)) == ("failed", 1)
    steps = (Command(do=("false",), why="x", required=False),)
    record = bench.run(plan(one_run(steps=steps, hold_ms=10), plan_id="p3")).record
    assert (record.status, codes(record), record.steps[0].held) == ("done", [], False)


def test_a_daemon_that_a_command_started_lives_on_until_its_undo(bench: Bench) -> None:
    pid = bench.root / "pid"
    start = f"setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > {pid}"
    daemon = Command(do=("sh", "-c", start), undo=("sh", "-c", f"kill -9 $(cat {pid})"), why="x")
    runs = [one_run(load(), shell(f"kill -0 $(cat {pid})"), run_id=f"r{i}") for i in range(2)]
    told = bench.run(plan(*runs, setup=(daemon,)))
    assert [codes(r) for r in told.records] == [[], []]
    until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(), "the daemon's end")


def test_live_plans_tell_every_sample_as_it_is_taken(bench: Bench) -> None:
    told = bench.run(plan(one_run(load(), hold_ms=200), live=True))
    samples = [event for event in told.events if isinstance(event, LiveSample)]
    assert [s.t_ns for s in samples] == list(told.record.samples.t_ns)
    assert samples[-1].total[str(LAST)] == told.record.samples.total[str(LAST)][-1]


def test_runs_follow_each_other_and_each_is_announced(bench: Bench) -> None:
    told = bench.run(plan(*(one_run(shell("true"), run_id=f"r{i}") for i in range(5))))
    kinds = [(type(event), event.run_id) for event in told.events[1:-1] if isinstance(event, RunStart | RunRecord)]
    assert kinds == [pair for i in range(5) for pair in ((RunStart, f"r{i}"), (RunRecord, f"r{i}"))]
    assert [r.seq for r in told.records] == list(range(5))


def test_a_plan_may_stop_at_the_first_run_that_could_not_be_performed(bench: Bench) -> None:
    runs = (one_run(measure("/no/such"), run_id="bad"), one_run(hold_ms=1, run_id="good"))
    told = bench.run(plan(*runs, stop_on_failure=True), code=4)
    assert (told.end.reason, [r.run_id for r in told.records]) == ("failure", ["bad"])
    told = bench.run(plan(*runs, plan_id="p2"))
    assert (told.end.reason, told.end.runs_done, len(told.records)) == ("complete", 1, 2)


def test_sampling_can_be_turned_off(bench: Bench) -> None:
    record = bench.run(plan(one_run(shell("sleep 0.1"), sampling=Sampling(period_ms=0)))).record
    assert record.samples.t_ns == ()
    assert codes(record) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_the_device_is_kept_awake_while_a_plan_is_executed(bench: Bench) -> None:
    power = Path("/sys/power")
    if not power.is_dir():
        pytest.skip("this kernel has no power management")
    see = bench.root / "seen"
    wanted = plan(one_run(shell(f"cp {power}/wake_lock {see}")), lease_ttl_s=60)
    words = bench.argv(*bench.words(wanted))
    nodes = f"mount -t tmpfs none {power} && touch {power}/wake_lock {power}/wake_unlock"
    script = f'{nodes} && "$@" && cat {power}/wake_unlock'
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", *words], capture_output=True, check=False)
    if b"unshare" in done.stderr or b"mount" in done.stderr:
        pytest.skip(done.stderr.decode())
    assert done.returncode == 0, done.stderr
    assert see.read_text() == "devicelab 60000000000\n"
    assert done.stdout == b"devicelab\n"


def test_what_is_attached_finds_the_measured_program_before_it_begins_and_is_undone(bench: Bench) -> None:
    seen, undone = bench.root / "seen", bench.root / "undone"
    look = f"readlink /proc/$1/exe >{seen}; [ ! -e {bench.root}/begun ]"
    attached = Command(do=("sh", "-c", look, "sh", "{pid:measured}"), undo=("touch", str(undone)), why="t")
    record = bench.run(plan(one_run(load(), shell(f"touch {bench.root}/begun"), attached=(attached,)))).record
    assert (codes(record), record.status) == ([], "done")
    assert seen.read_text().strip() == str(bench.agent)  # it waits, and has not become the program yet
    (measured,) = (one for one in record.programs if one.role == "measure")
    assert record.steps[-1].do is not None
    assert record.steps[-1].do[-1] == str(measured.pid)
    assert undone.exists()
    refused = Command(do=("false",), why="t")
    (bench.root / "begun").unlink()
    record = bench.run(plan(one_run(shell(f"touch {bench.root}/begun"), attached=(refused,)), plan_id="p2")).record
    assert (codes(record), record.status) == (["write-failed"], "failed")
    assert not (bench.root / "begun").exists()
