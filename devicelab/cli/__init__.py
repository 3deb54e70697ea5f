"""The Typer skin: one file a command group, no logic; ``main`` is the one place that catches LabError.

A module in this folder, or one that the entry-point group ``devicelab.commands`` names, has ``register(app)``, which
adds its commands. Heavy imports happen inside the commands, so that ``devicelab --help`` is fast.
"""

import gc
import os
import signal
import sys
import threading
from types import FrameType

import typer
import typer.main

from devicelab.cli._late import Command, LateGroup, late, names
from devicelab.cli._out import say
from devicelab.cli._streams import dependable
from devicelab.errors import ConfigError, HostError, LabError
from devicelab.ground import extras, registry
from devicelab.ground.safe_text import masked, terminal

_DAILY = ("devices", "doctor", "load", "sweep", "report")

app = typer.Typer(
    name="devicelab",
    cls=LateGroup,
    help="How does a program's latency change with the board's load, clocks, flush period or GPU scheduler?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from devicelab import __version__

        typer.echo(f"devicelab {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", "-V", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


for _ours in registry.own("cli"):
    _ours.register(app)


def _add_from_outside() -> None:
    """Commands that entry points offer; a module that fails, or has a command we have, is left out, and said."""
    for name in sorted({*registry.usable_names("cli")} - {*registry.own_names("cli")}):
        theirs = typer.Typer()
        try:
            registry.usable("cli", name).register(theirs)
            taken = sorted(names(app) & set(typer.main.get_group(theirs).commands))  # all of theirs can be made
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in of somebody else's may do anything
            registry.leave_out("cli", name, "entry point", f"register() failed: {type(error).__name__}: {error}")
            continue
        if taken:
            registry.leave_out("cli", name, "entry point", f"there is a command {', '.join(taken)} already: rename it")
            continue
        app.registered_commands += theirs.registered_commands
        app.registered_groups += theirs.registered_groups


_add_from_outside()
gc.freeze()  # what modules made stays to the end: no collection need look at it again


def command(*, whole: bool = False) -> LateGroup:
    """The command line as it is shown: what is needed every day comes first, and flags take no value.

    Args:
        whole: every command with its parameters; otherwise a command is a line of the help until it is used.
    """
    group = typer.main.get_command(app) if whole else late(app)
    if not isinstance(group, LateGroup):
        raise TypeError("the command line has no commands")
    daily = {name: group.commands[name] for name in _DAILY}
    group.commands = daily | {name: one for name, one in group.commands.items() if name not in daily}
    for name, one in group.commands.items():
        one.rich_help_panel = "Every day" if name in daily else "Further commands"  # type: ignore[attr-defined]
    _plain_flags(group, typer.Context(group, **group.context_settings))
    if (finish := group.finish) is not None:

        def finished(name: str) -> Command:
            made = finish(name)
            _plain_flags(made, typer.Context(made, parent=typer.Context(group, **group.context_settings)))
            return made

        group.finish = finished
    return group


def _plain_flags(one: Command, context: typer.Context) -> None:
    for param in (*one.params, one.get_help_option(context)):
        if getattr(param, "is_bool_flag", False):
            param.metavar = ""  # type: ignore[union-attr]  # else its type is shown, as if it took a value
    for child in getattr(one, "commands", {}).values():
        _plain_flags(child, typer.Context(child, parent=context))


_heard: set[int] = set()


def _as_interrupt(number: int, _frame: FrameType | None) -> None:
    # Whoever asks us to end (Ctrl-C, kill, a closed terminal), the device is given back first.
    _heard.add(number)
    raise KeyboardInterrupt(signal.Signals(number).name)


def _hand_on_interrupt(lost: "sys.UnraisableHookArgs") -> None:
    """An interruption that fell into a finaliser, where Python drops exceptions, comes once more a moment later."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        # The very signal that came: a script in the background may ignore SIGINT.
        number = signal.Signals.__members__.get(str(lost.exc_value), signal.SIGINT)
        while True:
            again = threading.Timer(0.2, os.kill, (os.getpid(), number))
            again.daemon = True
            try:
                again.start()
            except KeyboardInterrupt:  # it, or another, came while we were still in here: Python would drop it, too
                continue
            return
    sys.__unraisablehook__(lost)


def _hear_no_more() -> None:
    """All is over but the last words: an impatient second Ctrl-C must not turn them into a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def main() -> None:
    """Run the command line; the process's exit code tells what kind of error it was (``devicelab.errors``)."""
    _heard.clear()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
            signal.signal(number, _as_interrupt)
    sys.unraisablehook = _hand_on_interrupt
    with dependable():
        sys.exit(_perform())


def _perform() -> int:
    try:
        try:
            command()(prog_name="devicelab")  # also as `python -m devicelab`: completion goes by this name
        finally:
            sys.stdout.flush()
            for one in registry.left_out():
                say(f"left out: {one}")
    except LabError as error:
        return _say_error(error)
    except ModuleNotFoundError as error:
        extra = extras.of_module(error.name or "")
        if extra is None:
            raise
        return _say_error(ConfigError(f"the package {error.name} is not installed", hint=extras.install(extra)))
    except OSError as error:
        ours = HostError.of(error)
        if ours is None:
            raise
        return _say_error(ours)
    except KeyboardInterrupt:
        return _say_interrupted()
    except Exception:
        if not _heard:
            raise
        # Libraries in C hand an interruption on as an error of their own (pydantic: SchemaError).
        return _say_interrupted()
    return 0


def _say_interrupted() -> int:
    _hear_no_more()
    typer.echo("interrupted", err=True)
    return 130


def _say_error(error: LabError) -> int:
    _hear_no_more()
    typer.secho(
        terminal(masked(f"error: {error}")),
        err=True,
        fg="red" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else None,
    )
    return error.exit_code
