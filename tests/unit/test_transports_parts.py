"""Parts of the transports that need no device."""

import shlex

import pytest

from devicelab.errors import ConfigError, LabError
from devicelab.model.device import RootMethod
from devicelab.transports import Attached, connect, discover_all
from devicelab.transports._root import wrap
from devicelab.transports._scripts import Leader, parse_header


@pytest.mark.parametrize(
    ("method", "wrapped"),
    [
        ("none", ("id", "-u", "a b")),
        ("self", ("id", "-u", "a b")),
        ("adb-root", ("id", "-u", "a b")),
        ("su-0", ("su", "0", "id", "-u", "a b")),
        ("sudo", ("sudo", "-n", "id", "-u", "a b")),
        ("su-c", ("su", "-c", "id -u 'a b'")),
    ],
)
def test_root_methods_wrap_an_argv(method: RootMethod, wrapped: tuple[str, ...]) -> None:
    assert wrap(method, ["id", "-u", "a b"]) == wrapped


def test_what_su_takes_as_one_string_is_the_same_argv_again() -> None:
    argv = ["sh", "-c", "echo 'it''s' \"$1\"\n", "", "ü;`id`"]
    assert shlex.split(wrap("su-c", argv)[2]) == argv


@pytest.mark.parametrize("address", ["", "adb", "usb:1", "note10", ":x", "_posix:", "base:"])
def test_an_address_without_a_known_scheme_lists_those_that_exist(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(address)
    assert "local:" in (caught.value.hint or "")


def test_local_takes_nothing_after_its_colon() -> None:
    with pytest.raises(ConfigError, match="this machine"):
        connect("local:x")


def test_a_transport_that_cannot_look_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> tuple[Attached, ...]:
        raise LabError("no server", hint="start it")

    monkeypatch.setattr("devicelab.ground.registry.usable_names", lambda _: ("local", "ssh"))
    monkeypatch.setattr("devicelab.transports.ssh.discover", fail)
    assert discover_all() == (
        Attached("local:", "device"),
        Attached("ssh:", "unavailable", {"error": "no server", "hint": "start it"}),
    )


def test_a_header_line_names_the_leader_and_its_start() -> None:
    stat = b"42 (a) b) (c) S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 777 2 3\n"
    assert parse_header(stat) == Leader(42, 777)
    assert parse_header(b"42\n") == Leader(42, None)
    assert parse_header(b"42 (x) S 1\n") == Leader(42, None)
    assert parse_header(b"no number\n") is None
