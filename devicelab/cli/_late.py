"""Commands that are lines of the help until one is used.

Typer works out the parameters of every command of every group at each start: of forty commands, a third of what
``devicelab --help`` costs. Here that is done for the one command that is used.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import typer.core
import typer.main
from typer.models import CommandInfo, TyperInfo

Command = typer.core.TyperCommand | typer.core.TyperGroup


class LateGroup(typer.core.TyperGroup):
    """A group whose ``commands`` may be lines of the help; then ``finish`` makes the one that is used."""

    finish: Callable[[str], Command] | None = None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that is called, whole; the shell's completion asks here as well."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, self.finish(found.name or "") if self.finish and found else found, rest


def late(app: typer.Typer) -> LateGroup:
    """The command line of an app that was made with ``cls=LateGroup``, its commands and groups as lines of the help."""
    group = typer.main.get_command(_only(app))
    if not isinstance(group, LateGroup):
        raise TypeError("the command line is no LateGroup")
    makers: dict[str, typer.Typer] = {}
    for line, alone in _lines(app):
        group.commands[line.name or ""] = line
        makers[line.name or ""] = alone

    def finish(name: str) -> Command:
        made: Command = typer.main.get_group(makers[name]).commands[name]  # type: ignore[assignment]
        made.rich_help_panel = group.commands[name].rich_help_panel  # type: ignore[attr-defined]
        return made

    group.finish = finish
    return group


def names(app: typer.Typer) -> set[str]:
    """What an app's commands and groups are called."""
    return {line.name or "" for line, _ in _lines(app)}


def _only(app: typer.Typer, command: CommandInfo | None = None, group: TyperInfo | None = None) -> typer.Typer:
    one = copy.copy(app)
    one.registered_commands = [command] if command else []
    one.registered_groups = [group] if group else []
    return one


def _lines(app: typer.Typer) -> Iterator[tuple[typer.core.TyperCommand, typer.Typer]]:
    """Each command as a line of the help, with the app that has it alone; Typer's own rules of names and help."""
    for info in app.registered_commands:
        called = info.name or typer.main.get_command_name(getattr(info.callback, "__name__", ""))
        text = inspect.getdoc(info.callback) if info.help is None else inspect.cleandoc(info.help)
        yield _line(called, text, info), _only(app, command=info)
    for sub in app.registered_groups:
        solved = typer.main.solve_typer_info_defaults(sub)
        if solved.name:
            yield _line(solved.name, solved.help, solved), _only(app, group=sub)
        else:  # a group without a name: its commands are the app's own
            yield from _lines(sub.typer_instance) if sub.typer_instance else ()


def _line(name: str, text: str | None, of: CommandInfo | TyperInfo) -> typer.core.TyperCommand:
    return typer.core.TyperCommand(
        name, help=text, short_help=of.short_help, hidden=of.hidden, deprecated=of.deprecated or False
    )
