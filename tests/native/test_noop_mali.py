"""klo and the layer, unmodified, on the user space of a real Mali driver: Mesa's Rusticl on Panfrost, without a GPU.

Mesa's drm-shim answers for the device and throws the work away. ``DEVICELAB_DEBIAN13_ARM64`` names a root of Debian 13
for arm64 (docs/howto/mali-without-a-phone.md says how it is made); qemu-aarch64 runs it.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from layer_tools import named, read

from devicelab.device.build import build
from devicelab.device.toolchain import Compiler, find_compiler, toolchains
from devicelab.workloads import klo as klo_workload
from devicelab.workloads import opencl_app

pytestmark = pytest.mark.slow

ROOT = os.environ.get("DEVICELAB_DEBIAN13_ARM64", "")
KERNELS = 12


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not ROOT or shutil.which("qemu-aarch64-static") is None:
        pytest.skip("no root of Debian 13 for arm64 (DEVICELAB_DEBIAN13_ARM64), or no qemu-aarch64-static")
    gnu = next(chain for chain in toolchains() if chain.name == "zig-gnu")
    compiler = find_compiler(gnu, "arm64-v8a")
    if not isinstance(compiler, Compiler):
        pytest.skip(compiler.reason)
    folder = tmp_path_factory.mktemp("mali")
    for name in ("klo", "opencl_layer"):
        shutil.copy(build(name, "arm64-v8a", toolchain="zig-gnu").path, folder / name)
    source = Path(__file__).with_name("drm_sync.c")
    argv = [compiler.argv[0], *("cc" if word == "c++" else word for word in compiler.argv[1:])]
    target = ("-target", "aarch64-linux-gnu.2.28")
    flags = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-ldl")
    subprocess.run(
        [*argv, *(() if "-target" in argv else target), *flags, source, "-o", folder / "sync.so"], check=True
    )
    (folder / "net.txt").write_text("kernel 100 1000\n" * KERNELS)
    return folder


def _run(work: Path, k: int, **env: str) -> bytes:
    shim = f"{ROOT}/usr/lib/aarch64-linux-gnu/libpanfrost_noop_drm_shim.so"
    told = {
        "LD_PRELOAD": f"{work}/sync.so:{shim}",
        "RUSTICL_ENABLE": "panfrost",
        "OCL_ICD_VENDORS": f"{ROOT}/etc/OpenCL/vendors",
        "XDG_CACHE_HOME": str(work / "cache"),
        **env,
    }
    words = ("--backend", "opencl", "--platform", "rusticl", "--network", f"{work}/net.txt", "--k", str(k))
    counts = ("--warmup", "1", "--inferences", "3", "--plain", "2")
    # qemu gives its own environment to the program; itself it is static and preloads nothing.
    argv = ["qemu-aarch64-static", "-L", ROOT, str(work / "klo"), *words, *counts]
    done = subprocess.run(argv, env=os.environ | told, capture_output=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_klo_says_that_nothing_was_computed_and_the_driver_holds_kernels_until_the_flush(work: Path) -> None:
    output = _run(work, 4)
    got = klo_workload.parse(output, klo_workload.Params(backend="opencl", network="net.txt", k=4))
    assert got.simulated
    assert (got.info["gpu"], got.info["device"]) == ("no-op GPU", "Mali-G52 (Panfrost)")
    early = total = 0
    for line in output.splitlines():
        one: dict[str, Any] = json.loads(line)
        if one.get("phase") != "profiled":
            continue
        for first in range(0, KERNELS, 4):
            early += sum(one["submit_ns"][i] < one["queued_ns"][first + 3] for i in range(first, first + 4))
            total += 4
    assert total == 3 * KERNELS
    assert early == 0


def test_the_layer_steers_the_real_mali_driver(work: Path) -> None:
    records = work / "records.jsonl"
    layer = {"OPENCL_LAYERS": str(work / "opencl_layer"), "DEVICELAB_LAYER_OUT": str(records), "DEVICELAB_LAYER_K": "5"}
    _run(work, 1, **layer)
    assert {tuple(one["batches"]) for one in named(read(records), "inference")} == {(5, 5, 2)}
    got = opencl_app.parse(records.read_bytes(), opencl_app.Params(argv=("klo",), k=5, warmup=1))
    assert got.simulated
    assert got.info["gpu"] == "no-op GPU"
    assert got.metrics["flushes"].value == 3
