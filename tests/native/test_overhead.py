"""The lab's load, compiled by this machine's compiler."""

import subprocess
from pathlib import Path

import pytest

from devicelab.device.build import build
from devicelab.device.toolchain import host_abi

pytestmark = pytest.mark.skipif(host_abi() is None, reason="no toolchain for this machine")


@pytest.fixture(scope="module")
def overhead() -> Path:
    return build("overhead", str(host_abi()), toolchain="host-sanitize").path


def _run(program: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *args], capture_output=True, text=True, timeout=60, check=False)


def test_the_sum_of_as_many_random_numbers_as_asked_for_is_printed(overhead: Path) -> None:
    once = _run(overhead, "0", "1", "0")
    often = _run(overhead, "0", "100", "6")
    assert (once.returncode, often.returncode) == (0, 0)
    # rand() is uniform over [0, 2^31): 6400 draws have a mean of 2^30 within a few percent.
    assert int(often.stdout) / 6400 == pytest.approx(2**30, rel=0.1)
    assert 0 <= int(once.stdout) < 2**31


def test_the_same_arguments_do_the_same_work(overhead: Path) -> None:
    assert _run(overhead, "0", "50", "3").stdout == _run(overhead, "0", "50", "3").stdout


def test_no_iterations_give_the_sum_zero(overhead: Path) -> None:
    assert _run(overhead, "0", "0", "10").stdout == "0\n"


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("1", "2"),
        ("1", "2", "3", "4"),
        ("-1", "2", "3"),
        ("1", "-2", "3"),
        ("1", "2", "-3"),
        ("1", "2", "63"),
        ("1", "9223372036854775808", "3"),
        ("99999999999999999999", "1", "1"),
        ("9223372036854775807", "1", "1"),
        ("1.5", "2", "3"),
        ("1", "2x", "3"),
        ("", "2", "3"),
        (" 1", "2", "3"),
        ("+1", "2", "3"),
        ("0x10", "2", "3"),
    ],
)
def test_wrong_arguments_give_a_usage_line_and_exit_code_2(overhead: Path, args: tuple[str, ...]) -> None:
    done = _run(overhead, *args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: overhead T_sleep_us inner_iter log2_outer_iter")
    assert done.stderr.count("\n") == 1


def test_the_longest_setting_starts_and_is_ended_by_kill(overhead: Path) -> None:
    process = subprocess.Popen([str(overhead), "1000", "5000", "62"], stdout=subprocess.PIPE)
    with process:
        assert process.poll() is None
        process.kill()
        assert process.wait(10) == -9
