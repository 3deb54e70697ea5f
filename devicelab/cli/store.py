"""``devicelab store`` and ``devicelab export``: what is in the results database, and how to get it out."""

import datetime as dt
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devicelab.cli import _complete
from devicelab.cli._out import (
    CampaignArgument,
    DryRunOption,
    JsonOption,
    StoreOption,
    echo,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from devicelab.model.campaign import CampaignInfo
    from devicelab.store import Store
    from devicelab.store.retention import Pruned


class ExportFormat(StrEnum):
    """File formats of ``devicelab export``."""

    parquet = "parquet"
    csv = "csv"
    both = "both"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Look into the results database, check it, shrink it.")
    app.add_typer(group, name="store")

    @app.command(epilog="Example: devicelab export 20261122-1015 --to results --format both")
    def export(
        campaign: CampaignArgument = None,
        to: Annotated[Path | None, typer.Option(help="Folder; devicelab-export/CAMPAIGN if left out.")] = None,
        fmt: Annotated[ExportFormat, typer.Option("--format", help="Of the frames.")] = ExportFormat.csv,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Write a campaign as files: runs, figures, flags, findings, raw samples, evidence."""
        from devicelab.store import Store
        from devicelab.store.export import file_stem

        with Store.open(store, create=False) as opened:
            info = opened.campaign(campaign)
            folder = to or Path("devicelab-export") / file_stem(info.campaign)
            written = opened.export(info.campaign, folder, fmt.value)
            dropped = opened.results(info.campaign).info["dropped_samples"]
        if json_:
            files = [str(path.absolute()) for path in written]
            print_json({"campaign": info.campaign, "files": files, "dropped_samples": dropped})
        else:
            for path in written:
                echo(path)
            if dropped:
                listed = ", ".join(f"{name} ({rows} rows)" for name, rows in dropped.items())
                say(f"not written, since they were dropped from the database: raw samples {listed}")

    @group.command(name="list", epilog="Example: devicelab store list --board note10 --limit 50")
    def list_(
        board: Annotated[
            str | None,
            typer.Option("--board", "-b", help="Only this device or board kind.", autocompletion=_complete.board),
        ] = None,
        experiment: Annotated[
            str | None, typer.Option(help="Only campaigns of this experiment.", autocompletion=_complete.experiment)
        ] = None,
        limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """List the stored campaigns, newest first."""
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            infos = opened.campaigns(limit=limit, board=board, experiment=experiment)
        if json_:
            print_json({"campaigns": [info.model_dump(mode="json") for info in infos]})
        elif infos:
            columns = ("campaign", "device", "experiment", "runs", "invalid", "status")
            print_table(columns, [_row(info) for info in infos], whole=("campaign",))
        else:
            say("no such campaign is stored")

    @group.command(epilog="Example: devicelab store show 20261122-1015")
    def show(campaign: CampaignArgument = None, store: StoreOption = None, json_: JsonOption = False) -> None:
        """Show one campaign: what ran on what, its cells and findings."""
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            info = opened.campaign(campaign)
            runs = opened.results(info.campaign).runs()
            cells = opened.cells(info.campaign)
            findings = opened.findings(info.campaign)
        counts = {cell_id: (len(part), int((~part["valid"]).sum())) for cell_id, part in runs.groupby("cell_id")}
        rows = [(cell.label(), *counts.get(cell.cell_id, (0, 0))) for cell in cells]
        if json_:
            listed = [dict(zip(("cell", "runs", "invalid"), row, strict=True)) for row in rows]
            said = [finding.model_dump(mode="json") for finding in findings]
            print_json({**info.model_dump(mode="json"), "cells": listed, "findings": said})
            return
        print_table(("", ""), [(name, value) for name, value in _facts(info) if value])
        print_table(("cell", "runs", "invalid"), rows)
        if findings:
            print_table(("verdict", "finding", "n"), [(one.verdict, one.claim, one.n) for one in findings])

    @group.command(epilog="Example: devicelab store check")
    def check(store: StoreOption = None, json_: JsonOption = False) -> None:
        """Verify the database: its structure, all references, the checksum of every blob (exit code 7 if damaged)."""
        from devicelab.errors import CheckFailedError
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            report = opened.check()
            place = str(opened)
        if json_:
            print_json(
                {
                    "ok": report.ok,
                    "campaigns": report.campaigns,
                    "runs": report.runs,
                    "blobs": report.blobs,
                    "problems": list(report.problems),
                }
            )
        else:
            say(f"{report.campaigns} campaigns, {report.runs} runs, {report.blobs} blobs looked at")
            for problem in report.problems:
                echo(problem)
        if not report.ok:
            raise CheckFailedError(
                f"{place} has {len(report.problems)} problems", hint="keep a copy; runs not named are intact"
            )

    @group.command(epilog="Example: devicelab store prune --nights 60 --max-gb 20 --dry-run")
    def prune(
        farm: Annotated[str | None, typer.Option(help="Only nights of this farm.")] = None,
        nights: Annotated[int | None, typer.Option(min=1, help="Keep so many nights of each farm.")] = None,
        max_gb: Annotated[float | None, typer.Option(help="Delete the oldest nights above this size.")] = None,
        thin_after: Annotated[
            int | None, typer.Option(min=1, help="Drop raw samples of nights beyond the newest so many.")
        ] = None,
        dry_run: DryRunOption = False,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Delete old nights, or their raw samples alone; without limits, what each farm's own file says.

        Never deleted: the nights that the next one is compared with, the newest, and campaigns outside of nights.
        """
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            done = _prune(opened, farm, (nights, max_gb, thin_after), dry_run=dry_run)
        if json_:
            print_json({"dry_run": dry_run, **asdict(done)})
            return
        would = "would go" if dry_run else "deleted"
        print_table(
            ("night", "", "why"),
            [(night, would, why) for night, why in done.deleted.items()]
            + [(night, "samples " + ("would go" if dry_run else "dropped"), "old") for night in done.thinned],
        )
        more = "" if dry_run else "; `devicelab store vacuum` gives free space back to the disk"
        say(f"{done.bytes / 1e6:.1f} MB {'would be ' if dry_run else ''}freed inside the database{more}")
        if done.short_bytes:
            say(f"still {done.short_bytes / 1e9:.2f} GB too large: everything else is protected or outside of nights")

    @group.command(epilog="Example: devicelab store vacuum")
    def vacuum(store: StoreOption = None, json_: JsonOption = False) -> None:
        """Give unused space back to the disk."""
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            freed = opened.vacuum()
        if json_:
            print_json({"freed_bytes": freed})
        else:
            say(f"{freed / 2**20:.1f} MiB freed")


def _prune(
    opened: "Store", farm: str | None, limits: tuple[int | None, float | None, int | None], *, dry_run: bool
) -> "Pruned":
    from pydantic import ValidationError

    from devicelab.errors import ConfigError
    from devicelab.model.night import Retention
    from devicelab.store.retention import merged, prune

    newest = {info.farm: info.job for info in reversed(opened.nights(farm=farm))}
    if farm is not None and not newest:
        raise ConfigError(f"no night of a farm {farm!r} in {opened}", hint="--farm takes the name in its farm file")
    if any(limit is not None for limit in limits):
        try:
            given = Retention(nights=limits[0], max_gb=limits[1], thin_samples_after_nights=limits[2])
        except ValidationError as error:
            raise ConfigError("--max-gb has to be above 0") from error
        baselines = {name: job.baseline_nights for name, job in newest.items()}
        return prune(opened, given, farms=baselines, dry_run=dry_run)
    return merged(
        prune(opened, job.retention, farms={name: job.baseline_nights}, dry_run=dry_run) for name, job in newest.items()
    )


def _facts(info: "CampaignInfo") -> list[tuple[str, str]]:
    facts = {name.replace("_", " "): str(value or "") for name, value in info.model_dump().items()}
    for name, unix_ns in (("started", info.started_unix_ns), ("ended", info.ended_unix_ns)):
        del facts[f"{name} unix ns"]
        if unix_ns is not None:
            facts[name] = dt.datetime.fromtimestamp(unix_ns // 1_000_000_000).astimezone().isoformat(" ")
    return list(facts.items())


def _row(info: "CampaignInfo") -> tuple[object, ...]:
    simulated = " (simulated)" if info.simulated else ""
    done = f"{info.runs_done}/{info.runs_planned}"
    status = info.status + (", samples dropped" if info.thinned_rows else "")
    return info.campaign, info.device + simulated, info.experiment, done, info.runs_invalid, status
