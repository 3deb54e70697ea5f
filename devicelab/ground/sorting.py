"""Exceptions of libraries, sorted by tables where they reach us: unreachable, refused, configuration, or a bug.

Whether something is tried again all night hangs on the class, so an exception that no row knows is told as a bug with
its name; its class is not guessed.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from devicelab.errors import LabError, UnsortedError
from devicelab.ground.safe_text import masked


@dataclass(frozen=True)
class Row:
    """One kind of exception and what it means.

    Attributes:
        kinds: classes of exceptions, subclasses included.
        error: what it becomes.
        hint: what to do; empty: the boundary's own.
        words: a regular expression that has to occur in the exception's text; empty: any text.
        says: the message, with ``{words}`` for the exception's own.
    """

    kinds: tuple[type[BaseException], ...]
    error: type[LabError]
    hint: str = ""
    words: str = ""
    says: str = "{words}"


def words(error: BaseException) -> str:
    """What an exception says in its first line, or at least what it is."""
    lines = str(error).strip().splitlines()
    return masked(lines[0].strip()) if lines else type(error).__name__


def row_of(rows: Iterable[Row], error: BaseException) -> Row | None:
    """The first row that knows the exception."""
    return next(
        (row for row in rows if isinstance(error, row.kinds) and re.search(row.words, str(error), re.IGNORECASE)), None
    )


def as_lab_error(
    rows: Iterable[Row], error: BaseException, *, device: str | None = None, what: str = "", hint: str = ""
) -> LabError:
    """The exception as an error of ours.

    Args:
        rows: the boundary's table; the first row that fits counts.
        error: what a library raised. One of ours stays what it is.
        device: named in the error.
        what: what was being done; stands before the message.
        hint: where the row has none.
    """
    if isinstance(error, LabError):
        return error
    row = row_of(rows, error)
    before = f"{what}: " if what else ""
    if row is None:
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        return UnsortedError(
            f"{before}{name}: {words(error)}",
            device=device,
            hint="devicelab does not know this exception, which is a bug: please report it with this line",
        )
    return row.error(before + row.says.format(words=words(error)), device=device, hint=row.hint or hint or None)
