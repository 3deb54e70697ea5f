"""A command's streams however their bytes are cut: packets, parts with tokens between them, words for odd shells."""

import itertools
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicelab.errors import DeviceUnreachableError, DistrustError
from devicelab.transports import _stream
from devicelab.transports._stream import ERR, EXIT, OUT, Behind, chunks
from devicelab.transports.adb.stream import LegacyStream, ShellStream
from devicelab.transports.ssh import loginshell

TOKEN = "devicelab0123"  # noqa: S105
LONG_S = 20.0


@contextmanager
def wire() -> Iterator[tuple[Any, socket.socket]]:
    """An open service and its far end."""
    here, there = socket.socketpair()
    try:
        yield SimpleNamespace(conn=here, close=here.close), there
    finally:
        here.close()
        there.close()


def packet(kind: int, data: bytes) -> bytes:
    return struct.pack("<BI", kind, len(data)) + data


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(at)]


def heard(stream: Any, there: socket.socket, sent: list[bytes]) -> tuple[bytes, bytes, int | None]:
    """Both outputs and the exit code, each piece being sent when all before it was taken."""
    said = {OUT: b"", ERR: b""}
    for piece in sent:
        if piece:
            there.sendall(piece)
        while (event := stream.read(0.0)) is not None:
            kind, data = event
            assert data
            if kind == EXIT:
                return said[OUT], said[ERR], data[0]
            said[kind] += data
    return said[OUT], said[ERR], None


CUTS = st.lists(st.integers(0, 1000), max_size=8)
SAID = st.binary(max_size=60)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([OUT, ERR, 9]), SAID), max_size=5), st.integers(0, 255), CUTS)
def test_packets_are_put_together_however_they_are_cut(
    sent: list[tuple[int, bytes]], code: int, cuts: list[int]
) -> None:
    whole = b"".join(packet(kind, data) for kind, data in sent) + packet(EXIT, bytes([code]))
    with wire() as (link, there):
        got = heard(ShellStream(cast("Any", link), "adb:x", None), there, pieces(whole, cuts))
    expected = [b"".join(data for kind, data in sent if kind == which) for which in (OUT, ERR)]
    assert got == (*expected, code)


@settings(max_examples=40, deadline=None)
@given(SAID, SAID, SAID, st.integers(0, 255), st.sampled_from([b"\n", b"\r\n", b"\r\r\n"]), CUTS)
def test_parts_between_tokens_are_two_outputs_and_a_code_however_they_are_cut(
    noise: bytes, out: bytes, err: bytes, code: int, newline: bytes, cuts: list[int]
) -> None:
    token = TOKEN.encode()
    noise, out, err = (part.replace(b"\r", b"").replace(token, b"") for part in (noise, out, err))
    whole = b"%b%b 12 (sh)\n%b%b%d\n%b%b" % (noise, token, out, token, code, err, token)
    with wire() as (link, there):
        stream = LegacyStream(cast("Any", link), "adb:x", TOKEN, newline)
        got = heard(stream, there, pieces(whole.replace(b"\n", newline), cuts))
    assert got == (out, token + b" 12 (sh)\n" + err, code)


def test_a_stream_that_says_nothing_is_waited_for_as_long_as_was_asked() -> None:
    """Nothing in no time; what was sent meanwhile in any; an end of the connection is said."""
    for make in (
        lambda link: ShellStream(link, "adb:x", None),
        lambda link: LegacyStream(link, "adb:x", TOKEN, b"\n"),
    ):
        with wire() as (link, there):
            stream = make(link)
            assert stream.read(0.0) is None
            there.sendall(packet(OUT, b"a") if isinstance(stream, ShellStream) else f"{TOKEN} 1\na".encode())
            assert stream.read(LONG_S) is not None
            there.close()
            with pytest.raises(DeviceUnreachableError, match="connection lost"):
                heard(stream, there, [b""] * 3)


def test_input_is_sent_in_packets_and_its_end_is_said() -> None:
    with wire() as (link, there):
        stream = ShellStream(cast("Any", link), "adb:x", iter([b"one", b"two"]))
        wanted = packet(0, b"one") + packet(0, b"two") + packet(4, b"")
        got = b""
        there.settimeout(LONG_S)
        while len(got) < len(wanted):
            assert stream.read(0.01) is None
            got += there.recv(len(wanted) - len(got)) if _readable(there) else b""
        assert got == wanted


def _readable(there: socket.socket) -> bool:
    there.setblocking(False)
    try:
        return bool(there.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        there.settimeout(LONG_S)


@settings(max_examples=40)
@given(st.sampled_from([b"", b"login: hi\n", b"x\ny\n", b"not devicelab-begun\n"]), SAID, CUTS)
def test_what_comes_before_the_line_that_a_command_began_is_not_its_own(
    before: bytes, own: bytes, cuts: list[int]
) -> None:
    line = _stream._BEGUN_LINE
    taken: list[bytes] = []
    for receiver in (None, taken.append):
        behind = Behind("x", receiver)
        for piece in pieces(before + line + own, cuts):
            behind.take(piece)
        assert behind.begun
        assert bytes(behind.before) == before
    assert bytes(Behind("x").own) == b""
    assert b"".join(taken) == own


def test_a_word_at_the_end_of_another_line_is_no_beginning() -> None:
    behind = Behind("x")
    behind.take(b"echo " + _stream._BEGUN_LINE)
    assert not behind.begun
    assert bytes(behind.before) == b"echo " + _stream._BEGUN_LINE


def test_a_command_may_print_so_much_before_it_begins_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stream, "MAX_OUTPUT_BYTES", 100)
    behind = Behind("x")
    behind.take(b"a" * 100)
    with pytest.raises(DistrustError):
        behind.take(b"a")


@settings(max_examples=30)
@given(st.binary(max_size=300), st.integers(1, 100))
def test_chunks_are_the_data_in_pieces_of_a_size(data: bytes, size: int) -> None:
    found = list(chunks(data, size))
    assert b"".join(found) == data
    assert all(len(one) == size for one in found[:-1])
    assert all(0 < len(one) <= size for one in found[-1:])


@pytest.mark.parametrize("length", [1, 119, 120, 121, 240, 241])
def test_a_command_in_the_simplest_words_is_the_same_command(length: int) -> None:
    """As any shell gives it to ``sh``, whatever is in it and wherever a word ends."""
    said = ("'!\"$x`\\é" * 60)[:length]
    command = b"printf %s '" + said.replace("'", "'\\''").encode() + b"'"
    for cut in (0, 1):
        told = subprocess.run(["sh", "-c", loginshell.encoded(b" " * cut + command)], capture_output=True, check=True)
        assert told.stdout.decode() == said
    assert len(loginshell.encoded(command)) <= loginshell.GROWTH * len(command) + 100
