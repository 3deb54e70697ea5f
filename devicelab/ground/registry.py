"""Finds a module or a data file by its name: dropping a file into the folder is all it takes to add one."""

import difflib
import importlib
import importlib.metadata
import os
import pkgutil
import re
import tomllib
import typing
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from devicelab.errors import ConfigError
from devicelab.ground import user
from devicelab.ground.safe_text import masked

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_MAX_TOML = 4 << 20
_DEEP_KEY = re.compile(r"(?:[A-Za-z0-9_-]+[ \t]*\.[ \t]*){64}")


@cache
def names(folder: str) -> tuple[str, ...]:
    """Names of the plug-ins of ``devicelab/<folder>``: its modules and the entry points of that group, sorted."""
    return tuple(sorted(_found(folder)))


def module(folder: str, name: str) -> ModuleType:
    """The plug-in of that name.

    Raises:
        ConfigError: there is none of that name; the message lists those that exist.
    """
    if name not in names(folder):
        raise unknown(folder.removesuffix("s"), name, names(folder))
    return importlib.import_module(_found(folder)[name])


@cache
def _found(folder: str) -> dict[str, str]:
    """Name → module. A module with an underscore in front and ``base`` are shared by plug-ins and are none."""
    package = importlib.import_module(f"devicelab.{folder}")
    inside = (info.name for info in pkgutil.iter_modules(package.__path__))
    found = {name: f"{package.__name__}.{name}" for name in inside if name != "base" and not name.startswith("_")}
    return found | {entry.name: entry.value for entry in importlib.metadata.entry_points(group=package.__name__)}


def unknown(noun: str, name: str, known: tuple[str, ...]) -> ConfigError:
    """The error for a name nobody knows, with the nearest ones that exist."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"no {noun} named {name!r}", hint=f"{hint}known: {', '.join(known) or 'none'}")


def data_dir(name: str) -> Path:
    """The folder ``native``, ``toolchains``, ``experiments`` or ``reports``: in a checkout or inside the wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_data" / name
    return inside if inside.is_dir() else package.parent / name


def script(name: str) -> Path:
    """A script in ``devicelab/workloads/scripts`` that is pushed to devices."""
    return Path(__file__).resolve().parents[1] / "workloads" / "scripts" / name


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict.

    Raises:
        ConfigError: not readable, not UTF-8 or not TOML; names file and line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_TOML + 1)
        if len(data) > _MAX_TOML:
            raise ConfigError(f"{path} is larger than {_MAX_TOML >> 20} MiB")
        return loads_toml(data.decode())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def loads_toml(text: str) -> dict[str, Any]:
    """TOML text as a dict.

    Raises:
        TOMLDecodeError: it is none, or none that can be read: the standard library's reader gives up on tables nested
            hundreds deep and on numbers of thousands of digits with errors of its own.
    """
    # A key of thousands of parts takes the reader minutes.
    if _DEEP_KEY.search(text):
        raise tomllib.TOMLDecodeError("nested too deep")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise tomllib.TOMLDecodeError("nested too deep") from error
    except ValueError as error:
        raise tomllib.TOMLDecodeError(f"a number is too long ({error})") from error


# What pydantic's kinds of problem are in words of a file; the others speak for themselves.
_EXPECTED = {
    "int": "a whole number is expected",
    "float": "a number is expected",
    "string": "text is expected",
    "bool": "true or false is expected",
    "tuple": "a list is expected",
    "list": "a list is expected",
    "dict": "a table is expected",
    "model": "a table is expected",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def explain(error: "ValidationError", model: "type[BaseModel] | None" = None) -> str:
    """The problems of a file's content, one short phrase each, with the place in the file's own words.

    With the file's ``model``, a key nobody knows comes with the nearest one there is at that place.
    """
    return "; ".join(_phrase(problem, model) for problem in error.errors(include_url=False))


def _phrase(problem: Any, model: "type[BaseModel] | None") -> str:
    kind, given, context = problem["type"], problem.get("input"), problem.get("ctx") or {}
    place = ".".join(str(part) for part in problem["loc"]) or "top level"
    shown = f" (got {masked(repr(given))})" if isinstance(given, str | int | float | bool) else ""
    if kind == "extra_forbidden":
        return f"{place}: no such key{_near_key(problem['loc'], model)}"
    if kind == "missing":
        return f"{place} is missing"
    if kind == "literal_error":
        return f"{place}: one of {context['expected']} is expected{shown}"
    if kind in _BOUNDS:
        name, word = _BOUNDS[kind]
        return f"{place}: {word} {context[name]:g} is expected{shown}"
    expected = _EXPECTED.get(kind.partition("_")[0]) if kind.endswith(("_type", "_parsing", "_from_float")) else None
    return f"{place}: {expected or problem['msg'].removeprefix('Value error, ')}{shown}"


def _near_key(loc: tuple[int | str, ...], model: "type[BaseModel] | None") -> str:
    for part in loc[:-1]:
        if model is not None and part in model.model_fields:
            model = _inner_model(model.model_fields[str(part)].annotation)
    if model is None:
        return ""
    near = difflib.get_close_matches(str(loc[-1]), model.model_fields, n=1)
    return f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(model.model_fields)}"


def _inner_model(annotation: Any) -> "type[BaseModel] | None":
    """The model in a field's type: itself, or what a list, a table or an optional holds."""
    if hasattr(annotation, "model_fields"):
        return typing.cast("type[BaseModel]", annotation)
    return next(filter(None, map(_inner_model, typing.get_args(annotation))), None)


def cache_dir() -> Path:
    """Where builds and fetched journals are kept: ``$DEVICELAB_CACHE`` or the user's cache directory.

    Raises:
        ConfigError: no such variable, and the user has no home.
    """
    explicit = os.environ.get("DEVICELAB_CACHE")
    if explicit:
        return Path(explicit)
    base, home = os.environ.get("XDG_CACHE_HOME"), user.home()
    if not base and home is None:
        raise ConfigError("this user has no home for a cache directory", hint="set DEVICELAB_CACHE to a directory")
    return Path(base or f"{home}/.cache") / "devicelab"
