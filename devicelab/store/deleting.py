"""What leaves the database: whole campaigns and nights, or only their raw samples."""

from pathlib import Path

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.engine import URL

from devicelab.errors import StoreError
from devicelab.store import engine as places
from devicelab.store import schema as s


class Deleter:
    """Deleting and thinning; a part of ``Store``. Each call is one transaction: all of it or nothing."""

    _engine: Engine
    _place: URL | Path
    _writer: Engine

    def delete_campaign(self, campaign: str) -> None:
        """Delete a campaign with everything that belongs to it; a night's task that measured it says so.

        Raises:
            StoreError: there is no such campaign.
        """
        with places.guarded(self._place), self._writer.begin() as connection:
            self._delete_campaigns(connection, [self._campaign_id(connection, campaign)])

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
        """Drop the campaign's raw samples; figures, flags, evidence and outputs stay, and so does a note of each table.

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
            total = {"thinned_rows": s.campaigns.c.thinned_rows + rows}
            connection.execute(update(s.campaigns).where(s.campaigns.c.id == number).values(total))
        return rows

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
