"""Root in its flavours, properties and services, as a shell in the board meets them."""

import pytest
from sim_fixtures import StartBoard, adb

from virtualboards.lifecycle import AdbServer

pytestmark = pytest.mark.sim


def test_without_su_there_is_no_way_to_root(virtual_board: StartBoard, adb_server: AdbServer) -> None:
    client = adb(adb_server, virtual_board("oddball", shell_v2=True).serial)
    done = client("shell", "su -c id")
    assert done.returncode == 127
    assert b"not found" in done.stderr
    assert client("root").stdout == b"adbd cannot run as root in production builds\n"
    assert client("shell", "id -u").stdout == b"2000\n"
    assert client("shell", "echo 1 > /system/x").returncode != 0


def test_magisk_runs_the_command_line_as_root_and_passes_code_and_streams(
    virtual_board: StartBoard, adb_server: AdbServer
) -> None:
    client = adb(adb_server, virtual_board("note10", su="magisk").serial)
    done = client("shell", "echo in | su -c 'cat; echo err >&2; id -u; exit 5'")
    assert (done.returncode, done.stdout, done.stderr) == (5, b"in\n0\n", b"err\n")
    assert client("shell", "echo id -u | su").stdout == b"0\n"
    assert client("shell", "su -c 'kill -KILL $$'").returncode == 137
    sessions = client("shell", 'cut -d" " -f6 /proc/$$/stat; su -c \'cut -d" " -f6 /proc/$$/stat\'').stdout.split()
    assert len(set(sessions)) == 2


def test_magisk_kills_the_child_when_su_ends_or_is_killed(virtual_board: StartBoard, adb_server: AdbServer) -> None:
    client = adb(adb_server, virtual_board("note10", su="magisk").serial)
    pid = client("shell", "su -c 'sleep 1000 >/dev/null 2>&1 & echo $!'").stdout.decode().strip()
    assert client("shell", f"while su -c 'kill -0 {pid}'; do sleep 0.02; done; echo gone").stdout == b"gone\n"
    script = (
        "su -c 'echo $$ >/data/local/tmp/p; sleep 1000; true' & until [ -s /data/local/tmp/p ]; do sleep 0.02; done; "
    )
    script += 'kill -KILL $!; while su -c "kill -0 $(cat /data/local/tmp/p)"; do sleep 0.02; done; echo gone'
    assert client("shell", script).stdout == b"gone\n"


def test_a_root_process_in_a_session_of_its_own_outlives_su(virtual_board: StartBoard, adb_server: AdbServer) -> None:
    client = adb(adb_server, virtual_board("note10", su="magisk").serial)
    # `setsid` forks nothing: the pid stays, so the shell waits until the session is its own.
    own = "until [ $(cut -d' ' -f6 /proc/$!/stat) = $! ]; do :; done; echo $!"
    pid = client("shell", f'su -c "setsid sleep 1000 </dev/null >/dev/null 2>&1 & {own}"'.replace("$", "\\$"))
    assert client("shell", f"su -c 'kill {pid.stdout.decode().strip()}'").returncode == 0


def test_aosp_su_takes_a_user_and_an_argv(virtual_board: StartBoard, adb_server: AdbServer) -> None:
    client = adb(adb_server, virtual_board("qualcomm-865", su="su-0").serial)
    done = client("shell", "su 0 sh -c 'id -u; echo \"$1\"; exit 4' name 'two  words'")
    assert (done.returncode, done.stdout) == (4, b"0\ntwo  words\n")
    assert client("shell", "su -c id").returncode != 0


def test_adb_root_restarts_the_daemon_and_back(virtual_board: StartBoard, adb_server: AdbServer) -> None:
    client = adb(adb_server, virtual_board("qualcomm", su="adb-root").serial)
    assert client("root").stdout == b"restarting adbd as root\n"
    assert client("wait-for-device", "shell", "id -u").stdout == b"0\n"
    assert client("root").stdout == b"adbd is already running as root\n"
    assert client("unroot").stdout == b"restarting adbd as non root\n"
    assert client("wait-for-device", "shell", "id -u").stdout == b"2000\n"


def test_a_reboot_ends_everything_and_gives_a_new_boot_id_but_keeps_data(
    virtual_board: StartBoard, adb_server: AdbServer
) -> None:
    client = adb(adb_server, virtual_board("note10", boot_s=0.2).serial)
    ask = "cat /proc/sys/kernel/random/boot_id"
    before = client(
        "shell", f"echo kept >/data/local/tmp/f; setsid sleep 1000 </dev/null >/dev/null 2>&1 & {ask}"
    ).stdout
    assert client("reboot").returncode == 0
    assert client("wait-for-disconnect").returncode == 0
    after = client("wait-for-device", "shell", ask).stdout
    assert len(after) == len(before) == 37
    assert after != before
    assert client("shell", "cat /data/local/tmp/f").stdout == b"kept\n"
    assert client("shell", "pidof sleep").returncode == 1


def test_properties_are_read_and_set_by_those_who_may(virtual_board: StartBoard, adb_server: AdbServer) -> None:
    client = adb(adb_server, virtual_board("note10").serial)
    assert client("shell", "getprop ro.devicelab.simulated").stdout == b"1\n"
    assert client("shell", "getprop none.such; getprop none.such fallback").stdout == b"\nfallback\n"
    assert client("shell", "setprop debug.mine 'a b' && getprop debug.mine").stdout == b"a b\n"
    denied = client("shell", "setprop vendor.x 1")
    assert denied.returncode == 1
    assert client("shell", "su -c 'setprop vendor.x 1' && getprop vendor.x").stdout == b"1\n"
    assert client("shell", "su -c 'setprop ro.product.model other'").returncode == 1
    listing = client("shell", "getprop").stdout.decode()
    assert "[ro.product.cpu.abi]: [" in listing
    assert "\r" not in listing


def test_vendor_daemons_are_stopped_and_started_by_root_alone(virtual_board: StartBoard, adb_server: AdbServer) -> None:
    client = adb(adb_server, virtual_board("qualcomm", su="su-0").serial)
    name = "vendor.perf-hal-2-0"
    assert client("shell", f"getprop init.svc.{name}").stdout == b"running\n"
    assert client("shell", f"stop {name}").returncode == 255
    assert client("shell", f"su 0 stop {name}; getprop init.svc.{name}").stdout == b"stopped\n"
    assert client("shell", f"su 0 start {name}; getprop init.svc.{name}").stdout == b"running\n"


def test_battery_and_thermal_service_are_dumped(virtual_board: StartBoard, adb_server: AdbServer) -> None:
    client = adb(adb_server, virtual_board("note10").serial)
    battery = client("shell", "dumpsys battery").stdout.decode()
    assert battery.startswith("Current Battery Service state:\n")
    assert "  level: " in battery
    thermal = client("shell", "dumpsys thermalservice").stdout.decode()
    assert "Thermal Status: 0" in thermal
    assert "Temperature{mValue=" in thermal
    client("shell", "cmd thermalservice override-status 3")
    assert "Thermal Status: 3" in client("shell", "dumpsys thermalservice").stdout.decode()
