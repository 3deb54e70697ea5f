"""``devicelab pin`` and ``devicelab restore``: hold a board still, and give it back."""

from typing import TYPE_CHECKING, Annotated

import typer

from devicelab.cli import _complete
from devicelab.cli._out import BoardOption, DryRunOption, JsonOption, echo, print_json, print_table, say

if TYPE_CHECKING:
    from devicelab.jobs.pin import Pinned


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command(epilog="Example: devicelab pin --board note10 --cpu min --gpu 377000 --dry-run")
    def pin(
        board: BoardOption = None,
        cpu: Annotated[str | None, typer.Option(help="max, min, honest-min, kHz, nearest:kHz, 4:1612800 ...")] = None,
        gpu: Annotated[str | None, typer.Option(help="max, min, or a frequency of the device's table.")] = None,
        knob: Annotated[
            list[str] | None,
            typer.Option(
                "--knob", metavar="WORD=LEVEL", help="Any other knob (repeatable).", autocompletion=_complete.knob
            ),
        ] = None,
        lock: Annotated[
            bool, typer.Option("--lock", help="All that this board can be held still by; other options count first.")
        ] = False,
        dry_run: DryRunOption = False,
        json_: JsonOption = False,
    ) -> None:
        """Pin clocks (and other knobs) of a device and leave it so until `devicelab restore`."""
        from devicelab.device import choose
        from devicelab.errors import ConfigError
        from devicelab.ground.interruption import interruptible
        from devicelab.jobs.pin import pin as pin_device

        wants: dict[str, str | int | float | bool] = {"lock": "on"} if lock else {}
        if cpu is not None:
            wants["cpu"] = cpu
        if gpu is not None:
            wants["gpu"] = gpu
        for text in knob or ():
            word, mark, level = text.partition("=")
            if not mark:
                raise ConfigError(f"--knob {text!r}: write WORD=LEVEL, such as --knob isolation=hold")
            wants[word] = level
        if not wants:
            raise ConfigError("nothing to pin", hint="give --lock, --cpu, --gpu or --knob WORD=LEVEL")
        with interruptible() as signals:  # to the last word: what was said to be pinned is, and nothing else
            done = pin_device(choose.choose(board), wants, dry_run=dry_run, signals=signals)
            if json_:
                print_json(
                    {
                        "device": done.facts.name,
                        "dry_run": dry_run,
                        "steps": [step.model_dump(mode="json") for s in done.settings.values() for step in s.steps],
                        "results": [step.model_dump(mode="json") for step in done.steps],
                        "unmet": {word: list(reasons) for word, reasons in done.unmet.items()},
                    }
                )
            else:
                _show(done, dry_run=dry_run)

    @app.command(epilog="Example: devicelab restore --board note10")
    def restore(
        board: BoardOption = None,
        force: Annotated[bool, typer.Option("--force", help="End an agent that still measures there first.")] = False,
        json_: JsonOption = False,
    ) -> None:
        """Undo a pin, or what an agent that died has left on a device."""
        from devicelab.device import choose
        from devicelab.jobs.pin import give_back

        entry = choose.choose(board)
        answer = give_back(entry, force=force)
        if json_:
            print_json({"device": entry.name, **answer})
            return
        restored = answer.get("restored") or []
        echo(f"{entry.name}: {len(restored)} things put back" if restored else f"{entry.name}: nothing to restore")
        for entry_text in restored:
            say(f"  {entry_text}")


def _show(done: "Pinned", *, dry_run: bool) -> None:
    results = iter(done.steps)
    rows = []
    for setting in done.settings.values():
        for step in setting.steps:
            result = next(results, None)
            if step.kind == "write":
                old = done.facts.tree.text(step.path) if result is None else (result.before or "").strip()
                new = step.value if result is None else (result.after or "").strip()
                rows.append((step.path, old, new, step.why))
            else:
                rows.append((" ".join(step.do), "", "", step.why))
    echo(f"{done.facts.name}: {done.facts.board.title}{' (simulated)' if done.facts.simulated else ''}")
    print_table(("node", "old", "new", "why"), rows)
    for word, reasons in done.unmet.items():
        say(f"not possible here: {word}: {'; '.join(reasons)}")
    for what in done.undone:
        say(f"undone first: {what}")
    echo("nothing was changed (dry run)" if dry_run else f"undo with: devicelab restore --board {done.facts.name}")
