"""Fixtures of the native programs' tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_tools import Bench

from devicelab.device.build import build
from devicelab.device.toolchain import host_abi


@pytest.fixture(scope="session")
def agent_binaries() -> dict[str, Path]:
    """The agent with sanitizers and without, and the load."""
    abi = host_abi()
    if abi is None:
        pytest.skip("no toolchain for this machine")
    return {
        "agent-sanitized": build("agent", abi, toolchain="host-sanitize").path,
        "agent": build("agent", abi, toolchain="host").path,
        "overhead": build("overhead", abi, toolchain="host").path,
    }


def _bench(tmp_path: Path, agent: Path, overhead: Path) -> Bench:
    (tmp_path / "bin").mkdir()
    shutil.copy(agent, tmp_path / "bin" / "agent")
    shutil.copy(overhead, tmp_path / "bin" / "overhead")
    (tmp_path / "nodes").mkdir()
    return Bench(tmp_path)


@pytest.fixture
def bench(tmp_path: Path, agent_binaries: dict[str, Path]) -> Iterator[Bench]:
    """A directory with an agent that stops at the first bad memory access or undefined operation."""
    one = _bench(tmp_path, agent_binaries["agent-sanitized"], agent_binaries["overhead"])
    yield one
    one.end()


@pytest.fixture
def plain_bench(tmp_path: Path, agent_binaries: dict[str, Path]) -> Iterator[Bench]:
    """The same with the agent as it is shipped, for figures."""
    one = _bench(tmp_path, agent_binaries["agent"], agent_binaries["overhead"])
    yield one
    one.end()
