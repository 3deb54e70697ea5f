"""klo as a tenant: inferences as requests, open loop, with the arrivals of the other tenants."""

import os
import subprocess
from pathlib import Path

import pytest

from devicelab.device.build import build
from devicelab.device.toolchain import host_abi
from devicelab.workloads import klo_tenant
from devicelab.workloads.base import Context
from tests import tenant_script

MS = 1_000_000


@pytest.fixture(scope="module")
def klo() -> Path:
    """A klo that stops at the first bad memory access or undefined operation."""
    abi = host_abi()
    if abi is None:
        pytest.skip("no toolchain for this machine")
    return build("klo", abi, toolchain="host-sanitize").path


PARAMS = klo_tenant.Params(backend="emulated", network="squeezenet", k=4, warmup=1, work_pct=10)


def serve(klo: Path, params: klo_tenant.Params = PARAMS, **context: object) -> "subprocess.CompletedProcess[bytes]":
    line = klo_tenant.command(params, Context(**{"dir": str(klo.parent), "duration_s": 0.3, **context}))
    return subprocess.run(line.argv, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("arrivals", ["fixed:40", "poisson:30", "every:0.06"])
def test_requests_come_as_they_do_to_other_tenants(klo: Path, arrivals: str) -> None:
    done = serve(klo, arrivals=arrivals, seed=5)
    assert done.returncode == 0, done.stderr
    got = klo_tenant.parse(done.stdout, PARAMS)
    assert got.flags == ()
    tables = (got.tables["requests"], got.tables["dropped"])
    scheduled = sorted(int(at) for table in tables for at in table["scheduled_ns"])
    expected = tenant_script.load().arrivals(arrivals, 5, 300 * MS)
    assert len(scheduled) == len(expected)
    assert max(abs(a - b) for a, b in zip(scheduled, expected, strict=True)) <= 1


def test_an_emulated_gpu_is_said_to_be_one(klo: Path) -> None:
    got = klo_tenant.parse(serve(klo, arrivals="continuous").stdout, PARAMS)
    assert got.simulated
    assert got.info["backend"] == "emulated"
    assert got.metrics["requests"].value > 1


def test_a_tenant_may_flush_by_plan(klo: Path) -> None:
    words = "--serve fixed:50 --duration-s 0.1 --network squeezenet --backend emulated --warmup 1 --dynamic"
    argv = [str(klo), *words.split()]
    done = subprocess.run(argv, capture_output=True, check=True)
    assert klo_tenant.parse(done.stdout, PARAMS).metrics["requests"].value > 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--serve", "often", "--k", "4"), "not such arrivals"),
        (("--serve", "fixed:5", "--k", "4", "--duration-s", "-1"), "--duration-s"),
        (("--serve", "fixed:5", "--k", "4", "--queue", "x"), "--queue"),
        (("--serve", "fixed:5", "--k", "4", "--arrival-seed", "1.5"), "--arrival-seed"),
        (("--serve", "fixed:5"), "--k, --schedule and --dynamic"),
        (("--k", "4", "--queue", "1"), "belong to --serve"),
    ],
)
def test_wrong_usage_is_told(klo: Path, words: tuple[str, ...], why: str) -> None:
    argv = [str(klo), "--network", "squeezenet", "--backend", "emulated", "--warmup", "0", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert why in done.stderr
    assert done.stdout == ""


def test_it_waits_for_the_common_start(klo: Path) -> None:
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()
    line = klo_tenant.command(PARAMS, Context(dir=str(klo.parent), arrivals="fixed:20", duration_s=0.1))
    fds = {"DEVICELAB_READY_FD": str(ready_write), "DEVICELAB_GO_FD": str(go_read)}
    process = subprocess.Popen(
        line.argv, env={**os.environ, **fds}, pass_fds=(ready_write, go_read), stdout=subprocess.PIPE
    )
    assert os.read(ready_read, 16) == b"READY\n"
    os.close(go_read)
    os.close(go_write)
    output, _ = process.communicate(timeout=30)
    os.close(ready_read)
    os.close(ready_write)
    assert (process.returncode, output) == (1, b"")  # the agent went away
