"""klo and the OpenCL layer on a real driver that holds kernels until it is flushed: Mesa's Rusticl on llvmpipe.

Debian 13 has it (``mesa-opencl-icd``). Elsewhere a root of it does, which ``DEVICELAB_DEBIAN13`` names:
``mmdebstrap --variant=apt --include=ocl-icd-libopencl1,mesa-opencl-icd trixie DIR``; running in it needs root.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from klo_tools import Said
from layer_tools import named, read

from devicelab.device.build import build
from devicelab.device.toolchain import host_abi

pytestmark = [pytest.mark.slow, pytest.mark.skipif(host_abi() is None, reason="no toolchain for this machine")]

# Mounts of its own: nothing is left behind.
_INSIDE = """\
root=$1 work=$2
shift 2
mount --make-rprivate / && mount --bind /proc "$root/proc" && mount --bind /dev "$root/dev" &&
mount --rbind /sys "$root/sys" && mount --bind "$work" "$root/mnt" && exec chroot "$root" "$@"
"""
_NEEDED = "no Rusticl: Debian 13's mesa-opencl-icd, or DEVICELAB_DEBIAN13 naming a root of Debian 13 with it"
_ENV = {"RUSTICL_ENABLE": "llvmpipe", "LP_NUM_THREADS": "0", "HOME": "/tmp"}
KERNELS = 24


@dataclass(frozen=True)
class Rusticl:
    """A folder in which programs run, and what goes before their argv."""

    work: Path
    prefix: tuple[str, ...]
    there: str

    def klo(self, *args: object, **env: str) -> subprocess.CompletedProcess[bytes]:
        argv = [*self.prefix, f"{self.there}/klo", *map(str, args)]
        return subprocess.run(argv, env=os.environ | _ENV | env, capture_output=True, timeout=250, check=False)

    def measure(self, k: int | str, **env: str) -> Said:
        policy = ("--dynamic", "--costs", "20000,50000,20000") if k == "dynamic" else ("--k", k)
        done = self.klo(
            *("--backend", "opencl", "--platform", "rusticl", "--network", f"{self.there}/net.txt", *policy),
            *("--warmup", 1, "--inferences", 4, "--plain", 1),
            **env,
        )
        assert done.returncode == 0, done.stderr.decode()
        events = [json.loads(line) for line in done.stdout.splitlines()]
        inferences = [one for one in events if one["event"] == "inference"]
        return Said(done.stdout, events[0], inferences, None, events[-1])


@pytest.fixture(scope="module")
def rusticl(tmp_path_factory: pytest.TempPathFactory) -> Rusticl:
    work = tmp_path_factory.mktemp("rusticl")
    for name in ("klo", "opencl_layer"):
        shutil.copy(build(name, str(host_abi()), toolchain="host").path, work / name)
    (work / "net.txt").write_text("kernel 300 2000\n" * KERNELS)
    root = os.environ.get("DEVICELAB_DEBIAN13", "")
    found = [Rusticl(work, (), str(work))]
    if root and os.geteuid() == 0:
        inside = ("unshare", "-m", "sh", "-c", _INSIDE, "sh", root, str(work))
        found.insert(0, Rusticl(work, inside, "/mnt"))
    for one in found:
        listed = one.klo("--list-devices").stdout.decode(errors="replace")
        drivers = [json.loads(line) for line in listed.splitlines()]
        # 22.3, which Debian 12 has, gives no timestamps and does not wait.
        if any(it["platform_name"] == "rusticl" and not it["driver"].startswith("22.") for it in drivers):
            return one
    pytest.skip(_NEEDED)


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
    records = rusticl.work / "records.jsonl"
    records.unlink(missing_ok=True)
    env = {f"DEVICELAB_LAYER_{name}": value for name, value in settings.items()}
    front = {"OPENCL_LAYERS": f"{rusticl.there}/opencl_layer", "DEVICELAB_LAYER_OUT": f"{rusticl.there}/records.jsonl"}
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
