"""Reads TOML files and puts in a file's own words what is wrong with one."""

import difflib
import re
import tomllib
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devicelab.errors import ConfigError
from devicelab.ground.safe_text import masked

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_MAX_TOML = 4 << 20
_DEEP_KEY = re.compile(r"(?:[A-Za-z0-9_-]+[ \t]*\.[ \t]*){64}")


def read(path: Path) -> dict[str, Any]:
    """A TOML file as a dict.

    Raises:
        ConfigError: not readable, not UTF-8 or not TOML; names file and line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_TOML + 1)
        if len(data) > _MAX_TOML:
            raise ConfigError(f"{path} is larger than {_MAX_TOML >> 20} MiB")
        return loads(data.decode())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def loads(text: str) -> dict[str, Any]:
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
