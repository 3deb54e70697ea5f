"""Opening the database: where it is, how SQLite has to be set up, and what its errors mean for a person."""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from devicelab.errors import ConfigError, LabError, StoreError
from devicelab.ground import extras
from devicelab.ground.files import synced
from devicelab.ground.safe_text import masked
from devicelab.store.failures import explained

BUSY_S = 30.0
"""How long a writer waits for another one before it gives up."""

_DEFAULT = "devicelab.sqlite"
_WRITES = "devicelab_writes"


class StoreChangedError(StoreError):
    """A file that we may only read was written by its owner while we read it (exit code 2)."""

    exit_code = 2
    transient = True


def locate(url: str | Path | None) -> URL | Path:
    """The database meant: ``None`` is ``$DEVICELAB_STORE`` or ``./devicelab.sqlite``; a path, or a PostgreSQL URL.

    ``@FILE`` is what the first line of the file says.

    Raises:
        ConfigError: a URL of another kind.
    """
    if url is None:
        url = os.environ.get("DEVICELAB_STORE") or _DEFAULT
    if isinstance(url, str) and url.startswith("@"):
        url = _from_file(Path(url[1:]).expanduser())
    if isinstance(url, Path) or "://" not in url:
        return Path(url).expanduser().absolute()
    if url.partition("://")[2].partition("?")[0].count("@") > 1:
        raise ConfigError(
            "the store's URL has an @ in its user or password",
            hint="write %40 for it (and %2F for a slash), or leave the password to ~/.pgpass or $PGPASSFILE",
        )
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(
            "the store's URL cannot be read", hint="postgresql://USER@HOST/DATABASE, or a path"
        ) from error
    kind = parsed.drivername.partition("+")[0]
    if kind == "sqlite" and parsed.database:
        return Path(parsed.database).absolute()
    if kind in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    raise ConfigError(
        f"a store of kind {kind!r} is not supported", hint="a path (SQLite) or postgresql://USER@HOST/DATABASE"
    )


def _from_file(path: Path) -> str:
    """The first line of a file: a URL with a password that shall not stand in the list of processes."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the store's place from {path}: {error}") from error
    line = text.strip().partition("\n")[0].strip()
    if not line or line.startswith("@"):
        raise ConfigError(f"{path} names no store", hint="its first line is a path or postgresql://…")
    return line


def describe(place: URL | Path) -> str:
    """The place for people, without a password."""
    return masked(place.render_as_string(hide_password=True)) if isinstance(place, URL) else str(place)


def connect(place: URL | Path, *, create: bool) -> Engine:
    """An engine for the place; nothing is read yet.

    Raises:
        StoreError: there is no such file and it shall not, or cannot, be made; no driver for PostgreSQL.
    """
    if isinstance(place, Path):
        return _sqlite(place, create=create)
    try:
        return create_engine(place, pool_size=8, max_overflow=24, pool_pre_ping=True)
    except (NoSuchModuleError, ImportError) as error:
        raise StoreError("the driver for PostgreSQL is not installed", hint=extras.install("postgres")) from error


def writer(engine: Engine) -> Engine:
    """The same engine, whose transactions take SQLite's write lock at their start.

    A transaction that reads first and writes later cannot wait for the lock: its snapshot would be stale.
    """
    return engine.execution_options(**{_WRITES: True})


def _sqlite(path: Path, *, create: bool) -> Engine:
    if not path.exists():
        if not create:
            raise StoreError(
                f"there is no results database at {path}",
                hint="run `devicelab sweep` first, or name another one with --store or DEVICELAB_STORE",
            )
        _new_file(path)
    readable_only = not os.access(path, os.W_OK)

    def open_file() -> sqlite3.Connection:
        mode = "mode=rw"
        if readable_only:
            # Without a write-ahead log beside it nobody writes now, and SQLite needs no lock file in the folder.
            mode = "mode=ro" if _still(path) is None else "mode=ro&immutable=1"
        uri = f"{path.as_uri()}?{mode}"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_S, check_same_thread=False, isolation_level=None)

    known, turn, own = _identity(path), threading.RLock(), threading.local()
    engine = create_engine("sqlite+pysqlite://", creator=open_file, poolclass=QueuePool, pool_size=8, max_overflow=-1)

    @event.listens_for(engine, "checkout")
    def _as_it_is(_connection: Any, record: Any, _proxy: Any) -> None:
        # What was read of a file that nobody wrote is not read on once its owner writes.
        if readable_only and record.info.setdefault("still", _still(path)) != _still(path):
            record.info.clear()
            raise DisconnectionError

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA foreign_keys=ON")
        # A committed run survives a power cut, not only a crash.
        connection.execute("PRAGMA synchronous=FULL")
        if not readable_only:
            _write_ahead(connection)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # SQLite goes on writing into a file that was moved or deleted, where nobody will find the runs.
        if _identity(path) != known:
            raise StoreError(
                f"the results database {path} was moved, replaced or deleted while it was in use",
                hint="what was stored is in the file that was there; put it back and go on with --resume",
            )
        if not connection.get_execution_options().get(_WRITES, False):
            connection.exec_driver_sql("BEGIN")
            return
        # SQLite's own waiting is a lottery: of fifty threads some would not get a turn within BUSY_S. They queue here,
        # so that one thread of a process at a time waits for other processes.
        over()
        own.raw = connection.connection.dbapi_connection
        own.info = connection.info  # before: an interruption in between must not leave the turn taken for ever
        turn.acquire()
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def over() -> None:
        # Also where an interruption came as the turn ended: nobody else would end it, and the next would wait for ever.
        if getattr(own, "info", None) is None:
            return
        with contextlib.suppress(sqlite3.Error):  # closed
            own.raw.rollback()
        with contextlib.suppress(RuntimeError):  # interrupted before it was this thread's turn
            turn.release()
        own.info = own.raw = None

    # A transaction's connection goes back to the pool when it is over, however it ended; there is no later event.
    @event.listens_for(engine, "checkin")
    def _over(_connection: Any, record: Any) -> None:
        if getattr(own, "info", None) is record.info:
            over()

    return engine


def _still(path: Path) -> tuple[int, ...] | None:
    """What tells that nobody has written to the file; ``None``: somebody has it open for writing."""
    if path.with_name(path.name + "-wal").exists():
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is; ``None`` if it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _new_file(path: Path) -> None:
    """An empty file only its owner may read; SQLite gives its side files the same mode."""
    try:
        made = [path.parent, *path.parent.parents]
        made = made[: sum(not folder.exists() for folder in made) + 1]
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # somebody made it just now
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        for folder in made:  # else a power cut takes the file with its name, and every committed run in it
            synced(folder)
    except OSError as error:
        raise StoreError(
            f"cannot create the results database {path}: {error.strerror}",
            hint="choose a folder you may write with --store or DEVICELAB_STORE",
        ) from error


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Readers and one writer at the same time. SQLite does not wait for a lock in this one statement, so we do."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@contextlib.contextmanager
def guarded(place: URL | Path) -> Iterator[None]:
    """Turn what the database reports into an error of ours with a hint; the transaction was rolled back by then.

    Raises:
        StoreError: something that ``failures`` knows.
        UnsortedError: something that it does not.
        StoreChangedError: the owner of a file that we may only read wrote to it meanwhile: what was read is void.
    """
    before = _still(place) if isinstance(place, Path) and not os.access(place, os.W_OK) else None
    try:
        yield
    except DBAPIError as error:
        _raise_if_changed(place, before)
        raise _explained(error.orig or error, place) from error
    except (sqlite3.Error, SQLAlchemyError, OverflowError, UnicodeEncodeError) as error:
        _raise_if_changed(place, before)
        raise _explained(error, place) from error
    _raise_if_changed(place, before)


def _raise_if_changed(place: URL | Path, before: tuple[int, ...] | None) -> None:
    if before is not None and isinstance(place, Path) and _still(place) != before:
        raise StoreChangedError(
            f"the owner of {place} writes to it at this moment", hint="try again; nothing is damaged"
        )


def _explained(error: BaseException, place: URL | Path) -> LabError:
    return explained(error, describe(place), local=isinstance(place, Path), busy_s=BUSY_S)
