"""The same contract, where it lasts: following files, programs that live on, wires that are cut."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from transport_bench import Bench, Wire, sh

from devicelab.errors import (
    CommandTimeoutError,
    DeviceRefusedError,
    DeviceUnreachableError,
)
from devicelab.transports.base import Transport

pytestmark = pytest.mark.slow

# Following ------------------------------------------------------------------------------------------------------------


def read_until(follow: Iterator[bytes], done: Callable[[bytes], bool]) -> bytes:
    data = b""
    for piece in follow:
        data += piece
        if done(data):
            return data
    raise AssertionError("the follow ended by itself")


def test_follow_yields_what_is_there_and_what_is_appended(bench: Bench) -> None:
    path = f"{bench.dir}/log"
    bench.transport.run(sh('printf "0123456789" >"$1"', path))
    follow = bench.transport.follow(path, offset=4, idle_s=0.2)
    assert read_until(follow, lambda d: len(d) >= 6) == b"456789"
    bench.other.run(sh('printf "%s" "$2" >>"$1"', path, "ab\ncd"))
    assert read_until(follow, lambda d: len(d) >= 5) == b"ab\ncd"
    follow.close()


def test_follow_from_the_end_yields_only_what_is_new(bench: Bench) -> None:
    path = f"{bench.dir}/log"
    bench.transport.run(sh('printf "0123456789" >"$1"', path))
    follow = bench.transport.follow(path, offset=10, idle_s=0.2)
    assert next(follow) == b""
    bench.other.run(sh('printf new >>"$1"', path))
    assert read_until(follow, lambda d: len(d) >= 3) == b"new"
    follow.close()


def test_follow_waits_for_a_file_that_comes_later(bench: Bench) -> None:
    path = f"{bench.dir}/later"
    follow = bench.transport.follow(path, idle_s=0.2)
    assert next(follow) == b""
    bench.other.run(sh('printf here >"$1"', path))
    assert read_until(follow, lambda d: len(d) >= 4) == b"here"
    follow.close()


def test_follow_is_binary_safe_and_keeps_up(bench: Bench) -> None:
    path = f"{bench.dir}/log"
    # Not at the end: what may be the beginning of a mark or of a terminal's newline is held back until more comes.
    data = os.urandom(1_000_000) + b"."
    follow = bench.transport.follow(path, idle_s=0.5)
    assert next(follow) == b""
    bench.other.run(sh('cat >"$1"', path), stdin=data)
    assert read_until(follow, lambda d: len(d) >= len(data)) == data
    follow.close()


@pytest.mark.parametrize("exists", [True, False])
def test_closing_a_follow_ends_the_remote_process(bench: Bench, marker: str, exists: bool) -> None:
    path = f"{bench.dir}/{marker}"
    if exists:
        bench.transport.run(sh('printf x >"$1"', path))
    follow = bench.transport.follow(path, idle_s=0.2)
    bench.until(lambda: next(follow) == b"x" or (not exists and bench.alive(marker)))
    assert bench.alive(marker)
    follow.close()
    assert bench.alive(marker) == []


def test_commands_run_while_a_follow_is_held(bench: Bench) -> None:
    path = f"{bench.dir}/log"
    follow = bench.transport.follow(path, idle_s=0.2)
    assert next(follow) == b""
    bench.transport.run(sh('printf x >"$1"', path))
    assert read_until(follow, bool) == b"x"
    follow.close()


def test_another_follower_can_be_named(bench: Bench) -> None:
    follower = ("sh", "-c", 'printf "%s from %s" "$1" "$2"; exec sleep 600', "sh", "/the/file", "7")
    follow = bench.transport.follow("/the/file", offset=7, follower=follower)
    assert read_until(follow, lambda d: d.endswith(b"7")) == b"/the/file from 7"
    follow.close()


def test_a_follower_that_ends_well_ends_the_iteration(bench: Bench) -> None:
    assert b"".join(bench.transport.follow("/the/file", follower=("echo", "all"))) == b"all\n"


def test_a_follower_that_does_not_work_is_an_error_not_silence(bench: Bench) -> None:
    with pytest.raises(DeviceRefusedError, match="cannot follow"):
        list(bench.transport.follow("/the/file", follower=("devicelab-no-such-program",)))


# Starting -------------------------------------------------------------------------------------------------------------


def test_what_was_started_lives_on_when_the_connection_dies(bench: Bench, marker: str) -> None:
    log, gate = f"{bench.dir}/log", f"{bench.dir}/gate"
    script = 'echo begun; cat; until [ -e "$1" ]; do sleep 0.05; done; echo ended; echo err >&2; : >"$1.done"'
    follow = bench.transport.start(sh(script, gate, marker), log=log, follower=("sleep", "600"), idle_s=0.1)
    assert next(follow) == b""
    bench.drop()
    try:
        assert bench.alive(marker)
    finally:
        bench.transport.run(sh(': >"$1"', gate))
    bench.wait_for(sh('test -e "$1.done"', gate))
    assert bench.transport.run(["cat", log]).stdout == b"begun\nended\nerr\n"


def test_what_was_started_has_a_session_of_its_own_and_ignores_hangups(bench: Bench) -> None:
    log = f"{bench.dir}/log"
    bench.transport.start(
        sh('read -r s </proc/$$/stat; echo "$s"; kill -HUP $$; echo survived'), log=log, follower=("true",)
    )
    bench.wait_for(sh('grep -q survived "$1"', log))
    line = bench.transport.run(["head", "-n", "1", log]).stdout.decode()
    pid, session = line.split()[0], line.rpartition(") ")[2].split()[3]
    assert session == pid


def test_a_program_that_cannot_be_started_is_told_at_once(device: Transport) -> None:
    with pytest.raises(DeviceRefusedError, match="devicelab-no-such-program"):
        device.start(["devicelab-no-such-program"], log="/dev/null", follower=("true",))
    with pytest.raises(DeviceRefusedError, match="cannot start"):
        device.start(["true"], log="/no/such/folder/log", follower=("true",))


def test_what_is_started_is_put_there_first_and_followed(bench: Bench, tmp_path: Path) -> None:
    tool, log = f"{bench.dir}/my tool", f"{bench.dir}/log"
    (tmp_path / "tool").write_text("#!/bin/sh\necho from $1\n")
    parcel = bench.transport.send([(tmp_path / "tool", tool, 0o755)])
    assert bench.transport.run(sh('test -e "$1"', tool)).exit_code != 0
    follower = sh('until grep -q from "$1"; do sleep 0.05; done; cat "$1"; echo end', log)
    follow = bench.transport.start([tool, "it's"], log=log, parcel=parcel, follower=follower)
    assert b"".join(follow) == b"from it's\nend\n"
    # ls would quote the blank on a terminal.
    names = 'cd "$1"; for name in * .[!.]*; do [ ! -e "$name" ] || echo "$name"; done'
    assert bench.transport.run(sh(names, bench.dir)).stdout == b"log\nmy tool\n"


def test_closing_what_follows_a_start_ends_the_follower_alone(bench: Bench, marker: str) -> None:
    log, gate = f"{bench.dir}/log", f"{bench.dir}/gate"
    started = sh('until [ -e "$1" ]; do sleep 0.05; done', gate, marker)
    follower = sh("echo here; exec sleep 600", f"{marker}-follower")
    follow = bench.transport.start(started, log=log, follower=follower, idle_s=0.2)
    assert read_until(follow, bool) == b"here\n"
    follow.close()
    assert len(bench.alive(marker)) == 1
    bench.transport.run(sh(': >"$1"', gate))


def test_a_follower_of_a_start_that_does_not_work_is_an_error(device: Transport) -> None:
    with pytest.raises(DeviceRefusedError, match="cannot follow"):
        list(device.start(["true"], log="/dev/null", follower=("devicelab-no-such-program",)))


# The wire -------------------------------------------------------------------------------------------------------------


def test_a_cut_in_the_middle_of_a_command_is_unreachable(bench: Bench, wire: Wire) -> None:
    with pytest.raises(DeviceUnreachableError) as caught:
        bench.transport.run(sh("echo here; exec sleep 600"), on_stdout=lambda _: wire.cut())
    assert not isinstance(caught.value, CommandTimeoutError)
    assert caught.value.device == bench.transport.address
    assert caught.value.hint


def test_a_cut_in_the_middle_of_a_follow_is_unreachable_and_ends_the_remote_process(
    bench: Bench, wire: Wire, marker: str
) -> None:
    path = f"{bench.dir}/{marker}"
    bench.transport.run(sh('printf x >"$1"', path))
    follow = bench.transport.follow(path, idle_s=0.2)
    assert read_until(follow, bool) == b"x"
    wire.cut()
    with pytest.raises(DeviceUnreachableError):
        read_until(follow, lambda _: False)
    wire.mend()
    bench.until(lambda: bench.alive(marker) == [])


def test_a_cut_in_the_middle_of_a_push_leaves_the_old_file(bench: Bench, wire: Wire, tmp_path: Path) -> None:
    remote = f"{bench.dir}/file"
    (tmp_path / "source").write_bytes(b"old")
    bench.transport.push(tmp_path / "source", remote)
    (tmp_path / "source").write_bytes(os.urandom(20_000_000))
    wire.cut_after(1_000_000)
    with pytest.raises(DeviceUnreachableError):
        bench.transport.push(tmp_path / "source", remote)
    wire.mend()
    assert bench.read(remote) == b"old"


def test_while_the_wire_is_cut_everything_is_unreachable_and_afterwards_all_is_well(bench: Bench, wire: Wire) -> None:
    wire.cut()
    for _ in range(2):
        with pytest.raises(DeviceUnreachableError) as caught:
            bench.transport.run(["true"])
        assert caught.value.device == bench.transport.address
    with pytest.raises(DeviceUnreachableError):
        bench.transport.reconnect(timeout_s=0.5)
    wire.mend()
    bench.transport.reconnect(timeout_s=20)
    assert bench.transport.run(["echo", "back"]).stdout == b"back\n"


# Life ----------------------------------------------------------------------------------------------------------------


def test_close_is_harmless_twice_and_reconnect_without_a_break(bench: Bench) -> None:
    bench.transport.reconnect(timeout_s=10)
    bench.transport.close()
    bench.transport.close()


def test_many_transports_work_side_by_side(bench: Bench) -> None:
    answers: dict[int, bytes] = {}

    def work(number: int) -> None:
        transport = bench.connect()
        try:
            for _ in range(5):
                answers[number] = transport.run(["cat"], stdin=str(number).encode() * 1000).stdout
        finally:
            with suppress(Exception):
                transport.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: str(n).encode() * 1000 for n in range(4)}
