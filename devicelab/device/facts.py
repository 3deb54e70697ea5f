"""Reads what a device is, before anything is changed: ABI, board kind, root, nodes."""

import re
from dataclasses import dataclass
from typing import Literal

from devicelab import boards, knobs, transports
from devicelab.device.build import Built, build
from devicelab.device.lab import DeviceEntry
from devicelab.device.probe import OWN, RESERVED, Basics, Nodes, look, probe
from devicelab.errors import DeviceRefusedError, DeviceUnreachableError
from devicelab.experiment import evidence, gauge
from devicelab.ground.safe_text import spoken
from devicelab.model.device import Facts
from devicelab.model.tree import Tree
from devicelab.schedulers.base import Place
from devicelab.transports._root import wrap as as_root
from devicelab.transports.base import NOTHING, Parcel, Transport


@dataclass(frozen=True)
class Device:
    """A device in hand: how to reach it, what it is, and how to call the agent there.

    Attributes:
        idle: when it was read, no agent was at work there, nobody held a lease and nothing was to be undone. Not asking
            again saves a command; the agent looks once more, under its lock, before it does anything.
        reserved: the text in which somebody keeps the device for himself (``device.reservation``); empty: nobody.
    """

    entry: DeviceEntry
    transport: Transport
    facts: Facts
    agent: Built
    sums: dict[str, str]
    idle: bool = False
    reserved: str = ""

    @property
    def place(self) -> Place:
        """What planning has to know of the device: its facts, and what lab.toml says of software there."""
        return Place(self.facts, self.entry.prefixes, self.entry.python)

    def argv(self, *words: str) -> list[str]:
        """The agent's argv on the device, as root where there is a way to it."""
        return list(as_root(self.facts.root, [f"{self.facts.dir}/bin/agent", *words]))


def node_patterns() -> tuple[str, ...]:
    """Patterns of all nodes that are read from every device: what knobs, board files and evidence need."""
    return tuple(dict.fromkeys((*knobs.globs(), *evidence.GLOBS, *gauge.GLOBS)))


def identify(entry: DeviceEntry) -> str:
    """The board kind of a device, by its properties alone (nodes are not read)."""
    transport = transports.connect(entry.address)
    try:
        basics = probe(entry, transport)
    finally:
        transport.close()
    return boards.recognise(basics.props, Tree(), named=entry.board).kind


def open_device(entry: DeviceEntry, *, patterns: tuple[str, ...] = ()) -> Device:
    """Connect, ask, put the agent there if it is missing, and read the nodes that knobs need.

    Args:
        entry: which device.
        patterns: further node patterns to read (``devicelab capture``).

    Raises:
        DeviceUnreachableError, DeviceRefusedError, BuildError: see ``devicelab.errors``.
    """
    transport = transports.connect(entry.address)
    try:
        return _open(entry, transport, patterns)
    except BaseException:
        transport.close()
        raise


def read_again(device: Device) -> Device:
    """The same device with what it is now: after an undo or a reboot its nodes are not what they were.

    What a step gives back is fixed when the facts are read (``devicelab.knobs._limits``), so plans made from facts that
    have become void would "restore" what was never found.

    Raises:
        DeviceUnreachableError, DeviceRefusedError, BuildError: as ``open_device``.
    """
    return _open(device.entry, device.transport, ())


def _open(entry: DeviceEntry, transport: Transport, patterns: tuple[str, ...]) -> Device:
    asked = tuple(dict.fromkeys((*node_patterns(), *patterns)))
    basics, tree = look(entry, transport, asked)
    if basics.root == "none" and entry.root == "adb-root":
        _become_root(entry, transport)
        basics, tree = look(entry, transport, asked)
    if basics.root == "none" and entry.root in {"su-c", "su-0", "sudo"}:
        raise DeviceRefusedError(
            f'`root = "{entry.root}"` of lab.toml does not work: {basics.root_said or "it says nothing"}',
            device=entry.name,
            hint="mend it on the device (Magisk: allow *Shell*), name another way, or leave `root` out",
        )
    os: Literal["android", "linux"] = "android" if basics.android else "linux"
    agent = build("agent", basics.abi, place="local" if entry.address.startswith("local:") else os)
    if tree is None or basics.sums.get("agent") != agent.sha256:
        there = basics.sums.get("agent") == agent.sha256
        parcel = NOTHING if there else transport.send([(agent.path, f"{basics.dir}/bin/agent", 0o755)])
        tree = _snapshot(entry, transport, basics, asked, parcel)
    state = f"{basics.dir}/state"
    reserved = f"{basics.dir}/{RESERVED}"
    ours = (state, reserved)
    board = boards.recognise(basics.props, tree, named=entry.board)
    facts = Facts(
        name=entry.name,
        address=entry.address,
        board=board,
        abi=basics.abi,
        os=os,
        kernel=basics.kernel,
        boot_id=basics.boot_id,
        root=basics.root,
        root_said=basics.root_said,
        simulated=basics.props.get("ro.devicelab.simulated") == "1",
        props=basics.props,
        dir=basics.dir,
        nodes=tuple(one for one in tree.values() if one.path not in ours and not one.path.startswith(f"{state}/")),
    )
    sums = {**basics.sums, "agent": agent.sha256}
    kept = tree.text(reserved) or ""
    return Device(entry, transport, facts, agent, sums, idle=_is_idle(tree, state), reserved=kept)


def _is_idle(tree: Tree, state: str) -> bool:
    """What the agent's files say, as docs/reference/agent.md describes them; in doubt it is not idle."""
    if state not in tree:
        return True
    lease, undo, agent = (tree.get(f"{state}/{name}") for name in ("lease.json", "undo.jsonl", "agent.json"))
    ended = agent is not None and re.search(r'"state":"ended"', agent.text or "") is not None
    return lease is None and undo is not None and undo.text == "" and ended


def regain_root(device: Device) -> None:
    """After a loss of the device: adbd runs as root only until the next reboot, where root is had that way."""
    if device.entry.root == "adb-root":
        _become_root(device.entry, device.transport)


def _become_root(entry: DeviceEntry, transport: Transport) -> None:
    become_root = getattr(transport, "become_root", None)
    if become_root is None:
        raise DeviceRefusedError('`root = "adb-root"` needs an adb address', device=entry.name)
    become_root()


def _snapshot(
    entry: DeviceEntry, transport: Transport, basics: Basics, patterns: tuple[str, ...], parcel: Parcel
) -> Tree:
    argv = as_root(basics.root, [f"{basics.dir}/bin/agent", "snapshot", "-"])
    asked = "".join(f"{p}\n" for p in (*patterns, *(f"{basics.dir}/{name}" for name in OWN))).encode()
    nodes = Nodes(entry.name)
    done = transport.run(argv, timeout_s=120, stdin=asked, on_stdout=nodes.take, parcel=parcel)
    nodes.take(done.stdout)
    if done.exit_code != 0:
        said = spoken(done.stderr.decode("utf-8", "replace"))[:500]
        raise DeviceRefusedError(
            f"the agent does not run there (exit code {done.exit_code}): {said or 'no message'}",
            device=entry.name,
            hint=f"is {basics.dir} on a file system mounted noexec? set `dir` in lab.toml",
        )
    try:
        return nodes.tree()
    except ValueError as error:
        raise DeviceUnreachableError(f"the agent's answer is garbled: {error}", device=entry.name) from error
