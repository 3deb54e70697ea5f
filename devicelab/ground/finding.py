"""Where plug-ins come from: the package's own folder, entry points, the user's folder. What is found, none imported."""

import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from devicelab.ground import entry_points

USER_PACKAGE = "devicelab_user"
"""What modules of the user's folders are called in Python: ``devicelab_user.knobs.NAME``."""

# Kinds whose modules may lie in the user's folder; commands come from the package and entry points alone.
_GROUPS = {"cli": "devicelab.commands"}


@dataclass(frozen=True)
class Claim:
    """A place that claims a plug-in's name.

    Attributes:
        name: the name.
        where: the place, for people: a file, or an entry point with what offers it.
        module: what to import, ``MODULE`` or ``MODULE:OBJECT``.
        own: it is the package's own.
    """

    name: str
    where: str
    module: str
    own: bool = False

    def load(self) -> object:
        """Import it."""
        module, _, inner = self.module.partition(":")
        thing: object = importlib.import_module(module)
        for part in filter(None, inner.split(".")):
            thing = getattr(thing, part)
        return thing


@dataclass(frozen=True)
class LeftOut:
    """Something that is not used: what, where it lies, and why, in words that say what to change."""

    what: str
    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} ({self.where}): {self.why}"


def own_claims(folder: str) -> tuple[Claim, ...]:
    """What the package's own room has. Underscores in front, and ``base``, are for what plug-ins share."""
    package = importlib.import_module(f"devicelab.{folder}")
    files = (found for path in map(Path, package.__path__) for found in _files(path))
    return tuple(
        Claim(name, str(path), f"{package.__name__}.{name}", own=True)
        for name, path in files
        if name.isidentifier() and name != "base"
    )


def entry_claims(folder: str) -> tuple[Claim, ...]:
    """What installed distributions offer by entry points of the group ``devicelab.KIND``."""
    found: dict[Claim, None] = {}
    for name, value, by in entry_points.of_group(_GROUPS.get(folder, f"devicelab.{folder}")):
        # One that is installed twice (a checkout beside a wheel) says the same twice.
        found[Claim(name, f"entry point {name} = {value} of {by}", value)] = None
    return tuple(found)


def user_claims(folder: str, place: Path | None) -> tuple[tuple[Claim, ...], tuple[LeftOut, ...]]:
    """What the user's folder of a kind has, and what lies there and can be no plug-in."""
    inside = listed(place) if place is not None else ()
    if place is None or not inside:
        return (), ()
    state = place.stat()
    # Where every user has a group of their own (and a umask of 002), that group is nobody else.
    others = 0o002 if state.st_gid == state.st_uid else 0o022
    if state.st_uid not in {0, os.geteuid()} or state.st_mode & others:
        why = "others may write there, or it is somebody else's: code is only taken from a folder of your own"
        return (), (LeftOut(f"folder {folder}", str(place), why),)
    _as_package(folder, place)
    claims: list[Claim] = []
    bare = [path for path in inside if path.is_dir() and path.name[0] not in "_." and not _is_package(path)]
    odd = [LeftOut(f"{folder} {path.name!r}", str(path), "a folder is one with an __init__.py") for path in bare]
    for name, path in _files(place):
        if not name.isidentifier():
            odd.append(LeftOut(f"{folder} {name!r}", str(path), "rename it: a name is letters, digits and _"))
        elif name == "base":
            odd.append(LeftOut(f"{folder} {name!r}", str(path), "rename it: base is the name of the contract itself"))
        else:
            claims.append(Claim(name, str(path), f"{USER_PACKAGE}.{folder}.{name}"))
    return tuple(claims), tuple(odd)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Modules and packages of a folder with their names, sorted; what begins with an underscore is shared by them."""
    for path in listed(folder):
        if path.name.startswith(("_", ".")):
            continue
        if path.is_dir():
            if _is_package(path):
                yield path.name, path / "__init__.py"
        elif (name := inspect.getmodulename(path.name)) is not None:
            yield name, path


def _is_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


def listed(folder: Path) -> tuple[Path, ...]:
    """What lies in a folder, sorted; nothing if it is not there or not for us to read."""
    try:
        return tuple(sorted(folder.iterdir()))
    except OSError:
        return ()


def _as_package(folder: str, place: Path) -> None:
    """The folder as a Python package, so that its modules can share others of it (``from ._shared import …``)."""
    parent = sys.modules.setdefault(USER_PACKAGE, ModuleType(USER_PACKAGE))
    parent.__path__ = []
    name = f"{USER_PACKAGE}.{folder}"
    known = sys.modules.get(name)
    if known is not None and list(known.__path__) == [str(place)]:
        return
    for old in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        del sys.modules[old]
    package = ModuleType(name)
    package.__path__ = [str(place)]
    sys.modules[name] = package
    importlib.invalidate_caches()


def toml_claims(package: Path, folders: tuple[Path, ...]) -> dict[str, tuple[Path, ...]]:
    """Name → the TOML files that claim it, the package's own first, each file once."""
    found: dict[str, dict[Path, None]] = {}
    for folder in dict.fromkeys((package.resolve(), *(one.resolve() for one in folders))):
        for path in listed(folder):
            if path.suffix == ".toml" and path.is_file():
                found.setdefault(path.stem, {})[path] = None
    return {name: tuple(found[name]) for name in sorted(found)}
