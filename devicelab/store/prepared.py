"""Statements that are performed with every run, compiled once: to build them anew takes longer than to perform them."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable, Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.expression import ClauseElement

from devicelab.store import schema as s

_COUNTED = ("runs_done", "runs_invalid")


class Prepared:
    """A statement as a database's driver takes it, with its values by name."""

    def __init__(self, statement: Executable, dialect: Dialect, names: Sequence[str] | None = None) -> None:
        """``names``: the columns that an INSERT fills."""
        assert isinstance(statement, ClauseElement)  # noqa: S101 - for the type checker
        compiled = statement.compile(dialect=dialect, column_keys=None if names is None else list(names))
        self._text = str(compiled)
        # A driver that takes values by their place is told where; ``None``: it takes them by name.
        self._order: Sequence[str] | None = getattr(compiled, "positiontup", None)

    def on(self, connection: Connection, *rows: Mapping[str, Any]) -> CursorResult[Any]:
        """Perform it, once for each row of values."""
        given: list[Any] = list(rows)
        if self._order is not None:
            given = [tuple(row[name] for name in self._order) for row in rows]
        return connection.exec_driver_sql(self._text, given if len(given) > 1 else given[0])


class Prepareds:
    """The statements of a commit for one kind of database."""

    def __init__(self, dialect: Dialect) -> None:
        """Compile all that are the same for every run."""
        self._dialect = dialect
        c = s.campaigns.c
        cell = select(s.cells.c.id).where(s.cells.c.cell_id == bindparam("cell_id")).scalar_subquery()
        self.place = Prepared(select(c.id, cell).where(c.campaign == bindparam("campaign")), dialect)
        """Numbers of ``campaign`` and ``cell_id``; no row without the campaign, no number without the cell."""
        kind = postgresql if dialect.name == "postgresql" else sqlite
        new = kind.insert(s.runs).on_conflict_do_nothing().returning(s.runs.c.id)
        self.run = Prepared(new, dialect, [column.name for column in s.runs.c if column.name != "id"])
        """A new run's number; no row if there is one of that id."""
        counters = {c[name]: c[name] + bindparam(f"more_{name}") for name in _COUNTED}
        self.count = Prepared(update(s.campaigns).where(c.id == bindparam("number")).values(counters), dialect)
        """Add ``more_runs_done`` and ``more_runs_invalid`` to the campaign ``number``."""
        self._into: dict[Table, Prepared] = {}

    def insert(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows with a value for every column of the table; none is no statement."""
        if rows:
            if table not in self._into:
                self._into[table] = Prepared(insert(table), self._dialect, [column.name for column in table.c])
            self._into[table].on(connection, *rows)


@cache
def prepared(dialect: Dialect) -> Prepareds:
    """Of an engine's dialect, made when first asked for."""
    return Prepareds(dialect)
