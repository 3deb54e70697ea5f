"""What Android's framework answers on a board: settings, dumpsys, the screen, packages, and the log.

As much as a foreign client looks at; the texts are those of AOSP's services (see ``dumps``).
"""

import re
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from virtualboards import apps, dumps
from virtualboards.kernel import Kernel

_LOG_LINES = 2000
_PRIORITIES = "VDIWEFS"
_WAKE = {"224", "KEYCODE_WAKEUP", "WAKEUP"}
_SLEEP = {"223", "KEYCODE_SLEEP", "SLEEP"}
_POWER = {"26", "KEYCODE_POWER", "POWER"}
_WIDTH, _HEIGHT = 1080, 2280

Push = Callable[[str], None]


class Answer(Exception):  # noqa: N818
    """The end of a request: exit code and output; with ``follow``, more text comes through what is given to it."""

    def __init__(self, code: int, text: str | bytes = "", follow: "Callable[[Push], None] | None" = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.follow = follow


@dataclass(frozen=True)
class LogLine:
    """One line of the log; the time is the wall clock's."""

    unix_ns: int
    pid: int
    priority: str
    tag: str
    text: str

    def shown(self, form: str) -> str:
        """As ``logcat -v FORM`` prints it (liblog's ``android_log_formatLogLine``)."""
        seconds, rest = divmod(self.unix_ns, 1_000_000_000)
        at = time.strftime("%m-%d %H:%M:%S", time.gmtime(seconds)) + f".{rest // 1_000_000:03d}"
        head = {
            "brief": f"{self.priority}/{self.tag:8s}({self.pid:5d}): ",
            "tag": f"{self.priority}/{self.tag:8s}: ",
            "process": f"{self.priority}({self.pid:5d}) ",
            "raw": "",
            "time": f"{at} {self.priority}/{self.tag:8s}({self.pid:5d}): ",
        }.get(form, f"{at} {self.pid:5d} {self.pid:5d} {self.priority} {self.tag:8s}: ")
        return f"{head}{self.text}\n"


class Log:
    """The log: what was written since boot, and who follows it."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=_LOG_LINES)
        self._followers: list[tuple[Push, Callable[[LogLine], str]]] = []

    def write(self, priority: str, tag: str, text: str, pid: int) -> None:
        """Add a line and tell those who follow."""
        line = LogLine(time.time_ns(), pid, priority, tag, text)
        self._lines.append(line)
        for push, shown in self._followers:
            if told := shown(line):
                push(told)

    @property
    def followed(self) -> bool:
        """Somebody reads as it is written."""
        return bool(self._followers)

    def forget(self, push: Push) -> None:
        """Somebody has gone."""
        self._followers = [pair for pair in self._followers if pair[0] != push]

    def logcat(self, args: Sequence[str]) -> Answer:
        """``logcat``: -c, -d, -t N, -v FORM, -e EXPR, -b BUFFER, -s, and filters ``TAG:P``."""
        form, count, ends, expression, least = "threadtime", None, False, "", {"*": "V"}
        words = [word for arg in args for word in _split(arg)]
        while words:
            word = words.pop(0)
            if word in {"-c", "--clear"}:
                self._lines.clear()
                return Answer(0)
            if word in {"-d", "--dump"}:
                ends = True
            elif word in {"-t", "-T", "-v", "-e", "-b", "--format", "--regex", "--buffer"} and words:
                value = words.pop(0)
                if word in {"-t", "-T"}:
                    ends, count = word == "-t", int(value) if value.isdecimal() else None
                elif word in {"-v", "--format"}:
                    form = value
                elif word in {"-e", "--regex"}:
                    expression = value
            elif word == "-s":
                least["*"] = "S"
            elif not word.startswith("-"):
                tag, _, priority = word.partition(":")
                least[tag] = (priority or "V").upper()[:1]
            elif word != "-D":
                return Answer(1, f"Unknown option: {word}\n")
        try:
            wanted = re.compile(expression)
        except re.error:
            return Answer(1, f"logcat: invalid expression {expression}\n")

        def shown(line: LogLine) -> str:
            low = least.get(line.tag, least["*"])
            fits = low in _PRIORITIES and _PRIORITIES.find(line.priority) >= _PRIORITIES.index(low)
            return line.shown(form) if fits and low != "S" and wanted.search(line.text) else ""

        held = [told for line in self._lines if (told := shown(line))]
        text = "--------- beginning of main\n" + "".join(held[-count:] if count else held)
        return Answer(0, text, None if ends else lambda push: self._followers.append((push, shown)))


def _split(arg: str) -> list[str]:
    """``-vtime`` is ``-v time``, ``--format=time`` is ``--format time``."""
    if arg.startswith("--"):
        return arg.split("=", 1)
    return [arg[:2], arg[2:]] if len(arg) > 2 and arg[:2] in {"-t", "-T", "-v", "-e", "-b"} else [arg]


class Framework:
    """The framework of one board; ``props`` gives its properties. ``answer`` finds ``_do_NAME``."""

    def __init__(self, kernel: Kernel, props: Callable[[], Mapping[str, str]]) -> None:
        self._kernel, self._props = kernel, props
        self.settings: dict[tuple[str, str], str] = {
            ("system", "screen_brightness"): "128",
            ("system", "screen_brightness_mode"): "0",
            ("system", "screen_off_timeout"): "60000",
            ("global", "airplane_mode_on"): "0",
        }
        self.log = Log()
        self.boot()

    def boot(self) -> None:
        """As after a boot; settings stay."""
        self._awake = True
        self.log = Log()
        self.log.write("I", "SystemServer", "Entered the Android system server!", 1)

    def answer(self, name: str, args: Sequence[str], pid: int) -> Answer | None:
        """What a program of the framework says; ``None`` if it is none."""
        if name == "log":
            return self._write_log(args, pid)
        handler: Callable[[Sequence[str]], Answer] | None = getattr(self, f"_do_{name}", None)
        return handler(args) if handler is not None else None

    def _write_log(self, args: Sequence[str], pid: int) -> Answer:
        words, priority, tag = list(args), "I", "log"
        while words and words[0].startswith("-"):
            option = words.pop(0)
            if option not in {"-p", "-t"} or not words:
                return Answer(1, "usage: log [-p PRI] [-t TAG] MESSAGE...\n")
            value = words.pop(0)
            priority, tag = (value.upper()[:1], tag) if option == "-p" else (priority, value)
        if priority not in _PRIORITIES:
            return Answer(1, f"log: bad -p '{priority}'\n")
        self.log.write(priority, tag, " ".join(words), pid)
        return Answer(0)

    def _do_logcat(self, args: Sequence[str]) -> Answer:
        return self.log.logcat(args)

    def _do_svc(self, args: Sequence[str]) -> Answer:
        known = {"power", "wifi", "data", "nfc", "bluetooth", "usb"}
        return (
            Answer(0) if args and args[0] in known else Answer(1, "Available commands: power, wifi, data, nfc, usb\n")
        )

    def _do_am(self, args: Sequence[str]) -> Answer:
        if args and args[0] in {"start", "broadcast", "startservice"}:
            return Answer(0, "Starting: Intent { }\n" if args[0] == "start" else "Broadcast completed: result=0\n")
        return Answer(0) if args and args[0] in {"force-stop", "kill", "kill-all"} else Answer(255, "Unknown command\n")

    def _do_pm(self, args: Sequence[str]) -> Answer:
        match list(args):
            case ["list", "packages", *_]:
                return Answer(0, "".join(f"package:{name}\n" for name in dumps.PACKAGES))
            case ["path", name] if name in dumps.PACKAGES:
                return Answer(0, f"package:/system/priv-app/{name}/{name}.apk\n")
        return Answer(1)

    def _do_settings(self, args: Sequence[str]) -> Answer:
        match list(args):
            case ["get", space, name]:
                return Answer(0, self.settings.get((space, name), "null") + "\n")
            case ["put", space, name, value]:
                self.settings[space, name] = value
                return Answer(0)
            case ["delete", space, name]:
                return Answer(0, f"Deleted {0 if self.settings.pop((space, name), None) is None else 1} rows\n")
            case ["list", space]:
                lines = (f"{key}={value}\n" for (owner, key), value in sorted(self.settings.items()) if owner == space)
                return Answer(0, "".join(lines))
        return Answer(255, "usage: settings get|put|delete|list NAMESPACE [KEY [VALUE]]\n")

    def _do_cmd(self, args: Sequence[str]) -> Answer:
        match list(args):
            case ["thermalservice", "override-status", status] if status.isdecimal() and int(status) <= 6:
                self.settings["devicelab", "thermal_override"] = status
                return Answer(0)
            case ["thermalservice", "reset"]:
                self.settings.pop(("devicelab", "thermal_override"), None)
                return Answer(0)
            case ["power", "set-fixed-performance-mode-enabled", "true" | "false"]:
                return Answer(0)
            case ["settings", *rest]:
                return self._do_settings(rest)
            case ["package", *rest]:
                return self._do_pm(rest)
        return Answer(20, f"cmd: Can't find service: {args[0] if args else ''}\n")

    def _do_dumpsys(self, args: Sequence[str]) -> Answer:
        kernel, name = self._kernel, next((word for word in args if not word.startswith("-")), "")
        texts: dict[str, Callable[[], str]] = {
            "gfxinfo": lambda: "" if "reset" in args or len(args) < 2 else apps.gfxinfo(args[1]),
            "SurfaceFlinger": lambda: 'Display 0 (HWC display 0): port=0 displayName=""\n',
            "activity": dumps.activity_text,
            "battery": lambda: dumps.battery_text(kernel.battery()),
            "display": lambda: dumps.display_text(_WIDTH, _HEIGHT, awake=self._awake),
            "input": lambda: dumps.input_text(_WIDTH, _HEIGHT),
            "package": lambda: dumps.package_text(self._props(), args[-1]),
            "power": lambda: dumps.power_text(awake=self._awake),
            "thermalservice": lambda: dumps.thermal_text(
                kernel.thermal(), self.settings.get(("devicelab", "thermal_override"))
            ),
            "window": lambda: dumps.window_text(_WIDTH, _HEIGHT, awake=self._awake),
        }
        if list(args) == ["-l"]:
            return Answer(0, "Currently running services:\n" + "".join(f"  {each}\n" for each in texts))
        return Answer(0, texts[name]() if name in texts else f"Can't find service: {name}\n")

    def _do_input(self, args: Sequence[str]) -> Answer:
        match [word for word in args if word not in {"touchscreen", "keyboard", "mouse"}]:
            case ["keyevent", *keys]:
                for key in keys:
                    if key in _POWER:
                        self._awake = not self._awake
                    elif key in _WAKE | _SLEEP:
                        self._awake = key in _WAKE
                return Answer(0)
            case ["tap" | "text" | "swipe" | "draganddrop" | "press" | "roll" | "motionevent", *_]:
                return Answer(0)
        return Answer(255, "Error: Unknown command\n")

    def _do_wm(self, args: Sequence[str]) -> Answer:
        texts = {"size": f"Physical size: {_WIDTH}x{_HEIGHT}\n", "density": "Physical density: 440\n"}
        return Answer(0, texts[args[0]]) if len(args) == 1 and args[0] in texts else Answer(255, "unknown command\n")

    def _do_screencap(self, args: Sequence[str]) -> Answer:
        if "-p" not in args:
            return Answer(0, struct.pack("<4I", _WIDTH, _HEIGHT, 1, 0) + bytes(4 * _WIDTH * _HEIGHT))
        return Answer(0, black_png(_WIDTH, _HEIGHT))

    def _do_ifconfig(self, args: Sequence[str]) -> Answer:
        if list(args) not in ([], ["wlan0"]):
            return Answer(1, f"ifconfig: {args[0]}: No such device\n")
        return Answer(0, dumps.wlan_text())


def framebuffer() -> bytes:
    """What ``framebuffer:`` sends of a black screen (AOSP ``framebuffer_service.cpp``, version 1)."""
    size = 4 * _WIDTH * _HEIGHT
    return struct.pack("<13I", 1, 32, size, _WIDTH, _HEIGHT, 0, 8, 16, 8, 8, 8, 24, 8) + bytes(size)


def black_png(width: int, height: int) -> bytes:
    """A black picture, eight bits of red, green and blue (PNG, RFC 2083)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes((1 + 3 * width) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
