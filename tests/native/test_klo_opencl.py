"""klo's OpenCL backend: with a driver that misbehaves as told, and for real on this machine's OpenCL (PoCL)."""

import itertools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import klo_reference as reference
import numpy as np
import pandas as pd
import pytest
from klo_tools import attempt, run

from devicelab.analyses.klo.driver import driver_of, flushed_batches
from devicelab.analyses.klo.tables import early_shares, in_order
from devicelab.device.build import build
from devicelab.device.toolchain import host_abi
from devicelab.ground import registry
from devicelab.workloads import klo as workload
from tests.compilers import host_compiler

pytestmark = pytest.mark.skipif(host_abi() is None, reason="no toolchain for this machine")
QUICK = ("--warmup", 1, "--inferences", 2, "--plain", 2)


@pytest.fixture(scope="module")
def klo() -> Path:
    return build("klo", str(host_abi())).path


@pytest.fixture(scope="module")
def sanitized() -> Path:
    return build("klo", str(host_abi()), toolchain="host-sanitize").path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Every kind of layer, small."""
    path = tmp_path / "small.txt"
    path.write_text(
        "conv 9 8 3 8 3 2 1\ndepthwise 5 4 8 3 1 1\npointwise 5 4 8 6\nconv 5 4 6 6 1 1 0\nadd 5 4 6\n"
        "maxpool 5 4 6 3 2 1\navgpool 3 2 6 2 1 1\nfc 72 10\n"
    )
    return path


def _small(seed: int) -> np.ndarray:
    net, x = reference.Reference.start(seed, 10_000, (3, 9, 8))
    x = net.depthwise(net.conv(x, 8, 3, 2, 1), 3, 1, 1)
    before = net.pointwise(x, 6)
    x = net.add(net.conv(before, 6, 1, 1, 0), before)
    return net.fc(net.avgpool(net.maxpool(x, 3, 2, 1), 2, 1, 1), 10).ravel()


# With a library made for the test -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = host_compiler()
    made = tmp_path_factory.mktemp("opencl") / "libfake.so"
    source = Path(__file__).with_name("fake_opencl.cpp")
    flags = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{registry.data_dir('native')}")
    subprocess.run([*compiler.argv, *flags, source, "-o", made], check=True)
    return made


Env = Callable[..., dict[str, str]]


@pytest.fixture
def fake(library: Path) -> Env:
    return lambda **more: os.environ | {"KLO_OPENCL_LIB": str(library)} | more


def test_the_driver_is_flushed_after_every_k_kernels_and_asked_for_events_only_when_profiling(
    sanitized: Path, net: Path, fake: Env, tmp_path: Path
) -> None:
    log = tmp_path / "calls"
    args = ("--backend", "opencl", "--network", net, "--k", 3, "--warmup", 1, "--inferences", 1, "--plain", 1)
    run(sanitized, *args, env=fake(FAKE_CL_LOG=str(log)))
    profiled, plain = "EEEfEEEfEEfF", "eeefeeefeefF"
    assert log.read_text() == "F" + 2 * profiled + 2 * plain  # the first finish reads the clocks


def test_a_driver_with_crossed_timestamps_is_counted_and_flagged(sanitized: Path, net: Path, fake: Env) -> None:
    said = run(sanitized, "--network", net, "--k", 3, *QUICK, env=fake(FAKE_CL_CROSSED="1"))
    assert said.end["out_of_order"] == 16
    params = workload.Params(network=str(net), k=3)
    (flag,) = workload.parse(said.raw, params).flags
    assert flag.code == "timestamps-out-of-order"
    assert flag.detail.startswith("16 of 16")


def test_facts_about_the_driver_are_recorded(sanitized: Path, net: Path, fake: Env) -> None:
    said = run(sanitized, "--network", net, "--k", 3, *QUICK, env=fake(FAKE_CL_NAME='Mali "\\\t\udcff'))
    assert said.header["backend"] == "opencl"
    assert said.header["simulated"] is False
    assert said.header["device"] == 'Mali "\\\t\xff'
    assert said.header["extensions"] == "cl_arm_scheduling_controls"
    assert said.header["clock"] == "marker"
    assert said.header["device_minus_host_ns"] == pytest.approx(5_000_000, abs=1_000_000)
    assert said.end["output"] == [None] * 8, "not numbers are not JSON"


@pytest.mark.parametrize(
    "function",
    [
        "clCreateContext",
        "clCreateCommandQueue",
        "clCreateBuffer",
        "clCreateProgramWithSource",
        "clBuildProgram",
        "clCreateKernel",
        "clSetKernelArg",
        "clEnqueueNDRangeKernel",
        "clEnqueueWriteBuffer",
        "clEnqueueReadBuffer",
        "clFlush",
        "clFinish",
        "clGetEventProfilingInfo",
    ],
)
def test_an_error_of_the_driver_ends_the_measurement_and_names_the_call(
    klo: Path, net: Path, fake: Env, function: str
) -> None:
    done = attempt(klo, "--network", net, "--k", 3, *QUICK, env=fake(FAKE_CL_FAIL=f"{function}:-5"))
    assert done.returncode == 1
    assert f"{function}" in done.stderr.decode()
    assert "error -5 (out of resources)" in done.stderr.decode()
    assert b'"event":"end"' not in done.stdout or not done.stdout.endswith(b"}\n")


@pytest.mark.parametrize(("status", "said"), [("1", "clFinish came back before"), ("-5", "a kernel gave error -5")])
def test_a_driver_that_does_not_wait_or_whose_kernel_failed_is_refused(
    sanitized: Path, net: Path, fake: Env, status: str, said: str
) -> None:
    done = attempt(sanitized, "--network", net, "--k", 3, *QUICK, env=fake(FAKE_CL_STATUS=status))
    assert done.returncode == 1
    assert said in done.stderr.decode()


def test_pinned_the_producer_measures_on_its_own_core(sanitized: Path, net: Path, fake: Env) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("one CPU")
    said = run(sanitized, "--network", net, "--k", 3, *QUICK, "--pin", f"{cpus[1]},{cpus[0]}", env=fake())
    assert (said.header["producer_cpu"], said.header["driver_cpu"]) == (cpus[1], cpus[0])
    assert {one["cpu"] for one in said.inferences} == {cpus[1]}


@pytest.mark.parametrize("pin", ["1", "1,1", "a,b", "0,1,1", "0,1,2,3", "0,9999"])
def test_a_pin_that_makes_no_sense_is_refused(klo: Path, net: Path, fake: Env, pin: str) -> None:
    assert attempt(klo, "--network", net, "--k", 3, "--pin", pin, env=fake()).returncode == 2


def test_a_core_that_is_not_there_is_named(klo: Path, net: Path, fake: Env) -> None:
    done = attempt(klo, "--network", net, "--k", 3, "--pin", "0,1023", env=fake())
    assert done.returncode == 1
    assert "--pin: CPU 1023 is refused" in done.stderr.decode()


def test_the_compilers_log_is_shown_when_kernels_do_not_compile(klo: Path, net: Path, fake: Env) -> None:
    done = attempt(klo, "--network", net, "--k", 3, env=fake(FAKE_CL_FAIL="clBuildProgram:-11"))
    assert "line 7: no such thing" in done.stderr.decode()


def test_a_network_too_large_for_the_device_is_refused(klo: Path, fake: Env) -> None:
    done = attempt(klo, "--network", "resnet50", "--k", 3, env=fake())
    assert done.returncode == 1
    assert "the device allows 67108864" in done.stderr.decode()


@pytest.mark.parametrize("queue", ["own", "shared"])
def test_a_foreground_draws_beside_the_inferences(sanitized: Path, net: Path, fake: Env, queue: str) -> None:
    frame = ("--foreground", "1000000,10,1000,30", "--foreground-queue", queue)
    said = subprocess.run(
        [sanitized, "--network", net, "--k", "2", *map(str, QUICK), *frame], env=fake(), capture_output=True, check=True
    )
    got = workload.parse(said.stdout, workload.Params(backend="opencl", network="small.txt", k=2, foreground_hz=1000))
    took = got.tables["frames"]["end_ns"] - got.tables["frames"]["scheduled_ns"]
    assert took.size >= 30
    assert (took > 0).all()
    assert np.diff(got.tables["frames"]["scheduled_ns"]).tolist() == [1_000_000] * (took.size - 1), (
        "no frame is left out"
    )
    assert 1 <= got.metrics["foreground_drawn"].value <= took.size
    assert got.metrics["foreground_p95_ns"].value <= took.max()


@pytest.mark.parametrize(
    "words",
    [
        ("--foreground", "1000000,10,1000"),
        ("--foreground", "1,10,1000,30"),
        ("--foreground", "1000000,10,1000,30", "--plain", 0),
        ("--foreground-queue", "shared"),
        ("--foreground", "1000000,10,1000,30", "--foreground-queue", "theirs"),
        ("--foreground", "1000000,10,1000,30", "--serve", "fixed:5"),
    ],
)
def test_a_foreground_that_makes_no_sense_is_refused(
    klo: Path, net: Path, fake: Env, words: tuple[object, ...]
) -> None:
    assert attempt(klo, "--network", net, "--k", 2, *QUICK, *words, env=fake()).returncode == 2


def test_an_emulated_gpu_has_no_foreground(klo: Path, net: Path) -> None:
    done = attempt(klo, "--backend", "emulated", "--network", net, "--k", 2, "--foreground", "1000000,10,1000,30")
    assert done.returncode == 2
    assert "needs OpenCL" in done.stderr.decode()


def test_dynamic_on_a_real_gpu_needs_measured_launch_costs(sanitized: Path, net: Path, fake: Env) -> None:
    done = attempt(sanitized, "--network", net, "--dynamic", env=fake())
    assert done.returncode == 2
    assert "--dynamic needs the launch costs measured on this device" in done.stderr.decode()
    said = run(sanitized, "--network", net, "--dynamic", "--costs", "1000,2000,3000", *QUICK, env=fake())
    assert said.header["costs_from"] == "arguments"


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ({"KLO_OPENCL_LIB": "/nowhere/libOpenCL.so"}, "/nowhere/libOpenCL.so"),
        ({"KLO_OPENCL_LIB": "libm.so.6"}, "libm.so.6: lacks OpenCL functions"),
    ],
)
def test_without_opencl_auto_emulates_and_says_so_while_opencl_is_refused(
    klo: Path, net: Path, env: dict[str, str], complaint: str
) -> None:
    auto = attempt(klo, "--network", net, "--k", 3, *QUICK, env=os.environ | env)
    assert auto.returncode == 0
    assert "the GPU is emulated" in auto.stderr.decode()
    assert complaint in auto.stderr.decode()
    assert b'"simulated":true' in auto.stdout
    asked = attempt(klo, "--backend", "opencl", "--network", net, "--k", 3, *QUICK, env=os.environ | env)
    assert asked.returncode == 1
    assert complaint in asked.stderr.decode()
    assert asked.stdout == b""
    listed = attempt(klo, "--list-devices", env=os.environ | env)
    assert listed.returncode == 1


def test_a_library_without_a_device_and_a_device_that_does_not_fit_are_named(klo: Path, net: Path, fake: Env) -> None:
    args = ("--backend", "opencl", "--network", net, "--k", 3)
    assert "no device in it" in attempt(klo, *args, env=fake(FAKE_CL_FAIL="clGetDeviceIDs:-1")).stderr.decode()
    assert "no device fits" in attempt(klo, *args, "--device", "Adreno", env=fake()).stderr.decode()
    assert "no device fits" in attempt(klo, *args, "--platform", "3", env=fake()).stderr.decode()


# For real -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pocl(klo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment with this machine's own OpenCL."""
    env = {name: value for name, value in os.environ.items() if name != "KLO_OPENCL_LIB"}
    if attempt(klo, "--list-devices", env=env).returncode != 0:
        pytest.skip("no OpenCL on this machine (Debian: pocl-opencl-icd ocl-icd-libopencl1)")
    return env | {"POCL_CACHE_DIR": str(tmp_path_factory.mktemp("pocl"))}


@pytest.mark.slow
def test_the_kernels_compute_their_layers_on_real_opencl(klo: Path, net: Path, pocl: dict[str, str]) -> None:
    said = run(klo, "--backend", "opencl", "--network", net, "--k", 3, "--seed", 5, *QUICK, env=pocl)
    assert said.end["output"] == pytest.approx(_small(5)[:8].tolist(), rel=1e-4, abs=1e-5)
    assert said.header["simulated"] is False
    assert said.header["device"]
    assert said.header["library"]
    assert said.inferences[0]["batches"] == [3, 3, 2]
    got = workload.parse(said.raw, workload.Params(backend="opencl", network=str(net), k=3))
    assert not got.simulated
    assert got.info["device"] == said.header["device"]
    assert got.metrics["t_prod_median_ns"].value > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "follows"), [("rusticl", True), ("Portable Computing Language", False), ("Intel(R) OpenCL", False)]
)
def test_every_real_driver_is_called_what_it_is(
    klo: Path, pocl: dict[str, str], tmp_path: Path, platform: str, follows: bool
) -> None:
    """Kernels of two lengths: those that the GPU is done with before the next, and those that pile up before it."""
    env = pocl | {"RUSTICL_ENABLE": "llvmpipe", "LP_NUM_THREADS": "0"}
    listed = attempt(klo, "--list-devices", env=env).stdout.decode()
    if f'"platform_name":"{platform}"' not in listed:
        pytest.skip(f"no OpenCL platform {platform!r} on this machine")
    for length_ns in (150, 8000):
        network = tmp_path / f"net{length_ns}.txt"
        network.write_text(f"kernel 1500 {length_ns}\n" * 24)
        args = ("--platform", platform, "--network", network, "--warmup", 1, "--inferences", 3, "--plain", 1)
        runs, tables = [], []
        for k, repetition in itertools.product((2, 8, 24), range(2)):
            said = run(klo, "--backend", "opencl", "--k", k, *args, env=env)
            got = workload.parse(said.raw, workload.Params(backend="opencl", network=str(network), k=k))
            name = f"k{k}r{repetition}"
            runs.append({"run_id": name, "repetition": repetition, "policy": "constant", "k_flushed": k})
            tables.append(pd.DataFrame(got.tables["kernels"]).assign(run_id=name))
        table, frame = in_order(pd.concat(tables)), pd.DataFrame(runs)
        flushed = flushed_batches(table, frame, {})
        shares, soon = early_shares(table, flushed), early_shares(table, flushed, ahead=2)
        driver = driver_of(frame, shares, soon)
        assert driver.follows is follows, (platform, length_ns, driver)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mobilenet_v1", "mobilenet_v2", "squeezenet", "resnet50"])
def test_the_networks_compute_what_numpy_computes(klo: Path, pocl: dict[str, str], network: str) -> None:
    args = ("--warmup", 0, "--inferences", 1, "--plain", 0, "--work-pct", 1)
    said = run(klo, "--backend", "opencl", "--network", network, "--k", 8, *args, env=pocl)
    expected = getattr(reference, network)(1)
    assert said.end["output"] == pytest.approx(expected[:8].tolist(), rel=1e-2, abs=1e-3)
