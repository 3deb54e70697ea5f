"""Devices for the contract suites: this machine, an OpenSSH server, virtual boards behind a real adb server."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import sshd
from transport_bench import Bench, Wire

from devicelab.transports import connect

KINDS = (
    pytest.param("local", id="local"),
    pytest.param("ssh", id="ssh", marks=pytest.mark.sshd),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every transport; what cuts the wire only where there is one."""
    if "bench" in metafunc.fixturenames:
        kinds = [kind for kind in KINDS if "wire" not in metafunc.fixturenames or kind.values != ("local",)]
        metafunc.parametrize("bench", kinds, indirect=True)


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.SshServer]:
    server = sshd.start(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def ssh_home(ssh_server: sshd.SshServer, monkeypatch: pytest.MonkeyPatch) -> sshd.SshServer:
    """The server, with HOME where its key is, no agent, and nobody known yet."""
    monkeypatch.setenv("HOME", str(ssh_server.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for name in ("known_hosts", "config"):
        (ssh_server.home / ".ssh" / name).unlink(missing_ok=True)
    return ssh_server


def _local(request: pytest.FixtureRequest, stack: ExitStack) -> Bench:
    folder = request.getfixturevalue("tmp_path_factory").mktemp("device")
    return Bench(connect=lambda: connect("local:"), other=connect("local:"), dir=str(folder))


def _ssh(request: pytest.FixtureRequest, stack: ExitStack) -> Bench:
    server: sshd.SshServer = request.getfixturevalue("ssh_home")
    wire = Wire(server.port)
    stack.callback(wire.cut)
    server.know(f"[127.0.0.1]:{wire.port}", f"[127.0.0.1]:{server.port}")
    return Bench(
        connect=lambda: connect(f"ssh:{server.user}@127.0.0.1:{wire.port}"),
        other=connect(f"ssh:{server.user}@127.0.0.1:{server.port}"),
        dir=str(request.getfixturevalue("tmp_path_factory").mktemp("device")),
        wire=wire,
    )


MAKERS: dict[str, Callable[[pytest.FixtureRequest, ExitStack], Bench]] = {"local": _local, "ssh": _ssh}


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with ExitStack() as stack:
        bench = MAKERS[request.param](request, stack)
        stack.callback(bench.close)
        yield bench


@pytest.fixture
def wire(bench: Bench) -> Wire:
    assert bench.wire is not None
    return bench.wire


@pytest.fixture
def marker() -> str:
    """A word to find a test's processes by."""
    return f"marker{secrets.token_hex(8)}"
