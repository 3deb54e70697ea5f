"""Rows as an experiment describes them: JSON documents, CSV without a header, files; what is said where none fits."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from devicelab.errors import MeasurementError
from devicelab.workloads import command
from devicelab.workloads.base import Context


def params(**fields: Any) -> command.Params:
    return command.Params.model_validate({"argv": ("./bench",), **fields})


DOCUMENT = b"""[I] loading
{"model": "a",
 "runs": {"latency_ms": [1.5, 2.5, 2.0]},
 "steps": [{"t_us": 3}, {"t_us": 5}]}
bye
"""


def test_a_json_document_holds_rows_at_a_place() -> None:
    numbers = params(output="json", at="runs.latency_ms", rename=("latency_ms=total_ms",))
    assert command.parse(DOCUMENT, numbers).tables["inferences"]["total_ns"].tolist() == [
        1_500_000,
        2_500_000,
        2_000_000,
    ]
    objects = command.parse(DOCUMENT, params(output="json", at="steps"))
    assert objects.tables["samples"]["t_ns"].tolist() == [3000, 5000]
    assert command.parse(DOCUMENT, params(output="json", at="steps.1")).metrics["t_ns"].value == 5000


@pytest.mark.parametrize(
    ("output", "at", "words"),
    [
        (DOCUMENT, "runs.none", "no 'none' on the way to 'runs.none'; there is latency_ms"),
        (DOCUMENT, "model", "value 1 of 'model' is 'a'"),
        (DOCUMENT[:60], "runs.latency_ms", "the output is cut: it ends at line 3"),
        (b'{"a": 1,\n "b": nothing}\n', "", "no JSON at line 2, '\"b\": nothing}'"),
        (b"no document\n", "", "no line begins with"),
    ],
)
def test_json_without_rows_is_a_clear_error(output: bytes, at: str, words: str) -> None:
    with pytest.raises(MeasurementError, match=words):
        command.parse(output, params(output="json", at=at))


def test_csv_without_a_header_has_its_names_from_the_experiment() -> None:
    output = b"net: a, with commas, and, more\nnet,0.0018,36696064,96,0\nnet,0.0020,36696064,96,1\ndone, in, 2, s\n"
    wanted = params(output="csv", header=False, columns=("_", "total_s", "_", "_", "_"))
    with pytest.raises(MeasurementError, match="line 4 has 4 fields, columns 5: 'done, in, 2, s'"):
        command.parse(output, wanted)
    got = command.parse(output.replace(b"in, 2, s", b"in time"), wanted)
    assert got.tables["inferences"]["total_ns"].tolist() == [1_800_000, 2_000_000]
    with pytest.raises(ValidationError, match="header = false"):
        params(output="csv", header=False)


@pytest.mark.parametrize(
    ("pattern", "output", "words"),
    [
        (
            r"squeezenet +avg = +(?P<total_ms>[0-9.]+) ms",
            b"start\nsqueezenet  avg =  3.11 us\nend\n",
            "line 2, 'squeezenet  avg =  3.11 us', comes nearest .* 'squeezenet  avg =  3.11 ' 'ms' does not match",
        ),
        (r"took (?P<total_us>\d+)", b"one\n\ntwo\n", "line 3, 'two', comes nearest .* does not match|matches nothing"),
    ],
)
def test_where_a_pattern_and_the_nearest_line_part_is_said(pattern: str, output: bytes, words: str) -> None:
    with pytest.raises(MeasurementError, match=words):
        command.parse(output, params(output="regex", pattern=pattern))


@pytest.mark.parametrize(
    ("form", "words"), [("csv", "fields between ','"), ("jsonl", "a JSON object with the columns t")]
)
def test_what_was_looked_for_and_the_last_line_are_said(form: str, words: str) -> None:
    with pytest.raises(MeasurementError, match=f"{words}.*the last line, 2, is 'finished'"):
        command.parse(b"hello\nfinished\n", params(output=form, columns=("t",) if form == "jsonl" else ()))


def run(tmp_path: Path, report: str, script: str) -> "subprocess.CompletedProcess[bytes]":
    line = command.command(params(argv=("sh", "-c", script), output="csv", report=report), Context(dir=str(tmp_path)))
    return subprocess.run(line.argv, capture_output=True, check=False)


def test_a_report_is_what_this_run_wrote(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    old = tmp_path / "reports" / "r.csv"
    old.write_text("t_us\n1\n")
    done = run(tmp_path, "{dir}/reports/r.csv", f"echo talk; printf 't_us\\n7\\n' >> {old}")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"t_us\n7\n", b"talk\n")
    gone = run(tmp_path, "{dir}/reports/r.csv", "true")
    assert gone.returncode == 1
    assert b"it wrote no" in gone.stderr
    assert run(tmp_path, "{dir}/reports/r.csv", "exit 7").returncode == 7


def test_a_program_s_own_file_is_not_removed_and_not_believed_if_it_is_older(tmp_path: Path) -> None:
    theirs = tmp_path / "their own.csv"
    theirs.write_text("t_us\n1\n")
    stale = run(tmp_path, str(theirs), "true")
    assert (stale.returncode, stale.stdout, theirs.read_text()) == (1, b"", "t_us\n1\n")
    assert b"is older than its start" in stale.stderr
    fresh = run(tmp_path, str(theirs), f"printf 't_us\\n2\\n' > '{theirs}'; touch -d '+5 seconds' '{theirs}'")
    assert fresh.stdout == b"t_us\n2\n"


@pytest.mark.parametrize("report", ["{dir}/agent", "{dir}/reports/../agent", "{dir}/reports/a/b", "relative"])
def test_a_report_lies_nowhere_near_what_is_ours(report: str) -> None:
    with pytest.raises(ValidationError, match="report is"):
        params(report=report)
