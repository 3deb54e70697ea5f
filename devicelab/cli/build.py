"""``devicelab build``: compile native programs and show what was built with what."""

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devicelab.cli import _complete

if TYPE_CHECKING:
    from devicelab.device.build import Built
    from devicelab.device.toolchain import Place


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("build", epilog="Example: devicelab build klo --abi arm64-v8a")(build)


def build(
    program: Annotated[
        str | None,
        typer.Argument(help="A native program or library; all programs if left out.", autocompletion=_complete.program),
    ] = None,
    abi: Annotated[
        str | None, typer.Option(help="Target: arm64-v8a, armeabi-v7a, x86_64, ... (default: this machine).")
    ] = None,
    toolchain: Annotated[
        str | None,
        typer.Option(help="Use this toolchain instead of the best one.", autocompletion=_complete.toolchain),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="For every kind of device, not one target.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compile native programs, or take them from the cache, and show what was built with what."""
    from devicelab.device import build as builder
    from devicelab.device.toolchain import host_abi
    from devicelab.errors import BuildError, ConfigError

    if everything and (abi or toolchain):
        raise ConfigError("--all chooses targets and toolchains itself", hint="leave out --abi and --toolchain")
    here = host_abi()
    target = abi or here
    if target is None:
        raise ConfigError("this machine's ABI is not one devicelab knows", hint="name a target with --abi")
    places: tuple[tuple[str, Place | None], ...] = ((target, None),)
    if everything:
        local: tuple[tuple[str, Place | None], ...] = ((here, "local"),) if here else ()
        places = (
            *local,
            ("x86_64", "linux"),
            ("arm64-v8a", "linux"),
            ("arm64-v8a", "android"),
            ("armeabi-v7a", "android"),
        )
    names = (program,) if program else builder.programs()
    done: dict[str, Built] = {}
    failed: list[BuildError] = []
    for name in names:
        for where, place in places:
            try:
                built = builder.build(name, where, place=place, toolchain=toolchain)
            except BuildError as error:
                failed.append(error)
            else:
                done.setdefault(str(built.path), built)
    if as_json:
        typer.echo(json.dumps({"built": [_row(built) for built in done.values()]}))
    elif done:
        _show(list(done.values()))
    if failed:
        hints = dict.fromkeys(error.hint for error in failed if error.hint)
        raise BuildError("\n".join(error.message for error in failed), hint="; ".join(hints) or None)


def _row(built: "Built") -> dict[str, Any]:
    return dataclasses.asdict(built) | {"path": str(built.path), "flags": list(built.flags)}


def _show(done: list["Built"]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("program", "ABI", "toolchain", "compiler", "bytes", "SHA-256", ""):
        table.add_column(title, justify="right" if title == "bytes" else "left", overflow="fold")
    for built in done:
        state = "cached" if built.cached else f"{built.seconds:.1f} s"
        compiler = re.sub(r"\s*\([^)]*\)", "", built.compiler_version)  # the distribution's own long name of it
        row = (built.program, built.abi, built.toolchain, compiler, str(built.size_bytes))
        table.add_row(*row, built.sha256[:12], state)
    console = Console()
    console.print(table)
    for note in dict.fromkeys(built.note for built in done if built.note):
        console.print(f"note: {note}")
