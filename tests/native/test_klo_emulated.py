"""klo with the emulated GPU, compiled by this machine's compiler with sanitizers."""

import json
import os
import statistics
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from klo_tools import Said, attempt, run

from devicelab.device.build import build
from devicelab.device.toolchain import host_abi
from devicelab.workloads import klo as workload
from devicelab.workloads.base import Context

pytestmark = pytest.mark.skipif(host_abi() is None, reason="no toolchain for this machine")
COSTS = ("--flush-ns", 9000, "--start-idle-ns", 30000, "--gap-ns", 7000)
QUICK = ("--backend", "emulated", "--warmup", 1, "--inferences", 2, "--plain", 1)


@pytest.fixture(scope="module")
def klo() -> Path:
    return build("klo", str(host_abi()), toolchain="host-sanitize").path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Ten kernels of given work and time."""
    path = tmp_path / "ten.txt"
    path.write_text("# work units, ns\n\n" + "".join(f"kernel {20 + i} {20000 + 1000 * i}\n" for i in range(10)))
    return path


def _quick(klo: Path, *args: object) -> Said:
    return run(klo, *QUICK, *args)


def test_every_kernel_of_every_profiled_inference_is_kept(klo: Path, net: Path) -> None:
    said = _quick(klo, "--network", net, "--k", 4)
    assert said.header["backend"] == "emulated"
    assert said.header["simulated"] is True
    assert (said.header["kernels"], said.header["k"], said.header["network"]) == (10, 4, "ten.txt")
    assert [one["phase"] for one in said.inferences] == ["warmup", "profiled", "profiled", "warmup", "plain"]
    for one in said.phase("profiled"):
        assert {len(one[name]) for name in ("queued_ns", "submit_ns", "start_ns", "end_ns", "host_ns")} == {10}
    assert "queued_ns" not in said.phase("plain")[0]
    assert said.end["inferences"] == 5
    assert said.end["out_of_order"] == 0


@pytest.mark.parametrize(
    ("k", "batches"), [(1, [1] * 10), (3, [3, 3, 3, 1]), (4, [4, 4, 2]), (10, [10]), (11, [10]), (0, [10])]
)
def test_the_queue_is_flushed_after_every_k_kernels(klo: Path, net: Path, k: int, batches: list[int]) -> None:
    said = _quick(klo, "--network", net, "--k", k)
    assert all(one["batches"] == batches for one in said.inferences)
    assert said.header["k"] == (k if 0 < k < 10 else 10)


def test_the_emulated_timeline_is_what_the_model_makes_of_the_real_flush_times(klo: Path, net: Path) -> None:
    said = _quick(klo, "--network", net, "--k", 4, *COSTS)
    for one in said.phase("profiled"):
        end_before = None
        for first, last in ((0, 4), (4, 8), (8, 10)):
            flushed = one["submit_ns"][first]
            assert one["submit_ns"][first:last] == [flushed] * (last - first)
            start = flushed + 30000
            if end_before is not None:
                start = max(start, end_before + 7000)
            assert one["start_ns"][first] == start
            assert one["start_ns"][first + 1 : last] == one["end_ns"][first : last - 1]
            assert max(one["queued_ns"][first:last]) <= flushed
            end_before = one["end_ns"][last - 1]
        durations = [end - start for start, end in zip(one["start_ns"], one["end_ns"], strict=True)]
        assert durations == [20000 + 1000 * i for i in range(10)]
        assert min(one["flush_ns"]) >= 9000
        # The wait is real: the inference does not end before the computed GPU does.
        assert one["begin_ns"] + one["total_ns"] >= one["end_ns"][-1]


def test_a_schedule_is_followed_from_the_command_line_and_from_a_file(klo: Path, net: Path, tmp_path: Path) -> None:
    schedule = tmp_path / "schedule.txt"
    schedule.write_text("1 2\n3,4\n")
    for given in ("1,2,3,4", schedule):
        said = _quick(klo, "--network", net, "--schedule", given)
        assert said.header["policy"] == "static"
        assert all(one["batches"] == [1, 2, 3, 4] for one in said.inferences)


def test_dynamic_plans_from_a_profile_and_tells_what_planning_cost(klo: Path, net: Path) -> None:
    said = _quick(klo, "--network", net, "--dynamic", "--profile", 3, *COSTS)
    assert said.header["policy"] == "dynamic"
    assert said.header["costs_ns"] == [9000, 30000, 7000, 0]
    assert said.header["costs_from"] == "emulation"
    assert len(said.phase("profile")) == 3
    assert said.profile is not None
    assert said.profile["g_ns"] == [20000 + 1000 * i for i in range(10)]
    assert said.profile["p_ns"][0] == sum(said.profile["p_ns"][1:]) // 9, "the first reading is invalid"
    for one in [*said.phase("profiled"), *said.phase("plain")]:
        assert sum(one["batches"]) == 10
        assert one["planning_ns"] > 0
    assert all(one["planning_ns"] == 0 for one in said.phase("profile"))


def test_a_flush_costs_more_the_longer_its_batch_where_the_driver_works_so(klo: Path, net: Path) -> None:
    costs = ("--flush-ns", 1000, "--flush-per-kernel-ns", 40000)
    said = _quick(klo, "--network", net, "--schedule", "1,9", *costs)
    for one in said.inferences:
        short, long = one["flush_ns"]
        assert short >= 41_000
        assert long >= 361_000


def test_dynamic_takes_launch_costs_from_arguments_or_a_table(klo: Path, net: Path, tmp_path: Path) -> None:
    table = tmp_path / "lut"
    table.write_text("board note10\nflush_ns 1\nstart_idle_ns 2\ngap_ns 3\n")
    by_argument = _quick(klo, "--network", net, "--dynamic", "--costs", "4,5,6")
    grows = _quick(klo, "--network", net, "--dynamic", "--costs", "4,5,6,7")
    assert grows.header["costs_ns"] == [4, 5, 6, 7]
    by_table = _quick(klo, "--network", net, "--dynamic", "--lut", table)
    assert (by_argument.header["costs_ns"], by_argument.header["costs_from"]) == ([4, 5, 6, 0], "arguments")
    assert (by_table.header["costs_ns"], by_table.header["costs_from"]) == ([1, 2, 3, 0], "lut")


def test_the_boards_file_scales_gpu_and_cpu(klo: Path, net: Path, tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    slow = tmp_path / "emulation"
    percents = " ".join("800" if i == cpu else "100" for i in range(cpu + 2))
    slow.write_text(
        f"simulated 1\nflush_ns 1000\nstart_idle_ns 5\ngap_ns 6\ngpu_time_pct 250\ncpu_time_pct {percents}\nfuture x\n"
    )
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        nominal = run(klo, *QUICK, "--inferences", 9, "--network", net, "--k", 0, "--emulation", "/dev/null")
        scaled = run(klo, *QUICK, "--inferences", 9, "--network", net, "--k", 0, "--emulation", slow)
    finally:
        os.sched_setaffinity(0, before)
    one = scaled.phase("profiled")[0]
    assert (one["cpu"], one["cpu_pct"], one["gpu_pct"]) == (cpu, 800, 250)
    assert one["end_ns"][0] - one["start_ns"][0] == 20000 * 250 // 100
    assert min(one["flush_ns"]) >= 8 * 1000
    assert (scaled.header["flush_ns"], scaled.header["start_idle_ns"], scaled.header["gap_ns"]) == (1000, 5, 6)

    def t_prod(said: Said) -> float:
        return statistics.median(b - a for one in said.phase("profiled") for a, b in pairwise(one["queued_ns"]))

    # Eight times the work; half of that is allowed for a busy machine.
    assert t_prod(scaled) > 4 * t_prod(nominal)


def test_arguments_go_before_the_boards_file(klo: Path, net: Path, tmp_path: Path) -> None:
    board = tmp_path / "emulation"
    board.write_text("flush_ns 1000\ngap_ns 6\n")
    header = _quick(klo, "--network", net, "--k", 1, "--emulation", board, "--flush-ns", 2000).header
    assert (header["flush_ns"], header["gap_ns"]) == (2000, 6)


@pytest.mark.parametrize(
    "line",
    ["flush_ns x", "flush_ns -5", "gap_ns 1 2", "gpu_time_pct 0", "cpu_time_pct 100 abc", "cpu_time_pct " + "1 " * 600],
)
def test_a_damaged_board_file_is_refused_with_its_name(klo: Path, net: Path, tmp_path: Path, line: str) -> None:
    board = tmp_path / "emulation"
    board.write_text(line + "\n")
    done = attempt(klo, *QUICK, "--network", net, "--k", 1, "--emulation", board)
    assert done.returncode == 2
    assert str(board) in done.stderr.decode()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("konv 1 1 1 1 1 1 0", "no layer kind named konv"),
        ("conv 8 8 3", "conv takes 7 numbers"),
        ("conv 8 8 3 4 3 1 x", "x is not a number"),
        ("conv 8 8 3 4 0 1 0", "start at 1"),
        ("conv 8 8 3 4 3 0 1", "start at 1"),
        ("conv 8 8 3 4 3 1 3", "PAD has to be smaller than K"),
        ("conv 2 2 3 4 5 1 0", "K is larger than the padded input"),
        ("conv 100000 100000 3 4 3 1 1", "a tensor is too large"),
        ("conv 99999999 1 1 1 1 1 0", "a number is too large"),
        ("pointwise 0 1 1 1", "start at 1"),
        ("kernel 1 99999999999", "is not a number"),
    ],
)
def test_a_wrong_network_file_is_refused_with_its_line(klo: Path, tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "net.txt"
    path.write_text(f"kernel 1 1\n{line}\n")
    done = attempt(klo, *QUICK, "--network", path, "--k", 1)
    assert done.returncode == 2
    assert f"{path} line 2: " in done.stderr.decode()
    assert complaint in done.stderr.decode()


def test_an_empty_a_missing_and_an_endless_network_file_are_refused(klo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    for path, complaint in (
        (tmp_path / "empty", "has no kernels"),
        (tmp_path / "none", "no network named"),
        (Path("/dev/zero"), "is longer than"),
        (tmp_path, "no network named"),
    ):
        done = attempt(klo, *QUICK, "--network", path, "--k", 1)
        assert done.returncode == 2, path
        assert complaint in done.stderr.decode()


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ((), "--network is missing"),
        (("--network", "mobilenet_v1"), "one of --k, --schedule and --dynamic is missing"),
        (("--network", "mobilenet_v1", "--k", "1", "--dynamic"), "only one of"),
        (("--network", "mobilenet_v1", "--k"), "its value is missing"),
        (("--network", "mobilenet_v1", "--k", "-1"), "--k takes an integer"),
        (("--network", "mobilenet_v1", "--k", "1x"), "--k takes an integer"),
        (("--network", "mobilenet_v1", "--kk", "1"), "unknown option --kk"),
        (("--network", "mobilenet_v1", "--k", "1", "--backend", "cuda"), "no backend named cuda"),
        (("--network", "mobilenet_v1", "--k", "1", "--inferences", "0", "--plain", "0"), "nothing to measure"),
        (("--network", "mobilenet_v1", "--schedule", "1,2,3"), "they are fewer"),
        (("--network", "mobilenet_v1", "--schedule", "29,1"), "they are more"),
        (("--network", "mobilenet_v1", "--schedule", "0,29"), "a schedule's batch takes an integer"),
        (("--network", "mobilenet_v1", "--schedule", "/nowhere"), "cannot read the schedule"),
        (("--network", "mobilenet_v1", "--dynamic", "--costs", "1,2"), "--costs takes"),
        (("--network", "mobilenet_v1", "--dynamic", "--lut", "/dev/null"), "does not say flush_ns"),
        (("--network", "mobilenet_v1", "--dynamic", "--lut", "/nowhere"), "cannot read /nowhere"),
        (("--network", "mobilenet_v1", "--k", "1", "--emulation", "/nowhere"), "cannot read /nowhere"),
    ],
)
def test_wrong_arguments_are_named_and_give_exit_code_2(klo: Path, args: tuple[str, ...], complaint: str) -> None:
    done = attempt(klo, "--backend", "emulated", *args)
    assert done.returncode == 2
    assert complaint in done.stderr.decode()
    assert done.stdout == b""


def test_the_networks_have_the_published_numbers_of_operations(klo: Path) -> None:
    done = attempt(klo, "--list-networks")
    known = {one["network"]: one for one in map(json.loads, done.stdout.splitlines())}
    # Multiply-accumulates and weights of the papers (MobileNetV1 569 M, 4.2 M; V2 300 M, 3.4 M; ResNet-50 4.1 G,
    # 25.5 M; SqueezeNet 1.0 1.25 M weights), which count biases or pools differently by a little.
    assert known["mobilenet_v1"]["macs"] == pytest.approx(569e6, rel=0.01)
    assert known["mobilenet_v1"]["weights"] == pytest.approx(4.2e6, rel=0.02)
    assert known["mobilenet_v2"]["macs"] == pytest.approx(300e6, rel=0.02)
    assert known["mobilenet_v2"]["weights"] == pytest.approx(3.4e6, rel=0.03)
    assert known["resnet50"]["macs"] == pytest.approx(4.1e9, rel=0.02)
    assert known["resnet50"]["weights"] == pytest.approx(25.5e6, rel=0.01)
    assert known["squeezenet"]["weights"] == pytest.approx(1.25e6, rel=0.01)


@pytest.mark.parametrize("network", ["mobilenet_v1", "mobilenet_v2", "resnet50", "squeezenet"])
def test_what_klo_prints_is_what_the_workload_reads(klo: Path, network: str) -> None:
    params = workload.Params(backend="emulated", network=network, k=8, inferences=2, plain=2, warmup=0)
    argv = workload.command(params, Context(dir=str(klo.parent))).argv
    done = attempt(Path(argv[0]), *argv[1:])
    got = workload.parse(done.stdout, params)
    assert got.flags == ()
    assert got.simulated
    kernels = int(got.info["kernels"])
    assert got.tables["kernels"]["batch"].tolist() == [i // 8 for i in range(kernels)] * 2
    assert got.metrics["flushes"].value == -(-kernels // 8)
    assert got.metrics["t_prod_median_ns"].value > 0


def test_output_to_a_full_disk_is_an_error(klo: Path, net: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([klo, *map(str, QUICK), "--network", net, "--k", "1"], stdout=full, check=False)
    assert done.returncode == 1
