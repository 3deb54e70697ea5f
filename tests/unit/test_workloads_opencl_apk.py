"""An app behind the OpenCL layer: what is changed for it and undone, and what its output says."""

import json
from typing import Any

import labdata
import pytest
from pydantic import ValidationError

from devicelab.errors import DeviceRefusedError, MeasurementError
from devicelab.model.plan import Command
from devicelab.workloads import opencl_apk
from devicelab.workloads.base import Context

APP = opencl_apk.Params(package="com.example.net", k=2, warmup=0)
START = "Starting: Intent { cmp=x }\nStatus: ok\nLaunchState: COLD\nTotalTime: 412\nWaitTime: 418\nComplete\n"
FRAMES = (
    "** Graphics info for pid 1 [com.example.net] **\nTotal frames rendered: 240\nJanky frames: 12 (5.00%)\n"
    "50th percentile: 6ms\n90th percentile: 12ms\n95th percentile: 17ms\n99th percentile: 32ms\n"
)


def _records() -> str:
    head: dict[str, Any] = {"event": "header", "layer": 1, "form": "stand-in", "program": "/system/bin/app_process64"}
    head |= {"policy": "constant", "k": 2, "profiling": True, "wrong": "", "pid": 9}
    one: dict[str, Any] = {"event": "inference", "pid": 9, "queue": 1, "i": 0, "kernels": 4, "wait": "finish"}
    one |= {"begin_ns": 0, "total_ns": 900, "planning_ns": 0, "own_flushes": 0, "swallowed": 0, "failed": 0}
    one |= {"batches": [2, 2], "flush_ns": [1, 1], "host_ns": [1, 2, 3, 4], "device_ns": 0, "ker_sum_ns": 40}
    one |= {
        "queued_ns": [1, 2, 3, 4],
        "submit_ns": [3, 3, 5, 5],
        "start_ns": [5, 15, 25, 35],
        "end_ns": [15, 25, 35, 45],
    }
    return "".join(json.dumps(line) + "\n" for line in (head, one, {**one, "i": 1}))


def _output(start: str = START, frames: str = FRAMES, records: str | None = None) -> bytes:
    return f"== start\n{start}== gfxinfo\n{frames}== records\n{_records() if records is None else records}".encode()


def test_start_up_and_frames_are_measured_beside_the_launches() -> None:
    got = opencl_apk.parse(_output(), APP)
    value = {name: metric.value for name, metric in got.metrics.items()}
    assert (value["start_total_ns"], value["start_wait_ns"]) == (412e6, 418e6)
    assert (value["frames"], value["janky_pct"], value["frame_p95_ns"]) == (240, 5, 17e6)
    assert (value["flushes"], got.info["network"]) == (2, "com.example.net")
    assert all(flag.remark for flag in got.flags), "an app is always stopped, so its records have no end"


def test_few_frames_tell_no_percentile_and_a_warm_start_is_said() -> None:
    got = opencl_apk.parse(_output(START.replace("COLD", "WARM"), FRAMES.replace("240", "19")), APP)
    assert "frame_p95_ns" not in got.metrics
    assert "not-a-cold-start" in {flag.code for flag in got.flags}


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (_output("Error: Activity class {x} does not exist.\n"), "did not start: Error: Activity class"),
        (_output(records=""), "the layer wrote nothing"),
        (b"== start\n" + START.encode(), "ended early"),
        (b"", "ended early"),
        (b"\xff== gfxinfo\n== gfxinfo\n", "ended early"),
    ],
)
def test_an_app_that_did_not_run_wrapped_is_an_error_that_says_so(output: bytes, says: str) -> None:
    with pytest.raises(MeasurementError, match=says):
        opencl_apk.parse(output, APP)


def test_every_change_has_its_undo_and_the_property_gets_back_what_it_was() -> None:
    before = labdata.facts(props={"wrap.com.example.net": "logwrapper"})
    found = opencl_apk.steps(APP, before)
    assert all(isinstance(step, Command) and step.undo for step in found)
    (wrap,) = [step for step in found if isinstance(step, Command) and step.do[0] == "setprop"]
    assert wrap.do == ("setprop", "wrap.com.example.net", "sh /data/data/com.example.net/devicelab/wrap")
    assert wrap.undo == ("setprop", "wrap.com.example.net", "logwrapper")
    text = opencl_apk.wrap_text(APP)
    assert "export DEVICELAB_LAYER_K=2\n" in text
    assert text.endswith('exec "$@"\n')


def test_without_root_a_debuggable_app_is_reached_by_run_as() -> None:
    phone = labdata.facts(root="none")
    with pytest.raises(DeviceRefusedError, match="takes root"):
        opencl_apk.steps(APP, phone)
    debuggable = APP.model_copy(update={"way": "wrap.sh"})
    found = opencl_apk.steps(debuggable, phone)
    assert not any(isinstance(step, Command) and step.do[0] == "setprop" for step in found)
    assert opencl_apk.command(debuggable, Context()).argv[-1] == "run-as"
    with pytest.raises(DeviceRefusedError, match="Android alone"):
        opencl_apk.steps(APP, labdata.facts(os="linux"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"package": "nodots"},
        {"package": "com.example; reboot"},
        {"package": "com." + "x" * 80},
        {"activity": "a b"},
        {"policy": "static"},
        {"policy": "dynamic"},
        {"extras": ["a\nb"]},
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        opencl_apk.Params.model_validate({"package": "com.example.net", **wrong})
