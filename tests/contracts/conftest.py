"""Devices for the contract suites: this machine, an OpenSSH server, virtual boards behind a real adb server."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
import sshd
from sim_fixtures import boards_in
from transport_bench import Bench, Wire

from devicelab.transports import connect
from devicelab.transports.adb import AdbTransport
from devicelab.transports.base import Transport
from virtualboards.lifecycle import AdbServer, VirtualBoard

KINDS = (
    pytest.param("local", id="local"),
    pytest.param("ssh", id="ssh", marks=pytest.mark.sshd),
    pytest.param("adb", id="adb", marks=pytest.mark.sim),
    # A board whose adbd has no shell_v2 (Android 6 and older).
    pytest.param("adb-v1", id="adb-v1", marks=pytest.mark.sim),
    # One that has no exec: either (Android 4), so that commands run on a terminal, which changes newlines.
    pytest.param("adb-pty", id="adb-pty", marks=(pytest.mark.sim, pytest.mark.slow)),
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


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory, adb_server: AdbServer) -> Iterator[Callable[[bool], VirtualBoard]]:
    """A virtual board with or without shell_v2, started once a module."""
    with boards_in(tmp_path_factory.mktemp("sim") / "cache", adb_server) as start:
        yield cache(lambda shell_v2: start("note10", shell_v2=shell_v2))


def _adb(request: pytest.FixtureRequest, stack: ExitStack) -> Bench:
    server: AdbServer = request.getfixturevalue("adb_server")
    board = request.getfixturevalue("boards")(request.param == "adb")
    wire = Wire(server.port)
    stack.callback(wire.cut)

    def connect_to(port: int) -> AdbTransport:
        transport = connect(f"adb:{board.serial}@127.0.0.1:{port}")
        assert isinstance(transport, AdbTransport)
        if request.param == "adb-pty":
            transport._legacy = ("shell,pty:", b"\r\n")
        return transport

    other = connect_to(server.port)
    folder = f"/data/local/tmp/{secrets.token_hex(8)}"
    assert other.run(["mkdir", folder]).exit_code == 0
    return Bench(connect=lambda: connect_to(wire.port), other=other, dir=folder, wire=wire)


MAKERS: dict[str, Callable[[pytest.FixtureRequest, ExitStack], Bench]] = {
    "local": _local,
    "ssh": _ssh,
    "adb": _adb,
    "adb-v1": _adb,
    "adb-pty": _adb,
}


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with ExitStack() as stack:
        bench = MAKERS[request.param](request, stack)
        stack.callback(bench.close)
        yield bench


@pytest.fixture
def device(bench: Bench) -> Transport:
    return bench.transport


@pytest.fixture
def wire(bench: Bench) -> Wire:
    assert bench.wire is not None
    return bench.wire


@pytest.fixture
def marker() -> str:
    """A word to find a test's processes by."""
    return f"marker{secrets.token_hex(8)}"
