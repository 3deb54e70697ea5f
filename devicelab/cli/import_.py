"""``devicelab import``: results of bundles, from machines that devicelab cannot reach."""

from pathlib import Path
from typing import Annotated

import typer

from devicelab.cli._out import JsonOption, ReportOption, StoreOption, echo, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("import", epilog="Example: devicelab import result.tar")
    def import_(
        result: Annotated[Path, typer.Argument(help="result.tar, as run.sh left it.")],
        store: StoreOption = None,
        report: ReportOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Bring a bundle's result into the store and write its report; importing it twice adds nothing."""
        from dataclasses import asdict

        from devicelab.jobs.import_ import import_result
        from devicelab.jobs.sweep import conclude
        from devicelab.store import Store

        with Store.open(store) as opened:
            done = import_result(result, opened)
            findings, page = conclude(opened, opened.results(done.campaign), report)
        if json_:
            print_json({**asdict(done), "report": str(page), "findings": [f.model_dump(mode="json") for f in findings]})
            return
        echo(f"campaign {done.campaign}: {done.new} runs new, {done.known} known, {done.damaged} damaged lines")
        for finding in findings:
            estimate = "" if finding.estimate is None else f" {finding.estimate:.4g} {finding.unit}"
            echo(f"{finding.verdict}: {finding.claim}{estimate}")
        echo(f"report: {page}")
