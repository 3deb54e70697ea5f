"""adbutils against virtual boards, as the product's adb transport uses it."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from adbutils import AdbClient, AdbDevice
from sim_fixtures import StartBoard, boards_in

from virtualboards.lifecycle import AdbServer

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, adb_server: AdbServer) -> Iterator[AdbDevice]:
    with boards_in(tmp_path_factory.mktemp("sim") / "cache", adb_server) as start:
        yield AdbClient(adb_server.host, adb_server.port).device(start("qualcomm", su="su-0").serial)


def test_shell2_separates_streams_and_gives_the_code(device: AdbDevice) -> None:
    done = device.shell2(["sh", "-c", "echo out; echo err >&2; exit 9"], v2=True)
    assert (done.returncode, done.stdout, done.stderr) == (9, "out\n", "err\n")


def test_shell_v1_merges_them(device: AdbDevice) -> None:
    assert device.shell("echo out; echo err >&2").split() == ["out", "err"]


def test_sync_pushes_pulls_stats_and_lists(device: AdbDevice, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    device.sync.push(io.BytesIO(data), "/data/local/tmp/u/file", 0o644)
    assert device.sync.stat("/data/local/tmp/u/file").size == len(data)
    assert [item.path for item in device.sync.list("/data/local/tmp/u")] == [".", "..", "file"]
    assert device.sync.pull("/data/local/tmp/u/file", tmp_path / "file") == len(data)
    assert (tmp_path / "file").read_bytes() == data
    assert device.sync.stat("/none").mode == 0


def test_properties_of_the_device_object(device: AdbDevice) -> None:
    assert device.prop.get("ro.devicelab.simulated") == "1"
    assert device.get_state() == "device"
    assert "shell_v2" in device.get_features()


def test_many_streams_at_once_do_not_mix(device: AdbDevice) -> None:
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        found[number] = device.shell(
            f"for i in 1 2 3 4 5 6 7 8 9 10; do echo {number}; done; cat /proc/stat >/dev/null"
        )

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: set(text.split()) for number, text in found.items()} == {n: {str(n)} for n in range(24)}


def test_a_large_download_does_not_hold_up_a_small_command(device: AdbDevice) -> None:
    stream = device.shell("exec cat /dev/zero", stream=True)
    try:
        assert stream.conn.recv(4)
        assert device.shell("echo quick") == "quick"
    finally:
        stream.close()


def test_taskset_fails_on_a_core_that_core_control_isolates(virtual_board: StartBoard, adb_server: AdbServer) -> None:
    device = AdbClient(adb_server.host, adb_server.port).device(virtual_board("qualcomm", su="su-0").serial)
    device.shell2(["su", "0", "sh", "-c", "echo 0 > /sys/devices/system/cpu/cpu7/core_ctl/max_cpus"], v2=True)
    cpu7 = "/sys/devices/system/cpu/cpu7"
    # Core control waits its delay, and for a core that is busy at this moment.
    device.shell(f"until [ $(cat {cpu7}/isolate) = 1 ]; do sleep 0.05; done")
    assert device.shell(f"cat {cpu7}/online").strip() == "1"
    done = device.shell2(["taskset", "80", "true"], v2=True)
    assert done.returncode == 1
    assert "affinity: Invalid argument" in done.stderr
