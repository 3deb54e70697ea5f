"""Devices for the contract suites: this machine, an OpenSSH server, virtual boards behind a real adb server."""

import secrets
from collections.abc import Iterator

import pytest
from transport_bench import Bench, Wire

from devicelab.transports import connect

KINDS = (pytest.param("local", id="local"),)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every transport, but tests that cut the wire only where there is one."""
    if "bench" in metafunc.fixturenames:
        kinds = [k for k in KINDS if "wire" not in metafunc.fixturenames or k.values != ("local",)]
        metafunc.parametrize("bench", kinds, indirect=True)


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = str(tmp_path_factory.mktemp("device"))
    bench = Bench(connect=lambda: connect("local:"), other=connect("local:"), dir=folder)
    yield bench
    bench.close()


@pytest.fixture
def wire(bench: Bench) -> Wire:
    assert bench.wire is not None
    return bench.wire


@pytest.fixture
def marker() -> str:
    """A word to find a test's processes by."""
    return f"marker{secrets.token_hex(8)}"
