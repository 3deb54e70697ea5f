"""Devices for whole commands in tests: the command line as a process, a virtual board, and what is left there."""

import contextlib
import fnmatch
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path

from devicelab.device import agent
from devicelab.device.facts import Device, open_device
from devicelab.device.lab import DeviceEntry
from devicelab.errors import LabError
from devicelab.store import Store
from devicelab.transports._root import wrap as as_root
from tests import forks
from tests.sim_fixtures import tree_of
from virtualboards.lifecycle import VirtualBoard

_HEARD = (signal.SIGINT, signal.SIGTERM)
_FORK = multiprocessing.get_context("fork")
Host = ForkProcess

_PATIENCE_S = 120.0

TREES = ("/sys/**", "/dev/cpuset/*/*", "/dev/cpuset/*", "/dev/stune/*/*", "/dev/cpuctl/*/*", "/proc/sys/**")

# Writable nodes that move by themselves, pinned or not: counters, lists of processes that come and go, and kgsl's
# gpuclk, which shows the clock of the moment (its limits and governor are compared).
RESTLESS = (
    "*/cgroup.procs",
    "*/tasks",
    "*/cpu_capacity",
    "*/idle_timer_us",
    "*/uevent",
    "*/rq_stats/*",
    "*/time_in_state",
    "*/gpuclk",
)


class Commands:
    """The command line on one device, with the user's files around it.

    Args:
        name: of the device, in lab.toml.
        entry: the lines of its table there.
        place: a folder for lab.toml, stores, experiments and what the commands say.
        environment: variables with which commands find the device (cache, adb server).
    """

    ready: Callable[[], None] | None = None
    """Called in every command's process first."""

    def __init__(self, name: str, entry: str, place: Path, environment: dict[str, str]) -> None:
        self.name = name
        self._place = place
        lab = place / "lab.toml"
        lab.write_text(f"[devices.{name}]\n{entry}\n", encoding="utf-8")
        self._environment = {**os.environ, **environment, "DEVICELAB_LAB": str(lab), "NO_COLOR": "1"}

    def start(self, *words: str, prepare: Callable[[], None] | None = None, board: bool = True) -> Host:
        """``devicelab WORDS --board ...`` as a process; what it says goes to a file.

        Forked with everything imported, since the import is most of what a short command costs. ``prepare`` is called
        in the new process first; without ``board`` the words are all there is.
        """
        words = (*words, "--board", self.name) if board else words
        host = _FORK.Process(target=self._command_line, args=(words, prepare))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        try:
            host.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return host

    def _command_line(self, words: tuple[str, ...], prepare: Callable[[], None] | None) -> None:
        from devicelab.cli import main as devicelab

        with (self._place / "said.txt").open("ab", 0) as said:
            said.write(f"\n$ devicelab {' '.join(words)}\n".encode())
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        forks.become(words, self._environment)
        os.chdir(self._place)
        for step in (self.ready, prepare):
            if step is not None:
                step()
        try:
            # What came until here met no devicelab yet, but this file: the interpreter alone would have died of it.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        except KeyboardInterrupt:
            os.write(2, b"interrupted before it began\n")
            os._exit(130)
        devicelab()

    def run(self, *words: str, board: bool = True) -> int:
        """``devicelab WORDS`` to its end; its exit code."""
        return finished(self.start(*words, board=board))

    def said(self) -> str:
        """The last lines of what the commands said."""
        text = (self._place / "said.txt").read_text(encoding="utf-8", errors="replace")
        return " / ".join(line for line in text.splitlines() if line.strip())[-600:]

    def last_words(self) -> str:
        """All that the latest command said."""
        text = (self._place / "said.txt").read_text(encoding="utf-8", errors="replace")
        return text.rpartition("\n$ devicelab ")[2].partition("\n")[2]


class Bench(Commands):
    """One virtual board and what can be seen of it.

    Args:
        board: running.
        place, environment: as for ``Commands``.
    """

    def __init__(self, board: VirtualBoard, place: Path, environment: dict[str, str] | None = None) -> None:
        root = '\nroot = "adb-root"' if board.su == "adb-root" else ""
        super().__init__(board.name, f'address = "adb:{board.serial}"{root}', place, environment or {})
        self.board = board
        self.entry = DeviceEntry(
            name=board.name, address=f"adb:{board.serial}", root="adb-root" if board.su == "adb-root" else None
        )
        self.fresh = self.tree()

    @contextlib.contextmanager
    def device(self) -> Iterator[Device]:
        """The board in hand."""
        device = open_device(self.entry)
        try:
            yield device
        finally:
            device.transport.close()

    def tree(self) -> dict[str, tuple[int, str | None]]:
        """Mode and bytes of every writable node that does not move by itself."""
        device = open_device(self.entry, patterns=TREES)
        try:
            return {
                node.path: (node.mode, node.text)
                for node in device.facts.nodes
                if node.kind == "file" and node.writable and not any(fnmatch.fnmatch(node.path, p) for p in RESTLESS)
            }
        finally:
            device.transport.close()

    def disturb(self, seed: int) -> None:
        """Leave the board in a state that is not the one after boot, as a user's own settings are."""
        chance = random.Random(seed)
        with self.device() as device:
            tree = device.facts.tree
            for path in tree.glob("/sys/devices/system/cpu/cpufreq/policy*/scaling_available_frequencies"):
                policy = path.rpartition("/")[0]
                steps = sorted(int(word) for word in (tree.text(path) or "").split())
                if device.facts.root == "none" or len(steps) < 4 or chance.random() < 0.4:
                    continue
                low, high = sorted(chance.sample(steps, 2))
                for node, value in (("min", steps[0]), ("max", high), ("min", low)):
                    self._write(device, f"{policy}/scaling_{node}_freq", str(value))

    def _write(self, device: Device, path: str, value: str) -> None:
        argv = as_root(device.facts.root, ["sh", "-c", 'echo "$2" >"$1"', "sh", path, value])
        device.transport.run(argv)

    def programs(self, *names: str) -> list[list[str]]:
        """Command lines on the board that run ``.../bin/NAME`` (also under an emulator), the pid in front."""
        found = []
        for pid in tree_of(self.board.pid):
            # A zombie has no command line: it is dead.
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
                if any(word.endswith(f"/bin/{name}") for word in words[:3] for name in names):
                    found.append([str(pid), *words])
        return found

    def agents(self) -> list[int]:
        """Pids of the agents that execute a plan on the board."""
        return [int(words[0]) for words in self.programs("agent") if "run" in words]


def finished(host: Host) -> int:
    """The exit code of a command that is waited for; one that does not end is killed and fails with -9."""
    host.join(_PATIENCE_S)
    if host.exitcode is None:
        host.kill()
        host.join()
    return int(host.exitcode or 0)


def stored(store: Path | str) -> tuple[list[str], int]:
    """Ids of the runs of a store's only campaign, and how many were planned.

    Raises:
        AssertionError: it holds more than one campaign.
    """
    with Store.open(str(store)) as opened:
        (campaign,) = opened.campaigns()
        plans = json.loads(opened.plan_json(campaign.campaign) or "[]")
        runs = opened.results(campaign.campaign).runs()
    return [str(run) for run in runs["run_id"]], sum(len(plan["runs"]) for plan in plans)


def left_behind(bench: Bench, expected: dict[str, tuple[int, str | None]]) -> list[str]:
    """Every way in which the board is not as it was."""
    found = []
    if not wait_for(lambda: not bench.programs("overhead", "klo"), 5.0):
        found.append(f"loads are alive: {bench.programs('overhead', 'klo')}")
    if not wait_for(lambda: not bench.programs("agent"), 5.0):
        found.append(f"agents are alive: {bench.programs('agent')}")
    try:
        with bench.device() as device:
            status = agent.status(device)
        after = bench.tree()
    except LabError as error:
        return [*found, f"the board cannot be asked: {error}"]
    if status.alive or status.holder or status.pending:
        found.append(f"not free: {status}")
    return found + [
        f"{path}: {expected.get(path)} before, {after.get(path)} after"
        for path in sorted(expected.keys() | after.keys())
        if expected.get(path) != after.get(path)
    ]


def wait_for(condition: object, timeout_s: float = _PATIENCE_S) -> bool:
    """Until the condition holds; False if it did not in time."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
