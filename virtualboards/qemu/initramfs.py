"""The machine's root file system, in memory: busybox, an ssh server, kernel modules and an init script."""

import gzip
import io
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path

from virtualboards.kernel.spec import BoardSpec
from virtualboards.qemu import kmod
from virtualboards.qemu.host import Host, libraries

READY = "devicelab: ready"
"""What the console says when the machine can be reached."""

# In this order; what they need comes before them (modules.dep). Governors beside the built-in ones.
_MODULES = ("virtio_pci", "virtio_net", "cpufreq_userspace", "cpufreq_powersave")

_INIT = """#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/cpuset
mount -t devpts devpts /dev/pts
mount -t cgroup -o cpuset,noprefix cpuset /dev/cpuset
for group in {cpusets}; do
  mkdir /dev/cpuset/${{group%%=*}}
  cat /dev/cpuset/mems > /dev/cpuset/${{group%%=*}}/mems
  echo ${{group#*=}} > /dev/cpuset/${{group%%=*}}/cpus
done
hostname {kind}
for module in {modules}; do insmod /modules/$module; done
insmod /modules/{board} {parameters} || echo 'devicelab: the board module does not load'
ifconfig lo up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
route add default gw 10.0.2.2
dropbear -R -s -r /etc/dropbear/key -p 22 -P /run/dropbear.pid
echo '{ready}'
while :; do sleep 3600 & wait; done
"""

_GETPROP = """#!/bin/sh
if [ $# -gt 0 ]; then sed -n "s/^\\[$1\\]: \\[\\(.*\\)\\]$/\\1/p" /etc/props; else cat /etc/props; fi
"""


@dataclass
class Archive:
    """A cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    _out: io.BytesIO = field(default_factory=io.BytesIO)
    _made: set[str] = field(default_factory=set)
    _inode: int = 1

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory with its parents."""
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            if name and name not in self._made:
                self._made.add(name)
                self._add(name, stat.S_IFDIR | (mode if depth == len(parts) else 0o755), b"")

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file with its parents."""
        name = path.strip("/")
        if "/" in name:
            self.directory(name.rpartition("/")[0])
        self._add(name, stat.S_IFREG | mode, data)

    def finish(self) -> bytes:
        """The whole archive, compressed."""
        self._add("TRAILER!!!", 0, b"")
        return gzip.compress(self._out.getvalue(), compresslevel=1, mtime=0)

    def _add(self, name: str, mode: int, data: bytes) -> None:
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % value for value in fields) + name.encode() + b"\0"
        for part in (head, data):
            self._out.write(part + bytes(-len(part) % 4))
        self._inode += 1


def build(host: Host, spec: BoardSpec, *, host_key: bytes, authorized: str) -> bytes:
    """The archive for a kind of board; ``host_key`` is dropbear's, ``authorized`` the public key that opens it."""
    archive = Archive()
    for path in ("proc", "sys", "dev", "run", "tmp", "data/local/tmp", "root", "sbin", "usr/bin", "var/tmp"):
        archive.directory(path, 0o1777 if path in {"tmp", "var/tmp"} else 0o755)
    archive.file("bin/busybox", Path(host.busybox).read_bytes(), 0o755)
    archive.file("bin/dropbear", Path(host.dropbear).read_bytes(), 0o755)
    for library in libraries(host.dropbear):
        archive.file(str(library), library.read_bytes(), 0o755)
    names = _add_modules(archive, host)
    board = kmod.build(host)
    archive.file(f"modules/{board.name}", board.read_bytes())
    archive.file("etc/dropbear/key", host_key, 0o600)
    archive.directory("root/.ssh", 0o700)
    archive.file("root/.ssh/authorized_keys", f"{authorized}\n".encode(), 0o600)
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nshell:x:2000:2000:shell:/data/local/tmp:/bin/sh\n")
    archive.file("etc/group", b"root:x:0:\nshell:x:2000:\n")
    archive.file("etc/shells", b"/bin/sh\n")
    archive.file("etc/props", _props(spec).encode())
    archive.file("bin/getprop", _GETPROP.encode(), 0o755)
    given = " ".join(shlex.quote(f"{name}={text}") for name, text in kmod.parameters(spec).items())
    script = _INIT.format(
        cpusets=" ".join(f"{name}={cpus}" for name, cpus in spec.cpusets.items()) or '""',
        kind=spec.kind,
        modules=" ".join(names),
        board=board.name,
        parameters=given,
        ready=READY,
    )
    archive.file("init", script.encode(), 0o755)
    return archive.finish()


def _props(spec: BoardSpec) -> str:
    told = spec.props | {"ro.product.cpu.abi": "x86_64", "ro.product.cpu.abilist": "x86_64"}
    told |= {"ro.devicelab.simulated": "1", "ro.devicelab.kernel": "real"}
    return "".join(f"[{name}]: [{value}]\n" for name, value in told.items())


def _add_modules(archive: Archive, host: Host) -> list[str]:
    needs: dict[str, list[str]] = {}
    for line in (host.modules / "modules.dep").read_text(encoding="utf-8").splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    names: list[str] = []
    for wanted in _MODULES:
        # What is not a module is built in. Dependencies are listed nearest first.
        found = [path for path in needs if Path(path).name.partition(".")[0] == wanted]
        for one in [*needs[found[0]][::-1], found[0]] if found else []:
            name = Path(one).name
            if name not in names:
                names.append(name)
                archive.file(f"modules/{name}", (host.modules / one).read_bytes())
    return names
