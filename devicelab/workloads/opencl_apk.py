"""An Android app behind the OpenCL layer: start-up, frame times, and its kernel launches under a flush period.

The app is neither repackaged nor told. Zygote starts it through a wrapper that the property ``wrap.PACKAGE`` names
(which takes root), and the wrapper preloads the layer: its name is ``libOpenCL.so``, so the linker gives it to whoever
asks for that library, in every namespace of the app. A debuggable app that has devicelab's ``wrap.sh`` among its own
libraries (``way = "wrap.sh"``) needs no root: zygote runs that one by itself, and ``run-as`` reaches its directory.

NOT TRIED ON A PHONE: written after AOSP (``com.android.internal.os.Zygote`` and ``WrapperInit``, bionic's linker,
``cmds/am``, ``libs/hwui``) and the NDK's guide to wrap.sh, and run on virtual boards alone.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from devicelab.errors import DeviceRefusedError, MeasurementError
from devicelab.model.device import Facts
from devicelab.model.journal import Flag
from devicelab.model.measurement import Measurement, Metric
from devicelab.model.plan import Command, Step
from devicelab.model.schedule import Scheduled
from devicelab.workloads import opencl_app
from devicelab.workloads.base import AS_TEXT, CommandLine, Context
from devicelab.workloads.klo import Costs

NATIVE: tuple[str, ...] = ("opencl_layer",)
FILES: tuple[str, ...] = ()

# A property's value has 91 bytes (PROP_VALUE_MAX), its name may be longer since Android 8.
_MOST_VALUE = 91
_FOLDER = "/data/data/{}/devicelab"
# Puts layer and wrapper into the app's own directory: an app may execute files of its own, not those of the shell.
_PUT = """\
package=$1 layer=$2 wrap=$3 as=$4
home=/data/data/$package
if [ "$as" = run-as ]; then
  run-as "$package" mkdir -p "$home/devicelab" || exit 3
  run-as "$package" sh -c 'cat > "$1"' sh "$home/devicelab/libOpenCL.so" < "$layer" || exit 4
  printf %s "$wrap" | run-as "$package" sh -c 'cat > "$1"' sh "$home/devicelab/wrap" || exit 4
  exit 0
fi
owner=$(stat -c %u:%g "$home") || exit 3
mkdir -p "$home/devicelab" && cp "$layer" "$home/devicelab/libOpenCL.so" &&
  printf %s "$wrap" > "$home/devicelab/wrap" && chown -R "$owner" "$home/devicelab" &&
  chmod -R u=rwX,go=rX "$home/devicelab" || exit 4
if command -v restorecon > /dev/null; then restorecon -R "$home/devicelab"; fi
"""
_REMOVE = """\
home=/data/data/$1
if [ "$2" = run-as ]; then exec run-as "$1" rm -rf "$home/devicelab"; fi
exec rm -rf "$home/devicelab"
"""
# Each part of the output begins with a line of its own.
_RUN = """\
package=$1 component=$2 seconds=$3 how=$4 as=$5
shift 5
out=/data/data/$package/devicelab/records.jsonl
own() { if [ "$as" = run-as ]; then run-as "$package" "$@"; else "$@"; fi; }
am force-stop "$package"
own rm -f "$out"
dumpsys gfxinfo "$package" reset > /dev/null
echo "== start"
if [ "$how" = instrument ]; then
  am instrument -w "$@" "$component" 2>&1
else
  am start -W -n "$component" "$@" 2>&1
  sleep "$seconds"
fi
echo "== gfxinfo"
dumpsys gfxinfo "$package"
am force-stop "$package"
echo "== records"
own cat "$out"
"""
_PART = re.compile(rb"^== (start|gfxinfo|records)\n", re.MULTILINE)
_FEW_FRAMES = 20
_Package = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+$", max_length=120)
]
_Class = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_.][A-Za-z0-9_.$]*$", max_length=200)]


class Params(Scheduled):
    """Parameters of the app and of the layer.

    Attributes:
        package: the app's package.
        activity: what is started, such as ``.MainActivity``, by ``am start -W``.
        instrument: instead, the runner of an instrumentation (``am instrument -w``), such as
            ``androidx.test.runner.AndroidJUnitRunner``; the run ends when it does.
        extras: further arguments of ``am start`` or ``am instrument``.
        duration_s: how long an activity runs before it is looked at and stopped.
        way: ``property`` (root), or ``wrap.sh`` (a debuggable app that has devicelab's among its libraries).
        policy, k, schedule, costs_ns, profiling, warmup, min_kernels: as in the workload ``opencl_app``.
        made_for, foreign_schedule: as in the workload ``klo``.
    """

    package: Annotated[_Package, Field(examples=["com.example.app"])]
    activity: _Class = ".MainActivity"
    instrument: _Class | None = None
    extras: tuple[Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00\n]*$")], ...] = ()
    duration_s: Annotated[float, Field(gt=0, le=3600)] = 10
    way: Literal["property", "wrap.sh"] = "property"
    policy: Literal["own", "constant", "static", "dynamic"] = "constant"
    k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    schedule: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], AS_TEXT] = ()
    costs_ns: Costs | None = None
    profiling: bool = True
    warmup: Annotated[int, Field(ge=0, le=100_000)] = 3
    min_kernels: Annotated[int, Field(ge=1, le=1_000_000)] = 2

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.layer()
        if self.way == "property" and len(_wrapper(self.package)) > _MOST_VALUE:
            raise ValueError(f"the package's name is too long for a property of {_MOST_VALUE} characters: use wrap.sh")
        return self

    def layer(self) -> opencl_app.Params:
        """What the layer is told, and by which its records are judged."""
        names = ("policy", "k", "schedule", "costs_ns", "profiling", "warmup", "min_kernels")
        told = {name: getattr(self, name) for name in names}
        return opencl_app.Params.model_validate({"argv": (self.package,), **told})


def _wrapper(package: str) -> str:
    return f"sh {_FOLDER.format(package)}/wrap"


def wrap_text(params: Params) -> str:
    """The wrapper: what zygote runs in front of the app."""
    folder = _FOLDER.format(params.package)
    told = dict(opencl_app.command(params.layer(), Context()).env)
    told |= {"DEVICELAB_LAYER_OUT": f"{folder}/records.jsonl", "LD_PRELOAD": f"{folder}/libOpenCL.so"}
    told["LD_LIBRARY_PATH"] = folder  # for native code outside of the app's namespace
    lines = (f"export {name}={value}" for name, value in told.items())
    return "\n".join(("#!/system/bin/sh", *lines, 'exec "$@"', ""))


def steps(params: Params, facts: Facts) -> tuple[Step, ...]:
    """Layer and wrapper into the app's directory, the property set; each with its undo, and the app stopped.

    Raises:
        DeviceRefusedError: not Android, or no root where it is needed.
    """
    if facts.os != "android":
        raise DeviceRefusedError("apps run on Android alone", device=facts.name, hint="for programs: opencl_app")
    if params.way == "property" and facts.root == "none":
        raise DeviceRefusedError(
            "wrap.PACKAGE takes root to set",
            device=facts.name,
            hint='a debuggable app can bring wrap.sh: way = "wrap.sh" (docs/howto/apps.md)',
        )
    package, owner = params.package, _owner(params)
    put = ("sh", "-c", _PUT, "sh", package, f"{facts.dir}/bin/opencl_layer", wrap_text(params), owner)
    stop = ("am", "force-stop", package)
    found: list[Step] = [
        Command(
            do=put,
            undo=("sh", "-c", _REMOVE, "sh", package, owner),
            why=f"layer and wrapper into the directory of {package}",
            survives_reboot=True,
        )
    ]
    if params.way == "property":
        name = f"wrap.{package}"
        back = ("setprop", name, facts.props.get(name, ""))
        found.append(Command(do=("setprop", name, _wrapper(package)), undo=back, why=f"{package} starts wrapped"))
    found.append(Command(do=stop, undo=stop, why=f"{package} is not running"))
    return tuple(found)


def _owner(params: Params) -> str:
    return "root" if params.way == "property" else "run-as"


def command(params: Params, context: Context) -> CommandLine:  # noqa: ARG001 - every workload is given its context
    """Start the app, wait, look at its frames, stop it, print the layer's records."""
    how = "start" if params.instrument is None else "instrument"
    component = f"{params.package}/{params.instrument or params.activity}"
    told = (params.package, component, f"{params.duration_s:g}", how, _owner(params), *params.extras)
    return CommandLine(("sh", "-c", _RUN, "sh", *told))


def parse(output: bytes, params: Params) -> Measurement:
    """What ``opencl_app`` makes of the layer's records, and start-up and frames.

    Metrics besides: ``start_total_ns`` and ``start_wait_ns`` (``am start -W``), ``frames``, ``janky_pct`` and
    ``frame_p50_ns`` ... ``frame_p99_ns`` (``dumpsys gfxinfo``, whole milliseconds; from 20 frames on). An app is always
    stopped at the end, so records without an end are a remark here. Flags: ``not-a-cold-start`` (remark).

    Raises:
        MeasurementError: the app did not start, or the layer wrote nothing.
    """
    words = _PART.split(output)
    parts = dict(zip((name.decode() for name in words[1::2]), words[2::2], strict=True))
    if set(parts) != {"start", "gfxinfo", "records"}:
        raise MeasurementError("the app's run ended early", hint="its last words are in the run's record")
    started = parts["start"].decode(errors="replace")
    _check_started(started, params)
    if not parts["records"].strip():
        raise MeasurementError(
            f"{params.package} ran, but the layer wrote nothing",
            hint="was it started wrapped (docs/howto/apps.md)? does it use OpenCL, and is it a 64-bit app?",
        )
    read = opencl_app.parse(parts["records"], params.layer())
    metrics = {**read.metrics, **dict(_start(started)), **dict(_frames(parts["gfxinfo"].decode(errors="replace")))}
    flags = [_stopped(flag) for flag in read.flags]
    state = re.search(r"^LaunchState: (\w+)", started, re.MULTILINE)
    if state is not None and state[1] != "COLD":
        flags.append(Flag(code="not-a-cold-start", detail=f"the app's start was {state[1]}", remark=True))
    return replace(read, metrics=metrics, flags=tuple(flags), info={**read.info, "network": params.package[:63]})


def _check_started(text: str, params: Params) -> None:
    if params.instrument is not None:
        good = "INSTRUMENTATION_CODE: -1" in text or re.search(r"^OK \(\d+ tests?\)", text, re.MULTILINE) is not None
    else:
        good = re.search(r"^Status: ok\s*$", text, re.MULTILINE) is not None
    if not good:
        words = " ".join(text.split())[-200:]
        raise MeasurementError(f"{params.package} did not start: {words or 'am said nothing'}")


def _start(text: str) -> Iterator[tuple[str, Metric]]:
    for name, word in (("start_total_ns", "TotalTime"), ("start_wait_ns", "WaitTime")):
        found = re.search(rf"^{word}: (\d{{1,9}})\s*$", text, re.MULTILINE)
        if found is not None:
            yield name, Metric(float(found[1]) * 1e6, "ns")


def _frames(text: str) -> Iterator[tuple[str, Metric]]:
    """Of the first process that is dumped; an app's others come after it."""
    total = re.search(r"^Total frames rendered: (\d{1,9})\s*$", text, re.MULTILINE)
    if total is None:
        return
    frames = int(total[1])
    yield "frames", Metric(float(frames), "1")
    if frames < _FEW_FRAMES:
        return
    janky = re.search(r"^Janky frames: (\d{1,9})\b", text, re.MULTILINE)
    if janky is not None and int(janky[1]) <= frames:
        yield "janky_pct", Metric(100 * int(janky[1]) / frames, "pct")
    for share in (50, 90, 95, 99):
        found = re.search(rf"^{share}th percentile: (\d{{1,6}})ms\s*$", text, re.MULTILINE)
        if found is not None:
            yield f"frame_p{share}_ns", Metric(float(found[1]) * 1e6, "ns")


def _stopped(flag: Flag) -> Flag:
    return flag.model_copy(update={"remark": True}) if flag.code == "output-truncated" else flag
