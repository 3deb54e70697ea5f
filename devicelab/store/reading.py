"""The questions the results database answers: campaigns, runs, findings, frames, integrity."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Engine, or_, select
from sqlalchemy.engine import URL

from devicelab.errors import ConfigError, StoreError
from devicelab.model.campaign import ENDED, BinaryInfo, CampaignInfo
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment, Finding
from devicelab.model.tree import Node
from devicelab.store import engine as places
from devicelab.store import schema as s
from devicelab.store.check import CheckReport, check
from devicelab.store.codec import digest, unpack
from devicelab.store.figures import FigureReader
from devicelab.store.nights import SEVERAL, NightReader, listed
from devicelab.store.nights_overview import NightOverview

if TYPE_CHECKING:
    from devicelab.store.frames import StoredResults

_INFO = tuple(s.campaigns.c[name] for name in CampaignInfo.model_fields)


class StoreReader(NightReader, NightOverview, FigureReader):
    """What can be asked of the results database; ``Store`` adds opening and writing.

    Args:
        engine: of the database.
        place: where it is, for messages.
    """

    def __init__(self, engine: Engine, place: URL | Path) -> None:
        self._engine = engine
        self._place = place

    def __str__(self) -> str:
        return places.describe(self._place)

    def unfinished(self, *, device: str, experiment: str | None = None) -> tuple[CampaignInfo, ...]:
        """Campaigns of the device that have runs left to do (running, interrupted or failed), newest first."""
        query = select(*_INFO).where(s.campaigns.c.device == device, s.campaigns.c.status.not_in(ENDED))
        if experiment is not None:
            query = query.where(s.campaigns.c.experiment == experiment)
        return self._infos(query.order_by(s.campaigns.c.campaign.desc()))

    def campaigns(
        self,
        *,
        limit: int | None = None,
        device: str | None = None,
        experiment: str | None = None,
        night: str | None = None,
        board: str | None = None,
    ) -> tuple[CampaignInfo, ...]:
        """Campaigns, newest first; each argument that is given narrows them.

        ``board`` is what ``--board`` takes: a device's name, its address or its kind of board.
        """
        query = select(*_INFO).order_by(s.campaigns.c.campaign.desc()).limit(limit)
        for column, value in (("device", device), ("experiment", experiment), ("night", night)):
            if value is not None:
                query = query.where(s.campaigns.c[column] == value)
        if board is not None:
            c = s.campaigns.c
            query = query.where(or_(c.device == board, c.address == board, c.board == board))
        return self._infos(query)

    def campaign(self, ref: str | None = None) -> CampaignInfo:
        """One campaign by its id, by a prefix only it has, or the latest (``None``).

        Raises:
            ConfigError: there is none, or several begin like that.
        """
        named = s.campaigns.c.campaign
        # An id given in full comes first: it may also be the beginning of many others.
        query = select(*_INFO).order_by((named == ref).desc(), named.desc()).limit(SEVERAL + 1)
        if ref is not None:
            query = query.where(named.startswith(ref, autoescape=True))
        infos = self._infos(query)
        if infos and (ref is None or len(infos) == 1 or infos[0].campaign == ref):
            return infos[0]
        if infos:
            names = listed([info.campaign for info in infos])
            raise ConfigError(f"several campaigns begin with {ref!r}: {names}", hint="give more of the id")
        if ref is None:
            raise ConfigError(f"no campaign is stored in {self}", hint="run `devicelab sweep` first")
        raise ConfigError(f"no campaign {ref!r} in {self}", hint="`devicelab store list` shows those that are stored")

    def done_runs(self, campaign: str) -> frozenset[str]:
        """Ids of the runs stored so far, valid or not."""
        with places.guarded(self._place), self._engine.connect() as connection:
            query = select(s.runs.c.run_id).join(s.campaigns).where(s.campaigns.c.campaign == campaign)
            return frozenset(connection.execute(query).scalars())

    def findings(self, campaign: str) -> tuple[Finding, ...]:
        """The stored findings in the order they were added."""
        t = s.findings
        query = select(t).join(s.campaigns).where(s.campaigns.c.campaign == campaign).order_by(t.c.position)
        with places.guarded(self._place), self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        kept = Finding.model_fields.keys() - {"reasons"}
        return tuple(
            Finding(**{name: row[name] for name in kept}, reasons=tuple(json.loads(row["reasons_json"])))
            for row in rows
        )

    def experiment(self, campaign: str) -> Experiment:
        """The experiment as it was begun."""
        return Experiment.model_validate_json(self._campaign_row(campaign)["experiment_json"])

    def facts(self, campaign: str) -> Facts:
        """The device's facts as they were read, with the nodes."""
        row = self._campaign_row(campaign)
        facts = Facts.model_validate_json(row["facts_json"])
        text = self._document_text(row["nodes_sha256"])
        nodes = tuple(Node.model_validate(node) for node in json.loads(text or "[]"))
        return facts.model_copy(update={"nodes": nodes})

    def plan_json(self, campaign: str) -> str | None:
        """The plan as it was given to ``begin_campaign``."""
        return self._document_text(self._campaign_row(campaign)["plan_sha256"])

    def cells(self, campaign: str) -> tuple[Cell, ...]:
        """The planned cells in their order."""
        query = (
            select(s.cells.c.levels_json, s.cells.c.measured)
            .select_from(s.cells)
            .join(s.campaign_cells)
            .join(s.campaigns)
            .where(s.campaigns.c.campaign == campaign)
            .order_by(s.campaign_cells.c.position)
        )
        with places.guarded(self._place), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(Cell(levels=json.loads(levels), measured=measured) for levels, measured in rows)

    def binaries(self, campaign: str) -> tuple[BinaryInfo, ...]:
        """The programs that were pushed, by name."""
        columns = [s.binaries.c[name] for name in BinaryInfo.model_fields]
        query = (
            select(*columns)
            .select_from(s.binaries)
            .join(s.campaign_binaries)
            .join(s.campaigns)
            .where(s.campaigns.c.campaign == campaign)
        )
        with places.guarded(self._place), self._engine.connect() as connection:
            rows = connection.execute(query.order_by(s.binaries.c.name)).mappings().all()
        return tuple(BinaryInfo(**row) for row in rows)

    def results(self, campaign: str) -> "StoredResults":
        """The campaign's runs as frames, for analyses, reports and notebooks; id or unique prefix."""
        from devicelab.store.frames import StoredResults  # with pandas: nobody needs it to begin and to commit runs

        info = self.campaign(campaign)
        return StoredResults(
            engine=self._engine,
            place=self._place,
            campaign=info,
            number=self._require(info.campaign),
            experiment=self.experiment(info.campaign),
            facts=self.facts(info.campaign),
            binaries=self.binaries(info.campaign),
        )

    def export(self, campaign: str, directory: Path, fmt: Literal["parquet", "csv", "both"]) -> tuple[Path, ...]:
        """Write the campaign's frames into a folder (see ``devicelab.store.export``); the paths written."""
        from devicelab.store.export import export_results

        return export_results(self.results(campaign), self.findings(campaign), directory, fmt)

    def check(self) -> CheckReport:
        """Verify the file's structure, all references, every checksum and the counters."""
        with places.guarded(self._place):
            return check(self._engine)

    def _number(self, campaign: str) -> int | None:
        with self._engine.connect() as connection:
            query = select(s.campaigns.c.id).where(s.campaigns.c.campaign == campaign)
            return connection.execute(query).scalar()

    def _require(self, campaign: str) -> int:
        number = self._number(campaign)
        if number is None:
            raise StoreError(f"no campaign {campaign!r} in {self}", hint="`devicelab store list` shows what is stored")
        return number

    def _document_text(self, sha256: str | None) -> str | None:
        if sha256 is None:
            return None
        with places.guarded(self._place), self._engine.connect() as connection:
            blob = connection.execute(select(s.documents.c.data).where(s.documents.c.sha256 == sha256)).scalar_one()
        try:
            data = unpack(blob)
        except ValueError:
            data = b""
        if digest(data) != sha256:
            raise StoreError(f"a document of {self} does not fit its checksum", hint="`devicelab store check`")
        return data.decode()

    def _campaign_row(self, campaign: str) -> Mapping[str, Any]:
        with places.guarded(self._place), self._engine.connect() as connection:
            query = select(s.campaigns).where(s.campaigns.c.campaign == campaign)
            row = connection.execute(query).mappings().first()
        if row is None:
            raise StoreError(f"no campaign {campaign!r} in {self}", hint="`devicelab store list` shows what is stored")
        return dict(row)

    def _infos(self, query: Any) -> tuple[CampaignInfo, ...]:
        with places.guarded(self._place), self._engine.connect() as connection:
            return tuple(CampaignInfo(**row) for row in connection.execute(query).mappings())
