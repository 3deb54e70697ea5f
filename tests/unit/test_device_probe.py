"""The first look at a device: whose program reads its nodes there, and whose is never started."""

import hashlib
import json
from pathlib import Path

import pytest

from devicelab.device import build, probe
from devicelab.device.lab import DeviceEntry
from devicelab.errors import DeviceRefusedError
from devicelab.transports.local import LocalTransport

NODE = {"path": "/sys/a", "kind": "file", "mode": 0o644, "writable": True, "text": "1"}


@pytest.fixture
def entry(tmp_path: Path) -> DeviceEntry:
    """A device whose agent answers every look with one node, and leaves a mark and what it was asked for."""
    folder = tmp_path / "lab"
    (folder / "bin").mkdir(parents=True)
    agent = folder / "bin" / "agent"
    agent.write_text(f"#!/bin/sh\ncat >{folder}/asked\necho '{json.dumps(NODE)}'\n")
    agent.chmod(0o755)
    folder.chmod(0o700)
    return DeviceEntry(name="box", address="local:", dir=str(folder))


def looked(entry: DeviceEntry, monkeypatch: pytest.MonkeyPatch, *ours: str) -> list[str] | None:
    """Paths of the nodes that came with the look, if the agent's digest is among ours."""
    monkeypatch.setattr(probe, "kept", lambda _: ours)
    basics, tree = probe.look(entry, LocalTransport("local:"), ("/sys/*",))
    assert basics.dir == entry.dir
    return list(tree) if tree is not None else None


def digest(entry: DeviceEntry) -> str:
    return hashlib.sha256((Path(str(entry.dir)) / "bin" / "agent").read_bytes()).hexdigest()


def test_an_agent_that_was_built_here_reads_the_nodes_with_the_first_look(
    entry: DeviceEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked(entry, monkeypatch, "0" * 64, digest(entry)) == ["/sys/a"]
    asked = (Path(str(entry.dir)) / "asked").read_text().split()
    assert asked == [*(f"{entry.dir}/{name}" for name in probe.OWN), "/sys/*"]


@pytest.mark.parametrize("ours", [(), ("0" * 64,)])
def test_a_program_that_was_not_built_here_is_not_started(
    entry: DeviceEntry, monkeypatch: pytest.MonkeyPatch, ours: tuple[str, ...]
) -> None:
    assert looked(entry, monkeypatch, *ours) is None
    assert not (Path(str(entry.dir)) / "asked").exists()


def test_nothing_is_started_from_a_folder_that_others_may_write_to(
    entry: DeviceEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(str(entry.dir)) / "bin").chmod(0o777)
    with pytest.raises(DeviceRefusedError, match="others may write to it"):
        looked(entry, monkeypatch, digest(entry))
    assert not (Path(str(entry.dir)) / "asked").exists()


@pytest.mark.parametrize("answer", ["exit 1", "echo nonsense"])
def test_nodes_that_do_not_come_whole_are_none(
    entry: DeviceEntry, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    (Path(str(entry.dir)) / "bin" / "agent").write_text(f"#!/bin/sh\ncat >/dev/null\n{answer}\n")
    assert looked(entry, monkeypatch, digest(entry)) is None


def test_builds_in_the_cache_are_known_by_their_checksums(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build.registry, "cache_dir", lambda: tmp_path)
    for name, note in (("agent-a", {"sha256": "a" * 64}), ("agent-b", {"sha256": "no"}), ("agentless-c", {})):
        (tmp_path / "build" / name).mkdir(parents=True)
        (tmp_path / "build" / name / "built.json").write_text(json.dumps(note))
    assert build.kept("agent") == ("a" * 64,)
