"""Clients that know nothing of us see an Android phone: devlib's modules, and the tests that adbutils brings along.

devlib gets an environment of its own, adbutils' tests come from its source distribution; both are fetched once by pip
and kept in the user's cache (``DEVICELAB_TEST_CACHE`` names another folder). Without them the tests are skipped.
"""

import os
import re
import socket
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest
from adbutils import adb_path
from sim_fixtures import StartBoard

from virtualboards.lifecycle import AdbServer

pytestmark = [pytest.mark.sim, pytest.mark.slow]

_SCRIPT = Path(__file__).parents[2] / "foreign/devlib_on_a_board.py"
_MODULES = ("target", "cpufreq", "cpuidle", "gpufreq", "hotplug", "thermal", "devfreq", "cgroups")
_DEVLIB = "devlib==1.3.4"

# What a board on a TCP port without a network behind it cannot have: USB, ports forwarded back, a video encoder.
_NOT_ON_A_VIRTUAL_BOARD = ("test_wait_for", "test_reverse", "test_screenrecord")
_AT_LEAST = 40


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get("DEVICELAB_TEST_CACHE") or f"{home}/devicelab-tests").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _got(*commands: list[str]) -> None:
    """Run what fetches something; skip by name where it cannot be had."""
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"{command[-1]} cannot be had: {error}")
        if done.returncode:
            pytest.skip(f"{command[-1]} cannot be had: {done.stderr.strip().splitlines()[-1:]}")


@pytest.fixture
def devlib_python() -> Path:
    """The interpreter of an environment with devlib."""
    place = _cache() / f"{_DEVLIB.replace('==', '-')}-py{sys.version_info.major}.{sys.version_info.minor}"
    python, done = place / "bin/python", place / "installed"
    if not done.exists():
        _got(
            [sys.executable, "-m", "venv", "--clear", str(place)], [str(python), "-m", "pip", "install", "-q", _DEVLIB]
        )
        done.touch()
    return python


@pytest.fixture
def adbutils_tests(tmp_path: Path) -> Path:
    """The tests against a real device that adbutils' source distribution of the installed version has."""
    wanted = f"adbutils=={version('adbutils')}"
    place = _cache() / wanted.replace("==", "-")
    if not list(place.glob("*.tar.gz")):
        _got(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:", "-d", str(place), wanted]
        )
    with tarfile.open(next(place.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    return next(tmp_path.glob("adbutils-*/e2etests"))


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """The environment that devlib wants: adb and aapt where an Android SDK has them."""
    sdk = tmp_path / "sdk"
    (sdk / "platform-tools").mkdir(parents=True)
    (sdk / "platform-tools/adb").symlink_to(adb_path())
    # It looks for these tools at once, and runs them only for apps.
    versions = sdk / "build-tools/30.0.0"
    versions.mkdir(parents=True)
    for name in ("aapt", "aapt2"):
        (versions / name).write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
        (versions / name).chmod(0o755)
    return {**os.environ, "ANDROID_HOME": str(sdk), "PATH": f"{sdk}/platform-tools{os.pathsep}{os.environ['PATH']}"}


def test_devlib_finds_a_phone(
    devlib_python: Path, tools: dict[str, str], virtual_board: StartBoard, adb_server: AdbServer
) -> None:
    board = virtual_board("qualcomm", su="adb-root")
    environment = {**tools, "ANDROID_ADB_SERVER_PORT": str(adb_server.port)}
    done = subprocess.run(
        [str(devlib_python), str(_SCRIPT), board.serial], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.findall(r"held: (\w+)", done.stdout) == list(_MODULES)


def test_adbutils_own_tests_pass(adbutils_tests: Path, virtual_board: StartBoard, adb_server: AdbServer) -> None:
    virtual_board("qualcomm", su="adb-root")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        # They name the usual port of an adb server, and one of this machine that somebody else may have.
        ports = {"5037": str(adb_server.port), "11221": str(probe.getsockname()[1])}
    for file in adbutils_tests.glob("*.py"):
        text = re.sub("|".join(ports), lambda found: ports[found[0]], file.read_text(encoding="utf-8"))
        file.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly",
         "-c", os.devnull, "-k", " and ".join(f"not {name}" for name in _NOT_ON_A_VIRTUAL_BOARD), "."],
        capture_output=True, text=True, cwd=adbutils_tests, check=False,
        env={**os.environ, "ANDROID_ADB_SERVER_PORT": str(adb_server.port)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= _AT_LEAST
