"""The way of the Android NDK, with a folder of its layout around this machine's clang and zig.

What is not Android's is the C library: the programs are linked against glibc, where the NDK has bionic. Flags, choice,
and that they link dynamically and without a C++ library are the NDK's.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from klo_tools import run
from typer.testing import CliRunner

from devicelab.cli import app
from devicelab.device.build import Built, build, programs
from devicelab.device.toolchain import host_abi

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("clang++") is None or host_abi() != "x86_64", reason="needs clang on x86-64"),
]

_CLANG = """#!/bin/sh
if [ "$1" = --version ]; then echo "Android (12027248, based on r522817) clang version 18.0.1"; exit 0; fi
target=$1; shift
case $target in
--target=x86_64-linux-android24) exec {clang} --target=x86_64-linux-gnu "$@" ;;
--target=aarch64-linux-android24) exec {python} -m ziglang c++ -target aarch64-linux-gnu.2.28 "$@" ;;
--target=armv7a-linux-androideabi24) exec {python} -m ziglang c++ -target arm-linux-gnueabihf.2.28 "$@" ;;
esac
echo "no such target: $target" >&2; exit 1
"""


@pytest.fixture
def ndk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As r23 and later lie on a disk."""
    root = tmp_path / "android-ndk"
    folder = root / "toolchains/llvm/prebuilt/linux-x86_64/bin"
    folder.mkdir(parents=True)
    clang = folder / "clang++"
    clang.write_text(_CLANG.format(clang=shutil.which("clang++"), python=sys.executable), encoding="ascii")
    clang.chmod(0o755)
    (root / "source.properties").write_text("Pkg.Desc = Android NDK\nPkg.Revision = 27.2.12479018\n", encoding="ascii")
    for name in ("ANDROID_NDK_ROOT", "ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANDROID_NDK_HOME", str(root))
    monkeypatch.setenv("DEVICELAB_CACHE", str(tmp_path / "cache"))
    return root


def needed(path: Path) -> set[str]:
    """Libraries that a program names, without their versions."""
    text = subprocess.run(["readelf", "-dW", path], capture_output=True, text=True, check=True).stdout
    lines = [line for line in text.splitlines() if "(NEEDED)" in line]
    return {line.partition("[")[2].partition(".so")[0] for line in lines}


def is_dynamic_pie(path: Path) -> bool:
    text = subprocess.run(["readelf", "-hlW", path], capture_output=True, text=True, check=True).stdout
    return "DYN " in text and "INTERP" in text


@pytest.mark.usefixtures("ndk")
def test_every_program_is_dynamic_and_needs_no_cpp_library() -> None:
    built: dict[str, Built] = {name: build(name, "x86_64", toolchain="ndk-android") for name in programs()}
    for name, one in built.items():
        assert is_dynamic_pie(one.path), name
        # Debian's clang takes what unwinds the stack from libgcc_s, the NDK's brings its own along.
        assert needed(one.path) <= {"libc", "libm", "libdl", "libgcc_s", "ld-linux-x86-64"}, name
        assert one.compiler_version.startswith("NDK 27.2.12479018, Android ("), name
    args = ("--backend", "emulated", "--network", "squeezenet", "--k", "4", "--inferences", "1", "--plain", "1")
    assert run(built["klo"].path, *args).end["work"] == run(build("klo", "x86_64").path, *args).end["work"]
    assert built["klo"].loads_libraries


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="zig is not installed")
@pytest.mark.usefixtures("ndk")
def test_build_all_takes_the_ndk_for_android() -> None:
    done = CliRunner().invoke(app, ["build", "klo", "--all", "--json"])
    assert done.exit_code == 0, done.exception
    rows = json.loads(done.stdout)["built"]
    android = [row for row in rows if row["toolchain"] == "ndk-android"]
    assert {row["abi"] for row in android} == {"arm64-v8a", "armeabi-v7a"}
    assert all(is_dynamic_pie(Path(row["path"])) and row["loads_libraries"] for row in android)
    assert {row["abi"] for row in rows} == {"arm64-v8a", "armeabi-v7a", "x86_64"}
