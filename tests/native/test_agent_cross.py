"""The agent compiled for phones, under qemu: the loads are this machine's, so that they need no emulator."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_tools import Bench, codes, load, one_run, plan, shell, until

from devicelab.device.build import build
from devicelab.model.plan import Probe, Sampling, Write

pytestmark = [
    pytest.mark.slow,  # the first build for a target compiles its C library
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="zig is not installed"),
]
EMULATORS = {"arm64-v8a": "qemu-aarch64-static", "armeabi-v7a": "qemu-arm-static", "x86_64": ""}


@pytest.fixture(params=EMULATORS)
def phone(request: pytest.FixtureRequest, tmp_path: Path, agent_binaries: dict[str, Path]) -> Iterator[Bench]:
    abi, emulator = request.param, EMULATORS[request.param]
    if emulator and shutil.which(emulator) is None:
        pytest.skip(f"{emulator} is not installed")
    (tmp_path / "bin").mkdir()
    (tmp_path / "nodes").mkdir()
    shutil.copy(build("agent", abi, toolchain="zig-musl").path, tmp_path / "bin" / "agent")
    shutil.copy(agent_binaries["overhead"], tmp_path / "bin" / "overhead")
    bench = Bench(tmp_path, (emulator,) if emulator else ())
    yield bench
    bench.end()


def test_a_run_is_performed_and_restored(phone: Bench) -> None:
    node = phone.node("a", "1\n")
    program = shell("sleep 0.3; echo done")
    record = phone.run(
        plan(
            one_run(
                load(cpus=(0,)),
                program,
                steps=(Write(path=node, value="2", why="x"),),
                probes=(Probe(cpus=(0,), why="x"),),
                sampling=Sampling(period_ms=50, nodes=(node,), around=("/proc/uptime",)),
            )
        )
    ).record
    assert (record.status, codes(record)) == ("done", [])
    assert record.programs[0].granted == record.programs[0].granted_end == (0,)
    assert 0 < record.programs[0].window_cpu_ns <= record.programs[0].cpu_ns
    assert record.programs[1].output() == b"done\n"
    assert set(record.samples.nodes[node]) == {"2"}
    assert phone.nodes() == {"a": b"1\n"}


def test_a_killed_agent_is_cleaned_up_after(phone: Bench) -> None:
    node = phone.node("a", "1\n")
    wanted = plan(one_run(load(), hold_ms=60_000, steps=(Write(path=node, value="2", why="x"),)))
    process = phone.start(wanted)
    until(phone.loads, "the load")
    assert phone.ask("status")["agent"]["alive"] is True
    process.kill()
    process.wait()
    assert phone.ask("status")["agent"]["alive"] is False
    assert phone.ask("restore")["killed"] == 1
    assert phone.nodes() == {"a": b"1\n"}
    assert phone.loads() == []


def test_it_is_stopped_and_looks_around(phone: Bench) -> None:
    process = phone.start(plan(one_run(load(), hold_ms=60_000)))
    until(phone.loads, "the load")
    assert phone.ask("stop")["stopped"] is True
    assert process.wait(30) == 143
    assert b"/proc/uptime" in phone.call("snapshot", "-", stdin=b"/proc/upt*\n").stdout
