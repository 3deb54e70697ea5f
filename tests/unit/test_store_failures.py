"""What databases report, row by row; and file systems that keep no locks."""

import errno
import fcntl
import sqlite3
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy.exc import DisconnectionError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from devicelab.errors import LabError, StoreError, UnsortedError
from devicelab.ground.sorting import as_lab_error, row_of
from devicelab.store import export, failures


def sqlite(code: str, text: str = "words") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = code
    return error


class OperationalError(Exception):
    """As a driver for PostgreSQL raises it."""

    def __init__(self, state: str | None) -> None:
        super().__init__("the server's words")
        self.sqlstate = state


def explained(error: BaseException, where: str = "/d/x.sqlite", *, local: bool = True) -> LabError:
    return failures.explained(error, where, local=local, busy_s=30.0)


SQLITE = {
    "SQLITE_PROTOCOL": "keeps no locks",
    "SQLITE_IOERR_SHMMAP": "keeps no locks",
    "SQLITE_IOERR_SHMLOCK": "keeps no locks",
    "SQLITE_IOERR_LOCK": "keeps no locks",
    "SQLITE_IOERR_UNLOCK": "keeps no locks",
    "SQLITE_IOERR_RDLOCK": "keeps no locks",
    "SQLITE_IOERR_CHECKRESERVEDLOCK": "keeps no locks",
    "SQLITE_IOERR_BLOCKED": "keeps no locks",
    "SQLITE_NOLFS": "too large",
    "SQLITE_BUSY": "another process has written to /d/x.sqlite for more than 30 s",
    "SQLITE_BUSY_SNAPSHOT": "another process has written",
    "SQLITE_LOCKED": "locked by another process",
    "SQLITE_FULL": "is full",
    "SQLITE_READONLY_DBMOVED": "may only be read",
    "SQLITE_PERM": "may not be opened",
    "SQLITE_AUTH": "may not be opened",
    "SQLITE_CORRUPT_INDEX": "is damaged",
    "SQLITE_NOTADB": "not a results database",
    "SQLITE_CANTOPEN": "cannot be opened",
    "SQLITE_IOERR_READ": "failed in the disk: words",
    "SQLITE_NOMEM": "no memory",
    "SQLITE_TOOBIG": "larger than",
    "SQLITE_INTERRUPT": "interrupted",
    "SQLITE_SCHEMA": "another version",
}


@pytest.mark.parametrize(("code", "said"), SQLITE.items())
def test_codes_of_sqlite(code: str, said: str) -> None:
    found = explained(sqlite(code))
    assert type(found) is StoreError
    assert said in found.message
    assert found.hint


@pytest.mark.parametrize("code", ["SQLITE_CONSTRAINT_UNIQUE", "SQLITE_MISUSE", "SQLITE_ERROR", ""])
def test_what_no_row_knows_is_a_bug_with_its_name(code: str) -> None:
    found = explained(sqlite(code))
    assert type(found) is UnsortedError
    assert "sqlite3.OperationalError" in found.message
    assert code in found.message


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EAGAIN])
def test_nobody_is_blamed_for_a_lock_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks")

    place = str(tmp_path / "x.sqlite")
    assert "another process" in explained(sqlite("SQLITE_BUSY"), place).message
    monkeypatch.setattr(fcntl, "lockf", refuse)
    for code in ("SQLITE_BUSY", "SQLITE_LOCKED"):
        found = explained(sqlite(code), place)
        assert "keeps no locks" in found.message
        assert "PostgreSQL" in (found.hint or "")


POSTGRES = {
    "53100": "disk of the server",
    "53300": "no room left",
    "08006": "connection to",
    "57P01": "going down",
    "57014": "cancelled",
    "40001": "same moment",
    "55P03": "locked by somebody else",
    "25006": "may only be read",
    "28P01": "does not let us in",
    "3D000": "no such database",
    "42501": "does not allow it",
    "58030": "failed in its disk",
    "XX001": "found damage",
}


@pytest.mark.parametrize(("state", "said"), POSTGRES.items())
def test_states_of_postgresql(state: str, said: str) -> None:
    found = explained(OperationalError(state), "postgresql://h/db", local=False)
    assert type(found) is StoreError
    assert said in found.message
    assert found.hint


def test_a_server_that_never_answered_and_one_that_says_something_new() -> None:
    assert "does not answer" in explained(OperationalError(None), "postgresql://h/db", local=False).message
    assert type(explained(OperationalError("42P01"), "postgresql://h/db", local=False)) is UnsortedError


SQLALCHEMY = (
    (PoolTimeoutError("QueuePool limit"), "no free connection"),
    (DisconnectionError("gone"), "connection broke"),
    (NoSuchModuleError("sqlalchemy.dialects:x"), "driver is not installed"),
    (OverflowError("Python int too large to convert to SQLite INTEGER"), "cannot be stored"),
    (UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed"), "cannot be stored"),
)


def test_what_sqlalchemy_raises_itself() -> None:
    for error, said in SQLALCHEMY:
        found = explained(error)
        assert type(found) is StoreError
        assert said in found.message
    assert {row_of(failures.SORTED, error) for error, _ in SQLALCHEMY} == set(failures.SORTED)
    assert type(explained(InvalidRequestError("a transaction is already begun"))) is UnsortedError


def test_what_pyarrow_raises(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no place in Parquet") as caught:
        export._parquet(pd.DataFrame({"x": [{}, {}]}), tmp_path / "x.parquet")
    assert "--format csv" in (caught.value.hint or "")
    rows = export._parquet_rows()
    raised = (pa.lib.ArrowMemoryError("x"), pa.ArrowInvalid("x"), pa.ArrowTypeError("x"), OverflowError("x"))
    assert {row_of(rows, error) for error in raised} == set(rows)
    assert type(as_lab_error(rows, pa.lib.ArrowCancelled("x"))) is UnsortedError
