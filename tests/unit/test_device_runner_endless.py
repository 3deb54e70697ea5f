"""A board whose journal never ends, and whose agent says that it works, is not attended for ever."""

import itertools
from collections.abc import Iterator
from typing import Any, cast

import pytest

from devicelab.device import agent, runner
from devicelab.device.agent import Status
from devicelab.device.facts import Device
from devicelab.errors import DistrustError
from devicelab.model.journal import Event, seal_line
from devicelab.model.plan import Plan, Run
from devicelab.transports.local import LocalTransport
from tests.unit import board_trees

PLAN = Plan(plan_id="c-1", campaign="c", device="d", holder="h", runs=(Run(run_id="a", cell_id="c", repetition=0),))
START = seal_line({"event": "run-start", "run_id": "a", "seq": 0, "t_ns": 1})
OTHER = seal_line({"event": "run-start", "run_id": "of no plan", "seq": 0, "t_ns": 1})
RUN = seal_line(
    {"event": "run", "run_id": "a", "seq": 0, "status": "done", "t_start_ns": 1, "t_end_ns": 2, "t_unix_ns": 3}
)


def attended(monkeypatch: pytest.MonkeyPatch, pieces: Iterator[bytes], **options: Any) -> None:
    device = Device(cast("Any", None), LocalTransport("local:"), board_trees.facts("sm8150"), cast("Any", None), {})
    monkeypatch.setattr(runner, "_follow", lambda *_: pieces)
    monkeypatch.setattr(agent, "status", lambda _: Status(alive=True, plan_id="c-1"))
    seen: list[Event] = []
    runner.attend(device, PLAN, seen.append, **options)


@pytest.mark.parametrize("line", [START, OTHER, RUN, b"\n", b"x\n", b"x" * (1 << 20)])
def test_a_journal_without_end_is_no_journal(monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    with pytest.raises(DistrustError) as caught:
        attended(monkeypatch, itertools.repeat(line))
    assert caught.value.device is not None


def test_an_agent_that_gets_nowhere_is_not_believed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count(1000.0, 20.0)
    monkeypatch.setattr("devicelab.device.watch.time.monotonic", lambda: next(now))
    monkeypatch.setattr(runner, "regain_root", lambda _: None)
    with pytest.raises(DistrustError, match="nothing has come of it"):
        attended(monkeypatch, itertools.repeat(b""))


def test_complaints_without_end_do_not_keep_a_follower_from_looking_up() -> None:
    words = ["sh", "-c", "while :; do echo no >&2; sleep 0.01; done"]
    follow = LocalTransport("local:").follow("/nowhere", idle_s=0.2, follower=words)
    assert next(follow) == b""
    follow.close()
