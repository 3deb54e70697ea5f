"""klo and the OpenCL layer on a real driver that holds kernels until it is flushed: Mesa's Rusticl on llvmpipe.

Debian 13 has it (``mesa-opencl-icd``). Elsewhere a root of it does, which ``DEVICELAB_DEBIAN13`` names:
``mmdebstrap --variant=apt --include=ocl-icd-libopencl1,mesa-opencl-icd trixie DIR``; running in it needs root.
"""

import json
from dataclasses import dataclass

import pytest
from klo_tools import Said
from layer_tools import named, read

from benchmarks import _opencl_drivers as drivers
from devicelab.device.toolchain import host_abi

pytestmark = [pytest.mark.slow, pytest.mark.skipif(host_abi() is None, reason="no toolchain for this machine")]

KERNELS = 24


@dataclass(frozen=True)
class Rusticl:
    """klo on Rusticl, with a network of equal kernels."""

    driver: drivers.Driver

    def measure(self, k: int | str, **env: str) -> Said:
        policy = ("--dynamic", "--costs", "20000,50000,20000") if k == "dynamic" else ("--k", k)
        words = ("--backend", "opencl", "--platform", "rusticl", "--network", f"{self.driver.there}/net.txt", *policy)
        done = self.driver.klo((*words, "--warmup", 1, "--inferences", 4, "--plain", 1), env)
        assert done.returncode == 0, done.stderr.decode()
        events = [json.loads(line) for line in done.stdout.splitlines()]
        inferences = [one for one in events if one["event"] == "inference"]
        return Said(done.stdout, events[0], inferences, None, events[-1])


@pytest.fixture(scope="module")
def rusticl(tmp_path_factory: pytest.TempPathFactory) -> Rusticl:
    work = tmp_path_factory.mktemp("rusticl")
    drivers.prepare(work, "opencl_layer")
    (work / "net.txt").write_text("kernel 300 2000\n" * KERNELS)
    driver = drivers.rusticl(work)
    if driver is None:
        pytest.skip(drivers.NEEDED)
    return Rusticl(driver)


def test_kernels_are_submitted_when_their_batch_is_flushed_and_not_before(rusticl: Rusticl) -> None:
    said = rusticl.measure(8)
    early = 0
    for one in said.phase("profiled"):
        for last in range(7, KERNELS, 8):
            early += sum(submit < one["queued_ns"][last] for submit in one["submit_ns"][last - 7 : last + 1])
    assert early <= 0.02 * 4 * KERNELS


@pytest.mark.parametrize(
    ("settings", "batches"),
    [({"K": "8"}, [8, 8, 8]), ({"K": "5"}, [5, 5, 5, 5, 4]), ({"K": "0"}, [24]), ({"SCHEDULE": "1,3,20"}, [1, 3, 20])],
)
def test_the_layer_steers_a_real_driver_and_the_program_computes_the_same(
    rusticl: Rusticl, settings: dict[str, str], batches: list[int]
) -> None:
    alone = rusticl.measure(1)
    records = rusticl.driver.work / "records.jsonl"
    records.unlink(missing_ok=True)
    env = {f"DEVICELAB_LAYER_{name}": value for name, value in settings.items()}
    there = rusticl.driver.there
    front = {"OPENCL_LAYERS": f"{there}/opencl_layer", "DEVICELAB_LAYER_OUT": f"{there}/records.jsonl"}
    said = rusticl.measure(1, **front, **env)
    assert (said.end["output"], said.end["work"]) == (alone.end["output"], alone.end["work"])
    found = named(read(records), "inference")
    assert [one["batches"] for one in found] == [batches] * len(said.inferences)
    for one in found:
        # The driver's own times agree that a batch is what was flushed.
        first = 0
        for length in batches:
            assert one["submit_ns"][first] >= one["queued_ns"][first + length - 1]
            first += length


def test_dynamic_k_runs_on_a_real_driver(rusticl: Rusticl) -> None:
    said = rusticl.measure("dynamic")
    assert all(sum(one["batches"]) == KERNELS for one in said.inferences)
