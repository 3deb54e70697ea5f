"""The emulated GPU on a virtual board: its producer works at the speed of the cores that it may use."""

import json

import pytest

from devicelab.device.build import build
from tests.sim_fixtures import StartBoard, adb
from virtualboards.lifecycle import AdbServer

pytestmark = pytest.mark.sim
_KLO = "/data/local/tmp/klo"


@pytest.mark.parametrize(("mask", "cores"), [("f0", range(4, 8)), ("0f", range(4)), ("40", range(6, 7))])
def test_a_program_on_a_cluster_is_on_none_of_the_hosts_cores(
    mask: str, cores: range, virtual_board: StartBoard, adb_server: AdbServer
) -> None:
    run = adb(adb_server, virtual_board("note10", abi="x86_64").serial)
    assert run("push", str(build("klo", "x86_64").path), _KLO).returncode == 0
    words = "--backend emulated --network mobilenet_v1 --k 8 --warmup 0 --inferences 0 --plain 2"
    done = run("shell", f"chmod 755 {_KLO} && taskset {mask} {_KLO} {words}")
    assert done.returncode == 0, done.stderr.decode()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    told = [one for one in lines if one["event"] == "inference"]
    assert len(told) == 2
    assert {one["cpu"] in cores for one in told} == {True}
    speeds = run("shell", "cat /sys/devicelab/emulation").stdout.decode().partition("cpu_time_pct ")[2].split()
    assert {one["cpu_pct"] for one in told} == {int(speeds[cores[0]])}
