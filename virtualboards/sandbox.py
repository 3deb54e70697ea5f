"""The file system of a virtual board: Android's usual layout out of the host's mksh, toybox and libraries.

Everything is mounted in the board's own mount namespace: nothing shows on the host, and nothing is left when the
board's last process ends, however it ends.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from devicelab.errors import DeviceRefusedError
from virtualboards import PACKAGES, linux
from virtualboards.users import SHELL_UID

REQUEST_SOCKET = "/dev/socket/devicelab"
"""Where the programs in ``SHIMS`` reach the board's host process."""

SU_STREAMS = (5, 6, 7)
"""Where the script of ``SHIMS`` keeps its caller's three streams."""

SHIMS = (
    *("am", "cmd", "dumpsys", "getenforce", "getprop", "ifconfig", "input", "log", "logcat", "mount", "pm", "reboot"),
    *("run-as", "screencap", "setenforce", "setprop", "settings", "start", "stop", "su", "svc", "umount", "wm"),
)
"""Android programs that toybox lacks or that concern the board: one script under many names, answered by the host."""

# The answer is the exit code on a line of its own and then the output. `nc` ends when the host closes.
# The shell moves its own streams about while it builds the pipe, so su's caller's are kept where they can be found.
_SHIM = f"""#!/system/bin/sh
exec {SU_STREAMS[0]}<&0 {SU_STREAMS[1]}>&1 {SU_STREAMS[2]}>&2
print -N -r -- "$#" "${{0##*/}}" "$@" | /system/bin/toybox nc -U {REQUEST_SOCKET} | {{
  read -r code || exit 127
  /system/bin/toybox cat
  exit "$code"
}}
"""

# Android's toybox shows other columns than Debian's where none are asked for (ps.c, CFG_TOYBOX_ON_ANDROID).
_PS = """#!/system/bin/sh
columns=USER,PID,PPID,VSIZE:10,RSS,WCHAN:10,ADDR:10,S,NAME
for word in "$@"; do
  case $word in
  -o* | --*) exec /system/lib64/toybox/ps "$@" ;;
  -*[ofl]*) exec /system/lib64/toybox/ps "$@" ;;
  -*T*) columns=USER,PID,TID,PPID,VSIZE:10,RSS,WCHAN:10,ADDR:10,S,CMD ;;
  esac
done
exec /system/lib64/toybox/ps "$@" -o "$columns"
"""

_UIAUTOMATOR = """#!/system/bin/sh
file=${2:-/sdcard/window_dump.xml}
[ "$1" = dump ] || { echo "Usage: uiautomator dump [file]"; exit 1; }
print -r -- '<?xml version="1.0" encoding="UTF-8" standalone="yes" ?><hierarchy rotation="0"></hierarchy>' >"$file" &&
  echo "UI hierchary dumped to: $file"
"""

_SCRIPTS = {"ps": _PS, "uiautomator": _UIAUTOMATOR}

# Applets of Android's toybox that Debian's leaves out.
_OTHERS = ("awk", "dd", "diff", "expr", "tr")

_DIRECTORIES = (
    *("acct", "apex", "cache", "config", "data", "dev/pts", "dev/shm", "dev/socket", "metadata", "mnt"),
    *(
        "odm/etc",
        "proc",
        "product/etc",
        "storage/emulated/0",
        "storage/self",
        "sys",
        "system/bin",
        "system/etc/init",
        "system/lib64",
    ),
    *("system/xbin", "usr", "vendor/bin", "vendor/etc", "vendor/lib64"),
)
_ARM64 = "arm64-v8a"
_HOST_ABIS = {"x86_64": "x86_64", "aarch64": _ARM64}
_DATA_LIMIT = "4g"
_SPARE_BLOCKS = (0, 16, 256, 4096, 65536)
"""What a full disk may have left: as little as whoever writes meanwhile allows."""

# Linux Documentation/admin-guide/binfmt-misc.rst; the pattern is that of qemu's scripts/qemu-binfmt-conf.sh. F: the
# interpreter is opened here and now, so it need not be visible inside the board.
_BINFMT = (
    rb":devicelab-arm64:M::"
    rb"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
    rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:%s:F"
)


@dataclass(frozen=True)
class Programs:
    """The host's programs a board is made of.

    Attributes:
        shell: mksh.
        toybox: toybox; ``applets`` are the names it answers to.
        others: name in the board → the host's program.
        qemu: qemu-aarch64, statically linked; empty if there is none (or none is needed).
        host_abi: Android's name of the ABI that runs natively.
    """

    shell: str
    toybox: str
    applets: tuple[str, ...]
    others: dict[str, str]
    qemu: str
    host_abi: str

    def as_dict(self) -> dict[str, object]:
        """For the command line of the board's host process."""
        return asdict(self)


def find_programs(cache: Path) -> Programs:
    """What this machine offers; ``cache`` is where a board's own version of toybox is kept.

    Raises:
        DeviceRefusedError: something a board cannot do without is missing; the message names it.
    """
    # Not in a board's host process, which has to stay small.
    import shutil

    from virtualboards import toybox

    paths = {name: shutil.which(name) for name in ("mksh", "toybox", *_OTHERS)}
    missing = [name for name in ("mksh", "toybox") if not paths[name]]
    if missing or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        what = ", ".join(missing) or "/dev/fuse"
        raise DeviceRefusedError(
            f"a virtual board needs {what}, which this machine lacks",
            hint=PACKAGES,
        )
    copy, applets = toybox.prepare(Path(str(paths["toybox"])), cache)
    machine = os.uname().machine
    qemu = "" if machine == "aarch64" else shutil.which("qemu-aarch64-static") or ""
    return Programs(
        shell=str(paths["mksh"]),
        toybox=str(copy),
        applets=tuple(name for name in applets if name not in {*SHIMS, *_SCRIPTS}),
        others={name: path for name in _OTHERS if (path := paths[name])},
        qemu=qemu,
        host_abi=_HOST_ABIS.get(machine, machine),
    )


class Sandbox:
    """Builds the tree in the host process's (new) mount namespace, and enters it from the init process.

    Args:
        place: an empty directory; a private file system is mounted there.
        programs: see ``find_programs``.
    """

    def __init__(self, place: Path, programs: Programs) -> None:
        self._place = place
        self._programs = programs
        self.root = place / "root"
        self.tree = place / "tree"
        """Where the kernel's tree has to be mounted before ``enter``."""
        self.runs_arm64 = programs.host_abi == _ARM64

    def build(self, *, with_su: bool) -> None:
        """Mount and fill everything but the kernel's tree. To be called once, in new user and mount namespaces."""
        linux.mount("", Path("/"), flags=linux.MS_REC | linux.MS_PRIVATE)
        linux.mount("devicelab", self._place, "tmpfs", linux.MS_NOSUID, "size=1m,mode=755")
        self.tree.mkdir()
        self.root.mkdir()
        linux.mount("devicelab", self.root, "tmpfs", linux.MS_NOSUID, "size=16m,mode=755")
        self._directories()
        self._programs_and_libraries(tuple(name for name in SHIMS if with_su or name != "su"))
        self._devices()
        if not self.runs_arm64 and self._programs.qemu:
            self.runs_arm64 = self._emulate_arm64()

    def write_build_prop(self, props: dict[str, str]) -> None:
        """Write /system/build.prop."""
        text = "".join(f"{name}={value}\n" for name, value in sorted(props.items()))
        (self.root / "system/build.prop").write_text(text, encoding="utf-8")

    def listen(self) -> socket.socket:
        """The socket on which the programs in ``SHIMS`` ask."""
        sock = socket.socket(socket.AF_UNIX)
        path = self.root / REQUEST_SOCKET.lstrip("/")
        # The whole path may be longer than a socket address; one relative to an open directory never is.
        fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            sock.bind(f"/proc/self/fd/{fd}/{path.name}")
        finally:
            os.close(fd)
        path.chmod(0o666)
        sock.setblocking(False)
        sock.listen(64)
        return sock

    def open_pty(self) -> tuple[int, int]:
        """Master and slave of a new pseudo terminal of the board."""
        import fcntl
        import termios

        master = os.open(self.root / "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        # TIOCSPTLCK, TIOCGPTN: unlockpt and ptsname, which would look in the host's /dev/pts.
        fcntl.ioctl(master, 0x40045431, bytes(4))
        number = int.from_bytes(fcntl.ioctl(master, 0x80045430, bytes(4)), "little")
        path = self.root / f"dev/pts/{number}"
        os.chown(path, SHELL_UID, SHELL_UID)
        slave = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHOCTL
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        return master, slave

    def fill_disk(self, *, full: bool) -> None:
        """Leave no space in /data, or give it back."""
        data = self.root / "data"
        if not full:
            _resize(data, _DATA_LIMIT)
            return
        for spare in _SPARE_BLOCKS:
            use = os.statvfs(data)
            try:
                _resize(data, str(max(1, use.f_blocks - use.f_bfree + spare) * use.f_frsize))
            except OSError as error:
                # Below what is in use by now: something writes.
                if error.errno != errno.EINVAL or spare == _SPARE_BLOCKS[-1]:
                    raise
            else:
                return

    def enter(self) -> None:
        """Make the tree the root directory of the calling process (the board's init, in its own pid namespace)."""
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC)
        socket.sethostname("localhost")
        linux.loopback_up()
        proc = self.root / "proc"
        linux.mount("proc", proc, "proc", linux.MS_NOSUID | linux.MS_NODEV | os.ST_NOEXEC)
        # Root in the board has the host root's user id if root started it, so what would act on the host is shut.
        for name in ("sys", "irq", "bus"):
            if (proc / name).is_dir():
                linux.bind(proc / name, proc / name, read_only=True)
        for name in ("sysrq-trigger", "kcore", "kmsg", "kallsyms", "timer_list"):
            if (proc / name).exists():
                linux.bind("/dev/null", proc / name)
        # Whoever enters is process 1 there, and runs this host's Python.
        linux.bind(self.root / "system/etc/init/cmdline", proc / "1/cmdline")
        self._cover(self.tree / "proc", proc)
        self._graft(self.tree / "dev", self.root / "dev")
        if (self.tree / "sys").is_dir():
            linux.bind(self.tree / "sys", self.root / "sys")
        linux.pivot_root(self.root)

    def _directories(self) -> None:
        for name in _DIRECTORIES:
            (self.root / name).mkdir(parents=True)
        linux.mount("devicelab-data", self.root / "data", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV,
                    f"size={_DATA_LIMIT},mode=771")  # fmt: skip
        for name, mode, owner in (
            ("data/local", 0o751, 0),
            ("data/local/tmp", 0o771, SHELL_UID),
            ("data/adb", 0o700, 0),
            ("data/media", 0o770, 1023),
            ("data/media/0", 0o777, 1023),
        ):
            path = self.root / name
            path.mkdir()
            path.chmod(mode)
            os.chown(path, owner, owner)
        (self.root / "data/adb").joinpath("modules").mkdir()
        # Apps and the shell reach shared storage by another mount than /data/media, which is media_rw's alone.
        linux.bind(self.root / "data/media/0", self.root / "storage/emulated/0")
        for name, target in (
            ("bin", "/system/bin"),
            ("d", "/sys/kernel/debug"),
            ("sdcard", "/storage/self/primary"),
            ("storage/self/primary", "/storage/emulated/0"),
        ):
            (self.root / name).symlink_to(target)
        (self.root / "etc").symlink_to("/system/etc")
        etc = self.root / "system/etc"
        etc.joinpath("init/cmdline").write_bytes(b"/system/bin/init\0second_stage\0")
        etc.joinpath("hosts").write_text("127.0.0.1 localhost\n", encoding="ascii")
        etc.joinpath("passwd").write_text(
            f"root:x:0:0::/:/system/bin/sh\nshell:x:{SHELL_UID}:{SHELL_UID}::/:/system/bin/sh\n", encoding="ascii"
        )
        etc.joinpath("group").write_text(
            f"root:x:0:\nshell:x:{SHELL_UID}:\ninput:x:1004:\nlog:x:1007:\nadb:x:1011:\nsdcard_rw:x:1015:\n"
            "sdcard_r:x:1028:\nmedia_rw:x:1023:\nnet_bt_admin:x:3001:\nnet_bt:x:3002:\ninet:x:3003:\n"
            "net_bw_stats:x:3006:\nreadproc:x:3009:\nuhid:x:3011:\n",
            encoding="ascii",
        )

    def _programs_and_libraries(self, shims: tuple[str, ...]) -> None:
        bin_dir = self.root / "system/bin"
        programs = {"sh": self._programs.shell, "toybox": self._programs.toybox, **self._programs.others}
        for name, source in programs.items():
            bin_dir.joinpath(name).touch()
            linux.bind(Path(source).resolve(), bin_dir / name, read_only=True)
        for name in self._programs.applets:
            with contextlib.suppress(FileExistsError):
                bin_dir.joinpath(name).symlink_to("toybox")
        shim = bin_dir / "devicelab-shim"
        shim.write_text(_SHIM, encoding="ascii")
        shim.chmod(0o755)
        (self.root / "system/lib64/toybox").mkdir()
        (self.root / "system/lib64/toybox/ps").symlink_to("/system/bin/toybox")
        for name, text in _SCRIPTS.items():
            bin_dir.joinpath(name).write_text(text, encoding="ascii")
            bin_dir.joinpath(name).chmod(0o755)
        for name in shims:
            bin_dir.joinpath(name).symlink_to(shim.name)
        # Native programs find their loader and libraries where the host has them.
        for name in ("lib", "lib64", "usr/lib", "usr/lib64"):
            here, there = Path("/") / name, self.root / name
            if here.is_symlink():
                there.symlink_to(here.readlink())
            elif here.is_dir():
                there.mkdir()
                linux.bind(here, there, read_only=True)

    def _devices(self) -> None:
        dev = self.root / "dev"
        for name in ("null", "zero", "full", "random", "urandom", "tty"):
            (dev / name).touch()
            linux.bind(Path("/dev") / name, dev / name)
        linux.mount("devpts", dev / "pts", "devpts", linux.MS_NOSUID, "newinstance,ptmxmode=0666,mode=600")
        (dev / "ptmx").symlink_to("pts/ptmx")
        (dev / "fd").symlink_to("/proc/self/fd")
        (dev / "shm").chmod(0o1777)

    def _emulate_arm64(self) -> bool:
        """Have arm64 programs run by qemu in this user namespace alone (possible since Linux 6.7)."""
        point = self._place / "binfmt"
        point.mkdir()
        try:
            linux.mount("binfmt_misc", point, "binfmt_misc")
            point.joinpath("register").write_bytes(_BINFMT % os.fsencode(self._programs.qemu))
        except OSError:
            # An older kernel has one list for all; if it knows arm64 already, that serves us as well.
            return _registered_on_host()
        return True

    def _cover(self, source: Path, target: Path) -> None:
        """Bind every file below ``source`` over the file of the same name below ``target``, where there is one."""
        for name in _entries(source):
            if (source / name).is_dir():
                self._cover(source / name, target / name)
            elif (target / name).exists():
                linux.bind(source / name, target / name)

    def _graft(self, source: Path, target: Path) -> None:
        """Bind every entry of ``source`` to a new entry of ``target``."""
        for name in _entries(source):
            if (source / name).is_dir():
                (target / name).mkdir(exist_ok=True)
            else:
                (target / name).touch()
            linux.bind(source / name, target / name)


def _resize(place: Path, size: str) -> None:
    flags = linux.MS_REMOUNT | linux.MS_NOSUID | linux.MS_NODEV
    linux.mount("", place, flags=flags, options=f"size={size}")


def _entries(path: Path) -> Sequence[str]:
    try:
        return sorted(entry.name for entry in path.iterdir())
    except FileNotFoundError:
        return ()


def _registered_on_host() -> bool:
    try:
        text = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").read_text(encoding="ascii")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags:")), "")
    return text.startswith("enabled") and "F" in flags.removeprefix("flags:")
