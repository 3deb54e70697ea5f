"""The load that holds a use: the line it keeps to, reckoned without waiting, and the program beside other work."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicelab.device.build import build
from devicelab.device.toolchain import host_abi
from devicelab.ground import registry
from devicelab.workloads import overhead
from tests.compilers import host_compiler

pytestmark = pytest.mark.skipif(host_abi() is None, reason="no toolchain for this machine")

PERIOD_S = 2.267e-3
"""As ``kPeriodNs``."""
OWED = 50
"""As ``kOwedPeriods``."""

Stretch = tuple[int, int]
"""Seconds, and permille of the core that the load can have."""
Reckon = Callable[..., list[float]]


@pytest.fixture(scope="module")
def reckon(tmp_path_factory: pytest.TempPathFactory) -> Reckon:
    """CPU time in seconds that a held load has in each stretch."""
    driver = tmp_path_factory.mktemp("hold") / "driver"
    flags = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined")
    source = Path(__file__).with_name("hold_driver.cpp")
    native = registry.data_dir("native")
    subprocess.run(
        [*host_compiler().argv, *flags, "-fno-sanitize-recover=all", f"-I{native}", source, "-o", driver], check=True
    )

    def run(pct: float, *stretches: Stretch, overshoot_ns: int = 0) -> list[float]:
        words = [str(round(pct * 10_000)), str(overshoot_ns), *(str(word) for stretch in stretches for word in stretch)]
        done = subprocess.run([driver, *words], capture_output=True, text=True, check=True)
        return [int(line) / 1e9 for line in done.stdout.split()]

    return run


@pytest.mark.parametrize("pct", [0.01, 10, 25, 45, 70, 90, 99.9])
def test_an_hour_has_the_wanted_cpu_time_to_a_period(reckon: Reckon, pct: float) -> None:
    (used,) = reckon(pct, (3600, 1000))
    assert used == pytest.approx(36 * pct, rel=1e-3 if pct < 1 else 1e-6, abs=PERIOD_S)


@pytest.mark.parametrize("overshoot_ns", [1, 30_000, 500_000])
def test_work_that_ends_late_is_taken_off_the_next(reckon: Reckon, overshoot_ns: int) -> None:
    used = reckon(45, *[(1, 1000)] * 20, overshoot_ns=overshoot_ns)
    assert used == pytest.approx([0.45] * 20, abs=PERIOD_S)


def test_after_half_of_the_core_was_taken_the_use_is_the_wanted_one_again(reckon: Reckon) -> None:
    before, starved, first, *later = reckon(70, (2, 1000), (5, 500), (1, 1000), (1, 1000), (60, 1000))
    assert before == pytest.approx(1.4, abs=PERIOD_S)
    assert starved == pytest.approx(2.5, abs=PERIOD_S)
    assert 0.7 < first < 0.7 + (2 * OWED + 3) * 0.7 * PERIOD_S
    assert later == pytest.approx([0.7, 42], abs=PERIOD_S)


def test_a_short_theft_is_made_up_for_whole(reckon: Reckon) -> None:
    # A hundredth less than needed for a second: 3 ms are owed.
    used = reckon(30, (1, 297), (1, 1000))
    assert sum(used) == pytest.approx(0.6, abs=PERIOD_S)


@settings(deadline=None, max_examples=60)
@given(
    pct=st.integers(1, 100),
    stretches=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 1000)), min_size=1, max_size=8),
)
def test_no_stretch_gets_more_than_its_own_and_what_may_be_owed(
    reckon: Reckon, pct: int, stretches: list[Stretch]
) -> None:
    # What was owed when the core was taken, and what it owes for the time without it.
    part = pct / 100 * PERIOD_S
    owed = (2 * OWED + 3) * part
    for (seconds, permille), used in zip(stretches, reckon(pct, *stretches), strict=True):
        assert used <= min(seconds * permille / 1000, seconds * pct / 100 + owed) + 1e-6
        if permille >= 10 * pct:
            assert used >= min(seconds * permille / 1000, seconds * pct / 100) - 2 * part - 1e-6


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the load, sanitized, on the first core that this process may use."""
    program = build("overhead", str(host_abi()), toolchain="host-sanitize").path
    core = min(os.sched_getaffinity(0))
    started: list[subprocess.Popen[str]] = []

    def one(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([program, *words], stdout=subprocess.PIPE, text=True)
        started.append(process)
        os.sched_setaffinity(process.pid, {core})
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


def used_s(process: subprocess.Popen[str]) -> float:
    """CPU time of a process so far, seconds."""
    return int(Path(f"/proc/{process.pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def share_pct(process: subprocess.Popen[str], seconds: float) -> float:
    """Its CPU time in percent of the time, over the next seconds."""
    began, before = time.monotonic(), used_s(process)
    time.sleep(seconds)
    return 100 * (used_s(process) - before) / (time.monotonic() - began)


def until_held(process: subprocess.Popen[str], pct: float) -> None:
    """Waits for a window in which its use is the wanted one."""
    deadline = time.monotonic() + 120
    while abs(got := share_pct(process, 1.0) - pct) > 0.5:
        assert time.monotonic() < deadline, f"{got:+.2f} points off"


@pytest.mark.slow
def test_a_load_beside_another_on_its_core_has_the_use_it_was_asked_for(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    held = start("--hold", "5")
    until_held(held, 5)
    greedy = start("0", "1000000", "60")
    deadline = time.monotonic() + 120
    while used_s(greedy) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    until_held(held, 5)
    greedy.kill()
    until_held(held, 5)
    assert held.poll() is None


@pytest.mark.slow
def test_what_was_missed_while_it_was_stopped_is_not_made_up_for(start: Callable[..., subprocess.Popen[str]]) -> None:
    held = start("--hold", "5")
    until_held(held, 5)
    held.send_signal(signal.SIGSTOP)
    stopped = used_s(held)
    assert share_pct(held, 2.0) < 1
    began = time.monotonic()
    held.send_signal(signal.SIGCONT)
    until_held(held, 5)
    part = 0.05 * PERIOD_S
    assert used_s(held) - stopped <= 0.05 * (time.monotonic() - began) + (2 * OWED + 3) * part + 0.01
    until_held(held, 5)


def test_it_says_once_what_fixed_load_has_such_rounds(start: Callable[..., subprocess.Popen[str]]) -> None:
    held = start("--hold", "25")
    assert held.stdout is not None
    near = overhead.near(held.stdout.readline().encode())
    assert near is not None
    assert near.sleep_us == round(0.75 * PERIOD_S * 1e6)
    assert near.inner_iter > 0


@pytest.mark.parametrize(
    "text", ["0", "100.1", "101", "-1", "+1", "45%", "4.00001", "1e1", ".5", "5.", "", " 5", "nan"]
)
def test_what_is_no_use_gives_the_usage_line(start: Callable[..., subprocess.Popen[str]], text: str) -> None:
    program = build("overhead", str(host_abi()), toolchain="host-sanitize").path
    done = subprocess.run([program, "--hold", text], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--hold PERCENT" in done.stderr
