"""What is looked at on a host: its adb server where boards are reached over it, and only there."""

from types import SimpleNamespace
from typing import Any

import pytest

from devicelab.device.lab import DeviceEntry
from devicelab.errors import HostError
from devicelab.farm import host
from devicelab.model.night import Health


@pytest.mark.parametrize(
    ("addresses", "asked"),
    [
        ([], False),
        (["adb:A"], True),
        (["adb:A", "ssh:me@b"], True),
        (["ssh:me@b", "adb:A"], True),
        (["ssh:me@b"], False),
        (["adb:A@other:5037"], False),
        (["adb:A@other:5037", "adb:B"], True),
    ],
)
def test_the_adb_server_of_this_host_is_asked_where_a_board_is_reached_over_it(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], asked: bool
) -> None:
    entries = {str(n): DeviceEntry(name=f"d{n}", address=address) for n, address in enumerate(addresses)}
    before = Health(device="host:x", ok=True, facts={"port B": "1-2 3"}, at_unix_ns=1)
    looks: list[tuple[Any, bool, str | None]] = []
    monkeypatch.setattr(host, "load_lab", lambda: SimpleNamespace(devices=entries))
    monkeypatch.setattr(host, "look", lambda known, *, adb, night: looks.append((known, adb, night)))
    store: Any = SimpleNamespace(health=lambda **_: (before,))
    host.look_again(store, "n")
    assert looks == [(before, asked, "n")]


@pytest.mark.parametrize("adb", [True, False])
def test_an_adb_server_that_is_needed_and_does_not_answer_needs_a_person(
    monkeypatch: pytest.MonkeyPatch, adb: bool
) -> None:
    def silent() -> str:
        raise HostError("the adb server does not answer")

    monkeypatch.setattr(host, "_asked_server", silent)
    monkeypatch.setattr(host.hubs, "ports", lambda *_: {})
    seen = host.look(None, adb=adb, night="n")
    found = [reason for reason in seen.reasons if reason.startswith("adb: ")]
    assert found == (["adb: the adb server does not answer → start it: adb start-server"] if adb else [])
    assert (seen.night, seen.phase) == ("n", "before")
