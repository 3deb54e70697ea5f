"""The command line as it was typed: kept with what it made, and typed once more with a change."""

import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from devicelab.ground.safe_text import masked

_OURS = "devicelab"
_ONCE = {"--until": 1, "--budget": 1, "--resume": 0}
"""Options of a sweep that are not given once more, and how many words follow each."""


def typed() -> str:
    """What this process was started with, quoted as a shell takes it, passwords masked.

    It begins with ``devicelab`` if that is what was called; a notebook or a script has its own name there.
    """
    called = Path(sys.argv[0]) if sys.argv else Path()
    ours = called.name == _OURS or called.parts[-2:] == (_OURS, "__main__.py")
    return masked(shlex.join([_OURS if ours else str(called), *sys.argv[1:]]))


def words_of(command: str, *begins: Sequence[str]) -> list[str]:
    """The words of a command of ours that begins with one of these; empty if it is none, or cannot be read."""
    try:
        words = shlex.split(command)
    except ValueError:  # of an earlier version, which did not quote
        return []
    return words if any(words[: len(some) + 1] == [_OURS, *some] for some in begins) else []


def again(words: Sequence[str], *more: str) -> str:
    """The command once more with other words, before ``--`` if there is one.

    A stop rule and ``--resume`` are not given once more, and no key is set twice.
    """
    end = words.index("--") if "--" in words else len(words)
    anew = {one.partition("=")[0] for before, one in pairwise(more) if before == "--set"}
    anew |= {"repetitions"} if "--until" in more else set()
    kept: list[str] = []
    at = 0
    while at < end:
        name, joined, value = words[at].partition("=")
        length = 1 if joined else 1 + _ONCE.get(name, 1 if name == "--set" else 0)
        told = value if joined else (words[at + 1] if name == "--set" and at + 1 < end else "")
        if name not in _ONCE and not (name == "--set" and told.partition("=")[0] in anew):
            kept += words[at : at + length]
        at += length
    return shlex.join([*kept, *more, *words[end:]])
