"""A running virtual machine: started detached, found again by its directory, reached over ssh, ended for good."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devicelab.errors import ConfigError, DeviceRefusedError, DeviceUnreachableError
from devicelab.ground.registry import cache_dir, unknown
from virtualboards.qemu.host import Host, find_host

if TYPE_CHECKING:
    from virtualboards.kernel.spec import BoardSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_STATE, _KEY, _KNOWN = "machine.json", "id_ed25519", "known_hosts"
_CONSOLE, _INITRD, _PID = "console", "initrd", "pid"
_MEMORY_MB = 384
_BOOT_S = 180.0


@dataclass(frozen=True)
class Machine:
    """A machine: its name, kind of board, directory, ssh port on 127.0.0.1, and QEMU's pid with its start time."""

    name: str
    kind: str
    directory: str
    port: int
    pid: int
    start_time: int

    @property
    def address(self) -> str:
        """Its address as a device."""
        return f"qemu:{self.name}"

    @property
    def key(self) -> Path:
        """The private key that opens it."""
        return Path(self.directory, _KEY)

    @property
    def known_hosts(self) -> Path:
        """The file that vouches for its host key."""
        return Path(self.directory, _KNOWN)

    @property
    def running(self) -> bool:
        """Is its process there?"""
        return _start_time(self.pid) == self.start_time

    def console(self) -> str:
        """What its console has said."""
        return Path(self.directory, _CONSOLE).read_text(encoding="utf-8", errors="replace")


def root_dir() -> Path:
    """Where the directories of machines are."""
    return cache_dir() / "qemu" / "machines"


def machines() -> tuple[Machine, ...]:
    """The machines that run, by name; what is left of dead ones is cleared."""
    running = []
    for state in sorted(root_dir().glob(f"*/{_STATE}")):
        with suppress(OSError, ValueError, TypeError):
            machine = Machine(**json.loads(state.read_text(encoding="utf-8")))
            if machine.running:
                running.append(machine)
                continue
        shutil.rmtree(state.parent, ignore_errors=True)
    return tuple(running)


def machine(name: str) -> Machine:
    """The running machine of that name.

    Raises:
        ConfigError: there is none.
    """
    running = {one.name: one for one in machines()}
    if name not in running:
        raise unknown("virtual machine", name, tuple(running))
    return running[name]


def up(spec: "BoardSpec", *, name: str | None = None, timeout_s: float = _BOOT_S) -> Machine:
    """Boot a machine and wait until its ssh server answers. It lives on when this process ends.

    Raises:
        ConfigError: the name is malformed or taken.
        DeviceRefusedError: this machine lacks something; the message names it.
        BuildError: the board module cannot be built.
        DeviceUnreachableError: it did not come up in time; the message holds the end of its console.
    """
    host = find_host()
    chosen = name or _free_name(spec.kind)
    if not _NAME.fullmatch(chosen):
        raise ConfigError(f"not a name for a machine: {chosen!r}", hint="letters, digits, dot, underscore and hyphen")
    if chosen in {one.name for one in machines()}:
        raise ConfigError(f"there is a virtual machine named {chosen!r} already")
    directory = root_dir() / chosen
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    try:
        started = _start(host, spec, chosen, directory)
        _await(started, time.monotonic() + timeout_s)
    except BaseException:
        state = directory / _STATE
        if state.is_file():
            down(Machine(**json.loads(state.read_text(encoding="utf-8"))))
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return started


def down(gone: Machine) -> None:
    """End a machine; neither its process nor its directory is left. Harmless when it has ended already."""
    if gone.running:
        with suppress(ProcessLookupError):
            os.kill(gone.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while gone.running and time.monotonic() < deadline:
        time.sleep(0.01)
    shutil.rmtree(gone.directory, ignore_errors=True)


def _free_name(kind: str) -> str:
    taken = {one.name for one in machines()}
    names = (f"{kind}-kernel{number or ''}" for number in range(1000))
    return next(name for name in names if name not in taken)


def _start(host: Host, spec: "BoardSpec", name: str, directory: Path) -> Machine:
    port = _free_port()
    authorized = _make_key(directory / _KEY)
    host_key, vouched = _make_host_key(host, directory)
    (directory / _KNOWN).write_text(f"[127.0.0.1]:{port} {vouched}\n", encoding="utf-8")
    from virtualboards.qemu import initramfs  # with the boards' kinds: not for whoever only looks

    archive = initramfs.build(host, spec, host_key=host_key, authorized=authorized)
    (directory / _INITRD).write_bytes(archive)
    command = [
        *(host.qemu, "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(len(spec.cpus))),
        *(
            "-daemonize",
            "-pidfile",
            str(directory / _PID),
            "-m",
            str(_MEMORY_MB),
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ),
        *("-kernel", str(host.image), "-initrd", str(directory / _INITRD)),
        # mitigations cost emulated time and protect nothing here; a stall of the host must not stop the machine.
        *("-append", "console=ttyS0 quiet mitigations=off panic=-1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1"),
        *("-chardev", f"file,id=console,path={directory / _CONSOLE}", "-serial", "chardev:console"),
        *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=directory)
    if done.returncode != 0:
        raise DeviceRefusedError(f"QEMU does not start: {done.stderr.strip() or done.stdout.strip()}")
    pid = int((directory / _PID).read_text(encoding="utf-8"))
    started = Machine(name, spec.kind, str(directory), port, pid, _start_time(pid))
    (directory / _STATE).write_text(json.dumps(asdict(started)) + "\n", encoding="utf-8")
    return started


def _await(started: Machine, deadline: float) -> None:
    from virtualboards.qemu import initramfs

    while time.monotonic() < deadline:
        if not started.running:
            raise DeviceRefusedError(f"the virtual machine ended while it booted: {_tail(started)}")
        if initramfs.READY in _tail(started) and _answers(started.port):
            return
        time.sleep(0.05)
    raise DeviceUnreachableError(f"the virtual machine did not come up in time: {_tail(started)}")


def _tail(started: Machine) -> str:
    with suppress(OSError):
        return started.console()[-1000:]
    return ""


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0) as sock:
        sock.settimeout(5.0)
        return sock.recv(8).startswith(b"SSH-")
    return False


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _start_time(pid: int) -> int:
    # Field 22 of /proc/PID/stat: a pid may be given anew, a start time not.
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return 0 if fields[0] == "Z" else int(fields[19])
    return 0


def _make_key(path: Path) -> str:
    from cryptography.hazmat.primitives import serialization  # not for whoever only looks which machines there are
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.touch(0o600)
    path.write_bytes(private)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode()


def _make_host_key(host: Host, directory: Path) -> tuple[bytes, str]:
    path = directory / "host_key"
    done = subprocess.run(
        [host.dropbearkey, "-t", "ed25519", "-f", str(path)], check=True, capture_output=True, text=True
    )
    vouched = next(line for line in done.stdout.splitlines() if line.startswith("ssh-ed25519 "))
    return path.read_bytes(), " ".join(vouched.split()[:2])
