"""klo's parameters, command line, and what becomes of its output: whole, cut, garbled or hostile."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from devicelab.errors import MeasurementError
from devicelab.workloads import _launches, klo
from devicelab.workloads.base import Context

K2 = klo.Params(backend="emulated", k=2)


def header(**changes: Any) -> dict[str, Any]:
    return {
        "event": "header",
        "klo": 1,
        "backend": "emulated",
        "simulated": True,
        "platform": "p",
        "device": "d",
        "driver": "v",
        "extensions": "cl_khr_fp16 cl_arm_scheduling_controls",
        "network": "mobilenet_v1",
        "kernels": 4,
        "policy": "constant",
        "k": 2,
    } | changes


def profiled(**changes: Any) -> dict[str, Any]:
    # Two batches of two; the second is queued while the first runs and waits for it.
    return {
        "event": "inference",
        "phase": "profiled",
        "total_ns": 500,
        "planning_ns": 0,
        "batches": [2, 2],
        "flush_ns": [5, 5],
        "queued_ns": [100, 120, 150, 170],
        "submit_ns": [125, 125, 175, 175],
        "start_ns": [140, 200, 275, 300],
        "end_ns": [200, 260, 300, 420],
    } | changes


def plain(total_ns: int = 400, **changes: Any) -> dict[str, Any]:
    common = {"event": "inference", "phase": "plain", "planning_ns": 0, "batches": [2, 2], "flush_ns": [5, 7]}
    return common | {"total_ns": total_ns} | changes


def text(*events: Any, end: bool = True) -> bytes:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    if end:
        count = sum(isinstance(event, dict) and event["event"] == "inference" for event in events)
        lines.append(json.dumps({"event": "end", "inferences": count, "out_of_order": 0}))
    return "\n".join([*lines, ""]).encode()


def test_metrics_are_the_definitions_worked_out_by_hand() -> None:
    got = klo.parse(text(header(), profiled(), plain(400), plain(420), plain(380)), K2)
    value = {name: metric.value for name, metric in got.metrics.items()}
    assert value == pytest.approx(
        {
            "total_ns": 400,
            "total_profiled_ns": 500,
            "profiling_cost_pct": 25,
            "flushes": 2,
            "flush_mean_ns": (2 * 5 + 3 * 12) / 8,
            "k": 2,
            "t_ker_sum_ns": 60 + 60 + 25 + 120,
            "klo_total_ns": (420 - 100) - 265,
            "idle_sum_ns": 0 + 15 + 0,
            "starved_sum_ns": 0,
            "launch_sum_ns": 15,
            "wait_for_flush_mean_ns": (25 + 5 + 25 + 5) / 4,
            "t_prod_mean_ns": 70 / 3,
            "t_prod_median_ns": 20,
        }
    )
    assert {metric.unit for name, metric in got.metrics.items() if name.endswith("_ns")} == {"ns"}
    assert got.simulated
    assert got.flags == ()


def test_a_gpu_that_waits_for_the_host_is_starved_and_not_slow_to_launch() -> None:
    one = profiled(
        queued_ns=[100, 120, 400, 420],
        submit_ns=[125, 125, 425, 425],
        start_ns=[140, 200, 440, 450],
        end_ns=[200, 260, 450, 460],
    )
    value = {name: metric.value for name, metric in klo.parse(text(header(), one), K2).metrics.items()}
    assert value["starved_sum_ns"] == 425 - 260
    assert value["launch_sum_ns"] == 440 - 425
    assert value["starved_sum_ns"] + value["launch_sum_ns"] == value["idle_sum_ns"]


def test_tables_keep_every_sample_with_its_batch() -> None:
    got = klo.parse(text(header(), profiled(phase="warmup"), profiled(), profiled(), plain()), K2)
    kernels, inferences = got.tables["kernels"], got.tables["inferences"]
    assert list(kernels) == ["inference", "kernel", "batch", "queued_ns", "submit_ns", "start_ns", "end_ns"]
    assert kernels["inference"].tolist() == [0] * 4 + [1] * 4
    assert kernels["kernel"].tolist() == [0, 1, 2, 3] * 2
    assert kernels["batch"].tolist() == [0, 0, 1, 1] * 2
    assert list(inferences) == ["inference", "profiled", "begin_ns", "total_ns", "flushes"]
    assert inferences["profiled"].tolist() == [1, 1, 0]
    assert all(column.dtype == np.int64 for table in got.tables.values() for column in table.values())


def test_facts_name_the_device_and_the_telling_extensions() -> None:
    info = klo.parse(text(header(), profiled()), K2).info
    assert info["device"] == "d"
    assert info["kernels"] == 4
    digest, *telling = str(info["extensions"]).split()
    assert len(digest) == 12
    assert telling == ["cl_arm_scheduling_controls"]


def test_output_without_plain_or_without_profiled_inferences_has_the_metrics_it_can_have() -> None:
    only_profiled = klo.parse(text(header(), profiled()), K2)
    assert "total_ns" not in only_profiled.metrics
    only_plain = klo.parse(text(header(), plain()), K2)
    assert "kernels" not in only_plain.tables
    assert "t_prod_mean_ns" not in only_plain.metrics


def test_a_network_of_one_kernel_has_no_t_prod() -> None:
    one = profiled(batches=[1], flush_ns=[5], queued_ns=[1], submit_ns=[2], start_ns=[3], end_ns=[9])
    got = klo.parse(text(header(kernels=1, k=1), one), klo.Params(backend="emulated", k=1))
    assert "t_prod_mean_ns" not in got.metrics
    assert got.metrics["idle_sum_ns"].value == 0
    assert got.metrics["klo_total_ns"].value == 2


@pytest.mark.parametrize(
    "stamps",
    [
        {"start_ns": [90, 200, 275, 300]},
        {"queued_ns": [100, 90, 150, 170]},
        {"queued_ns": [100, 120, 150, 99999]},
        {"end_ns": [200, -10064000, 300, 420]},
    ],
)
def test_timestamps_out_of_order_are_flagged_with_their_count_and_differences_stay_signed(
    stamps: dict[str, Any],
) -> None:
    got = klo.parse(text(header(), profiled(**stamps), profiled()), K2)
    (flag,) = got.flags
    assert flag.code == "timestamps-out-of-order"
    assert flag.detail.startswith("1 of 8 kernels")


def test_a_few_crossed_timestamps_are_said_and_the_run_counts() -> None:
    clean = (np.arange(400).reshape(4, 100) * 1000) + np.array([[0], [100], [200], [300]])
    queued, submit, start, end = (np.tile(row, (2, 1)) for row in clean)
    assert _launches.timestamp_flags(queued, submit, start, end) == ()
    for crossed, remark in ((2, True), (3, False)):
        early = start.copy()
        early[0, :crossed] = submit[0, :crossed] - 1
        (flag,) = _launches.timestamp_flags(queued, submit, early, end)
        assert (flag.code, flag.remark) == ("timestamps-out-of-order", remark)


@pytest.mark.parametrize("missing", [(0, 1, 2, 3), (0, 1), (0,), (3,)])
def test_timestamps_a_driver_does_not_give_are_no_measurement(missing: tuple[int, ...]) -> None:
    stamps = [1_700_000_000_000_000_000 + np.arange(56).reshape(2, 28) * 1000 + 100 * place for place in range(4)]
    for place in missing:
        stamps[place] = np.zeros((2, 28), dtype=np.int64)
    (flag,) = _launches.timestamp_flags(*stamps)
    assert (flag.code, flag.remark) == ("timestamps-missing", False)
    assert all(np.isfinite(metric.value) for metric in _launches.kernel_metrics(*stamps).values())


def test_a_program_may_count_from_its_own_start() -> None:
    queued = np.array([[0, 10], [0, 10]])
    assert _launches.timestamp_flags(queued, queued + 1, queued + 2, queued + 3) == ()


def test_a_negative_kernel_time_is_kept_with_its_sign() -> None:
    got = klo.parse(text(header(), profiled(end_ns=[200, 260, 200, 420])), K2)
    assert got.metrics["t_ker_sum_ns"].value == 60 + 60 - 75 + 120


def test_batches_of_a_driver_that_submits_at_once_are_single_kernels() -> None:
    queued = np.array([[0, 10, 20, 30]])
    assert _launches.infer_batches(queued, queued + 1).tolist() == [[0, 1, 2, 3]]


def test_batches_of_a_driver_that_submits_from_another_thread_are_told_apart() -> None:
    queued = np.array([[0, 10, 20, 30, 40, 50]])
    submit = np.array([[45, 46, 47, 80, 81, 82]])  # the first batch goes out when the second one is half queued
    assert _launches.infer_batches(queued, submit).tolist() == [[0, 0, 0, 1, 1, 1]]


def test_output_that_was_cut_is_used_as_far_as_it_goes_and_flagged() -> None:
    whole = text(header(), profiled(), plain(), plain())
    assert len(klo.parse(whole, K2).tables["inferences"]["inference"]) == 3
    at_line_end = text(header(), profiled(), plain(), end=False)
    for cut in (at_line_end, at_line_end + b'{"event":"inference","pha'):
        got = klo.parse(cut, K2)
        assert [flag.code for flag in got.flags] == ["output-truncated"]
        assert len(got.tables["inferences"]["inference"]) == 2


@given(st.integers(0, 2000))
def test_output_cut_anywhere_gives_an_error_or_a_flag_and_never_a_clean_result(length: int) -> None:
    whole = text(header(), profiled(), plain(), profiled())
    cut = whole[: min(length, len(whole) - 1)]
    try:
        got = klo.parse(cut, K2)
    except MeasurementError:
        return
    assert "output-truncated" in {flag.code for flag in got.flags}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "klo printed nothing"),
        (["Segmentation fault"], "line 1"),
        ([profiled()], "line 1: the header is missing"),
        ([header(), header()], "line 2: the header comes again"),
        ([header(), "{"], "line 2"),
        ([header(), "", profiled()], "line 2"),
        ([header(), profiled(queued_ns=[1, 2, 3])], "line 2: queued_ns has 3 entries for 4 kernels"),
        ([header(), profiled(end_ns=[])], "line 2: end_ns has 0 entries"),
        ([header(), profiled(start_ns=[1, 2, 3, "4"])], "line 2: .*start_ns.3"),
        ([header(), profiled(start_ns=[1, 2, 3, 4.5])], "line 2: .*start_ns.3"),
        ([header(), profiled(start_ns=[1, 2, 3, 2**63])], "line 2: .*start_ns.3"),
        ([header(), profiled(start_ns=[1, 2, 3, True])], "line 2: .*start_ns.3"),
        ([header(), profiled(total_ns=None)], "line 2: .*total_ns"),
        ([header(), profiled(batches=[2, 3])], "line 2: the batches do not make up 4 kernels"),
        ([header(), profiled(batches=[4, 0])], "line 2: the batches"),
        ([header(), profiled(flush_ns=[1])], "line 2: the batches"),
        ([header(klo=2), profiled()], "line 1: .*klo"),
        ([header(kernels=0), profiled()], "line 1: .*kernels"),
        ([header(kernels=10**9), profiled()], "line 1: .*kernels"),
        ([header(), profiled(event="inferenz")], "line 2"),
        ([header(), "[" * 20000], "line 2"),
        ([header(), '{"event":"inference","total_ns":1e999}'], "line 2"),
        ([header(), profiled(), '{"event":"end","inferences":1}', profiled()], "line 4: something follows the end"),
        ([header(), profiled(phase="warmup")], "no measured inference"),
    ],
)
def test_output_that_is_not_klos_is_an_error_that_names_the_line(lines: list[Any], complaint: str) -> None:
    with pytest.raises(MeasurementError, match=complaint):
        klo.parse(text(*lines, end=bool(lines) and complaint.startswith("no ")), K2)


def test_an_end_that_counts_other_inferences_is_an_error() -> None:
    lines = text(header(), profiled(), end=False) + b'{"event":"end","inferences":2}\n'
    with pytest.raises(MeasurementError, match="2 inferences, but there are 1"):
        klo.parse(lines, K2)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_escape_as_another_error(data: bytes) -> None:
    with pytest.raises(MeasurementError):
        klo.parse(data, K2)


def test_a_program_that_measured_something_else_is_flagged() -> None:
    got = klo.parse(text(header(network="resnet50", k=3), profiled(), plain()), K2)
    assert [flag.code for flag in got.flags] == ["wrong-parameters"] * 2
    assert "resnet50" in got.flags[0].detail


def test_everything_in_one_flush_is_measured_as_k_equal_to_the_number_of_kernels() -> None:
    one = profiled(batches=[4], flush_ns=[5])
    assert klo.parse(text(header(k=4), one), klo.Params(k=0)).metrics["k"].value == 4
    assert klo.parse(text(header(k=4), one), klo.Params(k=99)).flags == ()


def test_planning_time_is_told_for_the_dynamic_policy_alone() -> None:
    dynamic = klo.Params(policy="dynamic")
    lines = text(header(policy="dynamic", k=0), {"event": "profile", "p_ns": [1]}, profiled(planning_ns=7), plain())
    assert klo.parse(lines, dynamic).metrics["planning_ns"].value == 3.5
    assert "planning_ns" not in klo.parse(text(header(), plain()), K2).metrics


def test_the_command_line_says_what_the_parameters_say() -> None:
    argv = klo.command(K2, Context(dir="/d")).argv
    assert argv[:7] == ("/d/klo", "--backend", "emulated", "--network", "mobilenet_v1", "--k", "2")
    assert "--costs" not in argv
    static = klo.Params(policy="static", schedule=(1, 2, 1), flush_ns=100)
    assert klo.command(static, Context()).argv[5:7] == ("--schedule", "1,2,1")
    dynamic = klo.Params(policy="dynamic", costs_ns=(1, 2, 3), device="Mali")
    argv = klo.command(dynamic, Context()).argv
    assert argv[argv.index("--costs") + 1] == "1,2,3"
    assert argv[-2:] == ("--device", "Mali")
    assert "--k" not in argv


def test_lists_may_be_given_as_text_since_a_factors_level_is_one_value() -> None:
    params = klo.Params.model_validate({"policy": "static", "schedule": "4,4 8", "costs_ns": "1,2,3"})
    assert params.schedule == (4, 4, 8)
    assert params.costs_ns == (1, 2, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": -1},
        {"policy": "static"},
        {"policy": "static", "schedule": "4,0"},
        {"inferences": 0, "plain": 0},
        {"network": "--help"},
        {"network": ""},
        {"costs_ns": "1,2"},
        {"kk": 4},
    ],
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        klo.Params.model_validate(wrong)


FRAMED = klo.Params(backend="opencl", k=2, foreground_hz=60)


def framed(took_ns: list[int], **changes: Any) -> dict[str, Any]:
    due = [16_666_667 * slot for slot in range(len(took_ns))]
    there = [at + took for at, took in zip(due, took_ns, strict=True)]
    common = {"event": "foreground", "queue": "own", "period_ns": 16_666_667, "drawn": 19}
    return common | {"scheduled_ns": due, "end_ns": there} | changes


def test_frames_of_the_foreground_are_timed_from_when_they_were_due() -> None:
    took = [1000] * 90 + [9000] * 10
    got = klo.parse(text(header(backend="opencl"), plain(), framed(took)), FRAMED)
    assert got.metrics["foreground_p50_ns"].value == 1000
    assert got.metrics["foreground_p95_ns"].value == 9000
    assert got.metrics["foreground_due"].value == 100
    assert got.metrics["foreground_drawn"].value == 19
    assert (got.tables["frames"]["end_ns"] - got.tables["frames"]["scheduled_ns"]).tolist() == took


def test_too_few_frames_tell_no_percentile() -> None:
    got = klo.parse(text(header(backend="opencl"), plain(), framed([1000] * 19)), FRAMED)
    assert [flag.code for flag in got.flags] == ["foreground-starved"]
    assert "foreground_p95_ns" not in got.metrics


def test_a_foreground_that_klo_does_not_speak_of_is_flagged() -> None:
    got = klo.parse(text(header(backend="opencl"), plain()), FRAMED)
    assert "wrong-parameters" in {flag.code for flag in got.flags}


@pytest.mark.parametrize(
    "frames",
    [
        [framed([1] * 30, end_ns=[1])],
        [framed([1] * 30), framed([1] * 30)],
        [framed([1] * 30, scheduled_ns=["x"] * 30)],
        [framed([1] * 30, queue="?")],
    ],
)
def test_damaged_frames_are_refused(frames: list[dict[str, Any]]) -> None:
    with pytest.raises(MeasurementError):
        klo.parse(text(header(backend="opencl"), plain(), *frames), FRAMED)


def test_the_foreground_on_the_command_line() -> None:
    line = " ".join(klo.command(FRAMED.model_copy(update={"foreground_queue": "shared"}), Context(dir="/d")).argv)
    assert line.endswith("--foreground 16666667,200,20000,200 --foreground-queue shared")
    assert "--foreground" not in " ".join(klo.command(K2, Context(dir="/d")).argv)
    for wrong in ({"plain": 0}, {"backend": "emulated"}, {"foreground_hz": 0.01}):
        with pytest.raises(ValidationError):
            klo.Params.model_validate({"backend": "opencl", "foreground_hz": 60, **wrong})
