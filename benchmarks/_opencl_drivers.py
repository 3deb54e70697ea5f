"""Real OpenCL drivers without a GPU, and klo on them: Mesa's Rusticl, PoCL, Intel's CPU runtime.

Rusticl and PoCL are those of Debian 13 (``mesa-opencl-icd``, ``pocl-opencl-icd``): this machine's own, or those of a
root of Debian 13 that ``DEVICELAB_DEBIAN13`` names (``mmdebstrap --variant=apt --include=ocl-icd-libopencl1,\
mesa-opencl-icd,pocl-opencl-icd trixie DIR``; running in it needs root). Intel's is ``intel-opencl-rt`` from PyPI in the
environment whose folder ``DEVICELAB_INTEL_OPENCL`` names.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devicelab.device.build import build
from devicelab.device.toolchain import host_abi

ROOT, INTEL = "DEVICELAB_DEBIAN13", "DEVICELAB_INTEL_OPENCL"
NEEDED = f"no Rusticl: Debian 13's mesa-opencl-icd, or {ROOT} naming a root of Debian 13 with it"
_RUSTICL = {"RUSTICL_ENABLE": "llvmpipe", "LP_NUM_THREADS": "0"}
_TIMEOUT_S = 250

# Mounts of its own: nothing is left behind.
_INSIDE = """\
root=$1 work=$2
shift 2
mount --make-rprivate / && mount --bind /proc "$root/proc" && mount --bind /dev "$root/dev" &&
mount --rbind /sys "$root/sys" && mount --bind "$work" "$root/mnt" && exec chroot "$root" "$@"
"""

# The same over the root, nothing of which is changed, with some of our folders where they are here.
_AGAIN = """\
set -e
root=$1 count=$2
shift 2
mount --make-rprivate /
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir="$root",upperdir=/mnt/upper,workdir=/mnt/work none /mnt/root
for one in proc dev sys; do mount --rbind "/$one" "/mnt/root/$one"; done
while [ "$count" -gt 0 ]; do
  mkdir -p "/mnt/root$1"
  mount --rbind "$1" "/mnt/root$1"
  shift
  count=$((count - 1))
done
exec chroot /mnt/root "$@"
"""
_REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Driver:
    """A driver and how programs are run on it.

    Attributes:
        platform: part of the platform's name.
        work: a folder of ours, which programs see as ``there``.
        prefix: what goes before their argv.
        env: what they need.
    """

    platform: str
    work: Path
    there: str
    prefix: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def klo(self, args: Sequence[object], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run klo; it takes this driver's platform only if told (``--platform``)."""
        argv = [*self.prefix, f"{self.there}/klo", *map(str, args)]
        told = {**os.environ, **self.env, **(env or {})}
        return subprocess.run(argv, env=told, capture_output=True, timeout=_TIMEOUT_S, check=False)

    def version(self) -> str | None:
        """The driver's version; ``None`` where it is not there."""
        listed = self.klo(["--list-devices"]).stdout.decode(errors="replace")
        for line in listed.splitlines():
            one = json.loads(line)
            if self.platform in one["platform_name"]:
                return str(one["driver"])
        return None


def prepare(work: Path, *native: str) -> None:
    """Put klo and other native programs of this machine into a folder."""
    for name in ("klo", *native):
        shutil.copy(build(name, str(host_abi()), toolchain="host").path, work / name)


def rusticl(work: Path) -> Driver | None:
    """Rusticl on llvmpipe, if it can be had; 22.3, which Debian 12 has, gives no timestamps and does not wait."""
    return _debian(work, "rusticl", {**_RUSTICL, "HOME": "/tmp"}, _waits)  # noqa: S108


def rusticl_here() -> bool:
    """Whether programs of this machine get a Rusticl that can be measured, with the environment as it is now set."""
    os.environ.update(_RUSTICL)
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        version = Driver("rusticl", Path(name), name).version()
    return version is not None and _waits(version)


def again_inside(script: Path, *args: str, state: Path) -> int:
    """Run a script of ours inside the root of Debian 13; its exit code. Of what it writes ``state`` alone stays.

    Raises:
        SystemExit: there is no such root, or we are not root here.
    """
    root = os.environ.get(ROOT, "")
    if not root or os.geteuid() != 0:
        raise SystemExit(NEEDED)
    ours = dict.fromkeys(str(Path(one).resolve()) for one in (_REPOSITORY, sys.prefix, sys.base_prefix, state))
    env = {"PYTHONPATH": str(_REPOSITORY), "DEVICELAB_CACHE": str(state / "cache"), "HOME": "/root", **_RUSTICL}
    script_args = [sys.executable, str(script), *args]
    told = [f"{name}={value}" for name, value in env.items()]
    argv = ["unshare", "-m", "sh", "-c", _AGAIN, "sh", root, str(len(ours)), *ours, "env", *told, *script_args]
    return subprocess.run(argv, check=False).returncode


def _waits(version: str) -> bool:
    return not version.startswith("22.")


def pocl(work: Path) -> Driver | None:
    """PoCL, if it can be had."""
    return _debian(work, "Portable Computing Language", {"HOME": "/tmp"}, lambda _: True)  # noqa: S108


def intel(work: Path) -> Driver | None:
    """Intel's CPU runtime, if it can be had."""
    lib = Path(os.environ.get(INTEL, "/nonexistent")) / "lib"
    env = {
        "KLO_OPENCL_LIB": str(lib / "libOpenCL.so.1"),
        "OCL_ICD_FILENAMES": str(lib / "libintelocl.so"),
        "OCL_ICD_VENDORS": str(work),
        "LD_LIBRARY_PATH": str(lib),
    }
    found = Driver("Intel", work, str(work), (), env)
    return found if lib.is_dir() and found.version() is not None else None


def _debian(work: Path, platform: str, env: Mapping[str, str], usable: Callable[[str], bool]) -> Driver | None:
    found = [Driver(platform, work, str(work), (), env)]
    root = os.environ.get(ROOT, "")
    if root and os.geteuid() == 0:
        inside = ("unshare", "-m", "sh", "-c", _INSIDE, "sh", root, str(work))
        found.insert(0, Driver(platform, work, "/mnt", inside, env))
    for one in found:
        version = one.version()
        if version is not None and usable(version):
            return one
    return None
