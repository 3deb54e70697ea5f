"""``Store``: the one way in and out of the results database."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from devicelab.model.campaign import BinaryInfo, CampaignInfo, EndStatus
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment, Finding
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.measurement import Measurement
from devicelab.model.results import Results
from devicelab.store.check import CheckReport


class Store:
    """The results database."""

    @classmethod
    def open(cls, url: str | Path | None = None, *, create: bool = True) -> "Store":
        """Open (or create) the database; ``None``: ``$DEVICELAB_STORE`` or ``./devicelab.sqlite``."""
        raise NotImplementedError

    def begin_campaign(
        self,
        *,
        experiment: Experiment,
        facts: Facts,
        cells: Sequence[Cell],
        command: str,
        binaries: Sequence[BinaryInfo],
        plan_json: str | None,
        night: str | None = None,
    ) -> str:
        """Record that a campaign begins; its id."""
        raise NotImplementedError

    def unfinished(self, *, device: str, experiment: str | None = None) -> tuple[CampaignInfo, ...]:
        """Campaigns of the device that are not complete, newest first."""
        raise NotImplementedError

    def campaigns(
        self,
        *,
        limit: int | None = None,
        device: str | None = None,
        experiment: str | None = None,
        night: str | None = None,
    ) -> tuple[CampaignInfo, ...]:
        """Campaigns, newest first."""
        raise NotImplementedError

    def campaign(self, ref: str | None = None) -> CampaignInfo:
        """One campaign by id, unique prefix, or ``None`` for the latest."""
        raise NotImplementedError

    def done_runs(self, campaign: str) -> frozenset[str]:
        """Ids of the runs stored so far."""
        raise NotImplementedError

    def commit_run(
        self,
        campaign: str,
        cell: Cell,
        record: RunRecord,
        *,
        repetition: int,
        measurements: Mapping[str, Measurement],
        flags: Sequence[Flag],
    ) -> bool:
        """Store a finished run in one transaction; ``False`` if it is stored already."""
        raise NotImplementedError

    def finish_campaign(self, campaign: str, status: EndStatus, reason: str = "") -> None:
        """Record how the campaign ended."""
        raise NotImplementedError

    def add_findings(self, campaign: str, findings: Sequence[Finding]) -> None:
        """Store findings; those of the same analyses that were stored before are replaced."""
        raise NotImplementedError

    def findings(self, campaign: str) -> tuple[Finding, ...]:
        """The stored findings in their order."""
        raise NotImplementedError

    def experiment(self, campaign: str) -> Experiment:
        """The experiment as it was begun."""
        raise NotImplementedError

    def cells(self, campaign: str) -> tuple[Cell, ...]:
        """The planned cells in their order."""
        raise NotImplementedError

    def plan_json(self, campaign: str) -> str | None:
        """The plan as it was begun."""
        raise NotImplementedError

    def results(self, campaign: str) -> Results:
        """The campaign's runs as frames."""
        raise NotImplementedError

    def export(self, campaign: str, directory: Path, fmt: Literal["parquet", "csv", "both"]) -> tuple[Path, ...]:
        """Write the campaign's frames as files; their paths."""
        raise NotImplementedError

    def check(self) -> CheckReport:
        """Verify structure, references and checksums."""
        raise NotImplementedError

    def vacuum(self) -> int:
        """Give unused space back; the bytes freed."""
        raise NotImplementedError

    def close(self) -> None:
        """Close all connections."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
