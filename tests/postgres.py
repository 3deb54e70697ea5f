"""A real PostgreSQL server for tests, started on a free port and stopped again."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg


def _tools() -> Path | None:
    """Folder of the server's programs; Debian keeps them out of the PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


TOOLS = _tools()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running() -> Iterator[str]:
    """URL of an empty server in a folder of its own."""
    # Not among pytest's folders: every pytest that starts closes them to the server's user.
    with tempfile.TemporaryDirectory(prefix="devicelab-postgres-") as folder, running_in(Path(folder)) as url:
        yield url


@contextlib.contextmanager
def running_in(folder: Path) -> Iterator[str]:
    """The same in a given folder; PostgreSQL refuses to run as root, so root lends it another user."""
    identity: dict[str, object] = {}
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
        for parent in folder.parents:
            if parent == Path(tempfile.gettempdir()):
                break
            parent.chmod(0o755)
    port = free_port()
    data = folder / "data"
    initdb = [f"{TOOLS}/initdb", "-D", str(data), "-U", "lab", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **identity)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [f"{TOOLS}/pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log")]
    subprocess.run([*control, "-o", options, "start"], check=True, cwd=folder, stdout=subprocess.DEVNULL, **identity)
    try:
        yield f"postgresql://lab@127.0.0.1:{port}/postgres"
    finally:
        stop = [*control, "-m", "immediate", "stop"]
        subprocess.run(stop, check=True, cwd=folder, stdout=subprocess.DEVNULL, **identity)


def new_database(server: str, name: str) -> str:
    """URL of a new empty database of the server."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"{server.rpartition('/')[0]}/{name}"
