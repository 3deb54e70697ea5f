"""A farm that runs by itself: how it is, in five lines, and the units that start its nights."""

import datetime as dt
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from devicelab.errors import CheckFailedError, ConfigError
from devicelab.farm.host import PREFIX as HOST
from devicelab.store import Store
from devicelab.store.engine import locate

_LOW_FREE = 0.05
_MOST_SHOWN = 5
# A night a day, with an hour for a timer that is late.
_MISSED_S = 25 * 3600.0


@dataclass(frozen=True)
class Standing:
    """One line of how a farm is.

    Attributes:
        what: it is about.
        found: how it is.
        todo: what a person should do; empty: nothing.
    """

    what: str
    found: str
    todo: str = ""


def standing(store: Store, farm: str, place: str | None, now_unix_s: float) -> tuple[Standing, ...]:
    """How the farm is: its last night, tasks, verdicts, devices out, and the database.

    Raises:
        ConfigError: no night of that farm is stored.
    """
    info = store.last_begun(farm)
    if info is None:
        known = ", ".join(sorted({one.farm for one in store.nights()})) or "none"
        raise ConfigError(f"no night of farm {farm!r} is stored in {store}", hint=f"known: {known}")
    tasks, verdicts = store.tasks(info.night), store.verdicts(night=info.night)
    since = info.ended_unix_ns if info.ended_unix_ns is not None else info.started_unix_ns
    word = "began" if info.ended_unix_ns is None else "ended"
    code = "" if info.exit_code is None else f", exit code {info.exit_code}"
    night = f"{info.night}: {info.status}{code}, {word} {_ago(now_unix_s - since / 1e9)}"
    unfinished = info.status in {"running", "interrupted"}
    wrong = any(task.status in {"failed", "skipped"} and not task.at_rest for task in tasks)
    worse = any(verdict.verdict == "regression" for verdict in verdicts)
    out = store.quarantines(active=True)
    shown = "; ".join(f"{one.device}: {one.reason[:60]}" for one in out[:_MOST_SHOWN])
    more = f"; and {len(out) - _MOST_SHOWN} more" if len(out) > _MOST_SHOWN else ""
    return (
        Standing(
            "night", night, "`devicelab nightly FARM --resume`, unless it is still conducted" if unfinished else ""
        ),
        Standing(
            "tasks",
            _counted("at rest" if task.at_rest else task.status for task in tasks) or "none",
            f"`devicelab nights {info.night}`" if wrong else "",
        ),
        Standing(
            "verdicts",
            _counted(verdict.verdict for verdict in verdicts) or "none",
            "read the regressions" if worse else "",
        ),
        Standing(
            "devices out",
            f"{shown}{more}" if out else "none",
            "mend, then `devicelab quarantine release`" if out else "",
        ),
        _database(store, place),
        *_hosts(store, info.night),
    )


def _hosts(store: Store, night: str) -> Iterator[Standing]:
    """A line more for each thing of a host that needs a person, as it was when the night began."""
    for look in store.health(night=night):
        if look.device.startswith(HOST) and look.phase == "before":
            for reason in look.reasons:
                found, _, todo = reason.partition(" → ")
                yield Standing(look.device, found, todo)


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in Counter(names).most_common())


def _ago(seconds: float) -> str:
    if seconds < 0:
        return "in the future: was the clock set?"
    return f"{seconds / 3600:.1f} h ago" if seconds < 172_800 else f"{seconds / 86_400:.0f} days ago"


def _database(store: Store, place: str | None) -> Standing:
    used = f"{store.used_bytes() / 1e6:.1f} MB"
    where = locate(place)
    if not isinstance(where, Path):
        return Standing("database", used)
    disk = shutil.disk_usage(where.parent)
    low = disk.free < _LOW_FREE * disk.total
    todo = "free space, or let [retention] of the farm file delete old nights" if low else ""
    return Standing("database", f"{used}, {disk.free / 1e9:.1f} GB free on its disk", todo)


@dataclass(frozen=True)
class Morning:
    """What people are told once a day.

    Attributes:
        title: one line.
        body: Markdown: the farm's lines with what to do, and what is wrong with the store.
        exit_code: 0: nobody is needed; else 7.
    """

    title: str
    body: str
    exit_code: int


def morning(store: Store, farm: str, place: str | None, now_unix_s: float) -> Morning:
    """How the farm is, with a check of its database.

    Raises:
        ConfigError: no night of that farm is stored.
    """
    lines = list(standing(store, farm, place, now_unix_s))
    info = store.last_begun(farm)
    if info is not None and now_unix_s - info.started_unix_ns / 1e9 > _MISSED_S:
        lines.append(Standing("night", "none began since yesterday", "does the timer run? is the host up at night?"))
    report = store.check()
    found = f"{report.runs} runs, {report.blobs} blobs checked"
    todo = "`devicelab store check`; restore a backup" if report.problems else ""
    lines.append(Standing("store check", "; ".join(report.problems[:_MOST_SHOWN]) or found, todo))
    wanted = [line for line in lines if line.todo]
    title = f"devicelab farm {farm}: " + (f"{len(wanted)} things need a person" if wanted else "all is well")
    body = "\n".join(f"- **{line.what}**: {line.found}{f' → {line.todo}' if line.todo else ''}" for line in lines)
    return Morning(title, body, CheckFailedError.exit_code if wanted else 0)


def units(
    name: str, command: Sequence[str], folder: Path, at: str, morning_command: Sequence[str] = (), tell_at: str = ""
) -> dict[str, str]:
    """A systemd service and timer that conduct a night every day: name of the file → its text.

    Args:
        name: of the farm.
        command: the whole command line, absolute paths.
        folder: where it is started.
        at: local clock time, ``HH:MM``.
        morning_command: that tells people how the farm is.
        tell_at: when it does; empty: never.

    Raises:
        ConfigError: no such time.
    """
    night = _SERVICE.format(
        what=f"a night of farm {name}", folder=_percent(str(folder)), words=_words(command),
        hint="# One that a crash or a reboot left goes on with `devicelab nightly … --resume`.\n",
        success="# A regression (7) and an unreliable measurement (6) are results, no failures of the service.\n"
        "SuccessExitStatus=6 7\n",
    )  # fmt: skip
    made = {
        f"devicelab-{name}.service": night,
        f"devicelab-{name}.timer": _timer(
            f"farm {name}", at, "# One missed is not made up for in working hours.", "false"
        ),
    }
    if tell_at:
        made[f"devicelab-{name}-morning.service"] = _SERVICE.format(
            what=f"how farm {name} is", folder=_percent(str(folder)), words=_words(morning_command), hint="",
            success="# Somebody is needed (7): he is told, and the service has not failed.\nSuccessExitStatus=7\n",
        )  # fmt: skip
        made[f"devicelab-{name}-morning.timer"] = _timer(
            f"how farm {name} is", tell_at, "# Told late rather than not.", "true"
        )
    return made


_NOT_LATER = "# A night that was missed is not made up for in working hours."
_LATE = "# Told late rather than not at all."
_SERVICE = """\
[Unit]
Description=devicelab: {what}
{hint}
[Service]
Type=oneshot
WorkingDirectory={folder}
ExecStart={words}
# Devices are given back before it ends.
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec=600
{success}"""


def _timer(what: str, at: str, why: str, persistent: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", at):
        raise ConfigError(f"not a time of the day: {at!r}", hint="HH:MM, such as 22:00")
    return f"""\
[Unit]
Description=devicelab: {what} every day at {at}

[Timer]
OnCalendar=*-*-* {at}:00
{why}
Persistent={persistent}

[Install]
WantedBy=timers.target
"""


def logrotate(log: Path) -> str:
    """A file for ``/etc/logrotate.d`` (logrotate(8)) that keeps cron's log small."""
    return f"{shlex.quote(str(log))} {{\n    weekly\n    rotate 8\n    compress\n    missingok\n    notifempty\n}}\n"


def _words(command: Sequence[str]) -> str:
    return " ".join(_systemd_word(word) for word in command)


def cron_line(command: Sequence[str], folder: Path, at: str, log: Path) -> str:
    """The same for a crontab; what it says is appended to ``log``."""
    time = dt.time.fromisoformat(at)
    words = shlex.join(command).replace("%", r"\%")
    where, to = (shlex.quote(str(path)).replace("%", r"\%") for path in (folder, log))
    return f"{time.minute} {time.hour} * * * cd {where} && {words} >>{to} 2>&1"


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _systemd_word(word: str) -> str:
    """A word of ExecStart (systemd.service(5), "COMMAND LINES")."""
    escaped = _percent(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'
