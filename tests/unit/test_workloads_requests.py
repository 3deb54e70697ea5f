"""The reader of tenants' output: exact on good output, and never surprised by any other."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicelab.errors import MeasurementError
from devicelab.workloads._requests import parse_requests

TOOL = "cpu_tenant"


def header(**more: object) -> dict[str, object]:
    return {"tool": TOOL, "arrivals": "fixed:10", "duration_s": 3.0, "device_name": "cpu", **more}


def chunk(*requests: tuple[int, int, int]) -> dict[str, object]:
    columns = list(zip(*requests, strict=True)) or [(), (), ()]
    return {"requests": dict(zip(("scheduled_ns", "start_ns", "end_ns"), map(list, columns), strict=True))}


def end(requests: int, *dropped: int) -> dict[str, object]:
    return {"end": True, "requests": requests, "dropped": len(dropped), "dropped_scheduled_ns": list(dropped)}


def lines(*objects: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


MS = 1_000_000
GOOD = lines(
    header(),
    chunk((0, 10, 5 * MS), (100 * MS, 100 * MS + 7, 250 * MS)),
    chunk((200 * MS, 250 * MS, 2500 * MS)),
    end(3, 300 * MS),
)


def test_requests_become_a_table_with_their_figures() -> None:
    got = parse_requests(GOOD, TOOL)
    assert got.flags == ()
    assert got.tables["requests"]["end_ns"].tolist() == [5 * MS, 250 * MS, 2500 * MS]
    assert got.tables["dropped"]["scheduled_ns"].tolist() == [300 * MS]
    figures = {name: metric.value for name, metric in got.metrics.items()}
    assert figures["requests"] == 3
    assert figures["dropped"] == 1
    assert figures["throughput_per_s"] == pytest.approx(1)
    assert figures["response_p50_ns"] == 150 * MS
    assert figures["service_p50_ns"] == 150 * MS - 7
    assert figures["longest_gap_ns"] == 2250 * MS
    assert figures["empty_seconds"] == 1
    # The third one found the tenant at work, so its wait says nothing about how well the tenant keeps time.
    assert figures["lateness_p99_ns"] == 10
    assert got.info["device_name"] == "cpu"


def test_pauses_between_windows_count_for_nothing() -> None:
    """Two windows of 3 s, 1 s apart: a completion in each, one in the pause."""
    two = header(windows=2, pause_s=1.0)
    done = chunk((0, 0, 1500 * MS), (2900 * MS, 2900 * MS, 3500 * MS), (4000 * MS, 4000 * MS, 4500 * MS))
    got = {name: metric.value for name, metric in parse_requests(lines(two, done, end(3)), TOOL).metrics.items()}
    assert got["throughput_per_s"] == pytest.approx(2 / 6)
    assert got["longest_gap_ns"] == 2500 * MS
    assert got["empty_seconds"] == 4


@pytest.mark.parametrize(
    "wrong", [{"windows": 0}, {"windows": True}, {"windows": "2"}, {"windows": 2}, {"windows": 10**9}]
)
def test_windows_that_cannot_be_are_no_header(wrong: dict[str, object]) -> None:
    with pytest.raises(MeasurementError, match=r"windows|pause_s"):
        parse_requests(lines(header(**wrong), chunk((0, 0, MS)), end(1)), TOOL)


def test_a_completion_after_the_window_is_a_request_but_no_throughput() -> None:
    got = parse_requests(lines(header(), chunk((0, 0, 4000 * MS)), end(1)), TOOL)
    assert got.metrics["requests"].value == 1
    assert got.metrics["throughput_per_s"].value == 0
    assert got.metrics["longest_gap_ns"].value == 3000 * MS
    assert got.metrics["empty_seconds"].value == 3


def test_a_tenant_that_served_nothing_has_no_latency() -> None:
    got = parse_requests(lines(header(), end(0)), TOOL)
    assert got.flags == ()
    assert "response_p50_ns" not in got.metrics
    assert got.tables["requests"]["start_ns"].size == 0


def test_a_continuous_tenant_has_no_lateness() -> None:
    got = parse_requests(lines(header(arrivals="continuous"), chunk((0, 0, 5)), end(1)), TOOL)
    assert "lateness_p99_ns" not in got.metrics


def test_output_without_its_end_is_used_and_flagged() -> None:
    got = parse_requests(GOOD[: GOOD.rindex(b'{"end"')], TOOL)
    assert [flag.code for flag in got.flags] == ["output-truncated"]
    assert got.metrics["requests"].value == 3


def test_lost_requests_are_flagged() -> None:
    got = parse_requests(lines(header(), chunk((0, 0, 5)), end(2)), TOOL)
    assert [flag.code for flag in got.flags] == ["output-truncated"]
    assert "1 of 2" in got.flags[0].detail


@pytest.mark.parametrize(
    "requests",
    [
        [(0, 10, 5)],  # ends before it begins
        [(20, 10, 30)],  # begins before it is due
        [(0, 10, 30), (5, 20, 40)],  # begins while the one before is served
    ],
)
def test_times_that_cannot_be_are_flagged(requests: list[tuple[int, int, int]]) -> None:
    got = parse_requests(lines(header(), chunk(*requests), end(len(requests))), TOOL)
    assert [flag.code for flag in got.flags] == ["requests-out-of-order"]


@pytest.mark.parametrize(
    ("output", "what"),
    [
        (b"", "printed nothing"),
        (b"\n\n", "printed nothing"),
        (b"hello\n", "line 1 is not JSON"),
        (b"[1]\n", "line 1 is not an object"),
        (lines({"tool": "klo"}), "not the header of cpu_tenant"),
        (lines(header(duration_s=0), end(0)), "duration_s"),
        (lines(header(duration_s=True), end(0)), "duration_s"),
        (lines(header(duration_s=1e300), end(0)), "duration_s"),
        (b'{"tool":"cpu_tenant","duration_s":NaN}\n', "duration_s"),
        (lines(header(), {"requests": [1]}, end(0)), "line 2 holds no requests"),
        (lines(header(), {"requests": {"start_ns": []}}, end(0)), "line 2 holds no requests"),
        (lines(header(), {"requests": {"scheduled_ns": [1], "start_ns": [], "end_ns": []}}, end(0)), "unequal length"),
        (lines(header(), {"requests": {"scheduled_ns": "x", "start_ns": [], "end_ns": []}}), "times in ns"),
        (lines(header(), chunk((0, -1, 5)), end(1)), "times in ns"),
        (lines(header(), chunk((0, 1, 10**19)), end(1)), "times in ns"),
        (lines(header(), {"requests": {"scheduled_ns": [True], "start_ns": [1], "end_ns": [1]}}), "times in ns"),
        (lines(header(), {"requests": {"scheduled_ns": [0.5], "start_ns": [1], "end_ns": [1]}}), "times in ns"),
        (lines(header(), end(0), end(0)), "line 3: something after the end"),
        (lines(header(), {"end": True, "requests": 0, "dropped_scheduled_ns": [-5]}), "times in ns"),
    ],
)
def test_output_that_is_no_such_output_is_refused_with_its_line(output: bytes, what: str) -> None:
    with pytest.raises(MeasurementError, match=what):
        parse_requests(output, TOOL)


def test_long_texts_of_a_header_are_cut() -> None:
    got = parse_requests(lines(header(device_name="x" * 10_000, nested={"a": 1}), end(0)), TOOL)
    assert len(str(got.info["device_name"])) == 200
    assert "nested" not in got.info


@given(cut=st.integers(0, len(GOOD)))
def test_output_cut_anywhere_is_refused_or_flagged(cut: int) -> None:
    try:
        got = parse_requests(GOOD[:cut], TOOL)
    except MeasurementError:
        return
    assert got.flags or cut >= len(GOOD) - 1


@given(at=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
def test_a_damaged_byte_never_surprises(at: int, byte: int) -> None:
    damaged = GOOD[:at] + bytes([byte]) + GOOD[at + 1 :]
    try:
        got = parse_requests(damaged, TOOL)
    except MeasurementError:
        return
    table = got.tables["requests"]
    assert len({column.size for column in table.values()}) == 1
    assert all(np.isfinite(metric.value) for metric in got.metrics.values())


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["requests", "end", "scheduled_ns", "start_ns", "end_ns", "duration_s", "tool", "dropped_scheduled_ns"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(objects=st.lists(JUNK, max_size=4))
def test_hostile_objects_are_refused_or_read(objects: list[object]) -> None:
    try:
        got = parse_requests(lines(header(), *objects), TOOL)
    except MeasurementError:
        return
    assert all(np.isfinite(metric.value) for metric in got.metrics.values())


@given(st.binary(max_size=200))
def test_bytes_that_are_no_output_are_refused(data: bytes) -> None:
    with pytest.raises(MeasurementError):
        parse_requests(data, TOOL)


def test_what_a_green_context_was_granted_is_a_figure() -> None:
    told = header(sm_total=132, sm_asked=33, sm_granted=40)
    got = parse_requests(lines(told, chunk((0, 0, MS)), end(1)), TOOL)
    assert got.metrics["sm_granted"].value == 40
    assert "sm_granted" not in parse_requests(lines(header(sm_granted="40"), end(0)), TOOL).metrics
