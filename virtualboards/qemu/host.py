"""What the host has to offer for a virtual machine, and what is missing."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devicelab.errors import DeviceRefusedError

PACKAGES = "qemu-system-x86 linux-image-cloud-amd64 linux-headers-cloud-amd64 dropbear-bin busybox-static gcc make"
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"))


@dataclass(frozen=True)
class Host:
    """Programs and kernel: ``release`` has an image in /boot, modules and headers in /lib/modules."""

    qemu: str
    dropbear: str
    dropbearkey: str
    busybox: str
    make: str
    release: str

    @property
    def image(self) -> Path:
        """The kernel's image."""
        return Path(f"/boot/vmlinuz-{self.release}")

    @property
    def modules(self) -> Path:
        """The kernel's modules."""
        return Path(f"/lib/modules/{self.release}")


def find_host() -> Host:
    """What this machine offers.

    Raises:
        DeviceRefusedError: something is missing; the message names it and the packages.
    """
    names = {"qemu": "qemu-system-x86_64", "dropbear": "dropbear", "dropbearkey": "dropbearkey", "busybox": "busybox"}
    paths = {key: shutil.which(name, path=_PATH) for key, name in (names | {"make": "make"}).items()}
    missing = [names.get(key, key) for key, path in paths.items() if path is None]
    if not missing and not _static(str(paths["busybox"])):
        missing = ["a static busybox"]
    releases = [
        path.name for path in sorted(Path("/lib/modules").glob("*")) if Path(f"/boot/vmlinuz-{path.name}").is_file()
    ]
    usable = [name for name in releases if Path(f"/lib/modules/{name}/build/Makefile").is_file()]
    if not usable:
        missing.append("a Debian kernel with its headers")
    if missing:
        raise DeviceRefusedError(
            f"a virtual board with a real kernel needs {', '.join(missing)}, which this machine lacks",
            hint=f"Debian: apt-get install --no-install-recommends {PACKAGES}",
        )
    programs = {key: str(path) for key, path in paths.items()}
    return Host(**programs, release=usable[-1])


def _static(program: str) -> bool:
    # A dynamic program names its interpreter in its head.
    with Path(program).open("rb") as file:
        return b"/ld-linux" not in file.read(4096)


def libraries(program: str) -> tuple[Path, ...]:
    """Shared libraries a program needs, its loader included, as ``ldd`` tells."""
    done = subprocess.run(["ldd", program], check=True, capture_output=True, text=True)
    words = (word for line in done.stdout.splitlines() for word in line.split())
    return tuple(dict.fromkeys(Path(word) for word in words if word.startswith("/")))
