"""Finds a module or a data file by its name: dropping a file into the folder is all it takes to add one."""

import difflib
import importlib
import os
import pkgutil
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from devicelab.errors import ConfigError

_NOT_PLUGINS = frozenset({"base", "compare", "evidence", "klo_model"})  # contracts, and what analyses share


@cache
def names(folder: str) -> tuple[str, ...]:
    """Names of the plugin modules in ``devicelab/<folder>`` (without ``base`` and names with an underscore first)."""
    package = importlib.import_module(f"devicelab.{folder}")
    found = (info.name for info in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(n for n in found if n not in _NOT_PLUGINS and not n.startswith("_")))


def module(folder: str, name: str) -> ModuleType:
    """The plugin module ``devicelab/<folder>/<name>.py``.

    Raises:
        ConfigError: there is none of that name; the message lists those that exist.
    """
    if name not in names(folder):
        raise unknown(folder.removesuffix("s"), name, names(folder))
    return importlib.import_module(f"devicelab.{folder}.{name}")


def unknown(noun: str, name: str, known: tuple[str, ...]) -> ConfigError:
    """The error for a name nobody knows, with the nearest ones that exist."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"no {noun} named {name!r}", hint=f"{hint}known: {', '.join(known) or 'none'}")


def data_dir(name: str) -> Path:
    """The folder ``native``, ``toolchains``, ``experiments`` or ``reports``: in a checkout or inside the wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "_data" / name
    return inside if inside.is_dir() else package.parent / name


def script(name: str) -> Path:
    """A script in ``devicelab/workloads/scripts`` that is pushed to devices."""
    return Path(__file__).resolve().parent / "workloads" / "scripts" / name


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict.

    Raises:
        ConfigError: not readable, not UTF-8 or not TOML; names file and line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def cache_dir() -> Path:
    """Where builds and fetched journals are kept: ``$DEVICELAB_CACHE`` or the user's cache directory."""
    explicit = os.environ.get("DEVICELAB_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(explicit) if explicit else Path(base) / "devicelab"
