"""What leaves the database: whole campaigns and nights, or only their raw samples."""

from pathlib import Path

from sqlalchemy import Connection, Engine, Table, delete, func, insert, select, update
from sqlalchemy.engine import URL

from devicelab.errors import StoreError
from devicelab.model.results import SYSTEM_TRACE
from devicelab.store import engine as places
from devicelab.store import schema as s
from devicelab.store.records import output_row
from devicelab.store.sizes import BYTES_PER_RUN, NightSize

_BLOBS = (s.samples, s.evidence, s.outputs)


class Deleter:
    """Deleting and thinning; a part of ``Store``. Each call is one transaction: all of it or nothing."""

    _engine: Engine
    _place: URL | Path
    _writer: Engine

    def delete_night(self, night: str) -> None:
        """Delete a night with its tasks, looks at devices, verdicts and campaigns; quarantines stay.

        Raises:
            StoreError: there is no such night.
        """
        with places.guarded(self._place), self._writer.begin() as connection:
            if not connection.execute(delete(s.nights).where(s.nights.c.night == night)).rowcount:
                raise StoreError(f"no night {night!r} in {places.describe(self._place)}")
            query = select(s.campaigns.c.id).where(s.campaigns.c.night == night)
            self._delete_campaigns(connection, list(connection.execute(query).scalars()))

    def thin_samples(self, campaign: str) -> int:
        """Drop the campaign's raw samples and system traces; figures, flags, evidence and outputs stay, and a note.

        Returns:
            Rows of samples dropped; 0 if there were none.

        Raises:
            StoreError: there is no such campaign.
        """
        t, kept = s.samples.c, s.thinned_samples.c
        with places.guarded(self._place), self._writer.begin() as connection:
            number = self._campaign_id(connection, campaign)
            own = t.run.in_(select(s.runs.c.id).where(s.runs.c.campaign == number))
            rows = int(connection.execute(select(func.coalesce(func.sum(t.rows), 0)).where(own)).scalar_one())
            noted = select(t.run, t.program, t.name, t.rows, t.sha256).where(own)
            names = [kept.run, kept.program, kept.name, kept.rows, kept.sha256]
            connection.execute(insert(s.thinned_samples).from_select(names, noted))
            connection.execute(delete(s.samples).where(own))
            traces = s.outputs.c.run.in_(select(s.runs.c.id).where(s.runs.c.campaign == number))
            empty = {name: value for name, value in output_row(SYSTEM_TRACE, b"").items() if name != "program"}
            connection.execute(update(s.outputs).where(traces & (s.outputs.c.program == SYSTEM_TRACE)).values(empty))
            total = {"thinned_rows": s.campaigns.c.thinned_rows + rows}
            connection.execute(update(s.campaigns).where(s.campaigns.c.id == number).values(total))
        return rows

    def night_sizes(self) -> tuple[NightSize, ...]:
        """What each night takes, newest first: the blobs of its campaigns and an allowance for every run."""
        c, n = s.campaigns.c, s.nights.c
        columns = (n.night, n.farm, n.status, n.started_unix_ns)
        runs = select(c.night, func.count()).select_from(s.runs).join(s.campaigns).group_by(c.night)
        with places.guarded(self._place), self._engine.connect() as connection:
            nights = connection.execute(select(*columns).order_by(n.started_unix_ns.desc(), n.night.desc())).all()
            blobs = [_blob_bytes(connection, table) for table in _BLOBS]
            counts = {night: count * BYTES_PER_RUN for night, count in connection.execute(runs)}
        return tuple(
            NightSize(
                *night,
                bytes=counts.get(night.night, 0) + sum(sizes.get(night.night, 0) for sizes in blobs),
                sample_bytes=blobs[0].get(night.night, 0),
            )
            for night in nights
        )

    def used_bytes(self) -> int:
        """What the database holds, free space inside it left out.

        Exact for SQLite. PostgreSQL keeps freed space to itself, so there it is the sum of the blobs and an allowance
        for every run.
        """
        with places.guarded(self._place), self._engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                pages, free, size = (
                    int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                    for name in ("page_count", "freelist_count", "page_size")
                )
                return (pages - free) * size
            runs = int(connection.execute(select(func.count()).select_from(s.runs)).scalar_one())
            documents = connection.execute(select(func.sum(func.length(s.documents.c.data)))).scalar() or 0
            blobs = sum(sum(_blob_bytes(connection, table).values()) for table in _BLOBS)
            return runs * BYTES_PER_RUN + int(documents) + blobs

    def _delete_campaigns(self, connection: Connection, numbers: list[int]) -> None:
        for number in numbers:
            name = select(s.campaigns.c.campaign).where(s.campaigns.c.id == number).scalar_subquery()
            connection.execute(update(s.tasks).where(s.tasks.c.campaign == name).values({"campaign": None}))
            connection.execute(delete(s.campaigns).where(s.campaigns.c.id == number))

    def _campaign_id(self, connection: Connection, campaign: str) -> int:
        """Locked, so that nobody adds a run meanwhile (SQLite has one writer anyway)."""
        query = select(s.campaigns.c.id).where(s.campaigns.c.campaign == campaign).with_for_update()
        number = connection.execute(query).scalar()
        if number is None:
            where = places.describe(self._place)
            raise StoreError(f"no campaign {campaign!r} in {where}", hint="`devicelab store list` shows what is stored")
        return int(number)


def _blob_bytes(connection: Connection, table: Table) -> dict[str | None, int]:
    """Bytes of a table's blobs by night (``None``: of no night)."""
    night = s.campaigns.c.night
    query = select(night, func.sum(func.length(table.c.data))).select_from(table).join(s.runs).join(s.campaigns)
    return {name: int(size) for name, size in connection.execute(query.group_by(night))}
