"""Reading one figure of very many runs at once: what nights are compared by."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, func, select
from sqlalchemy.engine import URL

from devicelab.model.campaign import CampaignInfo
from devicelab.store import engine as places
from devicelab.store import schema as s

_MANY = 5000
"""Parameters of one statement; databases limit them."""


@dataclass(frozen=True)
class Figures:
    """Figures of valid runs as columns of equal length, with what their numbers mean.

    Attributes:
        campaign, cell, name: int64, keys of the three tables below.
        value: float64, finite.
        campaigns: number → the campaign.
        cells: number → id and label.
        names: number → program, metric and unit.
    """

    campaign: NDArray[np.int64]
    cell: NDArray[np.int64]
    name: NDArray[np.int64]
    value: NDArray[np.float64]
    campaigns: dict[int, CampaignInfo]
    cells: dict[int, tuple[str, str]]
    names: dict[int, tuple[str, str, str]]


class FigureReader:
    """What can be asked about figures over many campaigns; a part of ``StoreReader``."""

    _engine: Engine
    _place: URL | Path

    def figures(self, nights: Collection[str], *, without: Collection[str] = ()) -> Figures:
        """All figures of the valid runs of these nights' campaigns, except metrics ``without``; flagged runs never.

        Made for a year of nights: narrow rows, no label is read more than once. About a million rows in two seconds.
        """
        i, c, r, m, n = s.campaigns.c.id, s.cells.c, s.runs.c, s.metrics.c, s.metric_names.c
        columns = [s.campaigns.c[name] for name in CampaignInfo.model_fields]
        campaigns: dict[int, CampaignInfo] = {}
        with places.guarded(self._place), self._engine.connect() as connection:
            for part in parts_of(nights):
                query = select(i, *columns).where(s.campaigns.c.night.in_(part))
                for row in connection.execute(query).mappings():
                    campaigns[row["id"]] = CampaignInfo(**{name: row[name] for name in CampaignInfo.model_fields})
            names = {
                int(number): (str(program), str(metric), str(unit))
                for number, program, metric, unit in connection.execute(select(n.id, n.program, n.metric, n.unit))
                if metric not in without
            }
            rows: list[Any] = []
            for part in parts_of(campaigns):
                # The sum keeps SQLite from walking through the figures of all runs for the sake of the names' order.
                chosen = (m.name + 0).in_(names)
                query = select(r.campaign, r.cell, m.name, m.value).select_from(s.runs).join(s.metrics)
                query = query.where(r.campaign.in_(part), r.valid.is_(True), chosen, m.value.is_not(None))
                rows += connection.execute(query).all()
            # Column by column: an array made of rows asks each row for its type.
            data = [np.asarray(column, dtype=np.float64) for column in zip(*rows, strict=True)] or [np.empty(0)] * 4
            finite = np.isfinite(data[3])
            campaign, cell, name = (column[finite].astype(np.int64) for column in data[:3])
            cells = {}
            for part in parts_of(np.unique(cell).tolist()):
                for number, cell_id, label in connection.execute(
                    select(c.id, c.cell_id, c.label).where(c.id.in_(part))
                ):
                    cells[int(number)] = (str(cell_id), str(label))
        return Figures(campaign, cell, name, data[3][finite], campaigns, cells, names)

    def planned(self, campaigns: Collection[int]) -> frozenset[tuple[int, int]]:
        """Campaign and cell (by the numbers ``figures`` gives) of all that was to be measured."""
        t = s.campaign_cells.c
        pairs: set[tuple[int, int]] = set()
        with places.guarded(self._place), self._engine.connect() as connection:
            for part in parts_of(campaigns):
                query = select(t.campaign, t.cell).where(t.campaign.in_(part))
                pairs.update((int(campaign), int(cell)) for campaign, cell in connection.execute(query))
        return frozenset(pairs)

    def conditions(self, campaigns: Collection[int]) -> dict[int, "Conditions"]:
        """Of each campaign (by the number ``figures`` gives): facts, binaries, what its programs said of themselves."""
        c, b, r, p = s.campaigns.c, s.binaries.c, s.runs.c, s.programs.c
        by_run: dict[int, Conditions] = {}
        with places.guarded(self._place), self._engine.connect() as connection:
            for part in parts_of(campaigns):
                for number, facts in connection.execute(select(c.id, c.facts_json).where(c.id.in_(part))):
                    by_run[int(number)] = Conditions(str(facts), {}, {})
                query = select(s.campaign_binaries.c.campaign, b.name, b.sha256).join(s.binaries)
                for number, name, sha256 in connection.execute(query.where(s.campaign_binaries.c.campaign.in_(part))):
                    by_run[int(number)].binaries[str(name)] = str(sha256)
                first = select(func.min(r.id)).where(r.campaign.in_(part)).group_by(r.campaign)
                query = select(r.campaign, p.program, p.info_json).select_from(s.runs).join(s.programs)
                for number, program, info in connection.execute(query.where(r.id.in_(first))):
                    by_run[int(number)].programs[str(program)] = str(info)
        return by_run


@dataclass(frozen=True)
class Conditions:
    """Under what a campaign measured, as it is stored.

    Attributes:
        facts_json: the device's facts without its nodes (see ``Facts``).
        binaries: name → SHA-256 of the programs pushed.
        programs: program → JSON of what it said about itself in the campaign's first run.
    """

    facts_json: str
    binaries: dict[str, str]
    programs: dict[str, str]


def parts_of(values: Iterable[Any]) -> Iterable[list[Any]]:
    """Portions that one statement can ask for."""
    whole = list(values)
    return (whole[start : start + _MANY] for start in range(0, len(whole), _MANY))
