"""Where everything is that devicelab reads and writes on this computer, and what says so."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devicelab.errors import ConfigError
from devicelab.ground import places, registry
from devicelab.store import engine

_TOML = ("boards", "experiments", "toolchains")
_CODE = ("knobs", "workloads", "schedulers", "transports", "analyses")


@dataclass(frozen=True)
class Place:
    """A file, folder or database.

    Attributes:
        what: what it is for.
        path: where, passwords masked; ``None`` if there is no such place.
        there: it exists; ``None`` for a database behind a URL, which is not asked.
        set_by: the variable, option or rule that says where.
    """

    what: str
    path: str | None
    there: bool | None
    set_by: str


def whereabouts(store: str | None = None) -> tuple[Place, ...]:
    """Every place, in the order in which one looks for them.

    Args:
        store: as for ``--store``.

    Raises:
        ConfigError: the store's URL cannot be read.
    """
    return tuple(_places(store))


def _places(store: str | None) -> Iterator[Place]:
    lab, config = places.lab_path(), places.config_dir()
    named = "DEVICELAB_LAB" if os.environ.get("DEVICELAB_LAB") else "$DEVICELAB_LAB, ./ or the configuration folder"
    yield _place("lab.toml (devices)", lab, named)
    yield _place("configuration folder", config, "$XDG_CONFIG_HOME or ~/.config")
    for kind in _TOML:
        for folder in places.data_folders(kind):
            yield _place(f"own {kind}", folder, "in the configuration folder, or beside lab.toml")
    for kind in _CODE:
        yield _place(f"own {kind}", places.code_folder(kind), "in the configuration folder alone: it runs as code")
    by = "--store" if store is not None else "$DEVICELAB_STORE, or the current folder"
    database = engine.locate(store)
    if isinstance(database, Path):
        yield _place("results database", database, by)
    else:
        yield Place("results database", engine.describe(database), None, by)
    for what, name in (("pages and traces", "devicelab-report"), ("exports", "devicelab-export")):
        yield _place(what, Path(name).absolute(), "the current folder; --report or --to")
    by = "DEVICELAB_CACHE" if os.environ.get("DEVICELAB_CACHE") else "$DEVICELAB_CACHE, $XDG_CACHE_HOME or ~/.cache"
    yield _place("builds and fetched journals", _cache(), by)
    for name in ("native", "toolchains", "experiments", "reports"):
        yield _place(f"{name} that came with devicelab", registry.data_dir(name), "the installation")


def _cache() -> Path | None:
    try:
        return registry.cache_dir()
    except ConfigError:
        return None


def _place(what: str, path: Path | None, set_by: str) -> Place:
    try:
        there = path is not None and path.exists()
    except OSError:  # a folder of somebody else's
        there = False
    return Place(what, str(path) if path is not None else None, there, set_by)
