"""Whether a device has to be asked what an agent left there, by the agent's own files as read with the nodes."""

import pytest

from devicelab.device.facts import _is_idle
from devicelab.model.tree import Node, Tree

STATE = "/data/local/tmp/devicelab/state"
ENDED = {"agent.json": '{"pid":7,"state":"ended"}\n', "undo.jsonl": "", "lock": ""}


def _tree(files: dict[str, str | None]) -> Tree:
    nodes = [Node(path=f"{STATE}/{name}", kind="file", mode=0o600, text=text) for name, text in files.items()]
    return Tree([Node(path=STATE, kind="dir", mode=0o700), *nodes])


def test_a_device_that_no_agent_has_seen_is_idle() -> None:
    assert _is_idle(Tree(), STATE)


def test_a_device_whose_last_agent_ended_is_idle() -> None:
    assert _is_idle(_tree(ENDED), STATE)


@pytest.mark.parametrize(
    "left",
    [
        {"agent.json": '{"pid":7,"state":"running"}'},
        {"agent.json": '{"pid":7,"state":"keeping"}'},
        {"agent.json": None},
        {"undo.jsonl": '{"undo":"open"'},
        {"undo.jsonl": None},
        {"lease.json": "{}"},
    ],
    ids=["running", "keeping", "unreadable", "undo", "undo-unreadable", "lease"],
)
def test_anything_else_has_to_be_asked_about(left: dict[str, str | None]) -> None:
    assert not _is_idle(_tree({**ENDED, **left}), STATE)


def test_a_state_that_cannot_be_looked_into_has_to_be_asked_about() -> None:
    assert not _is_idle(_tree({}), STATE)
