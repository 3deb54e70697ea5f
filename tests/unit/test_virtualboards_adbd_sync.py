"""The sync service against requests that are cut, wrong or hostile; it serves this machine's files here."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtualboards.adbd import sync


class Peer:
    """The host's end of a sync session."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(20)
        self._thread = threading.Thread(target=self._serve, args=(theirs,))
        self._thread.start()

    @staticmethod
    def _serve(sock: socket.socket) -> None:
        with sock:
            sync.serve(sock)

    def ask(self, word: bytes, data: bytes = b"", length: int | None = None) -> None:
        self.sock.sendall(struct.pack("<4sI", word, len(data) if length is None else length) + data)

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.sock.recv(size - len(data))
            assert chunk, "the session ended early"
            data += chunk
        return data

    def failure(self) -> str:
        word, length = struct.unpack("<4sI", self.read(8))
        assert word == b"FAIL"
        return self.read(length).decode()

    def ended(self) -> bool:
        return self.sock.recv(1) == b""

    def close(self) -> None:
        self.sock.close()
        self._thread.join()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


def test_send_v1_creates_parents_and_replaces(peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    for content in (b"longer content", b"short"):
        peer.ask(b"SEND", f"{path},33188".encode())
        peer.ask(b"DATA", content)
        peer.ask(b"DONE", length=1_600_000_000)
        assert peer.read(8) == struct.pack("<4sI", b"OKAY", 0)
        assert path.read_bytes() == content
    assert int(path.stat().st_mtime) == 1_600_000_000
    assert path.stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("mode", ["0400", "0x100", "256", "33024", "0100400", "0400 and more"])
def test_send_v1_takes_its_mode_as_strtoul_does(peer: Peer, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    peer.ask(b"SEND", f"{path},{mode}".encode())
    peer.ask(b"DONE", length=0)
    assert peer.read(8) == struct.pack("<4sI", b"OKAY", 0)
    assert path.stat().st_mode & 0o777 == 0o444


def test_a_failed_send_says_why_at_once_and_swallows_the_rest(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    peer.ask(b"SEND", f"{tmp_path}/dir,33188".encode())
    assert "couldn't create file" in peer.failure()
    peer.ask(b"DATA", b"x" * 1000)
    peer.ask(b"DONE", length=0)
    assert peer.ended()


def test_a_link_is_sent_as_a_link(peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "link"
    peer.ask(b"SEND", f"{path},{0o120777}".encode())
    peer.ask(b"DATA", b"/target")
    peer.ask(b"DONE", length=0)
    assert peer.read(8)[:4] == b"OKAY"
    assert os.readlink(path) == "/target"  # noqa: PTH115


def test_recv_gives_chunks_and_a_missing_file_its_reason(peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 70_000)
    peer.ask(b"RECV", str(path).encode())
    assert struct.unpack("<4sI", peer.read(8)) == (b"DATA", 65536)
    peer.read(65536)
    assert struct.unpack("<4sI", peer.read(8)) == (b"DATA", 4464)
    peer.read(4464)
    assert peer.read(8) == struct.pack("<4sI", b"DONE", 0)
    peer.ask(b"RECV", str(tmp_path / "none").encode())
    assert peer.failure() == "open failed: No such file or directory"
    assert peer.ended()


def test_stat_and_list_in_both_versions_agree(peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    info = path.stat()
    peer.ask(b"STAT", str(path).encode())
    assert struct.unpack("<4sIII", peer.read(16)) == (b"STAT", info.st_mode, 3, int(info.st_mtime))
    peer.ask(b"STA2", str(path).encode())
    assert struct.unpack("<4sIQQIIIIQqqq", peer.read(72))[4] == info.st_mode
    peer.ask(b"STA2", str(tmp_path / "none").encode())
    assert struct.unpack("<4sIQQIIIIQqqq", peer.read(72))[1] == 2
    peer.ask(b"LIST", str(tmp_path).encode())
    names = []
    while (row := struct.unpack("<4sIIII", peer.read(20)))[0] == b"DENT":
        names.append(peer.read(row[4]))
    peer.ask(b"LIS2", str(tmp_path).encode())
    names2 = []
    while (row2 := struct.unpack("<4sIQQIIIIQqqqI", peer.read(76)))[0] == b"DNT2":
        names2.append(peer.read(row2[-1]))
    assert sorted(names) == sorted(names2) == [b".", b"..", b"file"]


@pytest.mark.parametrize(
    ("word", "data", "reason"),
    [
        (b"STAT", b"/" * 1025, "path too long"),
        (b"EVIL", b"/x", "unknown command"),
        (b"SEND", b"/no-mode", "missing"),
        (b"SEND", b"/no-mode,", "bad mode"),
        (b"SEND", b"/no-mode,read", "bad mode"),
        (b"SEND", b"/no-mode,999999999999999999999999", "bad mode"),
    ],
)
def test_a_wrong_request_is_answered_and_ends_the_session(peer: Peer, word: bytes, data: bytes, reason: str) -> None:
    peer.ask(word, data)
    assert reason in peer.failure()


def test_a_chunk_larger_than_agreed_ends_the_session(peer: Peer, tmp_path: Path) -> None:
    peer.ask(b"SEND", f"{tmp_path}/f,33188".encode())
    peer.ask(b"DATA", length=65537)
    assert "oversize" in peer.failure()


def test_a_host_that_vanishes_in_the_middle_leaves_no_session_behind(tmp_path: Path) -> None:
    peer = Peer()
    peer.ask(b"SEND", f"{tmp_path}/f,33188".encode())
    peer.ask(b"DATA", b"abc", length=1000)
    peer.close()
