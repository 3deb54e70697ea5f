"""Apps of a virtual board: what ``am``, ``run-as`` and ``dumpsys gfxinfo`` do with them, as AOSP does.

An app is installed where ``/data/app/PACKAGE/main`` is executable: a program, started as the app's own user through
zygote's wrapper, ``sh -c "$(getprop wrap.PACKAGE) PROGRAM"`` (``com.android.internal.os.WrapperInit``), or through
``/data/app/PACKAGE/lib/wrap.sh`` where the app is debuggable (``/data/app/PACKAGE/debuggable`` is there).
"""

from collections.abc import Sequence

APP_UID = 10123
"""The user of the first app that is installed."""

# Exit codes: 3 is no such app. $1 package, $2 the wrapper of the property, $3 wait or leave.
LAUNCH = """\
app=/data/app/$1
[ -x "$app/main" ] || exit 3
wrap=$2
if [ -z "$wrap" ] && [ -e "$app/debuggable" ] && [ -r "$app/lib/wrap.sh" ]; then wrap="sh $app/lib/wrap.sh"; fi
run() { exec sh -c "exec $wrap $app/main --application --nice-name=$1"; }
cd /
if [ "$3" = wait ]; then run "$1"; fi
run "$1" < /dev/null > /dev/null 2>&1 &
echo $! > "/data/data/$1/.pid"
"""
STOP = """\
pid=$(cat "/data/data/$1/.pid" 2> /dev/null) && kill -9 "$pid" 2> /dev/null
rm -f "/data/data/$1/.pid"
exit 0
"""
# ``run-as``: only debuggable apps.
RUN_AS = """\
[ -x "/data/app/$1/main" ] || { echo "run-as: unknown package: $1" >&2; exit 1; }
[ -e "/data/app/$1/debuggable" ] || { echo "run-as: package not debuggable: $1" >&2; exit 1; }
shift
exec "$@"
"""


def started(component: str, code: int) -> str:
    """What ``am start -W`` says."""
    head = f"Starting: Intent {{ cmp={component} }}\n"
    if code:
        return f"{head}Error type 3\nError: Activity class {{{component}}} does not exist.\n"
    times = "Status: ok\nLaunchState: COLD\n"
    return f"{head}{times}Activity: {component}\nTotalTime: 412\nWaitTime: 418\nComplete\n"


def gfxinfo(package: str) -> str:
    """What ``dumpsys gfxinfo PACKAGE`` says of an app that drew."""
    return (
        f"Applications Graphics Acceleration Info:\nUptime: 1234567 Realtime: 1234567\n\n"
        f"** Graphics info for pid 4242 [{package}] **\n\nStats since: 1000000000ns\nTotal frames rendered: 240\n"
        "Janky frames: 12 (5.00%)\n50th percentile: 6ms\n90th percentile: 12ms\n95th percentile: 17ms\n"
        "99th percentile: 32ms\nNumber Missed Vsync: 3\n"
    )


def component_of(args: Sequence[str]) -> tuple[str, str]:
    """Package and component out of the arguments of ``am start`` or ``am instrument``; empty if there is none."""
    named = next((word for word in args if "/" in word and not word.startswith("-")), "")
    return named.partition("/")[0], named


def launch_argv(package: str, wrapper: str, *, wait: bool) -> list[str]:
    """What starts an app, as the app's user."""
    return ["/system/bin/sh", "sh", "-c", LAUNCH, "sh", package, wrapper, "wait" if wait else "leave"]


def stop_argv(package: str) -> list[str]:
    """What ends an app, as root."""
    return ["/system/bin/sh", "sh", "-c", STOP, "sh", package]


def run_as_argv(args: Sequence[str]) -> list[str]:
    """What ``run-as PACKAGE COMMAND`` runs as the app's user."""
    return ["/system/bin/sh", "sh", "-c", RUN_AS, "sh", *(args or ("",))]
