"""Rows and stamps at their borders: what makes a line a row, a kernel lost, a timestamp missing."""

from typing import Any

import numpy as np
import pytest

from devicelab.errors import MeasurementError
from devicelab.workloads import _launches, _own_binary, command, klo, opencl_apk
from devicelab.workloads.base import Context
from tests import tenant_script


def params(**fields: Any) -> command.Params:
    return command.Params.model_validate({"argv": ("./bench",), **fields})


def totals(told: bytes, **fields: Any) -> list[int]:
    return [*command.parse(told, params(**fields)).tables["inferences"]["total_ns"].tolist()]


@pytest.mark.parametrize("blank", ["", " ", "\t", " \t "])
def test_a_json_line_may_be_indented_and_end_in_blanks(blank: str) -> None:
    output = f'{blank}{{"total_us": 3}}{blank}\nelse {{"total_us": 4}}\n{blank}{{"total_us": 5}}\n'
    assert totals(output.encode(), output="jsonl") == [3000, 5000]


@pytest.mark.parametrize(("row", "taken"), [("3,7", True), ("3,x", False), ("x,7", False), ("x,y", False)])
def test_a_row_without_a_header_has_numbers_in_all_columns_that_are_wanted(row: str, taken: bool) -> None:
    wanted = {"output": "csv", "header": False, "columns": ("total_us", "depth")}
    output = f"1,2\n{row}\n".encode()
    if taken:
        assert totals(output, **wanted) == [1000, 3000]
    elif row == "x,y":
        assert totals(output, **wanted) == [1000], "no number in it: what the program says besides"
    else:
        with pytest.raises(MeasurementError, match="line 2"):
            command.parse(output, params(**wanted))
    anything = {**wanted, "columns": ("total_us", "_")}
    assert totals(b"1,2\n3,x\n", **anything) == [1000, 3000], "a column called _ holds anything"


def kernels(numbers: list[list[int]]) -> bytes:
    rows = [(at, number) for at, inference in enumerate(numbers) for number in inference]
    lines = [f"{at},{number},{t},{t + 1},{t + 2},{t + 3}" for t, (at, number) in enumerate(rows, 1)]
    return ("\n".join(["inference,kernel,queued_ns,submit_ns,start_ns,end_ns", *lines]) + "\n").encode()


@pytest.mark.parametrize(
    ("numbers", "whole"),
    [
        ([[0, 1, 2]], True),
        ([[0, 2, 1]], True),
        ([[4, 5, 6], [4, 5, 6]], True),
        ([[0, 1, 3]], False),
        ([[0, 1, 1]], False),
        ([[0, 1, 3], [0, 1, 3]], False),
        ([[0, 1, 2], [0, 1, 3]], False),
        ([[0, 1, 2], [1, 2, 3]], False),
    ],
)
def test_kernels_are_numbered_one_after_the_other_and_alike_in_each_inference(
    numbers: list[list[int]], whole: bool
) -> None:
    if whole:
        assert command.parse(kernels(numbers), params(output="csv")).info["kernels"] == 3
        return
    with pytest.raises(MeasurementError, match="missing, or there twice"):
        command.parse(kernels(numbers), params(output="csv"))


def stamps(**changed: list[list[int]]) -> tuple[np.ndarray, ...]:
    usual = {"queued": [[1, 2], [11, 12]], "submit": [[3, 3], [13, 13]], "start": [[4, 6], [14, 16]]}
    usual["end"] = [[5, 7], [15, 17]]
    return tuple(np.array(changed.get(name, rows), dtype=np.int64) for name, rows in usual.items())


@pytest.mark.parametrize("name", ["queued", "submit", "start", "end"])
def test_a_stamp_that_is_0_for_every_kernel_of_one_inference_was_not_given(name: str) -> None:
    (flag,) = _launches.timestamp_flags(*stamps(**{name: [[1, 2], [0, 0]]}))
    assert flag.code == "timestamps-missing"
    assert flag.detail.startswith(f"{name.upper()} is 0")
    codes = {flag.code for flag in _launches.timestamp_flags(*stamps(**{name: [[0, 2], [0, 12]]}))}
    assert "timestamps-missing" not in codes, "a program may count from its own start"


@pytest.mark.parametrize(("name", "missing"), [("queued", False), ("submit", False), ("start", False), ("end", True)])
def test_of_a_single_kernel_its_end_alone_is_never_0(name: str, missing: bool) -> None:
    one = {key: [[value]] for key, value in zip(("queued", "submit", "start", "end"), (1, 2, 3, 4), strict=True)}
    found = [flag.code for flag in _launches.timestamp_flags(*stamps(**{**one, name: [[0]]}))]
    assert ("timestamps-missing" in found) is missing


def test_flushes_and_times_of_several_inferences_are_their_medians() -> None:
    """Three inferences of three kernels: one, one and three batches, in 10, 20 and 90 ns."""
    queued = np.array([[1, 2, 3], [101, 102, 103], [201, 220, 240]])
    submit = np.array([[4, 4, 4], [104, 104, 104], [202, 221, 241]])
    start, end = submit + 1, submit + 2
    end[:, 2] = [11, 121, 291]
    got = _own_binary.from_stamps((queued, submit, start, end))
    assert got.metrics["flushes"].value == 1
    assert got.metrics["total_profiled_ns"].value == 20
    assert got.tables["inferences"]["flushes"].tolist() == [1, 1, 3]


@pytest.mark.parametrize(("plain", "cost"), [(1, 100.0), (2, 0.0), (0, None)])
def test_what_profiling_costs_is_told_where_there_is_a_time_without_it(plain: int, cost: float | None) -> None:
    found = klo._wall_metrics(np.array([plain, 2]), np.array([False, True]))
    assert ("profiling_cost_pct" in found) is (cost is not None)
    if cost is not None:
        assert found["profiling_cost_pct"].value == cost


def test_an_app_is_started_by_its_activity_or_by_its_instrumentation() -> None:
    app = {"package": "com.example.net", "activity": ".Main"}
    start = opencl_apk.command(opencl_apk.Params.model_validate(app), Context()).argv
    assert start[4:8] == ("com.example.net", "com.example.net/.Main", start[6], "start")
    tests = {**app, "instrument": "androidx.test.runner.AndroidJUnitRunner"}
    runner = opencl_apk.command(opencl_apk.Params.model_validate(tests), Context()).argv
    assert runner[5:8:2] == ("com.example.net/androidx.test.runner.AndroidJUnitRunner", "instrument")


def test_a_tenant_draws_the_numbers_that_splitmix64_draws_in_every_language() -> None:
    """The first five of seed 1234567, as its authors and others publish them."""
    published = (
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    )
    drawn = tenant_script.load().uniforms(1234567)
    assert [next(drawn) for _ in published] == [(one >> 11) * 2.0**-53 for one in published]
