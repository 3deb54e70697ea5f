"""Writing nights: what happens to tasks and devices while a night runs, and what was found at its end."""

import contextlib
import hashlib
import platform
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from devicelab.errors import StoreError
from devicelab.model.night import CellVerdict, Farm, Health, NightInfo, NightStatus, Quarantine, Task, TaskStatus
from devicelab.store import engine as places
from devicelab.store import schema as s
from devicelab.store.nights import from_row, to_row
from devicelab.store.patience import memo
from devicelab.store.records import Row, clean


class NightWriter:
    """How a night is recorded; a part of ``Store``. Safe from several threads, processes and hosts."""

    _engine: Engine
    _place: URL | Path
    _writer: Engine

    def begin_night(self, farm: Farm, *, night: str | None = None) -> str:
        """Record that a night begins; returns its id (``FARM-YYYYMMDD-HHMMSS-XXXX``, UTC, unless it is given).

        Raises:
            StoreError: a night of the id given is stored already.
        """
        noted = memo()
        now = noted.setdefault("now", time.time_ns())
        while True:
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now // 1_000_000_000))
            info = NightInfo(
                night=night or noted.pop("night", None) or f"{farm.name}-{stamp}-{secrets.token_hex(2)}",
                farm=farm.name,
                status="running",
                started_unix_ns=now,
                job=farm,
                host=platform.node(),
            )
            asked_before = noted.get("asked") == info.night
            noted |= {"night": info.night, "asked": info.night}
            with places.guarded(self._place):
                try:
                    with self._writer.begin() as connection:
                        connection.execute(insert(s.nights).values(to_row(s.nights, info)))
                except IntegrityError:
                    if asked_before:
                        return info.night
                    noted.clear()
                    if night is not None:
                        raise StoreError(f"a night {night!r} is stored already in {self._where}") from None
                    continue  # two nights of one farm in one second drew the same four digits
            return info.night

    @contextlib.contextmanager
    def only_one(self, name: str) -> Iterator[bool]:
        """Whether nobody else holds the name in this database now; it is held until the end, or this process's.

        A file of SQLite is used on one machine, where others can be told by a file; there this is always true.
        """
        if isinstance(self._place, Path):
            yield True
            return
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        with contextlib.ExitStack() as stack:
            with places.guarded(self._place):
                held = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                stack.callback(held.close)
                first = bool(held.execute(select(func.pg_try_advisory_lock(key))).scalar())
            try:
                yield first
            finally:
                if first:
                    with contextlib.suppress(SQLAlchemyError):  # a server that went away let go of it itself
                        held.execute(select(func.pg_advisory_unlock(key)))

    def finish_night(self, night: str, status: NightStatus, exit_code: int | None) -> None:
        """Record how the night ended; a resumed one is finished again, ``running`` opens it again.

        Raises:
            StoreError: there is no such night.
        """
        ended = None if status == "running" else time.time_ns()
        values = {"status": status, "exit_code": exit_code, "ended_unix_ns": ended}
        with places.guarded(self._place), self._writer.begin() as connection:
            self._require_night(connection, night)
            connection.execute(update(s.nights).where(s.nights.c.night == night).values(values))

    def put_tasks(self, night: str, tasks: Sequence[Task]) -> None:
        """Insert tasks, or replace those of the same ids; new ones follow those that are there.

        Raises:
            StoreError: there is no such night.
        """
        t = s.tasks
        with places.guarded(self._place), self._writer.begin() as connection:
            self._require_night(connection, night)
            last = connection.execute(select(func.max(t.c.position)).where(t.c.night == night)).scalar()
            first = 0 if last is None else last + 1
            # Sorted, so that two hosts which put the same tasks cannot wait for each other.
            rows = [{**to_row(s.tasks, task), "night": night, "position": first + i} for i, task in enumerate(tasks)]
            for row in sorted(rows, key=lambda row: str(row["task_id"])):
                made = _insert(connection, t).values(row)
                changed = {name: made.excluded[name] for name in row if name not in {"night", "task_id", "position"}}
                connection.execute(made.on_conflict_do_update(index_elements=["night", "task_id"], set_=changed))

    def claim_task(
        self, night: str, task_id: str, expect: TaskStatus, task: Task, *, campaign: str | None = None
    ) -> bool:
        """Replace a task if its status still is ``expect``; ``False`` if somebody else was faster or it is not there.

        With ``campaign`` also only if it still is the attempt with that one.

        Raises:
            ValueError: ``task`` is another one.
        """
        if task.task_id != task_id:
            raise ValueError(f"task {task.task_id} instead of {task_id}")
        t = s.tasks
        same = (t.c.night == night) & (t.c.task_id == task_id) & (t.c.status == expect)
        if campaign is not None:
            same &= t.c.campaign == campaign
        row, asked_before = to_row(s.tasks, task), memo().setdefault("claims", 0)
        memo()["claims"] = 1
        with places.guarded(self._place), self._writer.begin() as connection:
            if connection.execute(update(t).where(same).values(row)).rowcount:
                return True
            if not asked_before:
                return False
            this = (t.c.night == night) & (t.c.task_id == task_id)
            found = connection.execute(select(t).where(this)).mappings().first()
            return found is not None and all(found[name] == value for name, value in row.items())

    def add_health(self, health: Health) -> None:
        """Store a look at a device.

        Raises:
            StoreError: it names a night that is not stored.
        """
        with places.guarded(self._place), self._writer.begin() as connection:
            if health.night is not None:
                self._require_night(connection, health.night)
            connection.execute(insert(s.health).values(to_row(s.health, health)))

    def quarantine(self, device: str, reason: str, night: str | None = None) -> Quarantine:
        """Give the device no more work; while it is in quarantine already, that one is returned unchanged."""
        t = s.quarantines
        row = to_row(t, Quarantine(device=device, reason=reason, night=night, since_unix_ns=time.time_ns()))
        query = select(t).where(t.c.device == row["device"], t.c.released_unix_ns.is_(None))
        with places.guarded(self._place):
            while True:
                with self._writer.begin() as connection:
                    connection.execute(_insert(connection, t).values(row).on_conflict_do_nothing())
                    open_one = connection.execute(query).mappings().first()
                if open_one is not None:  # otherwise somebody released it in between
                    return from_row(Quarantine, dict(open_one))

    def release(self, device: str, note: str = "") -> bool:
        """End the device's quarantine; ``False`` if it is in none."""
        t = s.quarantines
        values = {"released_unix_ns": time.time_ns(), "note": clean(note)}
        lasting = (t.c.device == clean(device)) & t.c.released_unix_ns.is_(None)
        with places.guarded(self._place), self._writer.begin() as connection:
            return bool(connection.execute(update(t).where(lasting).values(values)).rowcount)

    def put_verdicts(self, night: str, verdicts: Sequence[CellVerdict]) -> None:
        """Store the night's verdicts; those it had are replaced.

        Raises:
            StoreError: there is no such night.
            ValueError: a verdict is of another night.
        """
        if any(verdict.night != night for verdict in verdicts):
            raise ValueError(f"a verdict is of another night than {night}")
        t = s.cell_verdicts
        rows: list[Row] = [{**to_row(s.cell_verdicts, verdict), "position": i} for i, verdict in enumerate(verdicts)]
        with places.guarded(self._place), self._writer.begin() as connection:
            self._require_night(connection, night)
            connection.execute(delete(t).where(t.c.night == night))
            if rows:
                connection.execute(insert(t), rows)

    @property
    def _where(self) -> str:
        return places.describe(self._place)

    def _require_night(self, connection: Connection, night: str) -> None:
        """Also a lock on the night: what one transaction replaces, another one waits for (SQLite has one writer)."""
        query = select(s.nights.c.id).where(s.nights.c.night == night).with_for_update()
        if connection.execute(query).scalar() is None:
            raise StoreError(f"no night {night!r} in {self._where}", hint="run `devicelab nightly` first")


def _insert(connection: Connection, table: Any) -> Any:
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
