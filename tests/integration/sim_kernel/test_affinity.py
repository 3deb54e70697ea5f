"""Affinity calls of real programs, answered for the board's eight CPUs whatever the host has."""

import subprocess
import time
from collections.abc import Callable

import pytest

from virtualboards.kernel import Kernel

pytestmark = pytest.mark.sim

Start = Callable[..., subprocess.Popen[str]]


def output(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = process.stdout.read()
    process.wait()
    return text


def granted(start: Start, mask: str) -> str:
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    return output(start("taskset", mask, "python3", "-c", code)).strip()


def test_a_program_sees_and_sets_the_boards_cpus(supervised: Start) -> None:
    assert granted(supervised, "0xc0") == "[6, 7]"


def test_children_inherit_and_others_are_reached_by_pid(supervised: Start) -> None:
    text = output(supervised("sh", "-c", "taskset -p 30 $$; sh -c 'taskset -p $$'"))
    assert "current affinity mask: ff" in text
    assert text.count("affinity mask: 30") == 2


def test_an_offline_cpu_alone_is_refused_and_partly_valid_masks_are_cut(supervised: Start, kernel: Kernel) -> None:
    kernel.write("/sys/devices/system/cpu/cpu5/online", "0")
    assert "Invalid argument" in granted(supervised, "20")
    assert granted(supervised, "30") == "[4]"
    assert "Invalid argument" in granted(supervised, "100")


@pytest.mark.parametrize("kind", ["qualcomm"])
def test_the_labs_case_an_isolated_core_is_refused_although_it_is_online(supervised: Start, kernel: Kernel) -> None:
    node = "/sys/devices/system/cpu/cpu4/isolate"
    deadline = time.monotonic() + 20
    while kernel.read(node) != b"1\n" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert kernel.read("/sys/devices/system/cpu/cpu4/online") == b"1\n"
    assert "Invalid argument" in granted(supervised, "10")
    kernel.write("/sys/devices/system/cpu/cpu4/core_ctl/enable", "0")
    assert granted(supervised, "10") == "[4]"


def test_a_bad_address_and_an_unknown_process_are_told_apart(supervised: Start) -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid, length, address in ((0, 8, 16), (999999, 8, None), (0, 3, None)):
    buffer = ctypes.create_string_buffer(16)
    libc.sched_getaffinity(pid, length, ctypes.c_void_p(address) if address else buffer)
    print(ctypes.get_errno())
"""
    assert output(supervised("python3", "-c", code)).split() == ["14", "3", "22"]


def test_addresses_that_no_program_has_are_refused_and_the_next_call_is_answered(supervised: Start) -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for call in (libc.sched_setaffinity, libc.sched_getaffinity):
    for address in (None, ctypes.c_void_p(2**63), ctypes.c_void_p(2**64 - 8)):
        ctypes.set_errno(0)
        call(0, ctypes.c_size_t(8), address)
        print(ctypes.get_errno())
print(sorted(os.sched_getaffinity(0)))
"""
    assert output(supervised("python3", "-c", code)).splitlines() == ["14"] * 6 + ["[0, 1, 2, 3, 4, 5, 6, 7]"]


def test_a_threads_mask_is_its_own(supervised: Start) -> None:
    code = """
import os, threading
def pin():
    os.sched_setaffinity(0, {3})
    print(sorted(os.sched_getaffinity(0)))
thread = threading.Thread(target=pin); thread.start(); thread.join()
print(sorted(os.sched_getaffinity(0)))
"""
    assert output(supervised("python3", "-c", code)).splitlines() == ["[3]", "[0, 1, 2, 3, 4, 5, 6, 7]"]


def test_cpu_time_of_a_pinned_program_shows_on_its_core(supervised: Start, kernel: Kernel) -> None:
    process = supervised("taskset", "40", "sh", "-c", "while :; do :; done")

    def busy() -> dict[str, int]:
        lines = (line.split() for line in kernel.read("/proc/stat").decode().splitlines() if line.startswith("cpu"))
        return {words[0]: int(words[1]) + int(words[3]) for words in lines}

    deadline = time.monotonic() + 60
    while busy()["cpu6"] < 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    shares = busy()
    assert shares["cpu6"] >= 20
    assert shares["cpu7"] <= shares["cpu6"] // 2
