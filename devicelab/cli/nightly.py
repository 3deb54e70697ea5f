"""``devicelab nightly``: a night of a farm."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devicelab.cli._hosts import EngineOption, TlsCaOption, TlsCertOption, TlsKeyOption, farm_hosts
from devicelab.cli._out import DryRunOption, JsonOption, StoreOption, echo, print_json, print_table, say
from devicelab.ground.times import duration

if TYPE_CHECKING:
    from devicelab.farm.engine import Hosts
    from devicelab.farm.nightly import Foretold, NightResult


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab nightly farm.toml --dry-run")
    def nightly(
        farm: Annotated[Path, typer.Argument(help="The farm file: what runs where, for how long.")],
        dry_run: DryRunOption = False,
        resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished night.")] = False,
        engine: EngineOption = None,
        tls_ca: TlsCaOption = None,
        tls_cert: TlsCertOption = None,
        tls_key: TlsKeyOption = None,
        junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML there.")] = None,
        summary: Annotated[Path | None, typer.Option("--summary", help="Write a Markdown summary there.")] = None,
        site: Annotated[
            Path | None, typer.Option("--site", help="Bring the farm's pages in this folder up to date.")
        ] = None,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Run a farm's jobs on its devices until everything is done or the time is over.

        Exit code: 0 fine; 7 a regression or a failed check; otherwise the worst of what happened, 8 (a device could
        not be restored) before all others; 130 if it was ended, and --resume goes on.
        """
        from devicelab.cli._night import night_watcher
        from devicelab.farm import nightly as nights
        from devicelab.farm.closing import Outputs
        from devicelab.store import Store

        outputs = Outputs(junit, summary, site)
        with farm_hosts(engine, (tls_ca, tls_cert, tls_key)) as hosts:
            if dry_run:
                _dry_run(farm, store, hosts, resume=resume, json_=json_)
                return
            with Store.open(store) as opened, night_watcher(quiet=json_) as watcher:
                result = nights.nightly(farm, opened, watcher, resume=resume, hosts=hosts, outputs=outputs)
        if json_:
            print_json(nights.as_json(result))
        else:
            _show(result)
        raise typer.Exit(result.exit_code)


def _dry_run(farm: Path, store: str | None, hosts: "Hosts | None", *, resume: bool, json_: bool) -> None:
    from tempfile import TemporaryDirectory

    from devicelab.farm.nightly import foretell
    from devicelab.store import Store
    from devicelab.store.engine import locate

    with TemporaryDirectory(prefix="devicelab-") as empty:
        # A dry run makes no database; where there is none, nothing is known of earlier nights.
        place = locate(store)
        missing = isinstance(place, Path) and not place.exists()
        with Store.open(Path(empty) / "none.sqlite" if missing else store) as opened:
            foretold = foretell(farm, opened, resume=resume, hosts=hosts)
            if json_:
                print_json(_as_json(foretold))
            else:
                _show_schedule(foretold)


def _as_json(foretold: "Foretold") -> dict[str, object]:
    schedule = foretold.schedule
    return {
        "tasks": [task.model_dump(mode="json") for task in foretold.tasks],
        "slots": [
            {"task_id": s.task.task_id, "device": s.device, "start_s": round(s.start_s, 1), "end_s": round(s.end_s, 1)}
            for s in schedule.slots
        ],
        "dropped": [{"task_id": task.task_id, "reason": reason} for task, reason in schedule.dropped],
        "out": foretold.conductor.out,
        "end_s": round(schedule.end_s, 1),
        "ends_unix_s": foretold.conductor.ends_unix_s,
    }


def _show_schedule(foretold: "Foretold") -> None:
    import time

    from devicelab.cli._night import clock_time

    schedule, conductor = foretold.schedule, foretold.conductor
    now = time.time()
    rows = [
        (
            slot.device,
            clock_time(now + slot.start_s),
            clock_time(now + slot.end_s),
            duration(slot.end_s - slot.start_s, roughly=True),
            conductor.basis(slot.task, slot.device),
            slot.task.priority,
            slot.task.task_id,
            slot.task.experiment,
        )
        for slot in sorted(schedule.slots, key=lambda slot: (slot.device, slot.start_s))
    ]
    print_table(("device", "from", "to", "takes", "known from", "priority", "task", "experiment"), rows)
    for task, reason in schedule.dropped:
        echo(f"will not be done: {task.task_id} {task.experiment} ({task.selector}): {reason}")
    for task in foretold.tasks:
        for share in () if task.confirms is not None else task.shares:
            echo(f"{task.task_id} {task.experiment} on {task.device}: {share.text()}")
        if task.status in {"skipped", "failed"} and not task.at_rest:
            echo(f"{task.status}: {task.task_id} {task.experiment} ({task.selector}): {task.reason}")
    for device, reason in conductor.out.items():
        echo(f"gets no work: {device}: {reason}")
    if any(task.shares for task in foretold.tasks):
        tonight, usual = conductor.runs_of(foretold.tasks)
        echo(f"{tonight} runs; {usual} if every cell were measured once")
    limit = conductor.ends_unix_s
    echo(f"ends at about {clock_time(now + schedule.end_s)}, after {duration(schedule.end_s, roughly=True)}")
    if limit is not None:
        echo(f"ends at {clock_time(limit)} at the latest")


def _show(result: "NightResult") -> None:
    rows = [
        (task.task_id, task.experiment, task.device or task.selector, task.status, task.attempts, task.reason)
        for task in result.tasks
    ]
    print_table(("task", "experiment", "device", "status", "tries", "reason"), rows)
    for quarantine in result.quarantined:
        echo(f"in quarantine: {quarantine.device}: {quarantine.reason}")
        echo(f"  once it is mended: devicelab quarantine release {quarantine.device}")
    for device, reason in result.not_given_back.items():
        say(f"{device} was not seen again ({reason}); its agent restores it alone")
        say(f"  to look: devicelab restore --board {device}")
    for check in result.failed_checks:
        echo(f"check failed: {check}")
    changed = [v for v in result.verdicts if v.verdict in {"regression", "improvement"}]
    for verdict in changed:
        shift = f"{verdict.shift_pct:+.1f} %" if verdict.shift_pct is not None else ""
        echo(f"{verdict.verdict}: {verdict.experiment} on {verdict.device}, {verdict.cell}: {verdict.metric} {shift}")
    done = sum(task.status == "complete" for task in result.tasks)
    echo(f"night {result.night}: {result.status}, {done} of {len(result.tasks)} tasks complete")
