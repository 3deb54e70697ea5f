"""The MPS leg against a stand-in for its control program: proof on live pids, endings, clean-up."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devicelab.store import Store
from tests import tenantlab

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.sqlite") as opened:
        yield opened


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with the control program and its server."""
    folder = tmp_path / "tools"
    folder.mkdir()
    source = (Path(__file__).parents[1] / "mps_standin.py").read_text()
    programs = {"nvidia-cuda-mps-control": source, "nvidia-cuda-mps-server": "import time\ntime.sleep(600)\n"}
    for name, text in programs.items():
        (folder / name).write_text(f"#!{sys.executable}\n{text}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def sweep(tmp_path: Path, store: Store, **changes: object) -> dict[str, list[str]]:
    of = {"factors": {"scheduler": ("mps:50", "native")}, "duration_s": 2.5, **changes}
    done = tenantlab.run(tmp_path, store, **of)
    assert tenantlab.left_behind(["nvidia-cuda-mps"]) == []
    assert not (tmp_path / "device/mps").exists()
    return tenantlab.flags_by_leg(store, done)


def test_clients_are_proved_and_the_daemon_is_ended(tmp_path: Path, store: Store, tools: Path) -> None:
    assert sweep(tmp_path, store) == {"mps:50": [], "native": []}


def test_a_client_the_server_does_not_know_makes_the_leg_invalid(tmp_path: Path, store: Store, tools: Path) -> None:
    (tools / "blind").write_text("")
    flags = sweep(tmp_path, store)
    assert flags["native"] == []
    (flag,) = flags["mps:50"]
    assert flag.startswith("scheduler-not-seen: mps: not in the client list: high (pid ")


def test_a_daemon_that_dies_invalidates_its_leg_and_its_server_is_ended(
    tmp_path: Path, store: Store, tools: Path
) -> None:
    (tools / "die-after").write_text("1.2")
    flags = sweep(tmp_path, store)
    assert flags["native"] == []
    assert len(flags["mps:50"]) == 1
    assert flags["mps:50"][0].startswith("scheduler-not-seen: mps: ")


def test_a_daemon_that_cannot_start_fails_its_leg_with_its_words(tmp_path: Path, store: Store, tools: Path) -> None:
    (tools / "fail").write_text("An instance of this daemon is already running")
    flags = sweep(tmp_path, store)
    assert flags["native"] == []
    assert flags["mps:50"][0].startswith("write-failed: nvidia-cuda-mps-control: exit code 1")
    assert "already running" in flags["mps:50"][0]


def test_a_machine_without_mps_fails_that_leg_alone(tmp_path: Path, store: Store) -> None:
    flags = sweep(tmp_path, store)
    assert flags["native"] == []
    assert flags["mps:50"][0].startswith("write-failed: ")
