"""Telling people: what a service receives, what is said of one that fails, and that no secret is in it."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from devicelab.farm.notify import notify
from devicelab.model.night import Notify

pytest.importorskip("apprise")
# Apprise's e-mail plugin still imports it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

SECRET = "s3cr3t-t0ken"  # noqa: S105 - made up


@dataclass
class Hook:
    """A webhook on this computer: what it was sent, and how it answers."""

    port: int = 0
    status: int = 200
    sent: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"json://user:{SECRET}@127.0.0.1:{self.port}/{SECRET}"


@pytest.fixture
def hook() -> Iterator[Hook]:
    state = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.sent.append(json.loads(body))
            state.paths.append(self.path)
            self.send_response(state.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def test_nobody_to_tell_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEVICELAB_NOTIFY", raising=False)
    assert notify(Notify(), "title", "body") == ()
    monkeypatch.setenv("DEVICELAB_NOTIFY", "  ")
    assert notify(Notify(), "title", "body") == ()


def test_a_service_receives_title_and_body(monkeypatch: pytest.MonkeyPatch, hook: Hook) -> None:
    monkeypatch.setenv("NIGHT_URLS", hook.url)
    assert notify(Notify(urls_env="NIGHT_URLS"), "2 regressions\nin one line", "- **regression** klo on note10") == ()
    (sent,) = hook.sent
    assert sent["title"] == "2 regressions in one line"
    assert "klo on note10" in sent["message"]
    assert hook.paths == [f"/{SECRET}"]


def test_a_service_that_fails_is_named_by_its_place_and_the_others_are_told(
    monkeypatch: pytest.MonkeyPatch,
    hook: Hook,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("DEVICELAB_NOTIFY", f"json://127.0.0.1:1/{SECRET} nosuch://{SECRET} {SECRET} {hook.url}")
    problems = notify(Notify(), "title", "body")
    assert [problem.partition(" of ")[0] for problem in problems] == ["service 1", "service 2", "service 3"]
    assert "JSON" in problems[0]
    assert len(hook.sent) == 1
    said = "".join([*problems, *capfd.readouterr(), *(record.getMessage() for record in caplog.records)])
    assert SECRET not in said
    assert "127.0.0.1" not in said


def test_a_service_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch, hook: Hook) -> None:
    hook.status = 403
    monkeypatch.setenv("DEVICELAB_NOTIFY", hook.url)
    (problem,) = notify(Notify(), "title", "body")
    assert problem == "service 1 of $DEVICELAB_NOTIFY (JSON) did not take the message"


def test_without_apprise_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICELAB_NOTIFY", f"json://{SECRET}")
    monkeypatch.setitem(sys.modules, "apprise", None)
    (problem,) = notify(Notify(), "title", "body")
    assert "pip install" in problem
    assert "apprise>=" in problem
    assert SECRET not in problem


def test_an_error_inside_a_service_does_not_get_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import apprise

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"https://{SECRET}")

    monkeypatch.setenv("DEVICELAB_NOTIFY", f"json://127.0.0.1/{SECRET}")
    monkeypatch.setattr(apprise.Apprise, "notify", fail)
    assert notify(Notify(), "title", "body") == ("service 1 of $DEVICELAB_NOTIFY failed (RuntimeError)",)
