"""Programs compiled for other machines by zig, run under qemu's user mode."""

import importlib.util
import shutil
import subprocess

import pytest
from klo_tools import run

from devicelab.device.build import Built, build
from devicelab.device.toolchain import host_abi

pytestmark = [
    pytest.mark.slow,  # the first build for a target compiles its C library
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="zig is not installed"),
]
EMULATORS = {"arm64-v8a": "qemu-aarch64-static", "armeabi-v7a": "qemu-arm-static", "x86_64": "qemu-x86_64-static"}


def _emulator(abi: str) -> str:
    path = shutil.which(EMULATORS[abi])
    if path is None:
        pytest.skip(f"{EMULATORS[abi]} is not installed")
    return path


def _static(program: str, abi: str) -> Built:
    built = build(program, abi, toolchain="zig-musl")
    assert b"ld-linux" not in built.path.read_bytes()
    return built


@pytest.mark.parametrize("abi", EMULATORS)
def test_the_load_is_a_small_static_program_that_runs_on_another_machine(abi: str) -> None:
    emulator = _emulator(abi)
    built = _static("overhead", abi)
    assert built.size_bytes < 30_000
    done = subprocess.run([emulator, built.path, "0", "100", "4"], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1600 == pytest.approx(2**30, rel=0.15)
    wrong = subprocess.run([emulator, built.path, "0", "100", "63"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2


@pytest.mark.parametrize("abi", EMULATORS)
def test_klo_gives_the_same_work_on_every_machine(abi: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    emulator = _emulator(abi)
    built = _static("klo", abi)
    assert "only its emulated backend works" in built.note
    args = ("--backend", "emulated", "--network", "squeezenet", "--k", "4", "--inferences", "1", "--plain", "1")
    wrapper = tmp_path_factory.mktemp("bin") / "klo"
    wrapper.write_text(f'#!/bin/sh\nexec {emulator} {built.path} "$@"\n')
    wrapper.chmod(0o755)
    said = run(wrapper, *args)
    assert said.end["out_of_order"] == 0
    assert said.phase("profiled")[0]["batches"] == [4] * 7 + [2]
    host = build("klo", str(host_abi()))
    assert run(host.path, *args).end["work"] == said.end["work"]


@pytest.mark.skipif(host_abi() != "x86_64", reason="runs on this machine")
def test_without_a_host_compiler_zig_makes_a_dynamic_program_for_this_machine() -> None:
    built = build("klo", "x86_64", toolchain="zig-gnu")
    assert built.loads_libraries
    assert built.note == ""
    said = run(built.path, "--backend", "emulated", "--network", "squeezenet", "--k", "4")
    assert said.header["simulated"] is True
