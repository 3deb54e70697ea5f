"""Fixtures that every test may use."""

from sim_fixtures import adb_server, virtual_board  # noqa: F401  # pytest finds fixtures by name
