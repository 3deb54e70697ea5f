"""Entry points of installed distributions, read from their files: what ``importlib.metadata`` finds, in less time.

Every command begins with this, and importing ``importlib.metadata`` (with the parser of e-mail that it needs) is a
tenth of what ``devicelab --help`` costs. Where distributions may lie elsewhere than in plain folders of ``sys.path``
(in a zip file or an egg, behind somebody's finder), it is asked all the same.
"""

import importlib.machinery
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_SEPARATORS = re.compile(r"[-_.]+")

Entry = tuple[str, str, str]
"""Name, value, and the name of the distribution that offers it."""


def of_group(group: str) -> tuple[Entry, ...]:
    """The entry points of a group in the order of ``sys.path``; a distribution that lies there twice counts once."""
    if _elsewhere():
        return asked(group)
    entries: list[Entry] = []
    seen: set[str] = set()
    for folder in sys.path:
        for name in _distributions(folder):
            project = _SEPARATORS.sub("-", name.rpartition(".")[0].partition("-")[0]).lower()  # PEP 503
            if project not in seen:
                seen.add(project)
                path = os.path.join(folder, name)  # noqa: PTH118 - a hundred of them at each start
                entries += [(*pair, _called(path)) for pair in _of(path, group)]
    return tuple(entries)


def asked(group: str) -> tuple[Entry, ...]:
    """The same from ``importlib.metadata``, wherever distributions lie."""
    import importlib.metadata

    found = importlib.metadata.entry_points(group=group)
    return tuple((one.name, one.value, one.dist.name if one.dist else "an unknown distribution") for one in found)


def _elsewhere() -> bool:
    finders = [one for one in sys.meta_path if hasattr(one, "find_distributions")]
    eggs_and_files = (one for one in sys.path if one.lower().rstrip(os.sep).endswith(".egg") or Path(one).is_file())
    return finders != [importlib.machinery.PathFinder] or any(eggs_and_files)


def _distributions(folder: str) -> Iterator[str]:
    try:
        inside = os.listdir(folder or ".")  # noqa: PTH208 - names alone
    except OSError:
        return
    for name in inside:
        if name[-5:].lower() == "-info" and name.lower().endswith((".dist-info", ".egg-info")):
            yield name


def _of(distribution: str, group: str) -> Iterator[tuple[str, str]]:
    text = _text(f"{distribution}/entry_points.txt")
    if group not in text:
        return
    section = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[]")
        elif section == group and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _called(distribution: str) -> str:
    texts = (_text(f"{distribution}/METADATA"), _text(f"{distribution}/PKG-INFO"))
    named = re.search(r"^Name:\s*(\S.*?)\s*$", texts[0] or texts[1], re.MULTILINE | re.IGNORECASE)
    return named[1] if named else "an unknown distribution"


def _text(file: str) -> str:
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 - as above
            return opened.read().decode()
    except (OSError, UnicodeDecodeError):
        return ""
