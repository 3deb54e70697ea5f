"""The light tenant: usage, arrivals like the torch tenant's, its gate, and that no request is lost."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from devicelab.device.build import build
from devicelab.device.toolchain import host_abi
from devicelab.workloads import cpu_tenant
from devicelab.workloads.base import Context
from tests import tenant_script

pytestmark = pytest.mark.slow

MS = 1_000_000


@pytest.fixture(scope="module", params=["host", "host-sanitize"])
def tenant(request: pytest.FixtureRequest) -> Path:
    """The program as it is shipped, and one that stops at the first bad memory access or undefined operation."""
    abi = host_abi()
    if abi is None:
        pytest.skip("no toolchain for this machine")
    return build("cpu_tenant", abi, toolchain=request.param).path


def run(tenant: Path, *words: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([str(tenant), *map(str, words)], capture_output=True, timeout=60, check=False)


def scheduled(tenant: Path, arrivals: str, seed: int, duration_s: float) -> list[int]:
    """Every request's scheduled time, served or not."""
    done = run(tenant, "--work-us", 1, "--arrivals", arrivals, "--seed", seed, "--duration-s", duration_s)
    assert done.returncode == 0, done.stderr
    got = cpu_tenant.parse(done.stdout, cpu_tenant.Params())
    assert got.flags == ()
    tables = (got.tables["requests"], got.tables["dropped"])
    return sorted(int(at) for table in tables for at in table["scheduled_ns"])


@pytest.mark.parametrize("arrivals", ["poisson:200", "poisson:7.5", "fixed:30", "fixed:333.3", "every:0.07"])
@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_both_tenants_have_the_same_arrivals_from_the_same_seed(tenant: Path, arrivals: str, seed: int) -> None:
    duration_ns = 250 * MS
    expected = tenant_script.load().arrivals(arrivals, seed, duration_ns)
    got = scheduled(tenant, arrivals, seed, duration_ns / 1e9)
    # log1p of two libraries may differ in the last bit.
    assert len(got) == len(expected)
    assert max((abs(a - b) for a, b in zip(got, expected, strict=True)), default=0) <= 1


def test_both_tenants_have_the_same_arrivals_in_every_window(tenant: Path) -> None:
    words = ("--work-us", 1, "--arrivals", "poisson:100", "--seed", 5, "--duration-s", 0.2)
    done = run(tenant, *words, "--windows", 3, "--pause-s", 0.1)
    assert done.returncode == 0, done.stderr
    got = cpu_tenant.parse(done.stdout, cpu_tenant.Params())
    assert got.flags == ()
    tables = (got.tables["requests"], got.tables["dropped"])
    due = sorted(int(at) for table in tables for at in table["scheduled_ns"])
    script = tenant_script.load()
    expected = [at + w * 300 * MS for w in range(3) for at in script.arrivals("poisson:100", 5 + w, 200 * MS)]
    assert len(due) == len(expected)
    assert max(abs(a - b) for a, b in zip(due, expected, strict=True)) <= 1


def test_unlike_seeds_give_unlike_poisson_arrivals(tenant: Path) -> None:
    assert scheduled(tenant, "poisson:100", 1, 0.1) != scheduled(tenant, "poisson:100", 2, 0.1)


def test_a_continuous_tenant_begins_a_request_as_the_last_one_ends(tenant: Path) -> None:
    done = run(tenant, "--work-us", 200, "--duration-s", 0.1)
    table = cpu_tenant.parse(done.stdout, cpu_tenant.Params()).tables["requests"]
    assert table["start_ns"].size > 1
    assert (table["scheduled_ns"] == table["start_ns"]).all()


def test_a_full_queue_drops_and_every_request_is_accounted_for(tenant: Path) -> None:
    # Ten times more work than there is time for.
    done = run(tenant, "--work-us", 10_000, "--arrivals", "fixed:1000", "--duration-s", 0.2, "--queue", 1)
    got = cpu_tenant.parse(done.stdout, cpu_tenant.Params())
    assert got.flags == ()
    assert got.metrics["dropped"].value > 100
    assert got.metrics["requests"].value + got.metrics["dropped"].value == 200


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "--work-us is missing"),
        (("--work-us",), "an option has no value"),
        (("--work-us", "0"), "--work-us: a number"),
        (("--work-us", "nan"), "--work-us: a number"),
        (("--work-us", "1e400"), "--work-us: a number"),
        (("--work-us", "5x"), "--work-us: a number"),
        (("--work-us", "5", "--duration-s", "0"), "--duration-s"),
        (("--work-us", "5", "--duration-s", "1e9"), "--duration-s"),
        (("--work-us", "5", "--seed", "-1"), "--seed"),
        (("--work-us", "5", "--seed", "1.5"), "--seed"),
        (("--work-us", "5", "--queue", "many"), "--queue"),
        (("--work-us", "5", "--arrivals", "sometimes"), "--arrivals"),
        (("--work-us", "5", "--arrivals", "fixed:0"), "--arrivals"),
        (("--work-us", "5", "--arrivals", "fixed:"), "--arrivals"),
        (("--work-us", "5", "--arrivals", "fixed:nan"), "--arrivals"),
        (("--work-us", "5", "--arrivals", "fixedly:5"), "--arrivals"),
        (("--work-us", "5", "--arrivals", ":5"), "--arrivals"),
        (("--work-us", "5", "--speed", "3"), "unknown option"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(tenant: Path, words: tuple[str, ...], why: str) -> None:
    done = run(tenant, *words)
    assert done.returncode == 2, done.stderr
    assert why in done.stderr.decode()
    assert "usage: cpu_tenant" in done.stderr.decode()
    assert done.stdout == b""


def test_it_says_ready_and_starts_at_the_common_time(tenant: Path) -> None:
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()
    fds = {"DEVICELAB_READY_FD": str(ready_write), "DEVICELAB_GO_FD": str(go_read)}
    argv = [str(tenant), "--work-us", "50", "--arrivals", "fixed:100", "--duration-s", "1"]
    process = subprocess.Popen(argv, env={**os.environ, **fds}, pass_fds=(ready_write, go_read), stdout=subprocess.PIPE)
    try:
        assert os.read(ready_read, 16) == b"READY\n"
        start = time.monotonic_ns() + 80 * MS
        os.write(go_write, b"%d\n" % start)
        output, _ = process.communicate(timeout=30)
        ended = time.monotonic_ns()
    finally:
        process.kill()
        process.wait()
        for end in (ready_read, ready_write, go_read, go_write):
            os.close(end)
    got = cpu_tenant.parse(output, cpu_tenant.Params())
    assert got.info["start_ns"] == start
    last = got.tables["requests"]["end_ns"].max()
    assert start + last <= ended


def test_an_agent_that_goes_away_before_the_start_ends_it(tenant: Path) -> None:
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()
    fds = {"DEVICELAB_READY_FD": str(ready_write), "DEVICELAB_GO_FD": str(go_read)}
    process = subprocess.Popen(
        [str(tenant), "--work-us", "50"],
        env={**os.environ, **fds},
        pass_fds=(ready_write, go_read),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert os.read(ready_read, 16) == b"READY\n"
    os.close(go_write)
    os.close(go_read)
    output, said = process.communicate(timeout=30)
    os.close(ready_read)
    os.close(ready_write)
    assert process.returncode == 1
    assert output == b""
    assert b"went away" in said


def test_the_command_line_of_the_workload_is_one_it_accepts(tenant: Path) -> None:
    params = cpu_tenant.Params(work_us=20, queue=3)
    line = cpu_tenant.command(params, Context(dir="/lab", arrivals="poisson:50", duration_s=0.05, seed=7))
    assert line.argv[0] == "/lab/cpu_tenant"
    done = run(tenant, *line.argv[1:])
    assert done.returncode == 0, done.stderr
    info = cpu_tenant.parse(done.stdout, params).info
    assert (info["seed"], info["queue"], info["arrivals"]) == (7, 3, "poisson:50")
