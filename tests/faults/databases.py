"""Where results go: an SQLite file on a small disk, or a database of a PostgreSQL server that can be stopped."""

import contextlib
import os
import pwd
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests import postgres


class Postgres:
    """A server of our own that can lose its connections, be stopped and come back."""

    def __init__(self) -> None:
        # Two folders down: those above are opened for the server's user.
        self._top = Path(tempfile.mkdtemp(prefix="faults-pg-"))
        self._folder = self._top / "a" / "server"
        self._folder.mkdir(parents=True)
        self._stack = contextlib.ExitStack()
        self.url = self._stack.enter_context(postgres.running_in(self._folder))
        # So that it comes back with the same settings.
        with (self._folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write(
                f"port = {urlsplit(self.url).port}\nunix_socket_directories = '{self._folder}'\n"
                "listen_addresses = '127.0.0.1'\nfsync = off\n"
            )

    def new(self, name: str) -> str:
        """URL of a new empty database."""
        return postgres.new_database(self.url, name)

    def disconnect(self) -> None:
        """End all connections to all databases."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def stop(self) -> None:
        """As a crash does: at once, connections and all."""
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        """Come back, if it is not there."""
        if self._control("status", check=False) != 0:
            self._control("start")

    def _control(self, *words: str, check: bool = True) -> int:
        identity: dict[str, object] = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data, log = self._folder / "data", self._folder / "log"
        argv = [f"{postgres.TOOLS}/pg_ctl", "-D", str(data), "-w", "-l", str(log), *words]
        return subprocess.run(argv, check=check, cwd=self._folder, stdout=subprocess.DEVNULL, **identity).returncode  # type: ignore[call-overload]

    def close(self) -> None:
        """End it and remove its files."""
        self.start()
        self._stack.close()
        subprocess.run(["rm", "-rf", str(self._top)], check=False)


class Writer:
    """Somebody else who writes into an SQLite file, and takes long."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        self._connection.execute("BEGIN IMMEDIATE")

    def close(self) -> None:
        """Give the lock back."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._connection.close()
