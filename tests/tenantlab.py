"""Sweeps of tenants on this computer, through the real agent."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from devicelab.device.lab import DeviceEntry
from devicelab.experiment import programs
from devicelab.ground import registry
from devicelab.jobs import sweep as sweeping
from devicelab.jobs.conductor import SweepResult
from devicelab.model.measurement import Measurement
from devicelab.model.plan import Noun
from devicelab.store import Store
from devicelab.workloads._requests import parse_requests
from devicelab.workloads.base import CommandLine, Context
from tests.tenantdata import experiment

UNNICED = pytest.mark.skipif(os.nice(0) != 0, reason="the tests run at another niceness than 0, which legs would flag")

# A tenant that misbehaves as its first argument says, in legs in which it was made nicer; else it is well-behaved.
HOSTILE = r"""
import json, os, signal, sys, time
how, duration = sys.argv[1], float(sys.argv[2])
bad = os.nice(0) > 0
if bad and how == "mute":
    time.sleep(600)
if bad and how == "dies-loading":
    sys.exit("ImportError: no such model")
if bad and how == "out-of-memory":
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    hog = bytearray(8 << 30)
if bad and how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
os.write(int(os.environ["DEVICELAB_READY_FD"]), b"READY\n")
line = b""
while not line.endswith(b"\n"):
    line += os.read(int(os.environ["DEVICELAB_GO_FD"]), 64)
if bad and how == "crashes":
    os.kill(os.getpid(), signal.SIGSEGV)
if bad and how == "hangs":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()  # and a child that hides
    time.sleep(600)
time.sleep(duration)
print(json.dumps({"tool": "hostile", "arrivals": "continuous", "duration_s": duration}))
if bad and how == "babbles":
    print("\x00\xff{" * 1000)
end = round(duration * 1e9)
print(json.dumps({"requests": {"scheduled_ns": [0], "start_ns": [0], "end_ns": [end]}}))
print(json.dumps({"end": True, "requests": 1, "dropped_scheduled_ns": []}))
"""


class _Params(Noun):
    how: str = ""


def hostile_workload() -> ModuleType:
    """A workload module that only tests know."""

    def command(params: _Params, context: Context) -> CommandLine:
        argv = (sys.executable, "-c", HOSTILE, params.how, str(context.duration_s))
        return CommandLine(argv, barrier=True)

    def parse(output: bytes, params: _Params) -> Measurement:
        return parse_requests(output, "hostile")

    module = ModuleType("devicelab.workloads.hostile")
    vars(module).update(NATIVE=(), FILES=(), Params=_Params, command=command, parse=parse)
    return module


def with_hostile_workload(monkeypatch: pytest.MonkeyPatch, *, ready_ms: int = 60_000, tail_ms: int = 60_000) -> None:
    """Make the workload known, and how long it is waited for."""
    with_it = replace(registry._room("workloads"), outside={"hostile": hostile_workload()})
    monkeypatch.setattr(
        registry, "_room", lambda folder, real=registry._room: with_it if folder == "workloads" else real(folder)
    )
    monkeypatch.setattr(programs, "_READY_MS", ready_ms)
    monkeypatch.setattr(programs, "_TAIL_MS", tail_ms)


def entry(tmp_path: Path, **more: Any) -> DeviceEntry:
    """This computer with a directory of its own."""
    return DeviceEntry.model_validate({"name": "here", "address": "local:", "dir": str(tmp_path / "device"), **more})


def run(tmp_path: Path, store: Store, *, device: DeviceEntry | None = None, **changes: Any) -> SweepResult:
    """A sweep of two tenants."""
    busy = {"foreign_pct": 100.0, "foreign_core_pct": 100.0}  # a machine that runs tests is not idle
    of = experiment(**{**busy, "settle_s": 0.0, "sample_hz": 5, "repetitions": 1, "duration_s": 0.4, **changes})
    return sweeping.sweep(of, device or entry(tmp_path), store, report_to=tmp_path / "report.html")


def flags_by_leg(store: Store, done: SweepResult) -> dict[str, list[str]]:
    """``code: detail`` of every run by leg."""
    runs = store.results(done.campaign).runs()
    found: dict[str, list[str]] = {}
    for run in runs.to_dict("records"):
        found.setdefault(run["scheduler"], []).extend(f"{flag.code}: {flag.detail}" for flag in run["flags"])
    return found


def left_behind(words: Sequence[str]) -> list[str]:
    """Command lines of processes that carry one of the words and are not this one."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and int(path.name) != os.getpid():
            try:
                line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state != "Z" and any(word in line for word in words):
                found.append(line)
    return found
