"""Ending and listing virtual boards, without one that runs."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from devicelab.cli import app
from devicelab.errors import DeviceUnreachableError
from virtualboards import lifecycle
from virtualboards.lifecycle import VirtualBoard
from virtualboards.qemu import machine
from virtualboards.qemu.machine import Machine


def _board(directory: Path) -> VirtualBoard:
    return VirtualBoard(directory.name, "note10", "", "127.0.0.1:1", "x86_64", "none", 0, 1, 1, 0, directory)


def test_a_board_that_does_not_end_does_not_keep_the_others_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "root_dir", lambda: tmp_path)
    monkeypatch.setattr(lifecycle, "boards", lambda: tuple(_board(tmp_path / name) for name in ("a", "b", "c")))
    done: list[str] = []

    def end(directory: Path) -> None:
        done.append(directory.name)
        if directory.name in {"a", "b"}:
            raise DeviceUnreachableError("its process does not end", device=directory.name)

    monkeypatch.setattr(lifecycle, "_end", end)
    monkeypatch.setattr(lifecycle, "_clear_stale", lambda: done.append("stale"))
    with pytest.raises(DeviceUnreachableError) as caught:
        lifecycle.down(everything=True)
    assert caught.value.device == "a"
    assert done == ["a", "b", "c", "stale"]


def test_machines_are_listed_also_where_no_board_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    one: Any = Machine("mine", "note10", "/nowhere", 2222, 1, 1)
    monkeypatch.setattr(lifecycle, "boards", lambda: ())
    monkeypatch.setattr(machine, "machines", lambda: (one,))
    done = CliRunner().invoke(app, ["sim", "list"])
    assert "mine" in done.output
    assert "no virtual board" not in done.output
