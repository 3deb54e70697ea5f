"""A sweep from a script or a notebook."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from devicelab.device import choose
from devicelab.experiment import files
from devicelab.jobs import sweep as sweeping
from devicelab.jobs.conductor import Progress
from devicelab.notebook.lab import Campaign
from devicelab.store import Store


def sweep(
    experiment: str | Path,
    *,
    board: str | None = None,
    settings: Mapping[str, Any] | None = None,
    store: str | Path | None = None,
    report: str | Path | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Campaign:
    """Run an experiment on a device, every run stored at once, and conclude; interrupted, the device is given back.

    Args:
        experiment: a TOML file, or the name of one that comes with devicelab ("quick").
        board: device name, serial, address or board kind; the only one attached if left out.
        settings: overrides, as ``--set`` on the command line: ``{"repetitions": 3, "factors.k": [1, 4]}``.
        store: as ``devicelab.open``; made if there is none.
        report: where the page goes.
        resume: go on with the unfinished campaign of this experiment on this device.
        on_progress: told after every run; without it a line on standard error is kept up to date.

    Raises:
        LabError: any of ``devicelab.errors``; what was measured before is stored.
        KeyboardInterrupt: it was interrupted; what is done is stored, and ``resume`` goes on.
    """
    overrides = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in (settings or {}).items()]
    chosen = files.load(str(experiment), overrides)
    entry = choose.choose(board)
    with Store.open(store) as opened:
        done = sweeping.sweep(
            chosen,
            entry,
            opened,
            resume=resume,
            report_to=Path(report) if report is not None else None,
            on_progress=on_progress or _line,
        )
        if done.interrupted:
            raise KeyboardInterrupt
        # The database is opened anew whenever a frame is read later.
        return Campaign(opened.results(done.campaign), done.findings)


def _line(progress: Progress) -> None:
    left = f", about {progress.eta_s:.0f} s left" if progress.eta_s is not None else ""
    ended = "\n" if progress.done == progress.total else ""
    sys.stderr.write(f"\r{progress.done} of {progress.total} runs{left}   {ended}")
    sys.stderr.flush()
