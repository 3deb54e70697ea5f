"""Outputs as real benchmarks print them: log lines around CSV, rows on stderr, timers of the CPU's kernels."""

import subprocess
from typing import Any

import pytest

from devicelab.errors import MeasurementError
from devicelab.experiment.programs import _is_on_stderr
from devicelab.model.journal import ProgramResult
from devicelab.workloads import acl_benchmark, command
from devicelab.workloads.base import Context


def params(**fields: Any) -> command.Params:
    return command.Params.model_validate({"argv": ("./bench",), **fields})


ROWS = 'build,n_prompt,avg_ns,avg_ts\n"5e10","512","1234567890","414.7"\n"5e10","512","1234567891","414.6"\n'
LOG = "vulkan: 0 = Some GPU (drv) | uma: 1, int dot: 1\n"
COMMAS = "log, of, as many, commas\n"


@pytest.mark.parametrize("before", ["", LOG, COMMAS, LOG + COMMAS, "avg_ns is measured, wait\n"])
@pytest.mark.parametrize("after", ["", "done\n", "llama: freeing the model, please wait\n", "\n"])
def test_lines_of_a_log_around_csv_are_no_rows(before: str, after: str) -> None:
    wanted = command.parse((before + ROWS + after).encode(), params(output="csv", columns=("avg_ns", "avg_ts")))
    assert wanted.metrics["avg_ns"].value == 1234567890.5
    assert wanted.metrics["avg_ts"].value == pytest.approx(414.65)
    assert wanted.flags == ()
    if before != COMMAS and before != LOG + COMMAS:
        every = command.parse((before + ROWS + after).encode(), params(output="csv"))
        assert every.metrics["avg_ns"].value == 1234567890.5


@pytest.mark.parametrize(
    ("lines", "words"),
    [("1,2,3\n", "line 3 has 3 fields"), ("7\n", "line 3 has 1 fields"), ("x,y\n", "no number")],
)
def test_a_row_that_is_damaged_is_no_line_of_a_log(lines: str, words: str) -> None:
    with pytest.raises(MeasurementError, match=words):
        command.parse(f"a_us,b\n1,2\n{lines}1,2\n".encode(), params(output="csv", columns=("a_us", "b")))


def test_a_row_that_was_cut_is_still_told() -> None:
    got = command.parse(b"a_us,b\n1,2\n3,", params(output="csv"))
    assert [flag.code for flag in got.flags] == ["output-truncated"]


NCNN = "          squeezenet  min =    3.02  max =    3.22  avg =    3.11\n"
PATTERN = r"squeezenet .*avg = +(?P<total_ms>[0-9.]+)"


def test_rows_on_stderr_are_read_if_the_experiment_says_so() -> None:
    wanted = params(argv=("sh", "-c", f"echo '{NCNN.rstrip()}' >&2; exit 3"), output="regex", pattern=PATTERN)
    apart = command.command(wanted, Context())
    assert subprocess.run(apart.argv, capture_output=True, check=False).stdout == b""
    joined = command.command(wanted.model_copy(update={"read_stderr": True}), Context())
    done = subprocess.run(joined.argv, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (3, b"")
    assert command.parse(done.stdout, wanted).metrics["total_ns"].value == 3_110_000


def test_rows_on_stderr_are_said_to_be_there() -> None:
    wanted = params(output="regex", pattern=PATTERN)
    told = ProgramResult(name="alone", role="measure", pid=1, exit_code=0, stderr_tail=NCNN)
    assert _is_on_stderr(command.parse, told, wanted)
    assert not _is_on_stderr(command.parse, told.model_copy(update={"stderr_tail": "no such network\n"}), wanted)


SCHEDULER = """Version = 0123abcd
Iterations = 1
Running [0] 'Examples/benchmark_graph_x'
Target : Neon

  SchedulerTimer/Conv/CpuGemmAssemblyWrapperKernel/a64_hybrid_fp32_mla_6x16 #2:    AVG=2.5000 ms
  SchedulerTimer/Conv/CpuIm2ColKernel #1:    AVG=3.5000 ms
  SchedulerTimer/Conv/CpuWeightsReshapeKernel #0:    AVG=0.0400 ms
"""


def test_the_cpu_s_kernels_have_durations_too() -> None:
    wanted = acl_benchmark.Params(
        binary="/d/b", instruments=("scheduler_timer_ms",), output="text", target="NEON", iterations=2
    )
    got = acl_benchmark.parse(SCHEDULER.encode(), wanted)
    assert got.tables["durations"]["t_ker_ns"].tolist() == [40_000, 3_500_000, 2_500_000]
    assert got.metrics["t_ker_sum_ns"].value == 6_040_000


def test_an_instrument_that_means_nothing_here_is_named() -> None:
    text = SCHEDULER.replace("SchedulerTimer/", "SchedulerTimestamps/[start]")
    with pytest.raises(MeasurementError, match="SchedulerTimestamps is not read"):
        acl_benchmark.parse(text.encode(), acl_benchmark.Params(binary="/d/b", output="text"))
