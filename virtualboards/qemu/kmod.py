"""Builds the board module for a kernel, once, and chooses its parameters for a kind of board."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from devicelab.errors import BuildError
from devicelab.ground.registry import cache_dir
from virtualboards.kernel.spec import BoardSpec, PolicySpec
from virtualboards.qemu.host import Host

NAME = "devicelab_board"
_SOURCES = Path(__file__).resolve().parent / "module"
_PARTS = " ".join(f"{path.stem}.o" for path in sorted(_SOURCES.glob("*.c")))
_MAKEFILE = f"obj-m := {NAME}.o\n{NAME}-y := {_PARTS}\n"


def build(host: Host) -> Path:
    """The module for the host's kernel; built if the cache has it not.

    Raises:
        BuildError: the compiler's whole output.
    """
    files = sorted(path for path in _SOURCES.iterdir() if path.suffix in {".c", ".h"})
    key = hashlib.sha256(host.release.encode())
    for path in files:
        key.update(path.read_bytes())
    home = cache_dir() / "qemu"
    made = home / f"{NAME}-{host.release}-{key.hexdigest()[:16]}.ko"
    if made.is_file():
        return made
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as place:
        for path in files:
            shutil.copy(path, place)
        Path(place, "Makefile").write_text(_MAKEFILE, encoding="utf-8")
        command = [host.make, "-C", str(host.modules / "build"), f"M={place}", "modules"]
        environment = {**os.environ, "LC_ALL": "C", "KBUILD_BUILD_TIMESTAMP": "1970-01-01"}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise BuildError(f"the board module cannot be built for {host.release}:\n{done.stdout}{done.stderr}")
        Path(place, f"{NAME}.ko").replace(made)
    return made


def parameters(spec: BoardSpec) -> dict[str, str]:
    """The module's parameters that make it this kind of board."""
    gpu = spec.gpu
    of = {policy.cpus[0]: policy for policy in spec.policies}
    found = {
        "policies": ";".join(f"{_range(p)}={','.join(map(str, p.table_khz))}" for p in spec.policies),
        "core_ctl": ";".join(f"{_range(of[c.cpu])}={c.min_cpus},{int(c.enable)}" for c in spec.core_ctl),
        "zones": ";".join(_zones(spec)),
    }
    if gpu is not None and gpu.family == "kgsl":
        found |= {"kgsl": ",".join(str(hz) for hz in gpu.sorted_hz[::-1]), "kgsl_model": gpu.model}
    if gpu is not None and gpu.family == "mali-exynos":
        found["mali"] = ",".join(str(hz // 1000) for hz in gpu.sorted_hz[::-1])
        found["mali_name"] = gpu.path.rpartition("/")[2]
    return {name: text for name, text in found.items() if text}


def _range(policy: PolicySpec) -> str:
    return f"{policy.cpus[0]}-{policy.cpus[-1]}"


def _zones(spec: BoardSpec) -> list[str]:
    first = {policy.name: policy.cpus[0] for policy in spec.policies}
    found = []
    for zone in (zone for zone in spec.zones if zone.trip_c):
        for cooled in zone.cools:
            cpu = first.get(cooled, -2)
            found.append(f"{zone.types[0][:18]}={round(zone.trip_c * 1000)},{cpu}")
    return found
