"""The control socket of a virtual board: one JSON request a connection, one JSON answer."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from virtualboards.loop import READ, Loop

NAME = "control.sock"
_MAX = 1 << 20
Handler = Callable[[dict[str, Any]], dict[str, Any]]


def _address(fd: int) -> str:
    # A socket address holds 107 bytes, a path may be longer; the way through an open directory is always short.
    return f"/proc/self/fd/{fd}/{NAME}"


def listen(directory: Path) -> socket.socket:
    """A listening control socket in a board's directory."""
    sock = socket.socket(socket.AF_UNIX)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        sock.bind(_address(fd))
    finally:
        os.close(fd)
    sock.setblocking(False)
    sock.listen(8)
    return sock


def ask(directory: Path, request: dict[str, Any], *, timeout_s: float = 10.0) -> dict[str, Any]:
    """Send a request to a board and wait for its answer.

    Raises:
        OSError: nobody answers there (``TimeoutError`` after ``timeout_s``).
        ValueError, TypeError: the answer is not a JSON object.
    """
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout_s)
            sock.connect(_address(fd))
            sock.sendall(json.dumps(request).encode() + b"\n")
            data = b""
            while chunk := sock.recv(65536):
                data += chunk
    finally:
        os.close(fd)
    answer = json.loads(data)
    return dict(answer)


class Control:
    """Serves the control socket from the board's loop."""

    def __init__(self, loop: Loop, listener: socket.socket, handler: Handler) -> None:
        self._loop = loop
        self._handler = handler
        loop.watch(listener.fileno(), READ, lambda _: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        data = bytearray()
        self._loop.watch(sock.fileno(), READ, lambda _: self._read(sock, data))

    def _read(self, sock: socket.socket, data: bytearray) -> None:
        try:
            chunk = sock.recv(65536)
        except OSError:
            chunk = b""
        data += chunk
        if chunk and b"\n" not in data and len(data) < _MAX:
            return
        self._loop.forget(sock.fileno())
        with sock:
            if not chunk:
                return
            try:
                request = json.loads(data)
                answer = self._handler(request if isinstance(request, dict) else {})
            except ValueError as error:
                answer = {"error": f"not a request: {error}"}
            # Answers are short, and the asker waits for them: a blocking send cannot hang for long.
            sock.settimeout(5.0)
            try:
                sock.sendall(json.dumps(answer).encode())
            except OSError:
                return
