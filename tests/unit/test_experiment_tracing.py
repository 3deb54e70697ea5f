"""System traces: the first tool there is records, only what was started is ended, and nobody's runs count twice."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from devicelab.experiment import tracing
from devicelab.model.device import Facts
from devicelab.model.experiment import Tracing
from devicelab.model.plan import Program, Run
from tests import labdata

# Records until it is told to end, as perf does, and writes its file then.
_PERF = """#!/bin/sh
echo "$@" >>"$LOG"
while [ "$1" != -o ]; do shift; done
trap 'echo trace >"$file"; exit 0' TERM
file=$2
while :; do sleep 0.05; done
"""
_PERFETTO = """#!/bin/sh
echo "$@" >>"$LOG"
case "$1" in --txt) cat >>"$LOG";; esac
"""


class Tools:
    """A folder of stand-ins in front of PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.log.touch()
        self.file = folder / "run.trace"
        self.environment = {"PATH": f"{folder}/bin:/usr/bin:/bin", "LOG": str(self.log)}
        (folder / "bin").mkdir()

    def add(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *tools: str, pids: tuple[int, ...] = ()) -> "subprocess.CompletedProcess[str]":
        return self._run(tracing.START, "1024", "devicelab-key", "60", " ".join(tools), *map(str, pids))

    def stop(self) -> "subprocess.CompletedProcess[str]":
        return self._run(tracing.STOP, "1024")

    def _run(self, script: str, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = ["sh", "-c", script, "sh", str(self.file), *words]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[Tools]:
    made = Tools(tmp_path)
    yield made
    made.stop()


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_recorder_is_started_detached_and_ended_with_its_file_written(tools: Tools) -> None:
    tools.add("perf", _PERF)
    done = tools.start("no-such-tool", "perf")
    assert (done.returncode, done.stdout) == (0, "perf\n")
    pid = int(Path(f"{tools.file}.pid").read_text().split()[0])
    assert _alive(pid)
    assert "--max-size=1024K" in tools.log.read_text()
    assert tools.stop().returncode == 0
    assert not _alive(pid)
    assert tools.file.read_text() == "trace\n"
    assert sorted(path.name for path in tools.folder.iterdir()) == ["bin", "log", "run.trace"]
    assert tools.stop().returncode == 0  # again, as an undo may be


def test_another_process_that_has_the_pid_by_now_is_left_alone(tools: Tools) -> None:
    tools.add("perf", _PERF)
    assert tools.start("perf").returncode == 0
    ours = int(Path(f"{tools.file}.pid").read_text().split()[0])
    os.kill(ours, signal.SIGKILL)
    with subprocess.Popen(["sleep", "60"]) as other:
        Path(f"{tools.file}.pid").write_text(f"{other.pid} 1\n")
        assert tools.stop().returncode == 0
        assert other.poll() is None
        other.kill()


def test_perfetto_is_told_its_bounds_and_ended_by_its_key(tools: Tools) -> None:
    tools.add("perfetto", _PERFETTO)
    done = tools.start("perfetto", "perf")
    assert done.stdout == "perfetto\n"
    said = tools.log.read_text()
    assert "--detach=devicelab-key" in said
    assert "max_file_size_bytes: 1048576" in said
    assert "duration_ms: 60000" in said
    tools.stop()
    assert tools.log.read_text().splitlines()[-1] == "--attach=devicelab-key --stop"


def test_a_tool_that_does_not_start_gives_way_and_none_is_a_failure(tools: Tools) -> None:
    tools.add("simpleperf", "#!/bin/sh\necho cannot open events >&2\nexit 1\n")
    tools.add("perf", _PERF)
    done = tools.start("simpleperf", "perf")
    assert done.stdout == "perf\n"
    assert "cannot open events" in done.stderr
    tools.stop()
    done = tools.start("simpleperf")
    assert done.returncode == 1
    assert "nothing here traces" in done.stderr
    assert not Path(f"{tools.file}.tool").exists()


def test_the_tracer_is_the_first_step_so_that_it_is_the_last_that_is_undone() -> None:
    of, facts = labdata.experiment(), labdata.facts()
    (cell, *_) = labdata.cells(of)
    plain = Run(run_id="r", cell_id=cell.cell_id, repetition=5)
    wanted = Tracing(when="always", most_mb=4)
    run = tracing.traced(plain, wanted, facts, campaign="c", file="/x/r.trace")
    assert run.run_id == tracing.run_id("c", cell.cell_id) != "r"
    (step,) = run.steps
    assert step.kind == "command"
    assert step.undo == ("sh", "-c", tracing.STOP, "sh", "/x/r.trace", "4096")
    assert step.do[-1] == "perfetto atrace ftrace simpleperf"  # nothing is measured: all of them see the system
    assert step.required


def _measuring(facts: Facts, *names: str, tool: str = "auto") -> Run:
    (cell, *_) = labdata.cells(labdata.experiment())
    programs = tuple(Program(name=name, role="measure", argv=("true",)) for name in names)
    plain = Run(
        run_id="r",
        cell_id=cell.cell_id,
        repetition=0,
        programs=(*programs, Program(name="l", argv=("yes",), role="load")),
    )
    wanted = Tracing.model_validate({"when": "always", "tool": tool})
    return tracing.traced(plain, wanted, facts, campaign="c", file="/x/r.trace")


def test_perf_and_simpleperf_record_the_measured_programs_alone_when_those_are_there() -> None:
    run = _measuring(labdata.facts(), "high", "low")
    (early,), (late,) = run.steps, run.attached
    assert early.kind == "command"
    assert (early.do[-1], early.required) == ("perfetto atrace ftrace", False)
    assert late.do[-3:] == ("simpleperf", "{pid:high}", "{pid:low}")
    assert late.required
    run = _measuring(labdata.facts(), "measure", tool="simpleperf")
    assert run.steps == ()
    assert run.attached[0].do[-2:] == ("simpleperf", "{pid:measure}")
    run = _measuring(labdata.facts(), "measure", tool="perfetto")
    assert run.attached == ()
    assert run.steps[0].kind == "command"
    assert run.steps[0].required


def test_pids_are_handed_on_and_a_tracer_at_work_is_left_to_it(tools: Tools) -> None:
    tools.add("perf", _PERF)
    tools.add("simpleperf", _PERF)
    assert tools.start("perf", pids=(11, 12)).stdout == "perf\n"
    assert "record -p 11,12 " in tools.log.read_text()
    again = tools.start("simpleperf", pids=(11,))
    assert (again.returncode, again.stdout) == (0, "")
    assert "perf devicelab-key is at work" in again.stderr
    tools.stop()
    assert tools.start("perf").stdout == "perf\n"
    assert "record -a " in tools.log.read_text().splitlines()[-1]


def test_flagged_cells_are_traced_those_with_most_flags_first() -> None:
    runs = pd.DataFrame({"cell_id": ["a", "b", "b", "c"], "valid": [True, False, False, False]})
    assert tracing.cells(Tracing(when="flagged"), runs) == ("b", "c")
    assert tracing.cells(Tracing(when="always"), runs) == ("a", "b", "c")
    assert tracing.cells(Tracing(when="flagged"), runs[:1]) == ()
    many = pd.DataFrame({"cell_id": [str(i) for i in range(99)], "valid": [True] * 99})
    assert len(tracing.cells(Tracing(when="always"), many)) == tracing.MOST


def test_the_cost_is_that_over_the_same_cell_without_the_tracer() -> None:
    assert tracing.costs({"a": [10.0, 11.0, 12.0], "b": [5.0]}, {"a": 12.1, "c": 9.0}) == pytest.approx([10.0])
