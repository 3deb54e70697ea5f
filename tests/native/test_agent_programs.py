"""The programs of a run: what they inherit and print, when they start, and who witnesses them."""

import json
import os
import sys
from pathlib import Path

import pytest
from agent_tools import Bench, codes, load, measure, one_run, plan, shell

from devicelab.model.plan import Witness

pytestmark = pytest.mark.slow

CPUS = sorted(os.sched_getaffinity(0))
LAST = CPUS[-1]


def test_output_of_any_bytes_arrives_unharmed(bench: Bench) -> None:
    texts = {
        "binary": bytes(range(256)) * 517,
        "utf8": ('"\\\n\t\0\x1f\x7fäöü€𝄞' * 9001).encode(),
        "nearly": "ä".encode()[:1],
        "empty": b"",
        # Where SHA-256 pads into one block or two.
        **{f"f{size}": b"x" * size for size in (1, 55, 56, 63, 64, 65, 119, 120)},
    }
    programs = []
    for name, data in texts.items():
        (bench.root / name).write_bytes(data)
        programs.append(measure("cat", str(bench.root / name), name=name))
    record = bench.run(plan(one_run(*programs))).record
    assert codes(record) == []
    for program in record.programs:
        assert program.output() == texts[program.name], program.name
        assert program.stdout_bytes == len(texts[program.name])
    assert record.programs[1].stdout is not None
    assert record.programs[2].stdout_b64 is not None


def test_huge_output_is_cut_and_flagged(bench: Bench) -> None:
    record = bench.run(plan(one_run(shell("yes devicelab | head -c 3000000", max_output_bytes=100_000)))).record
    assert codes(record) == ["output-cut"]
    assert record.programs[0].output() == (b"devicelab\n" * 10_000)


def test_endless_output_does_not_fill_the_disk(bench: Bench) -> None:
    record = bench.run(plan(one_run(shell("exec yes", timeout_ms=300, max_output_bytes=1000)))).record
    assert {"output-cut", "timeout"} <= set(codes(record))
    assert len(record.programs[0].output()) == 1000


def test_large_output_within_the_limit_is_kept_whole(bench: Bench) -> None:
    record = bench.run(plan(one_run(shell("head -c 5000000 /dev/zero | tr '\\0' x")))).record
    assert record.programs[0].output() == b"x" * 5_000_000


BARRIER = """
import os, time
os.write(int(os.environ["DEVICELAB_READY_FD"]), b"READY\\n")
start = int(os.read(int(os.environ["DEVICELAB_GO_FD"]), 64))
now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
assert now < start, "told too late"
print(start)
"""


def test_programs_with_a_barrier_start_together(bench: Bench) -> None:
    programs = [measure(sys.executable, "-c", BARRIER, name=f"tenant{i}", barrier=True) for i in range(3)]
    record = bench.run(plan(one_run(*programs, shell("date", name="plain")))).record
    assert codes(record) == [], record
    starts = {int(p.output()) for p in record.programs[:3]}
    assert starts == {record.window_start_ns}
    assert record.programs[3].start_ns >= record.window_start_ns


def test_a_program_that_never_gets_ready_fails_the_run(bench: Bench) -> None:
    sleeper = shell("exec sleep 1000", barrier=True, ready_timeout_ms=200)
    record = bench.run(plan(one_run(sleeper))).record
    assert (record.status, codes(record)) == ("failed", ["not-ready"])
    ender = shell("exit 0", barrier=True)
    record = bench.run(plan(one_run(ender), plan_id="p2")).record
    assert (record.status, codes(record)) == ("failed", ["not-ready"])


def test_a_load_with_a_barrier_is_released_before_the_measurement(bench: Bench) -> None:
    script = BARRIER + "\nwhile True: pass"
    record = bench.run(plan(one_run(load(argv=(sys.executable, "-c", script), barrier=True), hold_ms=200))).record
    assert (record.status, codes(record)) == ("done", [])


def test_the_environment_is_scrubbed_and_set(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GONE", "ALSO_GONE_1", "ALSO_GONE_2", "STAYS", "CHANGED"):
        monkeypatch.setenv(name, "old")
    program = measure("env", env={"CHANGED": "new", "WHERE": "{dir}/x"}, env_scrub=("GONE", "ALSO_GONE_*"))
    lines = bench.run(plan(one_run(program))).record.programs[0].output().decode().splitlines()
    env = dict(line.split("=", 1) for line in lines)
    assert env["CHANGED"] == "new"
    assert env["STAYS"] == "old"
    assert env["WHERE"] == f"{bench.root}/bin/x"
    assert not {name for name in env if "GONE" in name}


def test_niceness_and_cgroups_are_set_before_the_program_runs(bench: Bench) -> None:
    joined = bench.node("cgroup.procs", "")
    program = shell("nice; echo $$", nice=5, cgroups=(joined,))
    niceness, pid = bench.run(plan(one_run(program))).record.programs[0].output().split()
    assert niceness == b"5"
    assert Path(joined).read_bytes() == pid
    record = bench.run(plan(one_run(shell("true", cgroups=("/no/such/cgroup.procs",))), plan_id="p2")).record
    assert (record.status, codes(record)) == ("failed", ["program-failed"])
    assert "cgroup" in record.flags[0].detail


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel has no autogroups")
def test_niceness_weighs_the_whole_session_where_the_kernel_weighs_sessions(bench: Bench) -> None:
    looks = [shell("cat /proc/self/autogroup", name=name, nice=nice) for name, nice in (("kind", 19), ("plain", 0))]
    kind, plain = (result.output().decode() for result in bench.run(plan(one_run(*looks))).record.programs)
    assert kind.endswith(" nice 19\n")
    assert plain.endswith(" nice 0\n")
    assert kind.split()[0] != plain.split()[0]


def test_arguments_reach_the_program_as_they_are(bench: Bench) -> None:
    odd = ("a b", "", "'\";$(id)`id`|&", "ä\n\t\\", "{dir}x", "x{dir}", "-")
    record = bench.run(
        plan(one_run(measure(sys.executable, "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *odd)))
    ).record
    said = json.loads(record.programs[0].output())
    assert said == [word.replace("{dir}", f"{bench.root}/bin") if word.startswith("{dir}") else word for word in odd]


def test_programs_inherit_no_descriptors_and_no_signal_settings(bench: Bench) -> None:
    script = "ls -l /proc/self/fd | grep -c -- '->'; grep -E 'Sig(Blk|Ign)' /proc/self/status"
    with (bench.root / "stray").open("w") as stray:
        process = bench.start(one := plan(one_run(shell(script))), pass_fds=(stray.fileno(),))
        assert process.wait(30) == 0
    count, blocked, ignored = bench.told(one).record.programs[0].output().decode().splitlines()
    assert int(count) == 4  # three streams, and the directory ls reads
    assert (blocked.split()[1], ignored.split()[1]) == ("0" * 16, "0" * 16)


def test_witnesses_see_the_pids_of_the_programs(bench: Bench) -> None:
    record = bench.run(
        plan(
            one_run(
                load(),
                witnesses=(
                    Witness(name="who", argv=("sh", "-c", "readlink /proc/$0/exe", "{pid:load}")),
                    Witness(name="pid", argv=("echo", "{pid:load}", "{pid:nobody}")),
                    Witness(name="late", argv=("sleep", "1000"), timeout_ms=100),
                    Witness(name="none", argv=("/no/such/witness",)),
                    Witness(name="bad", argv=("sh", "-c", "echo no >&2; exit 4")),
                ),
                hold_ms=1500,
            )
        )
    ).record
    who, pid, late, none, bad = record.witnesses
    assert (pid.exit_code, pid.stdout) == (0, f"{record.programs[0].pid} {{pid:nobody}}\n")
    assert (who.exit_code, who.stdout) == (0, f"{bench.root}/bin/overhead\n")
    assert (late.exit_code, late.stderr) == (None, "took too long")
    assert none.exit_code is None
    assert "No such file" in none.stderr
    assert (bad.exit_code, bad.stderr) == (4, "no\n")


def test_a_witness_that_comes_too_late_says_so(bench: Bench) -> None:
    record = bench.run(plan(one_run(hold_ms=50, witnesses=(Witness(name="w", argv=("true",)),)))).record
    assert record.witnesses[0].exit_code is None
    assert "before" in record.witnesses[0].stderr
