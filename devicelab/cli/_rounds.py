"""What commands share that work in rounds: their options, and the next round as a bundle."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devicelab.cli import _complete
from devicelab.cli._out import echo, print_json, say

if TYPE_CHECKING:
    from devicelab.device.lab import DeviceEntry
    from devicelab.jobs.rounds import Step

BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="Write the next round as an archive for a machine that cannot be reached."),
]
AfterOption = Annotated[
    list[str] | None,
    typer.Option("--after", help="Campaign of an earlier round (repeatable).", autocompletion=_complete.campaign),
]


def write_next(
    step: "Step", entry: "DeviceEntry", to: Path, show: Callable[[], None], data: Mapping[str, Any], *, json_: bool
) -> None:
    """Write the round that comes next as a bundle, if one does, and say how to go on.

    Args:
        step: what comes next.
        entry: the machine it is for.
        to: the archive.
        show: shows the step to people, or as JSON where nothing comes next.
        data: more of the step for ``--json``.
        json_: one JSON object instead.
    """
    from devicelab.jobs.bundle import write_bundle

    if step.experiment is None:
        show()
        return
    manifest = write_bundle(step.experiment, entry, to)
    runs = sum(len(plan.runs) for plan in manifest.plans)
    if json_:
        print_json({"bundle": str(to), "campaign": manifest.campaign, "runs": runs, "why": step.why, **data})
        return
    show()
    say(f"campaign {manifest.campaign}, {runs} runs; there: tar -xf {to.name} && sh run.sh")
    say(f"here: devicelab import result.tar, then this command again with --after {manifest.campaign}")
    echo(str(to))
