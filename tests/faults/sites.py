"""Devices of a campaign: virtual boards behind an adb server, this machine behind a real sshd, this machine itself.

A site can be looked at (what is left there, what its journals say) and be hurt: cut off, hung, filled.
"""

import contextlib
import fnmatch
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from devicelab.device import agent
from devicelab.device.facts import Device, open_device
from devicelab.device.lab import DeviceEntry
from devicelab.model.journal import RunRecord, parse_line
from devicelab.transports._root import wrap as as_root
from tests.benches import RESTLESS, TREES, Bench, Commands
from tests.contracts import sshd
from tests.processes import kill_all, standing_still
from virtualboards import lifecycle
from virtualboards.faults import Fault
from virtualboards.lifecycle import AdbServer, VirtualBoard

_FOREVER_S = 0.0


@dataclass(frozen=True)
class Look:
    """What can be seen of a device.

    Attributes:
        tree: mode and bytes of every writable node that does not move by itself.
        status: who holds it, and what is to be undone.
        journalled: runs in journals that lie there: id → time of its start (device's clock, Unix ns).
        plans: names of the plans' folders that lie there.
    """

    tree: dict[str, tuple[int, str | None]]
    status: agent.Status
    journalled: dict[str, int]
    plans: tuple[str, ...]


# Of all instants so many lie before the last run is stored; the rest while conclusions are drawn.
_WHILE_RUNNING = 0.85


@dataclass(frozen=True)
class Calm:
    """An undisturbed sweep.

    Attributes:
        runs_s: from the start until the last run is stored and the campaign complete.
        all_s: until the report is written and the process has ended.
        bytes: that pass over adb.
    """

    runs_s: float
    all_s: float
    bytes: int = 0

    def scaled(self, all_s: float) -> "Calm":
        """The same where a whole sweep takes so long."""
        return Calm(self.runs_s * all_s / self.all_s, all_s, self.bytes)

    def moment_s(self, fraction: float) -> float:
        """An instant of the sweep, seconds after its start."""
        if fraction < _WHILE_RUNNING:
            return round(fraction / _WHILE_RUNNING * self.runs_s, 3)
        rest = (fraction - _WHILE_RUNNING) / (1 - _WHILE_RUNNING)
        return round(self.runs_s + rest * (self.all_s - self.runs_s), 3)


def look_at(entry: DeviceEntry, patterns: tuple[str, ...]) -> Look:
    """A look over the device's own transport.

    Raises:
        LabError: it does not answer.
    """
    device = open_device(entry, patterns=patterns)
    try:
        tree = {
            node.path: (node.mode, node.text)
            for node in device.facts.nodes
            if node.kind == "file" and node.writable and not any(fnmatch.fnmatch(node.path, p) for p in RESTLESS)
        }
        return Look(tree, agent.status(device), _journalled(device), _plans(device))
    finally:
        device.transport.close()


def _plans(device: Device) -> tuple[str, ...]:
    done = device.transport.run(as_root(device.facts.root, ["ls", "-A", f"{device.facts.dir}/plans"]))
    return tuple(done.stdout.decode("utf-8", "replace").split()) if done.exit_code == 0 else ()


def _journalled(device: Device) -> dict[str, int]:
    """Whole runs only: one that was cut off by a signal is to be done again."""
    script = 'for f in "$1"/plans/*/journal.jsonl; do [ -f "$f" ] && cat "$f"; done; true'
    done = device.transport.run(as_root(device.facts.root, ["sh", "-c", script, "sh", device.facts.dir]))
    found = {}
    for line in done.stdout.splitlines(keepends=True):
        with contextlib.suppress(ValueError):  # torn: it never became a run
            event = parse_line(line)
            if isinstance(event, RunRecord) and all(flag.code != "interrupted" for flag in event.flags):
                found[event.run_id] = event.t_unix_ns
    return found


def forget_plans(entry: DeviceEntry) -> None:
    """Remove the folders of all plans."""
    device = open_device(entry)
    try:
        device.transport.run(as_root(device.facts.root, ["rm", "-rf", f"{device.facts.dir}/plans"]))
    finally:
        device.transport.close()


class BoardSite(Bench):
    """A virtual board on an adb server of our own, which may be killed.

    Args:
        board: running.
        server: that it is attached to.
        place: a folder for the commands' files.
    """

    def __init__(self, board: VirtualBoard, server: AdbServer, place: Path) -> None:
        super().__init__(board, place)
        self.calm: Calm | None = None
        self._server = server

    def look(self) -> Look:
        """See ``Look``."""
        return look_at(self.entry, TREES)

    def traffic(self) -> int:
        """Bytes that have passed over adb so far."""
        stats = lifecycle.ask(self.name, {"do": "stats"})
        return int(stats["bytes_in"]) + int(stats["bytes_out"])

    def cuts(self) -> int:
        """How often the cable was pulled so far."""
        done = lifecycle.ask(self.name, {"do": "stats"})["faults"]
        return sum(fault["fault"] == "drop" for fault in done)

    def cut(self, lasts_s: float) -> None:
        """Pull the cable for so long."""
        lifecycle.arm(self.name, [Fault("drop", for_s=lasts_s)])

    def cut_at(self, count: int, lasts_s: float) -> None:
        """Pull the cable when so many more bytes have passed."""
        lifecycle.arm(self.name, [Fault("drop", at_bytes=count, for_s=lasts_s)])

    def hang(self, lasts_s: float) -> None:
        """Do not answer for so long."""
        lifecycle.arm(self.name, [Fault("hang", for_s=lasts_s)])

    def slow(self, lasts_s: float) -> None:
        """Answer with 2 KiB a second for so long."""
        lifecycle.arm(self.name, [Fault("slow", for_s=lasts_s, args={"bytes_per_s": 2048})])

    def damage(self, seed: int) -> None:
        """Change a byte in each of the next three payloads that are no mere heads."""
        lifecycle.arm(self.name, [Fault("corrupt", seed=seed, args={"count": 3, "min_size": 64})])

    def lose_root(self) -> None:
        """End all root sessions."""
        lifecycle.arm(self.name, [Fault("kill-su")])

    def reboot(self) -> None:
        """Restart the board."""
        lifecycle.arm(self.name, [Fault("reboot")])

    def fill(self) -> None:
        """Leave no space in /data."""
        lifecycle.arm(self.name, [Fault("disk-full", for_s=_FOREVER_S)])

    def mend(self) -> None:
        """End every fault; the board is attached to a running adb server."""
        lifecycle.arm(self.name, [Fault("clear")])
        self._server.start()

    def kill_server(self) -> None:
        """End the adb server as a crash does."""
        for process in psutil.process_iter(["name", "cmdline"]):
            words = process.info["cmdline"] or []
            # As the client starts it: adb -L tcp:PORT fork-server server --reply-fd N.
            if process.info["name"] == "adb" and any(word.endswith(f":{self._server.port}") for word in words):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


class MachineSite(Commands):
    """This machine as a device in a folder of its own, which is a small disk; over ssh if there is a server.

    Args:
        name: of the device.
        place: a folder for the commands' files.
        server: of ssh; ``None``: reached as ``local:``.
    """

    def __init__(self, name: str, place: Path, server: sshd.SshServer | None = None) -> None:
        self.dir = place / "device"
        self.disk = SmallDisk(self.dir, "48m")
        self.calm: Calm | None = None
        self._server = server
        address = "local:" if server is None else f"ssh:{server.user}@127.0.0.1:{server.port}"
        super().__init__(name, f'address = "{address}"\ndir = "{self.dir}"', place, {})
        self.entry = DeviceEntry(name=name, address=address, dir=str(self.dir))

    def look(self) -> Look:
        """See ``Look``."""
        return look_at(self.entry, ())

    def programs(self, *names: str) -> list[list[str]]:
        """Command lines that run ``DIR/bin/NAME``, the pid in front."""
        wanted = {f"{self.dir}/bin/{name}" for name in names}
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_text(encoding="utf-8", errors="replace").split("\0")
                if words[0] in wanted:
                    found.append([path.parent.name, *words])
        return found

    def agents(self) -> list[int]:
        """Pids of the agents that execute a plan."""
        return [int(words[0]) for words in self.programs("agent") if "run" in words]

    def cut(self, lasts_s: float) -> None:
        """Break all ssh connections and take no new ones for so long."""
        assert self._server is not None
        self._server.cut()
        time.sleep(lasts_s)
        self._server.listen()

    def hang(self, lasts_s: float) -> None:
        """Let the ssh server and its sessions stand still for so long."""
        assert self._server is not None
        with standing_still(self._server.processes()):
            time.sleep(lasts_s)

    def fill(self) -> None:
        """Leave no space in the device's folder."""
        self.disk.fill()

    def mend(self) -> None:
        """End every fault."""
        self.disk.clear()

    def close(self) -> None:
        """Remove the disk; whatever still runs from it is ended first."""
        kill_all(int(words[0]) for words in self.programs("agent", "overhead", "klo"))
        self.disk.close()


class SmallDisk:
    """A file system of its own that can be filled to the last byte.

    Args:
        where: its mount point, made here.
        size: as tmpfs takes it ("48m").

    Raises:
        OSError: nothing can be mounted here.
    """

    def __init__(self, where: Path, size: str) -> None:
        self.where = where
        where.mkdir(parents=True)
        options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "devicelab-faults", str(where)]
        done = subprocess.run(options, capture_output=True, check=False)
        if done.returncode != 0:
            raise OSError(f"cannot mount a small file system: {done.stderr.decode().strip()}")

    def fill(self) -> None:
        """Take all the space that is left."""
        with contextlib.suppress(OSError), (self.where / "filler").open("ab", 0) as filler:
            while True:
                filler.write(bytes(1 << 16))
        with contextlib.suppress(OSError), (self.where / "filler").open("ab", 0) as filler:
            while True:
                filler.write(b"\0")

    def clear(self) -> None:
        """Give the space back."""
        (self.where / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "-l", str(self.where)], check=False)


Site = BoardSite | MachineSite
