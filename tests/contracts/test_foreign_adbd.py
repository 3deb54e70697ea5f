"""Commands through the real adb server to daemons with other manners: none is lost, none waits for what never comes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devicelab.transports.adb import AdbTransport
from tests import foreign_adbd
from virtualboards.lifecycle import AdbServer

pytestmark = [pytest.mark.sim, pytest.mark.slow]

COMMANDS = int(os.environ.get("DEVICELAB_TEST_COMMANDS", "150"))
_SLOW_S = 1.0


@pytest.fixture(params=["early-close", "never-close"])
def transport(
    request: pytest.FixtureRequest, adb_server: AdbServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[AdbTransport]:
    monkeypatch.setattr(AdbTransport, "scratch", str(tmp_path))
    with foreign_adbd.running(request.param) as port:
        adb_server.attach(f"127.0.0.1:{port}")
        yield AdbTransport(f"adb:127.0.0.1:{port}@127.0.0.1:{adb_server.port}")
        adb_server._client().disconnect(f"127.0.0.1:{port}")


def test_no_command_is_lost_and_none_is_slow(transport: AdbTransport) -> None:
    """2,000 of each: ``benchmarks/adb_commands.py``."""
    for number in range(COMMANDS):
        fastest = _SLOW_S
        # A machine with other work may keep any command waiting; what is waited for in vain takes long every time.
        for _ in range(3):
            began = time.monotonic()
            done = transport.run(["sh", "-c", "exec </dev/null; echo a; echo b >&2; exit 4"])
            fastest = min(fastest, time.monotonic() - began)
            assert (done.exit_code, done.stdout, done.stderr) == (4, b"a\n", b"b\n"), number
            if fastest < _SLOW_S:
                break
        assert fastest < _SLOW_S, number


def test_a_board_may_be_asked_for_by_the_server_s_number(transport: AdbTransport) -> None:
    number = next(one.details["transport_id"] for one in transport.server.devices() if one.serial == transport.serial)
    same = AdbTransport(f"adb:transport_id:{number}@{transport.server.host}:{transport.server.port}")
    assert same.state()[0] in {"device", "host"}
    same.reconnect(timeout_s=10)
    assert same.run(["echo", "x"]).stdout == b"x\n"


def test_input_that_a_program_does_not_read_takes_nothing_along(transport: AdbTransport) -> None:
    for program, said in ((["sh", "-c", "echo a; exit 4"], b"a\n"), (["sh", "-c", "cat; exit 4"], None)):
        for size in (0, 1, 100_000):
            data = b"x" * size
            done = transport.run(program, stdin=data)
            assert (done.exit_code, done.stdout) == (4, data if said is None else said)


def test_what_is_started_lives_on_after_its_session(transport: AdbTransport, tmp_path: Path) -> None:
    count = 40
    for number in range(count):
        command = ["sh", "-c", f"echo >{tmp_path}/done-{number}"]
        assert not list(transport.start(command, log=f"{tmp_path}/log", follower=["true"]))
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("done-*"))) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(list(tmp_path.glob("done-*"))) == count
