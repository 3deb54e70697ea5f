"""The manual page, generated from the commands: ``python -m devicelab.cli._manual > docs/reference/devicelab.1``."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from devicelab.cli import command

_ENVIRONMENT = {
    "DEVICELAB_LAB": "lab.toml, in place of ./lab.toml and ~/.config/devicelab/lab.toml.",
    "DEVICELAB_STORE": "The results database, in place of ./devicelab.sqlite; what --store takes.",
    "XDG_CONFIG_HOME": "Where files of yours are, in place of ~/.config.",
    "DEVICELAB_CACHE, XDG_CACHE_HOME": "Where what was compiled is kept, in place of ~/.cache.",
    "ADB_SERVER_SOCKET, ANDROID_ADB_SERVER_ADDRESS, ANDROID_ADB_SERVER_PORT": "The adb server, as adb takes them.",
    "NO_COLOR": "Not empty: no colour, anywhere.",
    "COLUMNS": "How wide tables are where there is no terminal.",
}
_FILES = {
    "~/.config/devicelab/lab.toml": "Names of devices.",
    "~/.config/devicelab/": (
        "Files of yours: boards/, experiments/, toolchains/ (TOML); knobs/, workloads/, schedulers/, transports/, "
        "analyses/ (Python)."
    ),
    "./devicelab.sqlite": "Results.",
}


def page() -> str:
    """All commands as one page for ``man``."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    from devicelab import __version__

    group = command(whole=True)
    context = typer.Context(group, info_name="devicelab", **group.context_settings)
    yield f'.TH DEVICELAB 1 "" "devicelab {__version__}" "User Commands"'
    yield ".SH NAME"
    yield rf"devicelab \- {_text('measure how latency changes with load, clocks, flush period and GPU scheduler')}"
    yield ".SH SYNOPSIS"
    yield r".B devicelab"
    yield r"[\fB\-V\fR] [\fB\-h\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]"
    yield ".SH DESCRIPTION"
    yield from _prose(group.help or "")
    yield ".PP"
    yield r"Every command has \fB\-\-help\fR, and but for \fBworker\fR a \fB\-\-json\fR."
    yield ".SH COMMANDS"
    yield from _commands(group, context, "devicelab")
    yield ".SH EXIT STATUS"
    yield from _exits()
    yield ".SH ENVIRONMENT"
    for name, meaning in _ENVIRONMENT.items():
        yield from _entry(name, meaning)
    yield ".SH FILES"
    for name, meaning in _FILES.items():
        yield from _entry(name, meaning)
    yield ".SH SEE ALSO"
    yield r"\fBadb\fR(1), \fBssh\fR(1), \fBperfetto\fR(1)"


def _commands(group: Any, context: typer.Context, words: str) -> Iterator[str]:
    for name, one in group.commands.items():
        inner = typer.Context(one, info_name=name, parent=context)
        if getattr(one, "commands", None):
            yield from _commands(one, inner, f"{words} {name}")
            continue
        usage = " ".join(one.collect_usage_pieces(inner)).replace("[[", "[").replace("]]", "]")
        yield f'.SS "{_text(f"{words} {name} {usage}").replace(chr(34), "")}"'
        yield from _prose(one.help or "")
        for param in one.get_params(inner):
            record = param.get_help_record(inner)
            if record is not None and "--help" not in record[0]:
                yield from _entry(record[0], record[1])
        if one.epilog:
            yield ".PP"
            yield _text(one.epilog)


def _exits() -> Iterator[str]:
    from devicelab import errors

    yield from _entry("0", "Done; every check passed.")
    yield from _entry("1", "A bug in devicelab.")
    for thing in vars(errors).values():
        if isinstance(thing, type) and issubclass(thing, errors.LabError) and thing is not errors.LabError:
            says = " ".join((thing.__doc__ or "").split("\n\n", maxsplit=1)[0].split())
            yield from _entry(str(thing.exit_code), re.sub(r" \(exit code \d\)", "", says))
    yield from _entry("130", "Ctrl-C, SIGTERM or SIGHUP; the device was given back first.")


def _entry(term: str, meaning: str) -> Iterator[str]:
    yield ".TP"
    yield rf"\fB{_text(term)}\fR"
    yield _text(" ".join(meaning.split())) or r"\&"


def _prose(text: str) -> Iterator[str]:
    for number, part in enumerate(re.split(r"\n\s*\n", text.strip().replace("\b", ""))):
        if number:
            yield ".PP"
        yield _text(" ".join(part.split()))


def _text(text: str) -> str:
    """As roff shows it unchanged."""
    text = re.sub(r"\[/?(?:bold|dim|italic|red|green|cyan|yellow|underline)\]", "", text)
    text = text.replace("``", "`").replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text[:1] in {".", "'"} else text


if __name__ == "__main__":
    import sys

    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
