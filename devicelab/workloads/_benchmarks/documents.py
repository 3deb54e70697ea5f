"""JSON documents among the lines of a log."""

import json
from typing import Any

from devicelab.errors import MeasurementError
from devicelab.ground import budget

_decoder = json.JSONDecoder()
_MOST_TRIED = 100
_MOST_ON_LINE = 1_000


def first(text: str, opening: str, wanted: str) -> Any:
    """The first JSON document that begins at the start of a line with one of the characters.

    Args:
        text: the output.
        opening: characters that may begin it (``"[{"``).
        wanted: what it is, for the message.

    Raises:
        MeasurementError: there is none, it is damaged or cut, or it holds more than any program prints.
    """
    wrong: MeasurementError | None = None
    place = tried = 0
    for at, line in enumerate(text.split("\n"), 1):
        if line.lstrip()[:1] in opening and line.strip() and tried < _MOST_TRIED:
            tried += 1
            begin = place + len(line) - len(line.lstrip())
            try:
                return _one(text, begin, at, wanted)[0]
            except MeasurementError as error:
                # "[I] loading" is a line of a log; what begins like a document is told.
                wrong = error if wrong is None and _like_json(text[begin : begin + 200]) else wrong
        place += len(line) + 1
    raise wrong or MeasurementError(
        f"the output holds no JSON document of {wanted}: no line begins with {' or '.join(opening)}",
        hint="is `output` the right one for this program? Its whole output is in the run's record",
    )


def _like_json(text: str) -> bool:
    return text[1:].lstrip()[:1] in {'"', "{", "[", "]", "}", ""}


def on_line(line: str, at: int, wanted: str) -> list[Any]:
    """The JSON documents that a line consists of.

    Raises:
        MeasurementError: it is damaged or cut.
    """
    found: list[Any] = []
    place = 0
    while len(found) < _MOST_ON_LINE and line[place:].strip():
        place += len(line[place:]) - len(line[place:].lstrip())
        one, place = _one(line, place, at, wanted)
        found.append(one)
    return found


def _one(text: str, begin: int, at: int, wanted: str) -> tuple[Any, int]:
    try:
        budget.within(text[begin:].encode())
        return _decoder.raw_decode(text, begin)
    except (ValueError, RecursionError) as error:
        if not isinstance(error, json.JSONDecodeError):
            raise MeasurementError(f"{wanted}, line {at}: {error}") from error
        line = at + text.count("\n", begin, error.pos)
        start = text.rfind("\n", 0, error.pos) + 1
        shown = text[start : start + 400].split("\n", maxsplit=1)[0].strip()
        if error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated"):
            raise MeasurementError(
                f"{wanted} is cut: it ends at line {line}, {budget.cut(shown, 120)!r}", hint="was the program killed?"
            ) from error
        raise MeasurementError(
            f"{wanted} is no JSON at line {line}, {budget.cut(shown, 120)!r}: {error.msg}"
        ) from error
