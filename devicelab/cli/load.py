"""``devicelab load``: the background load on its own, with the CPU use it makes."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from devicelab.cli import _complete
from devicelab.cli._out import BoardOption, JsonOption, echo, print_json, print_table, say, says_when_ending

if TYPE_CHECKING:
    from devicelab.jobs.load import Live, LoadResult


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab load 1000 5000 20 --board note10 --cores big --seconds 10")
    def load(
        sleep_us: Annotated[int | None, typer.Argument(help="T_sleep_us: sleep after each batch of work.")] = None,
        inner_iter: Annotated[int | None, typer.Argument(help="rand() calls between two sleeps.")] = None,
        log2_outer_iter: Annotated[int | None, typer.Argument(help="2^this batches (20: minutes).")] = None,
        board: BoardOption = None,
        cores: Annotated[
            str | None,
            typer.Option(
                help="Pin to these cores: all, big, little, 4-7, 0x10. Default: not pinned.",
                autocompletion=_complete.cores,
            ),
        ] = None,
        per_core: Annotated[int, typer.Option(min=1, max=64, help="Processes on each core.")] = 1,
        seconds: Annotated[float, typer.Option(min=0.5, max=86400, help="How long.")] = 10.0,
        util: Annotated[
            float | None,
            typer.Option(help="Hold this use of the cores (percent) instead: all cores, unless --cores names some."),
        ] = None,
        json_: JsonOption = False,
    ) -> None:
        """Load a device's CPUs with `overhead`, show the use per core, end it; nothing stays behind."""
        from devicelab.device import choose
        from devicelab.errors import ConfigError, RestoreError
        from devicelab.jobs.load import loading, require_held, require_ran
        from devicelab.workloads import overhead

        numbers = (sleep_us, inner_iter, log2_outer_iter)
        params: overhead.Params | overhead.Hold
        if util is None:
            if any(number is None for number in numbers):
                raise ConfigError(
                    "give the three numbers of the load, or --util PERCENT", hint="devicelab load 1000 5000 20"
                )
            params = overhead.parse_level(" ".join(str(number) for number in numbers))
        elif any(number is not None for number in numbers):
            raise ConfigError("give either the three numbers of the load or --util, not both")
        elif not 1 <= util <= 100:
            raise ConfigError(f"--util {util:g}: give a CPU use from 1 to 100 (percent)")
        else:
            params, cores = overhead.Hold(use_pct=util / per_core), cores or "all"
        entry = choose.choose(board)
        ending = "ending: the load is being ended and the device given back"
        with says_when_ending(ending), loading(entry) as loader, _live(quiet=json_) as on_live:
            result = loader.run(params, cores=cores, per_core=per_core, seconds=seconds, on_live=on_live)
        if json_:
            print_json({**asdict(result), "args": list(result.args), "flags": [f.model_dump() for f in result.flags]})
        else:
            _show(result)
        if result.left_behind:
            raise RestoreError(
                f"{result.left_behind} processes of the load could not be ended",
                device=result.device,
                hint="reboot the device",
            )
        if result.interrupted:
            raise KeyboardInterrupt
        require_ran(result)
        require_held(result)


def _show(result: "LoadResult") -> None:
    what = f"overhead {' '.join(map(str, result.args))}"
    if result.wanted_pct is not None:
        what = f"{result.wanted_pct:g} % held" + (f", in rounds as of {what}," if result.args else "")
    simulated = " (simulated)" if result.simulated else ""
    where = f"pinned to CPUs {','.join(map(str, result.cores))}" if result.cores else "not pinned"
    device = "this computer" if result.device == "local" else result.device
    echo(f"{what} on {device}{simulated}: {result.copies} process(es), {where}")
    rows = [(f"cpu{cpu}", f"{pct:.1f}", "#" * round(pct / 4)) for cpu, pct in result.cpu_pct_by_core.items()]
    print_table(("core", "use %", ""), rows)
    echo(f"all cores together: {result.cpu_pct:.1f} % over {result.duration_s:.1f} s")
    its = "its cores" if result.cores else "all cores"
    echo(f"the load itself: {result.load_pct:.1f} % of {its}; other programs: {result.others_pct:.1f} % of all cores")
    echo(f"left behind: {result.left_behind}; the agent's own use: {result.agent_pct:.2f} % of one core")
    for flag in result.flags:
        say(f"flagged {flag.code}: {flag.detail}")


@contextmanager
def _live(*, quiet: bool) -> Iterator["Callable[[Live], None] | None"]:
    """A live table of CPU use at a terminal; nothing elsewhere, so that nothing crosses the cable."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live as Screen
    from rich.text import Text

    with Screen(console=Console(stderr=True), refresh_per_second=10, transient=True) as screen:

        def update(live: "Live") -> None:
            lines = [
                f"{'all' if cpu == 'all' else f'cpu{cpu}':>6} {pct:5.1f} % {'#' * round(pct / 2.5)}"
                for cpu, pct in live.cpu_pct.items()
            ]
            screen.update(Text("\n".join([*lines, f"{live.elapsed_s:6.1f} s   Ctrl-C ends the load"])))

        yield update
