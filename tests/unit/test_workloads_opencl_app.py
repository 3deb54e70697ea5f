"""The workload opencl_app: command line, and the layer's records as a measurement."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from devicelab.errors import MeasurementError
from devicelab.workloads import opencl_app
from devicelab.workloads.base import Context
from devicelab.workloads.opencl_app import Params

ARGV = ("/usr/bin/program", "--fast")


def header(pid: int = 7, **more: Any) -> dict[str, Any]:
    said = {"layer": 1, "form": "layer", "program": "/usr/bin/program", "policy": "constant", "k": 2, "schedule": []}
    return {"event": "header", "pid": pid, **said, "profiling": True, "wrong": "", **more}


def queue(pid: int = 7, number: int = 1, **more: Any) -> dict[str, Any]:
    said = {"handled": True, "type": "cpu", "noop": False, "platform": "rusticl", "device": "llvmpipe", "driver": "25"}
    return {"event": "queue", "pid": pid, "queue": number, **said, "in_order": True, "profiling": True, **more}


def inference(pid: int = 7, number: int = 1, kernels: int = 3, **more: Any) -> dict[str, Any]:
    """Kernels queued every 10 ns, each taking 20 ns, one after the other."""
    steps = range(kernels)
    batches = [2] * (kernels // 2) + [1] * (kernels % 2)
    stamps = {
        "queued_ns": [10 * i for i in steps],
        "submit_ns": [10 * i + 5 for i in steps],
        "start_ns": [100 + 25 * i for i in steps],
        "end_ns": [120 + 25 * i for i in steps],
    }
    said = {"kernels": kernels, "wait": "finish", "total_ns": 1000, "own_flushes": kernels, "batches": batches}
    sums = {"ker_sum_ns": 20 * kernels, "flush_ns": [3] * len(batches), "device_ns": 1_000_000}
    return {"event": "inference", "pid": pid, "queue": number, **said, **sums, **stamps, **more}


def end(pid: int = 7, **more: Any) -> dict[str, Any]:
    return {"event": "end", "pid": pid, "dropped": 0, "flushes": {"period": 4, "silence": 0}, **more}


def text(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


def params(**more: Any) -> Params:
    return Params(**{"argv": ARGV, "k": 2, "warmup": 0} | more)


def test_the_usual_inferences_behind_the_warm_up_are_measured() -> None:
    setup = inference(kernels=2, batches=[2])
    got = opencl_app.parse(
        text(header(), queue(), setup, *(inference(total_ns=1000 + i) for i in range(6)), end()), params(warmup=2)
    )
    assert got.flags == ()
    assert got.tables["inferences"]["total_ns"].tolist() == [1002, 1003, 1004, 1005]
    assert got.tables["inferences"]["flushes"].tolist() == [2] * 4
    assert got.tables["kernels"]["queued_ns"].tolist()[:3] == [1_000_000, 1_000_010, 1_000_020]
    assert got.metrics["t_prod_median_ns"].value == 10
    assert got.metrics["t_ker_sum_ns"].value == 60
    assert got.metrics["idle_sum_ns"].value == 10
    assert got.metrics["own_flushes"].value == 3
    assert got.info["gpu"] == "CPU device"
    assert got.info["kernels"] == 3
    assert not got.simulated


def test_a_driver_that_throws_work_away_is_named_and_its_figures_are_simulated() -> None:
    got = opencl_app.parse(text(header(), queue(noop=True), inference(), end()), params())
    assert (got.simulated, got.info["gpu"]) == (True, "no-op GPU")


def test_the_busiest_process_and_queue_count() -> None:
    helper = (header(pid=3), queue(pid=3), inference(pid=3), end(pid=3))
    other = inference(number=2, total_ns=5)
    records = (*helper, header(), queue(), queue(number=2), other, *(inference() for _ in range(4)), end())
    got = opencl_app.parse(text(*records), params())
    assert got.info["processes"] == 2
    assert got.tables["inferences"]["total_ns"].tolist() == [1000] * 4


@pytest.mark.parametrize(
    ("records", "more", "code", "remark"),
    [
        ([inference()], {}, "output-truncated", False),
        ([inference(batches=[1, 1, 1]), end()], {}, "k-not-steered", False),
        ([*(inference() for _ in range(199)), inference(batches=[1, 1, 1]), end()], {}, "k-not-steered", True),
        ([inference(), end(dropped=4)], {}, "kernels-dropped", False),
        ([inference(), end(flushes={"silence": 2})], {}, "layer-watchdog", True),
        ([{"event": "note", "pid": 7, "text": "a queue is left alone"}, inference(), end()], {}, "layer-note", True),
        ([inference(), end()], {"k": 3}, "wrong-parameters", False),
        ([inference(start_ns=[0, 0, 0]), end()], {}, "timestamps-out-of-order", False),
    ],
)
def test_what_went_wrong_is_flagged(
    records: list[dict[str, Any]], more: dict[str, Any], code: str, *, remark: bool
) -> None:
    flags = opencl_app.parse(text(header(), queue(), *records), params(**more)).flags
    assert (code, remark) in [(flag.code, flag.remark) for flag in flags]


def test_a_schedule_made_for_another_number_of_kernels_is_flagged() -> None:
    said = header(policy="static", k=0, schedule=[2, 2])
    got = opencl_app.parse(text(said, queue(), inference(), end()), params(policy="static", k=0, schedule="2,2"))
    assert [flag.code for flag in got.flags] == ["schedule-misfit"]
    assert got.flags[0].detail == "the schedule is for 4 kernels, an inference has 3"


def test_a_killed_program_leaves_what_was_whole_and_another_one_may_follow() -> None:
    cut = text(header(), queue(), inference(), inference())[:-20]
    got = opencl_app.parse(cut, params())
    assert len(got.tables["inferences"]["total_ns"]) == 1
    after = cut + b"\n" + text(header(pid=8), queue(pid=8), *(inference(pid=8) for _ in range(3)), end(pid=8))
    assert len(opencl_app.parse(after, params()).tables["inferences"]["total_ns"]) == 3


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (b"", "did not load the OpenCL layer"),
        (text(header(), queue(), end()), "0 inferences of the program were seen"),
        (text(header(), queue(), inference(batches=[2]), end()), "do not make up 3 kernels"),
        (text(header(), queue(), inference(total_ns=0), end()), "there is no such time"),
        (text(header(), queue(), inference(end_ns=[1]), end()), "there are not 3 timestamps"),
        (text(header(), queue()) + b"what\n" + text(inference(), end()), "line 3: Invalid JSON"),
    ],
)
def test_output_that_cannot_be_used_says_why(output: bytes, said: str) -> None:
    with pytest.raises(MeasurementError, match=said):
        opencl_app.parse(output, params())


def test_more_than_any_layer_writes_is_not_read() -> None:
    wide = b'{"event":"inference","batches":[' + b"[]," * 1_000_000 + b"[]]}\n"
    for output, said in ((wide, "more than 1000000 values"), (b"\n" * 6_000_001, "6000003 lines")):
        with pytest.raises(MeasurementError, match=said):
            opencl_app.parse(text(header()) + output + text(end()), params())


@pytest.mark.parametrize(
    "more", [{"policy": "static"}, {"policy": "dynamic"}, {"argv": []}, {"env": ["A B=1"]}, {"costs_ns": "1,2"}]
)
def test_parameters_that_make_no_sense_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        params(**more)


@pytest.mark.parametrize("form", ["auto", "layer", "stand-in"])
def test_the_program_runs_as_it_is_with_the_layer_in_front(tmp_path: Path, form: str) -> None:
    show = tmp_path / "it's a program"
    show.write_text('#!/bin/sh\necho "$OPENCL_LAYERS|$LD_LIBRARY_PATH|$DEVICELAB_LAYER_K|$A|$1"\necho record >&3\n')
    show.chmod(0o755)
    (tmp_path / "opencl_layer").write_text("")
    line = opencl_app.command(
        params(argv=(str(show), "two words"), env=("A=b c",), form=form), Context(dir=str(tmp_path))
    )
    env = {**os.environ, **line.env, "LD_LIBRARY_PATH": ""}
    done = subprocess.run(line.argv, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "record\n"
    layers, path, *rest = done.stderr.rstrip("\n").split("|")
    assert rest == ["2", "b c", "two words"]
    if form == "stand-in":
        assert (layers, path) == ("", f"{tmp_path}/layer")
        assert (tmp_path / "layer" / "libOpenCL.so").resolve() == (tmp_path / "opencl_layer").resolve()
    else:
        assert (layers, path) == (f"{tmp_path}/opencl_layer", "")
