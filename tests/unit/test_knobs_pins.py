"""One file of ``tests/data/pins`` is one case: a device and wanted levels → exactly these writes, in this order.

Keys of a case:

- ``title``; ``tree`` (``board_trees.TREES``) or ``nodes`` (path = text); ``board`` if not the tree's own; ``root``;
- ``change`` (path = text), ``unreadable``, ``remove``, ``read_only`` (patterns), ``props``: how the device differs;
- ``under``: put before every path that does not begin with a slash;
- ``wants``: levels by word, planned together;
- what must come out: ``writes`` ("PATH <- VALUE | undo VALUE", ``as read`` where the agent restores what it reads),
  ``commands`` ("DO | undo UNDO"), ``probes``, ``gates`` ("PATH MIN..MAX"), ``cgroups``, ``sample``, ``unmet``; or
  ``error`` (in the message or the hint, all of them).

What is not named must be empty, except ``sample``, which is compared only if it is there.
"""

import contextlib
import fnmatch
import tomllib
from pathlib import Path
from typing import Any

import pytest
from board_trees import facts, nodes

from devicelab import knobs
from devicelab.errors import ConfigError
from devicelab.model.device import Facts
from devicelab.model.plan import Command, Gate, Step
from devicelab.model.tree import Node, Tree

FOLDER = Path(__file__).parent.parent / "data" / "pins"
CASES = sorted(FOLDER.glob("*.toml"))
KEYS = {
    *("title", "tree", "nodes", "board", "root", "change", "unreadable", "remove", "read_only", "props", "under"),
    *("wants", "writes", "commands", "probes", "gates", "cgroups", "sample", "unmet", "error"),
}


def test_there_are_cases_for_every_knob_word() -> None:
    wanted = [tomllib.loads(path.read_text())["wants"] for path in CASES]
    assert len(CASES) >= 30
    assert set(knobs.words()) <= {word for wants in wanted for word in wants}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_pin(path: Path) -> None:
    case = tomllib.loads(path.read_text())
    assert case.keys() <= KEYS, "a key nobody reads"
    device = _device(case)
    if "error" in case:
        with pytest.raises(ConfigError) as caught:
            knobs.settings(case["wants"], device)
        for part in case["error"]:
            assert part in str(caught.value)
        return
    settings = knobs.settings(case["wants"], device).values()
    under = case.get("under", "")
    steps = [step for setting in settings for step in setting.steps]
    assert [_write(step, under) for step in steps if step.kind == "write"] == case.get("writes", [])
    assert [_command(step) for step in steps if step.kind == "command"] == case.get("commands", [])
    assert [list(probe.cpus) for setting in settings for probe in setting.probes] == case.get("probes", [])
    assert [_gate(gate, under) for setting in settings for gate in setting.gates] == case.get("gates", [])
    assert [path for setting in settings for path in setting.cgroups] == case.get("cgroups", [])
    assert [sentence for setting in settings for sentence in setting.unmet] == case.get("unmet", [])
    if "sample" in case:
        assert [_short(path, under) for setting in settings for path in setting.sample] == case["sample"]
    assert all(step.why for step in steps)


def _device(case: dict[str, Any]) -> Facts:
    under = case.get("under", "")

    def full(path: str) -> str:
        return path if path.startswith("/") else f"{under}{path}"

    change = {full(path): text for path, text in case.get("change", {}).items()}
    change |= {full(path): None for path in case.get("unreadable", [])}
    device = facts(
        case.get("tree", "empty"),
        change={**change, **case.get("nodes", {})},
        remove=[full(path) for path in case.get("remove", [])],
        read_only=[full(path) for path in case.get("read_only", [])],
        board=case.get("board"),
        root=case.get("root", "su-c"),
        props=case.get("props"),
    )
    assert device.nodes or case.get("tree") == "empty"
    return device


def _short(path: str, under: str) -> str:
    return path.removeprefix(under) if under else path


def _write(step: Step, under: str) -> str:
    assert step.kind == "write"
    undo = "as read" if step.restore is None else step.restore
    return f"{_short(step.path, under)} <- {step.value} | undo {undo}"


def _command(step: Command) -> str:
    return f"{' '.join(step.do)} | undo {' '.join(step.undo) if step.undo else 'nothing'}"


def _gate(gate: Gate, under: str) -> str:
    low, high = ("" if bound is None else str(bound) for bound in (gate.min_value, gate.max_value))
    return f"{_short(gate.path, under)} {low}..{high}"


class _Asked(Tree):
    """A tree that remembers which nodes were asked for."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree.values())
        self.paths: set[str] = set()

    def __getitem__(self, path: str) -> Node:
        self.paths.add(path)
        return super().__getitem__(path)

    def text(self, path: str) -> str | None:
        self.paths.add(path)
        return super().text(path)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_node_that_is_asked_for_is_read_by_the_agent(path: Path) -> None:
    case = tomllib.loads(path.read_text())
    device = _device(case)
    asked = _Asked(device.tree)
    device.__dict__["tree"] = asked
    with contextlib.suppress(ConfigError):
        for word, want in case["wants"].items():
            knobs.setting(word, want, device)
    patterns = knobs.globs()
    unread = {p for p in asked.paths if not any(_match(p, pattern) for pattern in patterns)}
    assert not unread


def _match(path: str, pattern: str) -> bool:
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)


def test_a_tree_node_without_text_is_one_the_agent_could_not_read() -> None:
    (node,) = nodes({"/x": None})
    assert node.text is None
    assert node.errno == 16
