"""Pages on this computer alone: a small server on loopback that only reads, ended by Ctrl-C."""

import contextlib
import mimetypes
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from devicelab.errors import ConfigError

HOST = "127.0.0.1"
_NAMES = {"127.0.0.1", "localhost", "[::1]"}
_TEXTS = {"text/html", "text/css", "text/csv"}


@dataclass(frozen=True)
class Answer:
    """What is sent: its type and bytes; ``file`` is the name it is saved under, if it is to be."""

    kind: str
    body: bytes
    file: str = ""


Pages = Callable[[str], Answer | None]
"""Path without the first slash ("" is the first page) → what is sent; ``None``: there is no such page."""


def files_of(root: Path, index: str = "index.html") -> Pages:
    """The files of a folder; nothing outside of it, whatever links and paths say."""
    base = root.resolve()

    def answer(path: str) -> Answer | None:
        found = (base / (path or index)).resolve()
        if not found.is_relative_to(base) or not found.is_file():
            return None
        return Answer(mimetypes.guess_type(found.name)[0] or "application/octet-stream", found.read_bytes())

    return answer


def serve(pages: Pages, *, port: int = 0, ready: Callable[[str], None] = lambda _: None) -> None:
    """Answer requests from this computer until interrupted.

    Args:
        pages: what there is.
        port: 0 takes one that is free.
        ready: told the address.

    Raises:
        ConfigError: the port is taken.
    """
    with server(pages, port) as running, contextlib.suppress(KeyboardInterrupt):
        ready(f"http://{HOST}:{running.server_port}/")
        running.serve_forever(poll_interval=0.2)


def server(pages: Pages, port: int = 0) -> ThreadingHTTPServer:
    """The server, bound and not yet answering.

    Raises:
        ConfigError: the port is taken.
    """

    class Handler(_Handler):
        answer = staticmethod(pages)

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise ConfigError(
            f"port {port} of {HOST} cannot be used: {error.strerror}", hint="--port 0 takes one"
        ) from error


class _Handler(BaseHTTPRequestHandler):
    """Reads only. A page of another site that points its own name at this address is refused by the name."""

    protocol_version = "HTTP/1.1"
    server_version = "devicelab"
    sys_version = ""
    answer: Pages

    def do_GET(self) -> None:
        self._send(body=True)

    def do_HEAD(self) -> None:
        self._send(body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's signature
        """Nothing: who reads their own page needs no log of it."""

    def _send(self, *, body: bool) -> None:
        name = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host") or ""
        if name not in _NAMES:
            self._reply(HTTPStatus.FORBIDDEN, Answer("text/plain", b"only for this computer\n"), body=body)
            return
        try:
            found = self.answer(unquote(urlsplit(self.path).path).lstrip("/"))
        except Exception as error:  # noqa: BLE001 - one page's failure must not end the server; it is said there
            text = f"{type(error).__name__}: {error}\n".encode(errors="replace")
            self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, Answer("text/plain", text), body=body)
            return
        if found is None:
            self._reply(HTTPStatus.NOT_FOUND, Answer("text/plain", b"no such page\n"), body=body)
        else:
            self._reply(HTTPStatus.OK, found, body=body)

    def _reply(self, status: HTTPStatus, found: Answer, *, body: bool) -> None:
        self.send_response(status)
        kind = f"{found.kind}; charset=utf-8" if found.kind in {*_TEXTS, "text/plain"} else found.kind
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(found.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        if found.file:
            self.send_header("Content-Disposition", f'attachment; filename="{found.file}"')
        self.end_headers()
        if body:
            with contextlib.suppress(ConnectionError):
                self.wfile.write(found.body)
