"""Arm Compute Library's benchmarks: JSON and text of several versions, damaged and hostile output."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_stamps import N, check_kernels, stamps

from devicelab.errors import MeasurementError
from devicelab.workloads import acl_benchmark as acl
from devicelab.workloads.base import Context

ACL = acl.Params(binary="/data/local/tmp/benchmark_graph_mobilenet", iterations=4)


def key(kernel: int, stamp: str = "") -> str:
    instrument = "OpenCLTimestamps" if stamp else "OpenCLTimer"
    tag = f"[{stamp}]" if stamp else ""
    return f"{instrument}/{tag}conv1/a/b_conv_{kernel} GWS[56,56,8] LWS[4,1,1] #{kernel}"


def acl_json(*, old: bool = False, quoted: bool = False, **changes: Any) -> bytes:
    """What the benchmark writes; older versions add avg, min and max, and raw values may be lists of texts."""
    measurements: dict[str, Any] = {}
    for stamp, values in stamps().items():
        for kernel in range(N):
            raw: list[Any] = values[:, kernel].tolist()
            one: dict[str, Any] = {"raw": [[str(v)] for v in raw] if quoted else raw, "unit": "ns"}
            measurements[key(kernel, stamp)] = {"avg": 1, "min": 1, "max": 2, **one} if old else one
    measurements["OpenCLTimestamps/Now OpenCL"] = {"raw": [5], "unit": "ns"}
    measurements["PMU/Instructions"] = {"raw": ["n/a"], "unit": "instructions"}
    measurements["Wall clock/Wall clock time"] = {"raw": [812, 805, 830], "unit": "us"}
    measurements |= changes
    tests = {
        "benchmark_graph_mobilenet": {"measurements": dict(sorted(measurements.items())), "errors": [], "infos": []}
    }
    whole = {"Version": "arm_compute_version=v20.11", "CL_DEVICE_VERSION": "OpenCL 2.0 v1.r19p0", "tests": tests}
    return json.dumps(whole, separators=(" ,", " : ")).encode()


@pytest.mark.parametrize("form", [{}, {"old": True}, {"quoted": True}])
def test_acl_json_of_several_versions_gives_kernels_in_their_order(form: dict[str, bool]) -> None:
    got = acl.parse(acl_json(**form), ACL)
    check_kernels(got)
    assert got.flags == ()
    assert got.info["version"] == "arm_compute_version=v20.11"
    assert got.info["driver"] == "OpenCL 2.0 v1.r19p0"
    assert got.info["kernels"] == N


def test_the_wall_time_of_a_profiled_acl_run_is_no_latency() -> None:
    got = acl.parse(acl_json(), ACL)
    assert "total_ns" not in got.metrics
    assert got.metrics["total_profiled_wall_ns"].value == 812_000
    plain = b'{"tests":{"x":{"measurements":{"Wall clock/Wall clock time":{"raw":[812,805,830],"unit":"us"}}}}}'
    assert acl.parse(plain, ACL).metrics["total_ns"].value == 812_000


def test_what_the_example_prints_around_the_json_is_left_out() -> None:
    noisy = b"Threads : 1\nTarget : CL { not json\n\n" + acl_json() + b"\n\nTest passed {\n"
    check_kernels(acl.parse(noisy, ACL))


def text_line(name: str, *, version: int) -> str:
    tail = {
        0: "AVG=2.5000 ms, STDDEV=1.20 %, MIN=2.4000 ms, , MAX=2.7000 ms, , MEDIAN=2.6000 ms",
        1: "AVG=2.5000 ms, STDDEV=1.20 %, MIN=2.4000 ms, MAX=2.7000 ms, MEDIAN=2.6000 ms",
        2: "AVG=2.6000 ms, MEDIAN=2.6000 ms, MIN=2.4000 ms, MAX=2.7000 ms, STDDEV=1.20 %",
        3: "AVG=2.6000 ms",
    }[version]
    return f"  {name}:    {tail}\n"


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize("colour", [False, True])
def test_acl_text_of_several_versions_gives_kernel_times(version: int, colour: bool) -> None:
    lines = "".join(text_line(key(kernel), version=version) for kernel in (10, 11, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9))
    if colour:
        lines = "".join(f"\x1b[0;33m{line[:-1]}\x1b[m\n" for line in lines.splitlines(keepends=True))
    output = f"Version = v20.11\nCL_DEVICE_VERSION = OpenCL 2.0\nRunning [0] 'Examples/x'\n{lines}Executed 1 test(s)\n"
    got = acl.parse(output.encode(), ACL)
    assert got.tables["durations"]["t_ker_ns"].tolist() == [2_600_000] * N
    assert got.metrics["t_ker_sum_ns"].value == N * 2_600_000
    assert got.info["output"] == "text"
    assert got.info["driver"] == "OpenCL 2.0"


def test_timestamps_that_were_cut_to_whole_units_are_flagged() -> None:
    data = json.loads(acl_json())
    for name, one in data["tests"]["benchmark_graph_mobilenet"]["measurements"].items():
        if name.startswith("OpenCLTimestamps/["):
            one.update(unit="us", raw=[value // 1000 for value in one["raw"]])
    assert "timestamps-truncated" in {flag.code for flag in acl.parse(json.dumps(data).encode(), ACL).flags}
    text = "".join(text_line(key(0, stamp), version=1) for stamp in stamps()).encode()
    assert [flag.code for flag in acl.parse(text, ACL).flags] == ["timestamps-truncated"]


def test_out_of_order_timestamps_and_missing_iterations_are_flagged() -> None:
    backwards = {key(3, "start"): {"raw": [1, 2, 3], "unit": "ns"}}
    codes = {flag.code for flag in acl.parse(acl_json(**backwards), ACL).flags}
    assert codes == {"timestamps-out-of-order"}
    more = ACL.model_copy(update={"iterations": 20})
    assert {flag.code for flag in acl.parse(acl_json(), more).flags} == {"iterations-missing"}


def test_iterations_that_only_the_clock_or_the_timers_show_are_missed_as_well() -> None:
    more = ACL.model_copy(update={"iterations": 20})
    for one in ({"Wall clock/Wall clock time": {"raw": [812], "unit": "us"}}, {key(0): {"raw": [5], "unit": "us"}}):
        output = json.dumps({"tests": {"x": {"measurements": one}}}).encode()
        assert [flag.code for flag in acl.parse(output, more).flags] == ["iterations-missing"]


def test_clocks_since_1970_in_nanoseconds_stay_exact() -> None:
    base = 1_700_000_000_000_000_123
    later = {name: {"raw": (values + base).tolist(), "unit": "ns"} for name, values in stamps_by_key().items()}
    assert acl.parse(acl_json(**later), ACL).metrics["t_prod_mean_ns"].value == 10_000


def stamps_by_key() -> dict[str, np.ndarray]:
    return {key(kernel, stamp): values[:, kernel] for stamp, values in stamps().items() for kernel in range(N)}


def test_points_in_time_are_no_duration() -> None:
    instrument = "Wall clock timestamps"
    points = {
        f"{instrument}/[start]Wall clock time": {"raw": [1_700_000_000_000_000], "unit": "us"},
        f"{instrument}/[end]Wall clock time": {"raw": [1_700_000_000_008_000], "unit": "us"},
    }
    with pytest.raises(MeasurementError, match="no measurement"):
        acl.parse(json.dumps({"tests": {"x": {"measurements": points}}}).encode(), ACL)


@pytest.mark.parametrize(
    ("fields", "t_ker_ns"),
    [
        ("MIN=2 ms, AVG=2.5 ms, MEDIAN=2.4 ms, MAX=3 ms", 2_400_000),
        ("STDDEV=1.2 %, MEDIAN=2.4 ms, , AVG=2.5 ms", 2_400_000),
        ("AVG=3 ms, STDDEV=1 %, MEDIAN=2,4 ms", 3_000_000),  # a decimal comma: the mean is sound
        ("AVG=2400 µs", 2_400_000),
    ],
)
def test_fields_of_a_text_line_come_in_any_order(fields: str, t_ker_ns: int) -> None:
    got = acl.parse(f"  {key(0)}:    {fields}\n".encode(), ACL)
    assert got.tables["durations"]["t_ker_ns"].tolist() == [t_ker_ns]


def test_text_that_ends_within_a_line_is_no_measurement() -> None:
    whole = "".join(text_line(key(kernel), version=1) for kernel in (0, 1))
    line = len(text_line(key(1), version=1))
    assert acl.parse(whole.rstrip("\n").encode(), ACL).tables["durations"]["t_ker_ns"].size == 2
    for left in range(1, line):
        cut = whole[: -1 - left]
        try:
            kept = acl.parse(cut.encode(), ACL).tables["durations"]["t_ker_ns"].tolist()
        except MeasurementError:
            continue
        # Nothing recognisable of the second line is left.
        assert kept == [2_600_000], cut[-60:]
        assert "Timer/" not in cut[-(line - left) :], cut[-60:]
    with pytest.raises(MeasurementError, match="no value with its unit"):
        acl.parse(f"  {key(0)}:    AVG=2,5 ms\n".encode(), ACL)


@pytest.mark.parametrize("took", [0, -1])
def test_an_inference_takes_time(took: int) -> None:
    wall = {"Wall clock/Wall clock time": {"raw": [812, took], "unit": "us"}}
    with pytest.raises(MeasurementError, match="no such time"):
        acl.parse(json.dumps({"tests": {"x": {"measurements": wall}}}).encode(), ACL)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({key(3, "start"): {"raw": [1, 2], "unit": "ns"}}, "2 values"),
        ({key(3, "start"): {"raw": ["x", 2, 3], "unit": "ns"}}, "no number"),
        ({key(3, "start"): {"raw": [1e300, 2, 3], "unit": "ns"}}, "out of range"),
        ({key(3, "start"): {"raw": [1, 2, 3], "unit": "parsecs"}}, "no unit of time"),
        ({key(3, "start"): {"raw": 5, "unit": "ns"}}, "no raw values"),
        ({key(3, "start"): 5}, "no raw values"),
        ({key(44, "start"): {"raw": [1, 2, 3], "unit": "ns"}}, "#12 is missing"),
        ({key(3, "start").replace("conv1", "conv2"): {"raw": [1, 2, 3], "unit": "ns"}}, "there twice"),
    ],
)
def test_damaged_acl_values_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MeasurementError, match=words):
        acl.parse(acl_json(**changes), ACL)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (b"", "no measurement"),
        (b"error: only position independent executables (PIE) are supported\n", "no measurement"),
        (b'{"tests" : {}}', "0 tests"),
        (b'{"tests" : 4}', 'no "tests"'),
        (b'{"tests" : {"x" : {"measurements" : []}}}', 'no "measurements"'),
        (b'{"tests" : {"x" : {"errors" : ["CL_OUT_OF_RESOURCES; "]}}}', "CL_OUT_OF_RESOURCES"),
        (b'{"tests" : {"x" : ' + b"[" * 100_000, "damaged"),
        (b'{"tests" : {"x" : {"measurements" : {"a" : {"raw" : [' + b"9" * 5000 + b'], "unit" : "ns"}}}}}', "damaged"),
        (b"ERROR: in run_example: no OpenCL device\n", "reports an error"),
    ],
)
def test_acl_output_without_measurements_is_a_clear_error(output: bytes, words: str) -> None:
    with pytest.raises(MeasurementError, match=words):
        acl.parse(output, ACL)


@given(st.integers(0, len(acl_json()) - 2))
def test_cut_acl_json_is_an_error_wherever_it_was_cut(end: int) -> None:
    with pytest.raises(MeasurementError):
        acl.parse(acl_json()[:end], ACL)


PIECES = st.sampled_from(
    [
        b"{",
        b"}",
        b'"tests" : ',
        b'"x" : {"measurements" : {',
        key(0).encode(),
        b'"raw" : [1]',
        b"AVG=",
        b"1e999",
        b":",
        b"\n",
    ]
)


@given(st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=30).map(b"".join)))
def test_hostile_acl_output_gives_an_error_or_finite_figures(output: bytes) -> None:
    try:
        got = acl.parse(output, ACL)
    except MeasurementError:
        return
    assert all(np.isfinite(metric.value) for metric in got.metrics.values())


def test_the_acl_command_line_asks_for_json_on_standard_output() -> None:
    line = acl.command(ACL, Context(dir="/d"))
    assert line.argv == (
        "/data/local/tmp/benchmark_graph_mobilenet",
        "--instruments=opencl_timestamps,wall_clock_timer",
        "--iterations=4",
        "--log-format=none",
        "--json-file=/dev/stdout",
        "--example_args=--target=CL,--type=F16",
    )
    patched = acl.Params(
        binary="{dir}/acl", k=4, k_via="argument", k_name="--flush={k}", output="text", library_path="/vendor/lib64"
    )
    line = acl.command(patched, Context(dir="/d"))
    assert line.argv[0] == "/d/acl"
    assert line.argv[-1] == "--example_args=--target=CL,--type=F16,--flush=4"
    assert line.env == {"LD_LIBRARY_PATH": "/vendor/lib64"}
