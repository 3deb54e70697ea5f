"""Reading nights: their tasks, the devices' health and quarantine, the verdicts; and their nouns as rows and back."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Engine, Select, Table, select
from sqlalchemy.engine import URL

from devicelab.errors import StoreError
from devicelab.model.campaign import CampaignInfo
from devicelab.model.night import CellVerdict, Health, NightInfo, Quarantine, Task
from devicelab.model.plan import Noun
from devicelab.store import engine as places
from devicelab.store import schema as s
from devicelab.store.records import Row, clean

_N = TypeVar("_N", bound=Noun)

# By the time of the start first: the ids of two farms do not sort by time.
_NEWEST = (s.nights.c.started_unix_ns.desc(), s.nights.c.night.desc())

SEVERAL = 8
"""As many ids are named where several begin alike."""


class NightReader:
    """What can be asked about nights; a part of ``StoreReader``."""

    _engine: Engine
    _place: URL | Path

    def nights(self, *, farm: str | None = None, limit: int | None = None) -> tuple[NightInfo, ...]:
        """Nights, newest first; ``farm`` narrows them to one series."""
        query = select(s.nights).order_by(*_NEWEST).limit(limit)
        return self._nouns(NightInfo, query if farm is None else query.where(s.nights.c.farm == farm))

    def last_begun(self, farm: str) -> NightInfo | None:
        """The night of the series that was stored last, whatever the clock showed then."""
        query = select(s.nights).where(s.nights.c.farm == farm).order_by(s.nights.c.id.desc()).limit(1)
        return next(iter(self._nouns(NightInfo, query)), None)

    def night(self, ref: str | None = None) -> NightInfo:
        """One night by its id, by a prefix only it has, or the newest (``None``).

        Raises:
            StoreError: there is none, or several begin like that.
        """
        named = s.nights.c.night
        # An id given in full comes first: it may also be the beginning of many younger ones.
        query = select(s.nights).order_by((named == ref).desc(), *_NEWEST).limit(SEVERAL + 1)
        if ref is not None:
            query = query.where(named.startswith(ref, autoescape=True))
        infos = self._nouns(NightInfo, query)
        if infos and (ref is None or len(infos) == 1 or infos[0].night == ref):
            return infos[0]
        if infos:
            names = listed([info.night for info in infos])
            raise StoreError(f"several nights begin with {ref!r}: {names}", hint="give more of the id")
        what = "no night is" if ref is None else f"no night {ref!r} is"
        raise StoreError(f"{what} stored in {places.describe(self._place)}", hint="run `devicelab nightly` first")

    def tasks(self, night: str) -> tuple[Task, ...]:
        """The night's tasks in the order they were first put."""
        t = s.tasks
        return self._nouns(Task, select(t).where(t.c.night == night).order_by(t.c.position, t.c.task_id))

    def night_campaigns(self, night: str) -> tuple[CampaignInfo, ...]:
        """The night's campaigns, oldest first; those of tasks that were tried again too."""
        columns = [s.campaigns.c[name] for name in CampaignInfo.model_fields]
        query = select(*columns).where(s.campaigns.c.night == night)
        return self._nouns(CampaignInfo, query.order_by(s.campaigns.c.started_unix_ns, s.campaigns.c.campaign))

    def health(
        self, *, device: str | None = None, night: str | None = None, limit: int | None = None
    ) -> tuple[Health, ...]:
        """Looks at devices, newest first."""
        t = s.health
        query = select(t).order_by(t.c.at_unix_ns.desc(), t.c.id.desc()).limit(limit)
        return self._nouns(Health, _narrowed(query, t, device=device, night=night))

    def quarantines(self, *, device: str | None = None, active: bool = False) -> tuple[Quarantine, ...]:
        """Quarantines, newest first; ``active``: only those that last."""
        t = s.quarantines
        query = _narrowed(select(t).order_by(t.c.since_unix_ns.desc(), t.c.id.desc()), t, device=device)
        return self._nouns(Quarantine, query.where(t.c.released_unix_ns.is_(None)) if active else query)

    def verdicts(
        self, *, night: str | None = None, experiment: str | None = None, device: str | None = None
    ) -> tuple[CellVerdict, ...]:
        """Verdicts, newest night first, each night's in the order they were put."""
        t = s.cell_verdicts
        query = select(t).join(s.nights).order_by(*_NEWEST, t.c.position)
        return self._nouns(CellVerdict, _narrowed(query, t, night=night, experiment=experiment, device=device))

    def _nouns(self, noun: type[_N], query: Select[Any]) -> tuple[_N, ...]:
        with places.guarded(self._place), self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        try:
            return tuple(from_row(noun, dict(row)) for row in rows)
        except ValueError as error:
            where = places.describe(self._place)
            raise StoreError(
                f"a row of {where} cannot be read as {noun.__name__}", hint="`devicelab store check`"
            ) from error


def listed(names: Sequence[str]) -> str:
    """Ids that begin alike, for people; the rest of very many is left out."""
    return ", ".join(names[:SEVERAL]) + (", ..." if len(names) > SEVERAL else "")


def to_row(table: Table, noun: Noun) -> Row:
    """A noun as a row of its table: fields without a column as JSON in ``more_json``; texts cleaned, NaN as NULL."""
    fields = {name: _cleaned(value) for name, value in noun.model_dump().items()}
    row: Row = {name: value for name, value in fields.items() if name in table.c}
    more = {name: value for name, value in fields.items() if name not in table.c}
    return {**row, "more_json": json.dumps(more, separators=(",", ":"))}


def from_row(noun: type[_N], row: Mapping[str, Any]) -> _N:
    """Undo ``to_row``; columns the noun does not have are left out.

    Raises:
        ValueError: a column does not hold what the noun needs.
    """
    more = json.loads(row.get("more_json", "{}"))
    return noun.model_validate({**more, **{name: row[name] for name in noun.model_fields if name in row}})


def _cleaned(value: Any) -> Any:
    """The same value with every text in it as databases take it; no float that is not finite."""
    if isinstance(value, str):
        return clean(value)
    if _endless(value):
        return None
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items() if not _endless(item)}
    if isinstance(value, (tuple, list)):
        return [_cleaned(item) for item in value]
    return value


def _endless(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _narrowed(query: Select[Any], table: Table, **values: str | None) -> Select[Any]:
    wanted: list[ColumnElement[bool]] = [table.c[name] == value for name, value in values.items() if value is not None]
    return query.where(*wanted)
