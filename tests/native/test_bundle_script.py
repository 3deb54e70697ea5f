"""The script of a bundle hears a signal in any shell: the agent ends and restores, and what there is gets packed."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from agent_tools import Bench, Told, codes, events, load, one_run, plan, shell, until

from devicelab.jobs.bundle import _RUN
from devicelab.model.plan import Plan, Write

pytestmark = pytest.mark.slow

SHELLS = [name for name in ("dash", "bash", "mksh", "ksh", "busybox") if shutil.which(name)]


def bundle(bench: Bench, *plans: Plan) -> None:
    (bench.root / "plans").mkdir()
    for number, one in enumerate(plans):
        (bench.root / "plans" / f"{number:04d}.json").write_text(one.to_json())
    (bench.root / "run.sh").write_text(_RUN)
    (bench.root / "bundle.json").write_text("{}")
    (bench.root / "patterns.txt").write_text("")


def start(bench: Bench, name: str) -> "subprocess.Popen[str]":
    argv = ["busybox", "sh"] if name == "busybox" else [name]
    return subprocess.Popen(
        [*argv, str(bench.root / "run.sh")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd="/",
    )


def packed(bench: Bench) -> list[Told]:
    there = bench.root / "there"
    there.mkdir(exist_ok=True)
    subprocess.run(["tar", "-xf", bench.root / "result.tar", "-C", there], check=True)
    return [Told(list(events(path))) for path in sorted(there.glob("out/*/journal.jsonl"))]


def waiting(bench: Bench) -> tuple[Plan, Plan]:
    node = bench.node("n", "1\n")
    script = f"echo $RUN >> {bench.root}/count; until [ -e {bench.root}/go -o $RUN = r0 ]; do sleep 0.05; done"
    runs = [
        one_run(
            load(), shell(script, env={"RUN": f"r{i}"}), run_id=f"r{i}", steps=(Write(path=node, value="7", why="t"),)
        )
        for i in range(3)
    ]
    return plan(*runs[:2], plan_id="c-1"), plan(runs[2], plan_id="c-2")


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_bundle_and_starting_it_again_does_the_rest(
    plain_bench: Bench, name: str, number: signal.Signals, code: int
) -> None:
    bench = plain_bench
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    bundle(bench, *waiting(bench))
    count = bench.root / "count"
    script = start(bench, name)
    until(lambda: count.exists() and "r1" in count.read_text(), "the second run")
    os.killpg(script.pid, number)  # as a terminal does: the agent has a session of its own
    os.killpg(script.pid, number)  # and an impatient one
    said, _ = script.communicate(timeout=30)
    assert script.returncode == code, said
    assert f"result.tar is ready (exit code {code})" in said
    (told,) = packed(bench)
    assert (told.end.reason, codes(told.records[-1])[-1:]) == ("signal", ["interrupted"])
    assert bench.nodes()["n"] == b"1\n"
    assert bench.loads() == []
    (bench.root / "go").touch()
    script = start(bench, name)
    said, _ = script.communicate(timeout=30)
    assert script.returncode == 0, said
    assert count.read_text().split() == ["r0", "r1", "r1", "r2"]
    whole = [record.run_id for told in packed(bench) for record in told.records if not codes(record)]
    assert whole == ["r0", "r1", "r2"]


@pytest.mark.parametrize("name", SHELLS)
def test_what_the_agent_says_about_its_plan_is_the_scripts_exit_code(plain_bench: Bench, name: str) -> None:
    bundle(plain_bench, plan(one_run(hold_ms=1)), plan(one_run(hold_ms=1)).model_copy(update={"plan_version": 99}))
    script = start(plain_bench, name)
    said, _ = script.communicate(timeout=30)
    assert (script.returncode, "plan invalid" in said) == (2, True), said


def test_a_hang_up_that_the_starter_ignores_does_not_end_the_bundle(plain_bench: Bench, tmp_path: Path) -> None:
    bench = plain_bench
    bundle(bench, *waiting(bench))
    count = bench.root / "count"
    ignoring = ["sh", "-c", f"trap '' HUP; exec sh {bench.root}/run.sh"]
    script = subprocess.Popen(ignoring, stdout=subprocess.DEVNULL, start_new_session=True, cwd=tmp_path)
    until(lambda: count.exists() and "r1" in count.read_text(), "the second run")
    os.killpg(script.pid, signal.SIGHUP)
    (bench.root / "go").touch()
    assert script.wait(30) == 0
    assert [told.end.reason for told in packed(bench)] == ["complete", "complete"]
