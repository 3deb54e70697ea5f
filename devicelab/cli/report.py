"""``devicelab report``: a stored campaign as a page."""

from pathlib import Path
from typing import Annotated

import typer

from devicelab.cli._out import (
    CampaignArgument,
    JsonOption,
    PortOption,
    ServeOption,
    StoreOption,
    echo,
    print_json,
    say_headline,
    serve_pages,
)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab report 20261122-1015 --to klo.html --open")
    def report(
        campaign: CampaignArgument = None,
        to: Annotated[
            Path | None,
            typer.Option(help="Where the page goes; devicelab-report/CAMPAIGN.html if left out.", dir_okay=False),
        ] = None,
        junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML there.", dir_okay=False)] = None,
        markdown: Annotated[Path | None, typer.Option(help="Also write a summary there.", dir_okay=False)] = None,
        zip_: Annotated[
            Path | None,
            typer.Option("--zip", help="Also write everything there: page, figures, method, data.", dir_okay=False),
        ] = None,
        open_: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
        serve: ServeOption = False,
        port: PortOption = 0,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Make the report of a campaign: findings, conditions, figures and runs as one self-contained HTML page."""
        from dataclasses import asdict

        from devicelab.report import archive, conclude, served, write_junit, write_markdown, write_page
        from devicelab.report.build import drawn
        from devicelab.report.headline import headline
        from devicelab.report.page import every_figure
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            info = opened.campaign(campaign)
            results = opened.results(info.campaign)
            findings = opened.findings(info.campaign) or conclude(results)
            page = write_page(results, findings, to).absolute()
            head = headline(results, findings)
            if junit is not None:
                write_junit(results, findings, junit)
            if markdown is not None:
                write_markdown(results, findings, markdown)
            if zip_ is not None:
                archive.write_archive(results, findings, every_figure(results, drawn(results)), page, zip_)
        if json_:
            print_json(
                {
                    "campaign": info.campaign,
                    "device": info.device,
                    "status": info.status,
                    "simulated": bool(results.info["simulated"]),
                    "runs": info.runs_done,
                    "invalid": info.runs_invalid,
                    "report": str(page),
                    "answer": asdict(head),
                    "findings": [finding.model_dump(mode="json") for finding in findings],
                }
            )
        else:
            echo(f"report: {page}")
            say_headline(head)
        if serve:
            with Store.open(store, create=False) as opened:
                serve_pages(served.campaign_pages(page, opened.results(info.campaign)), port, launch=open_)
        elif open_:
            typer.launch(page.as_uri())
