"""``devicelab sweep``: run an experiment on a device."""

import json
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devicelab.cli._out import (
    BoardOption,
    DryRunOption,
    ExperimentArgument,
    JsonOption,
    ReportOption,
    SetOption,
    StoreOption,
    echo,
    print_json,
    print_table,
    say,
    say_headline,
    says_when_ending,
    stop_rule,
    sweep_progress,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devicelab.device.lab import DeviceEntry
    from devicelab.jobs.conductor import SweepResult
    from devicelab.model.experiment import Experiment, Finding


_SCREENFUL = 12
_REASONS = 5


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab sweep klo_under_load --board note10 --set repetitions=3")
    def sweep(
        experiment: ExperimentArgument = "klo_under_load",
        board: BoardOption = None,
        dry_run: DryRunOption = False,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help="With --dry-run: every cell with all its writes and commands.")
        ] = False,
        set_: SetOption = None,
        resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished campaign.")] = False,
        bundle: Annotated[
            Path | None,
            typer.Option("--bundle", help="Write an archive for a machine devicelab cannot reach, and run nothing."),
        ] = None,
        until: Annotated[
            str | None,
            typer.Option("--until", help='Repeat until "decided", or until a precision such as "± 2 %".'),
        ] = None,
        budget: Annotated[
            str | None, typer.Option("--budget", help='Time that this may take at most, such as 20m, "90 s", 2h.')
        ] = None,
        store: StoreOption = None,
        report: ReportOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Run an experiment on a device: every cell, in random order, with evidence, to a report."""
        from devicelab.cli._dry_run import show_plan
        from devicelab.device import choose
        from devicelab.errors import ConfigError, StoreError
        from devicelab.experiment import files
        from devicelab.ground.typed import again
        from devicelab.jobs import sweep as sweeping

        typed = {key: value for key, value in (("until", until), ("budget", budget)) if value is not None}
        if typed and resume:
            raise ConfigError("a campaign that goes on keeps its stop rule", hint="leave --until and --budget out")
        stop_rule(**typed)
        rule = [f"stop.{key}={json.dumps(value, ensure_ascii=False)}" for key, value in typed.items()]
        chosen = files.load(experiment, (*(set_ or ()), *rule))
        entry = choose.choose(board)
        if bundle is not None and not dry_run:
            _write_bundle(chosen, entry, bundle, json_=json_)
            return
        if dry_run:
            from devicelab.store import Store

            if bundle is not None:
                from devicelab.jobs import bundle as bundling

                chosen, planned, facts = bundling.dry_run(chosen, entry)
            else:
                planned, facts = sweeping.dry_run(chosen, entry)
            likely: dict[str, int | None] = {}
            if chosen.stop is not None:
                try:
                    with Store.open(store, create=False) as opened:
                        likely = sweeping.likely_repetitions(chosen, facts.name, opened)
                except StoreError:  # no campaign was ever stored there
                    likely = sweeping.likely_repetitions(chosen, facts.name, None)
            search, known_s = sweeping.search_of(chosen), None
            with suppress(StoreError), Store.open(store, create=False) as opened:
                known_s = sweeping.known_run_s(chosen, facts.name, opened)
            if json_:
                plans = [plan.model_dump(mode="json") for plan in planned.plans]
                told = asdict(search) if search is not None else None
                print_json({"plans": plans, "unmet": planned.unmet, "undecided": likely, "search": told})
            else:
                show_plan(chosen, planned, facts, likely, search=search, known_s=known_s, verbose=verbose)
            return
        ending = f"ending: the device is being given back; `{again(['devicelab', *sys.argv[1:]], '--resume')}` goes on"
        with sweep_progress(quiet=json_) as on_progress, says_when_ending(ending):
            result = sweeping.sweep_into(chosen, entry, store, resume=resume, report_to=report, on_progress=on_progress)
        conclude(result, json_=json_)


def conclude(result: "SweepResult", *, json_: bool) -> None:
    """Print what a sweep found.

    Raises:
        MeasurementError, ConfigError, CheckFailedError: what its exit code says.
        KeyboardInterrupt: it was interrupted.
    """
    from devicelab.errors import CheckFailedError, ConfigError, MeasurementError
    from devicelab.experiment.remedies import remedies
    from devicelab.jobs import sweep as sweeping
    from devicelab.model.campaign import unreliable

    if json_:
        print_json(sweeping.as_json(result))
    else:
        _show_result(result)
    if result.interrupted:
        raise KeyboardInterrupt
    helps = remedies(code for code, _, _ in result.reasons)
    hint = "; ".join((*helps, f"all reasons are in the report: {result.report}"))
    if result.invalid_cells:
        shown = "; ".join(result.invalid_cells[:3])
        what = f"{len(result.invalid_cells)} cells have no valid run: {shown}"
        raise MeasurementError(what, device=result.device, hint=hint)
    if unreliable(result.runs, result.invalid):
        what = f"{result.invalid} of {result.runs} runs are flagged, so that what is left proves little"
        raise MeasurementError(what, device=result.device, hint=hint)
    unjudged = [one for one in result.findings if one.analysis == "checks" and one.verdict == "invalid"]
    if unjudged:
        what = f"a check cannot be judged: {unjudged[0].claim}: {unjudged[0].reasons[0]}"
        raise ConfigError(what, device=result.device, hint="; ".join(unjudged[0].reasons[1:]) or None)
    failed = [finding for finding in result.findings if finding.verdict == "fail"]
    if failed:
        raise CheckFailedError(f"{len(failed)} checks failed: {failed[0].claim}", device=result.device)


def _write_bundle(experiment: "Experiment", entry: "DeviceEntry", to: Path, *, json_: bool) -> None:
    from devicelab.jobs.bundle import write_bundle

    manifest = write_bundle(experiment, entry, to)
    runs = sum(len(plan.runs) for plan in manifest.plans)
    if json_:
        print_json({"bundle": str(to), "campaign": manifest.campaign, "runs": runs})
        return
    if experiment.rule is not None:
        fixed = manifest.experiment.repetitions
        say(f"nothing can be asked there: a fixed plan of {fixed} repetitions instead of the stop rule")
    say(f"campaign {manifest.campaign}, {runs} runs; there: tar -xf {to.name} && sh run.sh")
    say("here, with what it leaves: devicelab import result.tar")
    echo(str(to))


def _show_result(result: "SweepResult") -> None:
    from devicelab.experiment.remedies import remedies

    simulated = " (simulated)" if result.simulated else ""
    echo(f"campaign {result.campaign} on {result.device}, {result.board}{simulated}")
    echo(f"{result.runs} of {result.planned} runs stored, {result.invalid} flagged invalid")
    for code, runs, detail in result.reasons[:_REASONS]:
        echo(f"  {runs} x {code}: {detail}")
        for helps in remedies([code]):
            echo(f"      what helps: {helps.partition(': ')[2]}")
    if result.ended:
        echo(f"ended: {result.ended}")
    for name in result.undecided:
        echo(f"not decided: {name}")
    for what in result.undone:
        say(f"undone first, left by an earlier agent: {what}")
    for word, reasons in result.unmet.items():
        say(f"not possible here: {word}: {'; '.join(reasons)}")
    shown = _most_telling(result.findings)
    all_simulated = all(finding.simulated for finding in shown)
    rows = [(_verdict(f, said=not all_simulated), f.claim, _estimate(f), f.n) for f in shown]
    if rows:
        head = "verdict (simulated)" if all_simulated else "verdict"
        print_table((head, "finding", "estimate [95 % interval]", "n"), rows)
    if len(shown) < len(result.findings):
        echo(f"{len(result.findings) - len(shown)} more findings are in the report")
    echo(f"report: {result.report}")
    if result.headline is not None:
        say_headline(result.headline)


def _most_telling(findings: "Sequence[Finding]") -> "list[Finding]":
    """A screenful in their own order: answer, checks and what failed, then verdicts, figures, too few runs."""
    ranks = {"fail": 0, "invalid": 0, "insufficient n": 3, "info": 2}

    def rank(finding: "Finding") -> int:
        return -1 if finding.answer or finding.analysis == "checks" else ranks.get(finding.verdict, 1)

    best = sorted(findings, key=rank)[:_SCREENFUL]
    return [finding for finding in findings if any(finding is one for one in best)]


def _verdict(finding: "Finding", *, said: bool) -> str:
    from devicelab.model.glossary import shown_verdict

    word = shown_verdict(finding.verdict)
    text = f"answer: {word}" if finding.answer else word
    return f"{text} (simulated)" if finding.simulated and said else text


def _estimate(finding: "Finding") -> str:
    if finding.estimate is None:
        return ""
    interval = (
        f" [{finding.low:.4g}, {finding.high:.4g}]" if finding.low is not None and finding.high is not None else ""
    )
    return f"{finding.estimate:.4g}{interval} {finding.unit if finding.unit != '1' else ''}".rstrip()
