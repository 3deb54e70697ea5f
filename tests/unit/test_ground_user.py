"""A user without a name or a home can work all the same."""

import os
from pathlib import Path

import pytest

from devicelab.errors import ConfigError
from devicelab.ground import registry, user


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that was started with a number for a user."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME", "XDG_CACHE_HOME", "DEVICELAB_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def unknown(_uid: int) -> object:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.mark.usefixtures("nobody")
def test_who_has_no_name_holds_a_lease_by_number() -> None:
    assert user.name() is None
    assert user.holder().startswith(f"uid {os.getuid()}@")


@pytest.mark.usefixtures("nobody")
def test_who_has_no_home_has_to_say_where_builds_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert user.home() is None
    with pytest.raises(ConfigError) as caught:
        registry.cache_dir()
    assert "DEVICELAB_CACHE" in (caught.value.hint or "")
    monkeypatch.setenv("DEVICELAB_CACHE", "/somewhere")
    assert registry.cache_dir() == Path("/somewhere")
