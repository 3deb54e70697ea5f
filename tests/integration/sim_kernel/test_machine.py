"""Virtual boards with a real kernel: the virtual kernel answers as it does, and agent and knobs work on it."""

import os
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiers import Step, by_chance, real, steps, virtual

from devicelab import transports
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.jobs import load, pin
from devicelab.transports.base import Transport
from devicelab.workloads import overhead
from tests.unit.sim_kernel_board import DATA
from virtualboards.kernel import load_spec
from virtualboards.qemu import host, machine

pytestmark = [pytest.mark.sim, pytest.mark.slow]

KINDS = ("qualcomm", "note10")


@pytest.fixture(scope="module", params=KINDS)
def running(request: pytest.FixtureRequest) -> Iterator[machine.Machine]:
    try:
        host.find_host()
    except DeviceRefusedError as missing:
        pytest.skip(str(missing))
    started = machine.up(load_spec(request.param), name=f"test-{request.param}-{os.getpid()}")
    yield started
    machine.down(started)
    assert not started.running
    assert not Path(started.directory).exists()


@pytest.fixture
def device(running: machine.Machine) -> Iterator[Transport]:
    transport = transports.connect(running.address)
    yield transport
    transport.close()


@dataclass(frozen=True)
class Played:
    """A suite with the answers of the real kernel, of the virtual one of its release, and of the kind's own."""

    suite: list[Step]
    real: list[str]
    same: list[str]
    older: list[str]


@pytest.fixture(scope="module")
def played(running: machine.Machine) -> Played:
    suite = steps((DATA / f"{running.kind}.txt").read_text())
    same = virtual(running.kind, suite, "6.1.0")
    transport = transports.connect(running.address)
    answers = real(transport, suite, same)
    transport.close()
    return Played(suite, answers, same, virtual(running.kind, suite))


def differences(played: Played, answers: list[str]) -> dict[str, tuple[str, str]]:
    rows = zip(played.suite, answers, played.real, strict=True)
    return {step.line: (ours, got) for step, ours, got in rows if ours != got and not by_chance(step)}


def test_the_virtual_kernel_answers_as_the_real_one_of_the_same_release(played: Played) -> None:
    assert len(played.suite) > 20
    assert differences(played, played.same) == {}


def test_every_difference_to_the_imitated_older_kernel_is_listed_with_its_source(
    running: machine.Machine, played: Played
) -> None:
    listed = tomllib.loads((DATA / "differences.toml").read_text())["difference"]
    lines = {line for one in listed for line in one.get(running.kind, ())}
    assert set(differences(played, played.older)) == lines
    assert all(one["source"] for one in listed)


def test_a_load_pinned_to_a_core_that_goes_offline_is_flagged(running: machine.Machine, device: Transport) -> None:
    online = "/sys/devices/system/cpu/cpu7/online"
    hold = "/sys/devices/system/cpu/cpu7/core_ctl/enable"
    device.run(["sh", "-c", f"[ -e {hold} ] && echo 0 > {hold}; true"])
    gone = threading.Event()

    def take_away(_live: object) -> None:
        if not gone.is_set():
            gone.set()
            device.run(["sh", "-c", f"echo 0 > {online}"])

    entry = DeviceEntry(name=running.name, address=running.address)
    with load.loading(entry) as loader:
        params = overhead.Params(sleep_us=1000, inner_iter=1000, log2_outer_iter=20)
        result = loader.run(params, cores="7", seconds=6.0, on_live=take_away)
    device.run(["sh", "-c", f"echo 1 > {online}"])
    assert gone.is_set()
    assert "affinity-changed" in {flag.code for flag in result.flags}
    assert result.left_behind == 0


def test_clocks_are_pinned_and_given_back(running: machine.Machine, device: Transport) -> None:
    entry = DeviceEntry(name=running.name, address=running.address)
    nodes = "/sys/devices/system/cpu/cpufreq/policy4/scaling_m*_freq"

    def limits() -> list[str]:
        return device.run(["sh", "-c", f"cat {nodes}"]).stdout.decode().split()

    before = limits()
    pinned = pin.pin(entry, {"cpu": "min", "gpu": "min"})
    assert pinned.facts.board.kind == running.kind
    assert pinned.facts.simulated
    lowest = str(min(load_spec(running.kind).policies[1].table_khz))
    assert limits() == [lowest, lowest]
    pin.give_back(entry)
    assert limits() == before


def test_heat_throttles_by_the_kernels_own_governor(running: machine.Machine, device: Transport) -> None:
    last = load_spec(running.kind).policies[-1]
    node = f"/sys/devices/system/cpu/cpufreq/{last.name}/scaling_max_freq"

    def until(low: int, high: int) -> int:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            khz = int(device.run(["cat", node]).stdout)
            if low <= khz <= high:
                break
            time.sleep(0.1)
        return khz

    highest = max(last.table_khz)
    assert until(highest, highest) == highest
    device.run(["sh", "-c", "echo 99000 > /sys/devicelab/heat"])
    assert until(0, highest - 1) < highest
    device.run(["sh", "-c", "echo 35000 > /sys/devicelab/heat"])
    assert until(highest, highest) == highest


def test_machines_are_found_and_unknown_ones_named(running: machine.Machine) -> None:
    assert running in machine.machines()
    assert running.address in {seen.address for seen in transports.discover_all()}
    with pytest.raises(ConfigError, match="no virtual machine named"):
        transports.connect("qemu:nobody")
