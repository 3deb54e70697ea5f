"""What a database reports, as errors for people: a table for SQLite's codes and one for PostgreSQL's states.

Sources: sqlite.org/rescode.html; PostgreSQL's documentation, appendix A. What no row knows is a bug with its name.
"""

import fcntl
import tempfile
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.exc import DisconnectionError, InvalidatePoolError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from devicelab.errors import LabError, StoreError
from devicelab.ground import extras
from devicelab.ground.sorting import Row, as_lab_error, words

_AGAIN = "what was committed is intact; free space and run the same command again with --resume"
_CONTENT = "what was committed is intact; run the same command again with --resume"
_OTHER = "name another file with --store or DEVICELAB_STORE"


class Meaning(NamedTuple):
    """What a code means: how it begins, the message (with ``{where}`` and ``{words}``), what to do."""

    code: str
    says: str
    hint: str


NO_LOCKS = Meaning(
    "",
    "the file system that holds {where} keeps no locks, so no database can be written there: {words}",
    "network and shared folders are like that: use a local disk (--store, DEVICELAB_STORE) or PostgreSQL",
)

# The first that the code's name begins with counts.
SQLITE = (
    Meaning("SQLITE_PROTOCOL", *NO_LOCKS[1:]),
    Meaning("SQLITE_NOLFS", "{where} is too large for its file system", _OTHER),
    *(
        Meaning(f"SQLITE_IOERR_{what}", *NO_LOCKS[1:])
        for what in ("LOCK", "UNLOCK", "RDLOCK", "SHM", "CHECKRESERVEDLOCK", "BLOCKED")
    ),
    Meaning("SQLITE_BUSY", "another process has written to {where} for more than {busy:.0f} s", "try again later"),
    Meaning("SQLITE_LOCKED", "{where} is locked by another process", "try again later"),
    Meaning("SQLITE_FULL", "the disk that holds {where} is full", _AGAIN),
    Meaning("SQLITE_READONLY", "{where} may only be read", "check the modes of the file and of its folder"),
    Meaning("SQLITE_PERM", "{where} may not be opened", "check the modes of the file and of its folder"),
    Meaning("SQLITE_AUTH", "{where} may not be opened", "check the modes of the file and of its folder"),
    Meaning(
        "SQLITE_CORRUPT",
        "{where} is damaged",
        "keep a copy; `devicelab store check` names what, `sqlite3 FILE .recover` saves what can be saved",
    ),
    Meaning("SQLITE_NOTADB", "{where} is not a results database", _OTHER),
    Meaning(
        "SQLITE_CANTOPEN",
        "the results database {where} cannot be opened",
        "check that the file is there, and that it and its folder may be read",
    ),
    Meaning("SQLITE_IOERR", "reading or writing {where} failed in the disk: {words}", _AGAIN),
    Meaning("SQLITE_NOMEM", "no memory is left to work with {where}", _CONTENT),
    Meaning("SQLITE_TOOBIG", "a run is larger than {where} can hold: {words}", "keep fewer samples a run"),
    Meaning("SQLITE_INTERRUPT", "work with {where} was interrupted", _CONTENT),
    Meaning("SQLITE_SCHEMA", "{where} was changed by another version meanwhile", _CONTENT),
)

POSTGRES = (
    Meaning("53100", "the disk of the server behind {where} is full", _AGAIN),
    Meaning("53", "the server behind {where} has no room left: {words}", _CONTENT),
    Meaning("08", "the connection to {where} broke: {words}", _CONTENT),
    Meaning("57P", "the server behind {where} is going down or coming up: {words}", _CONTENT),
    Meaning("57014", "the server behind {where} cancelled the work: {words}", _CONTENT),
    Meaning("40", "others changed {where} at the same moment: {words}", _CONTENT),
    Meaning("55P03", "{where} is locked by somebody else", "try again later"),
    Meaning("25006", "{where} may only be read", "is it a standby server?"),
    Meaning("28", "{where} does not let us in: {words}", "check the user, ~/.pgpass and the server's pg_hba.conf"),
    Meaning("3D000", "there is no such database: {where}", "make it: createdb NAME"),
    Meaning("42501", "{where} does not allow it: {words}", "grant the user all rights on the database"),
    Meaning("58", "the server behind {where} failed in its disk: {words}", _AGAIN),
    Meaning("XX", "the server behind {where} found damage: {words}", "see its log"),
)

# What SQLAlchemy raises itself; what drivers raise is told by their codes.
SORTED = (
    Row((PoolTimeoutError,), StoreError, "run fewer commands at once", says="it has no free connection left"),
    Row((DisconnectionError, InvalidatePoolError), StoreError, _CONTENT, says="the connection broke: {words}"),
    Row((NoSuchModuleError,), StoreError, extras.install("postgres"), says="its driver is not installed"),
    Row(
        (OverflowError, UnicodeEncodeError), StoreError, "the run stays in the device's journal", says="a value cannot "
        "be stored: {words}",
    ),
)  # fmt: skip


def explained(error: BaseException, where: str, *, local: bool, busy_s: float) -> LabError:
    """What an exception means.

    Args:
        error: a driver's, or SQLAlchemy's own.
        where: the database, for people.
        local: it is a file (SQLite).
        busy_s: how long a lock was waited for.

    Returns:
        ``StoreError`` if a row knows it, else ``UnsortedError``.
    """
    code = str(getattr(error, "sqlite_errorname" if local else "sqlstate", "") or "")
    if local and code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) and not locks_work(Path(where).parent):
        meaning: Meaning | None = NO_LOCKS
    else:
        meaning = next((one for one in (SQLITE if local else POSTGRES) if code and code.startswith(one.code)), None)
    if meaning is not None:
        return StoreError(meaning.says.format(where=where, words=words(error), busy=busy_s), hint=meaning.hint)
    if not local and not code and type(error).__name__ in {"OperationalError", "InterfaceError"}:  # before any answer
        message = f"the results database {where} does not answer: {words(error)}"
        return StoreError(message, hint="check the server and the URL")
    return as_lab_error(SORTED, error, what=f"the results database {where} failed{f' ({code})' if code else ''}")


def locks_work(folder: Path) -> bool:
    """Whether the file system keeps locks, tried on a file of our own that nobody else can have locked."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
    except OSError:  # nothing can be made there, so nothing is known
        return True
    return True
