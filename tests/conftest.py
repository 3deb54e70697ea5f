"""Fixtures that every test may use."""

import signal
import sys
from collections.abc import Iterator

import pytest
from sim_fixtures import adb_server, virtual_board  # noqa: F401  # pytest finds fixtures by name

from tests import postgres

_HEARD = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


def pytest_sessionstart() -> None:
    """What the tests start hears its signals, also where the tests' own starter ignores them."""
    for number, handler in _HEARD.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """A command that a test runs in this process leaves nothing behind that is the whole process's."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers, hook = [signal.getsignal(number) for number in numbers], sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real PostgreSQL server; the test takes a database of its own with ``postgres.new_database``."""
    if postgres.TOOLS is None:
        pytest.skip("no PostgreSQL server is installed")
    with postgres.running(tmp_path_factory.mktemp("postgres")) as url:
        yield url
