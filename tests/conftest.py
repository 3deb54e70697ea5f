"""Fixtures that every test may use."""

from collections.abc import Iterator

import pytest
from sim_fixtures import adb_server, virtual_board  # noqa: F401  # pytest finds fixtures by name

from tests import postgres


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real PostgreSQL server; the test takes a database of its own with ``postgres.new_database``."""
    if postgres.TOOLS is None:
        pytest.skip("no PostgreSQL server is installed")
    with postgres.running(tmp_path_factory.mktemp("postgres")) as url:
        yield url
