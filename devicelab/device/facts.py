"""Reads what a device is, before anything is changed: ABI, board kind, root, nodes."""

import re
from dataclasses import dataclass, field
from typing import Literal

from devicelab import boards, knobs, transports
from devicelab.device.build import Built, build
from devicelab.device.lab import DeviceEntry
from devicelab.device.toolchain import ABI_BY_MACHINE
from devicelab.errors import DeviceRefusedError, DeviceUnreachableError, DistrustError
from devicelab.experiment import evidence, gauge
from devicelab.ground.safe_text import spoken
from devicelab.model.device import Facts, RootMethod
from devicelab.model.tree import SnapshotReader, SnapshotTooLargeError, Tree
from devicelab.schedulers.base import Place
from devicelab.transports._root import wrap as as_root
from devicelab.transports.base import Transport

RESERVED = "reserved.json"
"""In devicelab's folder on the device: who keeps it for himself (``devicelab.device.reservation``)."""

# Some hundred properties and the checksums of some programs.
_MAX_PROBE = 4 << 20

# One round trip: everything that can be asked without our own program. Positional parameters only, nothing pasted.
_PROBE = r"""
dir=$1; methods=$2; me=$(id -u)
# Is it ours or root's, and may nobody else replace what lies there? $1: as it is, or where a link leads (L).
mine() {
  where=$2; set -- $(ls -ldn$1 "$where" 2>/dev/null)
  case $1 in l*|????????w[tT]*) ;; ????????w*) return 1;; esac
  [ "$3" = "$me" ] || [ "$3" = 0 ]
}
if [ -d /data/local/tmp ] && command -v getprop >/dev/null 2>&1
then [ -n "$dir" ] || dir=/data/local/tmp/devicelab
else
  if [ -n "$dir" ]; then [ -e "$dir" ] || mkdir -p -m 700 "$dir" 2>/dev/null
  else
    dir=/var/tmp/devicelab-$me; mkdir -m 700 "$dir" 2>/dev/null
    if [ -L "$dir" ] || [ ! -O "$dir" ]; then echo "taken=$dir"; fi
  fi
  # Anybody may have made the folder first; programs that run as us, or as root, come from there.
  for place in "$dir" "$dir/bin" "$dir/bin/agent" "$dir/state"; do
    if [ -e "$place" ] || [ -L "$place" ]; then mine '' "$place" && mine L "$place" || echo "taken=$place"; fi
  done
fi
# BusyBox before 1.30 wants -t, and takes the seconds for the program otherwise.
t=; if timeout 9 true; then t='timeout 10'; elif timeout -t 9 true; then t='timeout -t 10'; fi >/dev/null 2>&1
# A root that may do nothing (no capability, another domain of SELinux's) is none; the node is one that pins write.
may='id -u; while read -r k v; do case $k in CapEff:) echo "$v";; esac; done </proc/self/status
n=/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq; [ ! -e $n ] || [ -w $n ] || echo refused'
root=none said= cr=$(printf '\r')
try() {
  m=$1; shift
  got=$("$@" </dev/null 2>&1); code=$?
  case "
$got
" in
  *"
refused
"*) why='uid 0, but it may not write to sysfs';;
  *"
0
0000000000000000
"*) why='uid 0, but without any capability';;
  *"
0
"*) root=$m; return 0;;
  *"
0$cr
"*) why='uid 0, but on a terminal, which changes output';;
  *) why=${got##*"
"}; [ $code != 0 ] || why="it gives uid ${got%%"
"*}"; [ $code != 124 ] && [ $code != 143 ] || why='no answer within 10 s'; why=${why:-exit code $code};;
  esac
  said="$said$m: $why; "; return 1
}
if [ "$(id -u)" = 0 ]; then root=self; else for m in $methods; do
p=${m%%-*}; command -v "$p" >/dev/null 2>&1 || { said="$said$m: there is no $p; "; continue; }
case $m in
su-c) try su-c $t su -c "$may" && break;;
su-0) try su-0 $t su 0 sh -c "$may" && break;;
sudo) try sudo $t sudo -n sh -c "$may" && break;;
*) said=; esac; done; fi
echo "machine=$(uname -m)"; echo "kernel=$(uname -r)"; echo "root=$root"; echo "dir=$dir"; echo "root_said=$said"
echo "boot_id=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
echo '--- props'; command -v getprop >/dev/null 2>&1 && getprop && command -v settings >/dev/null 2>&1 &&
echo "[settings.global.airplane_mode_on]: [$($t settings get global airplane_mode_on 2>/dev/null </dev/null)]"
echo '--- os'; cat /etc/os-release 2>/dev/null
echo '--- sums'; cd "$dir/bin" 2>/dev/null && for f in *; do [ -f "$f" ] && sha256sum "$f" 2>/dev/null; done
exit 0
"""


@dataclass(frozen=True)
class Basics:
    """What the probe script tells.

    ``root_said`` is why each way to root that was tried is none; ``sums`` maps the name of a file in ``dir``/bin to its
    SHA-256.
    """

    machine: str
    kernel: str
    root: RootMethod
    dir: str
    boot_id: str
    root_said: str = ""
    props: dict[str, str] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)

    @property
    def android(self) -> bool:
        """The device has Android's properties."""
        return any(name.startswith("ro.") for name in self.props)

    @property
    def abi(self) -> str:
        """Android's name of the ABI."""
        return self.props.get("ro.product.cpu.abi") or ABI_BY_MACHINE.get(self.machine) or self.machine


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


def parse_probe(text: str) -> Basics:
    """The probe script's output; anything odd in it is skipped, never trusted.

    Raises:
        ValueError: the output has not even a machine name.
        DeviceRefusedError: the folder that would be ours is another user's.
    """
    section = "head"
    sections: dict[str, dict[str, str]] = {"head": {}, "props": {}, "os": {}, "sums": {}}
    for line in text.replace("\r", "").split("\n"):
        if line.startswith("--- "):
            section = line[4:].strip()
        elif section == "props":
            if match := re.fullmatch(r"\[([^\]]+)\]: \[(.*)\]", line):
                sections["props"][match[1]] = match[2]
        elif section == "sums":
            if match := re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line):
                sections["sums"][match[2]] = match[1]
        elif section in sections:
            name, mark, value = line.partition("=")
            if mark:
                sections[section][name] = value.strip().strip('"')
    head = sections["head"]
    if not head.get("machine") or not head.get("dir", "").startswith("/"):
        raise ValueError("no answer from the probe")
    if "taken" in head:
        raise DeviceRefusedError(
            f"the folder {head['taken']} there belongs to somebody else, or others may write to it",
            hint="have it removed, or name one in a folder of your own with `dir` in lab.toml",
        )
    os_props = {f"os.{name.lower()}": value for name, value in sections["os"].items()}
    root = head.get("root", "none")
    return Basics(
        machine=head["machine"],
        kernel=head.get("kernel", ""),
        root=root if root in {"none", "self", "su-c", "su-0", "sudo"} else "none",  # type: ignore[arg-type]
        dir=head["dir"],
        boot_id=head.get("boot_id", ""),
        root_said=head.get("root_said", "").strip("; "),
        props=sections["props"] or os_props,
        sums=sections["sums"],
    )


def probe(entry: DeviceEntry, transport: Transport) -> Basics:
    """Ask the device in one round trip.

    Raises:
        DeviceUnreachableError: no answer that makes sense.
        DeviceRefusedError: our folder there is another user's.
    """
    usual = "su-c su-0" if entry.address.startswith("adb:") else ""
    methods = entry.root if entry.root is not None else usual
    argv = ["sh", "-c", _PROBE, "probe", entry.dir or "", methods]
    done = transport.run(argv, timeout_s=60)
    if len(done.stdout) > _MAX_PROBE:
        raise DistrustError(f"{len(done.stdout) >> 20} MiB of properties; no device has so many", device=entry.name)
    try:
        return parse_probe(done.stdout.decode("utf-8", "replace"))
    except DeviceRefusedError as error:
        error.device = entry.name
        raise
    except ValueError as error:
        said = (spoken(done.stderr.decode("utf-8", "replace")) or done.stdout.decode("utf-8", "replace").strip())[:300]
        message = f"the device does not answer sensibly (exit code {done.exit_code}): {said or 'nothing'}"
        if entry.address.startswith("ssh:"):  # the connection stands; it is the account that runs no commands
            hint = "its account needs a shell that runs commands (chsh), and no forced command in authorized_keys"
            raise DeviceRefusedError(message, device=entry.name, hint=hint) from error
        hint = "try `adb shell uname -a` by hand"
        raise DeviceUnreachableError(message, device=entry.name, hint=hint) from error


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
    basics = probe(entry, transport)
    if basics.root == "none" and entry.root == "adb-root":
        basics = _restart_as_root(entry, transport)
    if basics.root == "none" and entry.root in {"su-c", "su-0", "sudo"}:
        raise DeviceRefusedError(
            f'`root = "{entry.root}"` of lab.toml does not work: {basics.root_said or "it says nothing"}',
            device=entry.name,
            hint="mend it on the device (Magisk: allow *Shell*), name another way, or leave `root` out",
        )
    os: Literal["android", "linux"] = "android" if basics.android else "linux"
    agent = build("agent", basics.abi, place="local" if entry.address.startswith("local:") else os)
    if basics.sums.get("agent") != agent.sha256:
        transport.push(agent.path, f"{basics.dir}/bin/agent", mode=0o755)
    state = f"{basics.dir}/state"
    reserved = f"{basics.dir}/{RESERVED}"
    tree = _snapshot(entry, transport, basics, (*node_patterns(), *patterns, state, f"{state}/*", reserved))
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


def _restart_as_root(entry: DeviceEntry, transport: Transport) -> Basics:
    _become_root(entry, transport)
    return probe(entry, transport)


def _become_root(entry: DeviceEntry, transport: Transport) -> None:
    become_root = getattr(transport, "become_root", None)
    if become_root is None:
        raise DeviceRefusedError('`root = "adb-root"` needs an adb address', device=entry.name)
    become_root()


def _snapshot(entry: DeviceEntry, transport: Transport, basics: Basics, patterns: tuple[str, ...]) -> Tree:
    argv = as_root(basics.root, [f"{basics.dir}/bin/agent", "snapshot", "-"])
    reader, asked = SnapshotReader(), "".join(f"{p}\n" for p in dict.fromkeys(patterns)).encode()
    wrong: list[ValueError] = []

    def take(chunk: bytes) -> None:
        try:
            if not wrong:
                reader.feed(chunk)
        except SnapshotTooLargeError as error:
            raise DistrustError(f"the agent's answer is no picture of a device: {error}", device=entry.name) from error
        except ValueError as error:
            wrong.append(error)

    done = transport.run(argv, timeout_s=120, stdin=asked, on_stdout=take)
    take(done.stdout)
    if done.exit_code != 0:
        said = spoken(done.stderr.decode("utf-8", "replace"))[:500]
        raise DeviceRefusedError(
            f"the agent does not run there (exit code {done.exit_code}): {said or 'no message'}",
            device=entry.name,
            hint=f"is {basics.dir} on a file system mounted noexec? set `dir` in lab.toml",
        )
    try:
        if not wrong:
            return reader.tree()
    except ValueError as error:
        wrong.append(error)
    raise DeviceUnreachableError(f"the agent's answer is garbled: {wrong[0]}", device=entry.name)
