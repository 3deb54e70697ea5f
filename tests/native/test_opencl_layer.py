"""The OpenCL layer in front of a program that is not told about it, on a driver that holds commands back."""

import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from layer_tools import Bench, build, named, read

from devicelab.device import build as builder
from devicelab.device.toolchain import host_abi

pytestmark = pytest.mark.skipif(host_abi() is None, reason="no toolchain for this machine")

# Ways to wait after which the layer knows where an inference ended.
SEEN = (
    "finish",
    "events",
    "read",
    "write",
    "map",
    "svm",
    "poll",
    "stamps",
    "marker",
    "later-read",
    "callback",
    "callbacks",
)
WAYS = (
    *SEEN,
    "native",
    "two-queues",
    "two-queues-late",
    "user-event",
    "released",
    "extension",
    "pipelined",
    "threads",
    "questions",
)
_FLAGS = {"address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"), "thread": ("-fsanitize=thread",)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bench]:
    """Of each kind one, compiled when it is first asked for."""
    return cache(lambda kind: build(tmp_path_factory.mktemp(kind), *_FLAGS.get(kind, ())))


@pytest.fixture(scope="module", params=["plain", *(pytest.param(name, marks=pytest.mark.slow) for name in _FLAGS)])
def checked(request: pytest.FixtureRequest, built: Callable[[str], Bench]) -> Bench:
    """Once as it is, once stopping at a bad access or undefined operation, once at a data race."""
    return built(str(request.param))


@pytest.fixture(scope="module")
def bench(built: Callable[[str], Bench]) -> Bench:
    return built("plain")


@pytest.mark.parametrize("way", WAYS)
def test_no_way_to_wait_hangs_or_changes_what_is_computed(checked: Bench, way: str) -> None:
    expected, _ = checked.run(way, kernels=10, inferences=5, layer=False)
    for settings in ({}, {"k": 1}, {"k": 4}, {"k": 0}, {"schedule": "3,7"}, {"dynamic": 1, "costs": "2000,3000,1000"}):
        said, records = checked.run(way, kernels=10, inferences=5, **settings)
        assert said == expected, settings
        assert records[-1]["event"] == "end"
        assert records[-1]["flushes"]["silence"] == 0


@pytest.mark.parametrize("way", SEEN)
@pytest.mark.parametrize(("k", "batches"), [(1, [1] * 10), (3, [3, 3, 3, 1]), (5, [5, 5]), (0, [10]), (64, [10])])
def test_k_is_steered_exactly_and_every_inference_is_found(bench: Bench, way: str, k: int, batches: list[int]) -> None:
    _, records = bench.run(way, kernels=10, inferences=6, k=k)
    found = named(records, "inference")
    assert [one["batches"] for one in found] == [batches] * 6
    assert [one["kernels"] for one in found] == [10] * 6
    assert all(len(one["flush_ns"]) == len(batches) for one in found)


def test_the_driver_sees_the_flushes_of_the_layer_alone(bench: Bench, tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = bench.environment(tmp_path / "records", k=4) | {"DEFERRING_LOG": str(log)}
    subprocess.run([bench.program, bench.layer, "finish", "10", "3", "1"], env=environment, check=True, timeout=60)
    assert log.read_text().splitlines() == ["flushes 9 kernels 30", "4 4 2 4 4 2 4 4 2 "]


def test_without_k_the_program_flushes_as_it_likes(bench: Bench, tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = bench.environment(tmp_path / "records") | {"DEFERRING_LOG": str(log)}
    subprocess.run([bench.program, bench.layer, "finish", "5", "2", "2"], env=environment, check=True, timeout=60)
    assert log.read_text().splitlines() == ["flushes 6 kernels 10", "2 2 1 2 2 1 "]


def test_a_static_schedule_sets_each_batch_and_its_last_one_goes_on_beyond(bench: Bench) -> None:
    _, records = bench.run("finish", kernels=12, inferences=2, schedule="1,5,3")
    assert [one["batches"] for one in named(records, "inference")] == [[1, 5, 3, 3]] * 2


def test_dynamic_learns_from_the_first_inferences_and_then_plans(bench: Bench) -> None:
    costs = {"dynamic": 1, "profile": 3, "costs": "100000,100000,1000000"}
    _, records = bench.run("finish", kernels=24, inferences=8, **costs)
    found = named(records, "inference")
    assert [one["batches"] for one in found[:3]] == [[4] * 6] * 3
    assert all(sum(one["batches"]) == 24 for one in found)
    # A gap of a millisecond between batches of kernels that take next to nothing: one batch at the end is best.
    assert all(len(one["batches"]) < 6 for one in found[3:])
    assert all(one["planning_ns"] > 0 for one in found[3:])


def test_a_program_that_watches_memory_alone_is_saved_by_the_watchdog(bench: Bench) -> None:
    expected, _ = bench.run("memory", kernels=10, inferences=2, layer=False)
    said, records = bench.run("memory", kernels=10, inferences=2, k=4, watchdog_ms=20)
    assert said == expected
    assert records[-1]["flushes"]["silence"] == 2


def test_times_of_an_inference_leave_out_its_first_kernel(bench: Bench) -> None:
    _, records = bench.run("finish", kernels=10, inferences=3, k=4)
    for one in named(records, "inference"):
        queued, start, end = one["queued_ns"], one["start_ns"], one["end_ns"]
        assert len(queued) == len(one["host_ns"]) == 10
        assert one["prod_sum_ns"] == queued[-1] - queued[0]
        assert one["ker_sum_ns"] == sum(e - s for s, e in zip(start, end, strict=True))
        assert one["idle_sum_ns"] == sum(s - e for s, e in zip(start[1:], end, strict=False))
        assert one["span_ns"] == end[-1] - queued[0]
        assert 0 < one["host_ns"][0] <= one["host_ns"][-1] <= one["total_ns"]


def test_after_the_detailed_inferences_come_sums(bench: Bench) -> None:
    _, records = bench.run("finish", kernels=4, inferences=5, k=2, detail=2)
    found = named(records, "inference")
    assert ["queued_ns" in one for one in found] == [True, True, False, False, False]
    assert all(one["ker_sum_ns"] >= 0 and one["batches"] == [2, 2] for one in found)


@pytest.mark.parametrize(
    "settings",
    [
        {"k": "many"},
        {"k": -1},
        {"k": 4, "schedule": "4"},
        {"schedule": "4,,4"},
        {"schedule": "0"},
        {"dynamic": 1},
        {"dynamic": 1, "costs": "1,2"},
        {"dynamic": 1, "costs": "1,2,3,"},
        {"dynamic": 1, "costs": "1,2,3,4,5"},
        {"k": 4, "detail": "1e3"},
    ],
)
def test_settings_that_make_no_sense_steer_nothing_and_are_said(bench: Bench, settings: dict[str, object]) -> None:
    said, records = bench.run("finish", kernels=6, inferences=2, **settings)
    assert said.endswith(b"done\n")
    assert "is not understood" in records[0]["wrong"]
    assert [one["batches"] for one in named(records, "inference")] == [[1] * 6] * 2


@pytest.mark.parametrize("costs", ["1,2,3", "1,2,3,4"])
def test_dynamic_takes_three_costs_or_four(bench: Bench, costs: str) -> None:
    _, records = bench.run("finish", kernels=6, inferences=2, dynamic=1, costs=costs)
    assert (records[0]["wrong"], records[0]["policy"]) == ("", "dynamic")


def test_without_timestamps_host_times_remain(bench: Bench) -> None:
    said, records = bench.run("questions", kernels=6, inferences=2, k=4, profiling=0)
    assert said.endswith(b"done\n")
    _, records = bench.run("finish", kernels=6, inferences=2, k=4, profiling=0)
    assert [one["batches"] for one in named(records, "inference")] == [[4, 2]] * 2
    assert all("queued_ns" not in one and len(one["host_ns"]) == 6 for one in named(records, "inference"))


def test_ten_thousand_inferences_are_steered_and_recorded(bench: Bench) -> None:
    expected, _ = bench.run("events", kernels=10, inferences=10_000, layer=False)
    said, records = bench.run("events", kernels=10, inferences=10_000, k=4)
    assert said == expected
    assert records[-1]["inferences"] == 10_000
    assert records[-1]["dropped"] == 0
    assert {tuple(one["batches"]) for one in named(records, "inference")} == {(4, 4, 2)}


def test_a_program_killed_at_any_instant_leaves_whole_records(bench: Bench, tmp_path: Path) -> None:
    draw = random.Random(17)
    records = tmp_path / "records"
    argv = [bench.program, bench.layer, "events", "10", "100000", "1"]
    for _ in range(20):
        # One file for all of them: a new process begins behind what the killed one left.
        process = subprocess.Popen(argv, env=bench.environment(records, k=4), stdout=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.005 + 0.04 * draw.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
    whole = read(records)
    found = named(whole, "inference")
    assert found
    assert all(one["batches"] == [4, 4, 2] for one in found)
    for process_id in {one["pid"] for one in named(whole, "header")}:
        numbers = [one["i"] for one in found if one["pid"] == process_id]
        assert numbers == list(range(len(numbers)))


def test_a_full_disk_ends_the_records_and_not_the_program(bench: Bench) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    environment = bench.environment(Path("/dev/full"), k=4)
    argv = [bench.program, bench.layer, "events", "10", "50", "1"]
    done = subprocess.run(argv, env=environment, capture_output=True, timeout=60, check=True)
    expected, _ = bench.run("events", kernels=10, inferences=50, layer=False)
    assert done.stdout == expected


def test_the_library_is_built_for_this_machine_and_needs_no_cxx_library() -> None:
    built = builder.build("opencl_layer", str(host_abi()))
    assert "opencl_layer" not in builder.programs()
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf")
    said = subprocess.run([readelf, "-d", built.path], capture_output=True, text=True, check=True).stdout
    assert "libstdc++" not in said
    assert "NODELETE" in said
