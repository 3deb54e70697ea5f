"""Any command as a workload: K on its way in, kernels and other samples out of its output by a described parser."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_stamps import ITERATIONS, N, check_kernels, stamps
from pydantic import ValidationError

from devicelab.errors import MeasurementError
from devicelab.model.measurement import Measurement
from devicelab.workloads import command
from devicelab.workloads.base import Context


def params(**fields: Any) -> command.Params:
    return command.Params.model_validate({"argv": ("./bench",), **fields})


def test_k_is_told_by_argument_environment_or_file() -> None:
    context = Context(dir="/d")
    by_argument = command.command(params(k=4, k_via="argument", k_name="--k={k}"), context)
    assert by_argument.argv == ("./bench", "--k=4")
    inside = command.command(params(argv=("{dir}/bench", "-k", "{k}"), k=8), context)
    assert inside.argv == ("/d/bench", "-k", "8")
    by_environment = command.command(params(k=4, k_via="environment", k_name="FLUSH_K", env=("A=b=c",)), context)
    assert by_environment.env == {"A": "b=c", "FLUSH_K": "4"}


def test_k_in_a_file_is_there_when_the_program_starts_in_the_same_process(tmp_path: Path) -> None:
    path = tmp_path / "a file; rm -rf $HOME"
    line = command.command(
        params(argv=("sh", "-c", 'cat "$1"; echo " $$"', "x", str(path)), k=12, k_via="file", k_name=str(path)),
        Context(),
    )
    with subprocess.Popen(line.argv, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=20)
    assert output.split() == ["12", str(process.pid)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"k_via": "argument", "k_name": "--flush"},
        {"k_via": "environment", "k_name": "A B"},
        {"k_via": "file", "k_name": "relative"},
        {"k": -1},
        {"env": ("no equals sign",)},
        {"output": "regex", "pattern": "("},
        {"output": "regex", "pattern": "no group"},
        {"argv": ()},
        {"rename": ("a",)},
        {"unknown": 1},
    ],
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        params(**wrong)


def kernel_rows() -> list[dict[str, int]]:
    times = stamps()
    return [
        {"it": i, "id": k, **{name: int(values[i, k]) for name, values in times.items()}}
        for i in range(ITERATIONS)
        for k in range(N)
    ]


RENAME = ("it=inference", "id=kernel", "queued=queued_ns", "flushed=submit_ns", "start=start_ns", "end=end_ns")


def test_json_lines_of_kernels_make_the_tables_of_the_klo_analysis() -> None:
    output = "loading network\n" + "".join(json.dumps(row) + "\n" for row in kernel_rows()) + "done\n"
    got = command.parse(output.encode(), params(output="jsonl", rename=RENAME))
    check_kernels(got)
    assert got.metrics["total_profiled_ns"].value > 0


def test_csv_of_kernels_without_inference_numbers_is_split_where_kernels_start_again() -> None:
    rows = kernel_rows()
    lines = ["# csv follows", "id;queued;flushed;start;end"]
    lines += [";".join(str(row[name]) for name in ("id", "queued", "flushed", "start", "end")) for row in rows]
    got = command.parse("\n".join([*lines, ""]).encode(), params(output="csv", delimiter=";", rename=RENAME))
    check_kernels(got)


def test_a_regular_expression_reads_times_in_their_unit() -> None:
    output = b"warm-up\niter 0: 12.5 ms (util 80%)\niter 1: 13.0 ms (util 90%)\nnoise\niter 2: 14.0 ms (util 70%)\n"
    pattern = r"iter \d+: (?P<total_ms>[0-9.]+) ms \(util (?P<util_pct>\d+)%\)"
    got = command.parse(output, params(output="regex", pattern=pattern))
    assert got.tables["inferences"]["total_ns"].tolist() == [12_500_000, 13_000_000, 14_000_000]
    assert got.metrics["total_ns"].value == 13_000_000
    assert (got.metrics["util_pct"].value, got.metrics["util_pct"].unit) == (80.0, "pct")


def test_other_columns_become_samples_and_medians() -> None:
    got = command.parse(b"speed 3\nspeed 5\nspeed 4\n", params(output="regex", pattern=r"speed (?P<speed>\d+)"))
    assert got.tables["samples"]["speed"].tolist() == [3, 5, 4]
    assert got.metrics["speed"].value == 4


def test_a_rate_is_not_taken_for_a_time() -> None:
    params = command.Params(
        argv=("x",), output="regex", pattern=r"(?P<bytes_per_s>[0-9.]+) B/s in (?P<total_s>[0-9.]+)"
    )
    metrics = command.parse(b"1500.5 B/s in 2\n", params).metrics
    assert metrics["total_ns"].value == 2e9
    assert (metrics["bytes_per_s"].value, metrics["bytes_per_s"].unit) == (1500.5, "1/s")


def test_parts_of_a_nanosecond_are_kept() -> None:
    got = command.parse(b"1.38 ns\n1.44 ns\n", params(output="regex", pattern=r"(?P<total_ns>[0-9.]+) ns"))
    assert got.metrics["total_ns"].value == pytest.approx(1.41)
    assert got.tables["inferences"]["total_ns"].tolist() == [1.38, 1.44]


def test_clocks_since_1970_in_nanoseconds_stay_exact() -> None:
    base = 1_700_000_000_000_000_123
    times = {"queued_ns": base, "submit_ns": base + 100, "start_ns": base + 200, "end_ns": base + 1200}
    table = {",".join(times): ",".join(map(str, times.values()))}
    outputs = {"jsonl": json.dumps(times), "csv": "\n".join(f"{head}\n{row}" for head, row in table.items())}
    for form, output in outputs.items():
        got = command.parse(f"{output}\n".encode(), params(output=form))
        assert got.metrics["t_ker_sum_ns"].value == 1000
        assert got.metrics["klo_total_ns"].value == 200


@pytest.mark.parametrize("took", ["0", "-1"])
def test_an_inference_takes_time(took: str) -> None:
    pattern = r"took (?P<total_ms>[-0-9.]+) ms"
    with pytest.raises(MeasurementError, match="no such time"):
        command.parse(f"took 3 ms\ntook {took} ms\n".encode(), params(output="regex", pattern=pattern))


@pytest.mark.parametrize("gone", [[(0, 2), (1, 2), (2, 2)], [(0, 2), (1, 3), (2, 4)]])
def test_a_lost_kernel_is_not_renumbered_away(gone: list[tuple[int, int]]) -> None:
    rows = [row for row in kernel_rows() if (row["it"], row["id"]) not in gone]
    output = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with pytest.raises(MeasurementError, match="missing, or there twice"):
        command.parse(output, params(output="jsonl", rename=RENAME))


def test_a_command_without_a_parser_measures_nothing() -> None:
    assert command.parse(b"\xff\x00anything", params()) == Measurement()


@pytest.mark.parametrize("form", ["jsonl", "csv", "regex"])
def test_a_cut_last_line_is_flagged_and_not_used(form: str) -> None:
    outputs = {
        "jsonl": b'{"total_us": 5}\n{"total_us": 6}\n{"total_us": 7',
        "csv": b"total_us,x\n5,1\n6,1\n7,",
        "regex": b"t=5\nt=6\nt=7",
    }
    got = command.parse(outputs[form], params(output=form, pattern=r"t=(?P<total_us>\d+)"))
    assert got.tables["inferences"]["total_ns"].tolist() == [5000, 6000]
    assert [flag.code for flag in got.flags] == ["output-truncated"]


def test_a_last_inference_that_was_cut_is_left_out() -> None:
    output = "".join(json.dumps(row) + "\n" for row in kernel_rows()[:-2]).encode()
    got = command.parse(output, params(output="jsonl", rename=RENAME))
    assert got.tables["inferences"]["inference"].tolist() == [0, 1]
    assert [flag.code for flag in got.flags] == ["output-truncated"]


@pytest.mark.parametrize(
    ("form", "output", "words"),
    [
        ("jsonl", b"", "no line"),
        ("jsonl", b"nothing here\n", "no line"),
        ("jsonl", b'{"a": 1}\n{broken\n{"a": 2}\n', "line 2 is not JSON"),
        ("jsonl", b'{"a_us": 1}\n{"b_us": 2}\n', "line 2 has no 'a_us'"),
        ("jsonl", b'{"a_us": 1}\n{"a_us": "x"}\n', "line 2, a_us: 'x' is no number"),
        ("jsonl", b'{"a_us": NaN}\n{"a_us": 1}\n', "no column"),
        ("jsonl", b'{"a_s": 1e300}\n', "out of range"),
        ("jsonl", b'{"a_us": 1, "a_ns": 1}\n', "two columns"),
        ("jsonl", b'{"a": "text"}\n', "no column"),
        ("jsonl", b"{" * 100_000 + b"\n", "line 1 is not JSON"),
        ("csv", b"a_us,b\n1,2\n1,2,3\n1,2\n", "line 3 has 3 fields"),
        ("regex", b"no match\n", "no line"),
    ],
)
def test_damaged_output_is_a_clear_error(form: str, output: bytes, words: str) -> None:
    with pytest.raises(MeasurementError, match=words):
        command.parse(output, params(output=form, pattern=r"t=(?P<total_us>\d+)"))


def test_inferences_of_unlike_length_are_an_error() -> None:
    rows = [row for row in kernel_rows() if (row["it"], row["id"]) != (1, 5)]
    output = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with pytest.raises(MeasurementError, match="11 to 12 kernels"):
        command.parse(output, params(output="jsonl", rename=RENAME))


LINES = st.lists(
    st.sampled_from([b'{"a_us": 1}', b"{", b"a_us,b", b"1,2", b"t=5", b"t=", b"\xff\xfe", b"", b'"', b"9" * 400])
)


@given(st.one_of(st.binary(max_size=300), LINES.map(b"\n".join)), st.sampled_from(["jsonl", "csv", "regex"]))
def test_hostile_output_gives_an_error_or_finite_figures(output: bytes, form: str) -> None:
    try:
        got = command.parse(output, params(output=form, pattern=r"t=(?P<t_us>.*)"))
    except MeasurementError:
        return
    assert all(np.isfinite(metric.value) for metric in got.metrics.values())
    for table in got.tables.values():
        assert len({column.size for column in table.values()}) == 1
