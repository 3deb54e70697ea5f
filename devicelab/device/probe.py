"""The first look at a device: machine, properties, root, what of ours lies there; and its nodes, if the agent does."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from devicelab.device.build import kept
from devicelab.device.lab import DeviceEntry
from devicelab.device.toolchain import ABI_BY_MACHINE
from devicelab.errors import DeviceRefusedError, DeviceUnreachableError, DistrustError
from devicelab.ground.safe_text import spoken
from devicelab.model.device import RootMethod
from devicelab.model.tree import SnapshotReader, SnapshotTooLargeError, Tree
from devicelab.transports.base import Transport

RESERVED = "reserved.json"
"""In devicelab's folder on the device: who keeps it for himself (``devicelab.device.reservation``)."""

OWN = ("state", "state/*", RESERVED)
"""Patterns of what is ours in that folder and read along with a device's nodes."""

# Some hundred properties and the checksums of some programs.
_MAX_PROBE = 4 << 20

# One round trip: what can be asked without our own program, and if that is there, the nodes. Nothing is pasted in.
_PROBE = r"""
dir=$1; methods=$2; agents=${3-}; me=$(id -u); taken= agent=
[ $# -lt 3 ] || shift 3
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
    if [ -L "$dir" ] || [ ! -O "$dir" ]; then taken=$dir; echo "taken=$dir"; fi
  fi
  # Anybody may have made the folder first; programs that run as us, or as root, come from there.
  for place in "$dir" "$dir/bin" "$dir/bin/agent" "$dir/state"; do
    [ -e "$place" ] || [ -L "$place" ] || continue
    mine '' "$place" && mine L "$place" || { taken=$place; echo "taken=$place"; }
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
if [ "$me" = 0 ]; then root=self; else for m in $methods; do
p=${m%%-*}; command -v "$p" >/dev/null 2>&1 || { said="$said$m: there is no $p; "; continue; }
case $m in
su-c) try su-c $t su -c "$may" && break;;
su-0) try su-0 $t su 0 sh -c "$may" && break;;
sudo) try sudo $t sudo -n sh -c "$may" && break;;
*) said=; esac; done; fi
# Every program that is started costs milliseconds on a small core. What uname prints has a fixed order.
both=$(uname -rm); boot=; { read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
echo "machine=${both##* }"; echo "kernel=${both%% *}"; echo "root=$root"; echo "dir=$dir"; echo "root_said=$said"
echo "boot_id=$boot"
echo '--- props'; command -v getprop >/dev/null 2>&1 && getprop && command -v settings >/dev/null 2>&1 &&
echo "[settings.global.airplane_mode_on]: [$($t settings get global airplane_mode_on 2>/dev/null </dev/null)]"
echo '--- os'; cat /etc/os-release 2>/dev/null
echo '--- sums'; cd "$dir/bin" 2>/dev/null && for f in *; do
  [ -f "$f" ] && sum=$(sha256sum "$f" 2>/dev/null) && echo "$sum" && [ "$f" = agent ] && agent=${sum%% *}
done
# An agent that is one of ours reads the nodes at once: what stands on stdin, and in our folder the rest of the words.
case " $agents " in *" ${agent:-none} "*) ;; *) exit 0;; esac
case $taken$dir in "$dir") ;; *) exit 0;; esac
case $dir in *[!A-Za-z0-9/._-]*) exit 0;; esac
echo '--- nodes'
{ for f; do echo "$dir/$f"; done; cat; } | case $root in
su-c) su -c "$dir/bin/agent snapshot -";;
su-0) su 0 "$dir/bin/agent" snapshot -;;
sudo) sudo -n "$dir/bin/agent" snapshot -;;
*) "$dir/bin/agent" snapshot -;;
esac
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


class Nodes:
    """Takes what ``agent snapshot`` prints, as it comes.

    Args:
        device: for errors.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._reader = SnapshotReader()
        self._wrong: ValueError | None = None

    def take(self, chunk: bytes) -> None:
        """More of it.

        Raises:
            DistrustError: it is more than any device has.
        """
        try:
            if self._wrong is None:
                self._reader.feed(chunk)
        except SnapshotTooLargeError as error:
            message = f"the agent's answer is no picture of a device: {error}"
            raise DistrustError(message, device=self._device) from error
        except ValueError as error:
            self._wrong = error

    def tree(self) -> Tree:
        """The nodes, now that all came.

        Raises:
            ValueError: something else came.
        """
        if self._wrong is not None:
            raise self._wrong
        return self._reader.tree()


class _Answer:
    """What the probe script prints: its lines, and behind them the nodes."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._nodes: Nodes | None = None
        self.head = b""

    def take(self, chunk: bytes) -> None:
        if self._nodes is None:
            self.head, mark, chunk = (self.head + chunk).partition(b"\n--- nodes\n")
            if len(self.head) > _MAX_PROBE:
                size = len(self.head) >> 20
                raise DistrustError(f"{size} MiB of properties; no device has so many", device=self._device)
            if mark:
                self._nodes = Nodes(self._device)
        if self._nodes is not None:
            self._nodes.take(chunk)

    def tree(self) -> Tree | None:
        try:
            return self._nodes.tree() if self._nodes is not None else None
        except ValueError:
            return None


def probe(entry: DeviceEntry, transport: Transport) -> Basics:
    """What the device tells without our own program. Errors as in ``look``."""
    return look(entry, transport)[0]


def look(entry: DeviceEntry, transport: Transport, patterns: Sequence[str] = ()) -> tuple[Basics, Tree | None]:
    """Ask the device in one round trip; with ``patterns`` also for its nodes, ``OWN`` among them.

    The nodes are read by the agent that is there, if it is one that was built here (by its SHA-256): ``None`` if it is
    not or could not. Whether it is the right one for the device is the caller's to see.

    Raises:
        DeviceUnreachableError: no answer that makes sense.
        DeviceRefusedError: our folder there is another user's.
    """
    usual = "su-c su-0" if entry.address.startswith("adb:") else ""
    methods = entry.root if entry.root is not None else usual
    agents = " ".join(kept("agent")) if patterns else ""
    argv = ["sh", "-c", _PROBE, "probe", entry.dir or "", methods, agents, *OWN]
    answer = _Answer(entry.name)
    asked = "".join(f"{pattern}\n" for pattern in patterns).encode()
    done = transport.run(argv, timeout_s=120, stdin=asked if agents else None, on_stdout=answer.take)
    answer.take(done.stdout)
    said_there = answer.head.decode("utf-8", "replace")
    try:
        return parse_probe(said_there), answer.tree() if done.exit_code == 0 else None
    except DeviceRefusedError as error:
        error.device = entry.name
        raise
    except ValueError as error:
        said = (spoken(done.stderr.decode("utf-8", "replace")) or said_there.strip())[:300]
        message = f"the device does not answer sensibly (exit code {done.exit_code}): {said or 'nothing'}"
        if entry.address.startswith("ssh:"):  # the connection stands; it is the account that runs no commands
            hint = "its account needs a shell that runs commands (chsh), and no forced command in authorized_keys"
            raise DeviceRefusedError(message, device=entry.name, hint=hint) from error
        hint = "try `adb shell uname -a` by hand"
        raise DeviceUnreachableError(message, device=entry.name, hint=hint) from error
