"""Kinds of boards: ``<kind>.toml`` in this folder, and how a device's kind is recognised."""

import re
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from devicelab.errors import ConfigError
from devicelab.ground import registry, toml
from devicelab.model.device import Board, Recognise
from devicelab.model.tree import Tree

FOLDER = Path(__file__).resolve().parent
"""Where the kinds that come with devicelab lie."""

ANDROID = "generic-android"
"""The kind of a phone that no other file fits."""

LINUX = "linux"
"""The kind of everything else."""


def kinds() -> tuple[str, ...]:
    """Names of all board kinds, the user's too, sorted."""
    return tuple(_files())


def own_kinds() -> tuple[str, ...]:
    """Names of the kinds that come with devicelab, sorted."""
    return tuple(kind for kind, paths in _files().items() if paths[0].parent == FOLDER)


def _files() -> dict[str, tuple[Path, ...]]:
    return registry.toml_files("boards", FOLDER)


def load(kind: str) -> Board:
    """The board file of a kind.

    Raises:
        ConfigError: no such kind (the message lists those that exist), several files of that name (the message names
            them), or a file that does not fit the schema.
    """
    return read(registry.toml_file("boards", kind, FOLDER))


@cache
def read(path: Path) -> Board:
    """A board file; its kind is the file's name.

    Raises:
        ConfigError: it does not fit the schema; names the file and the key.
    """
    try:
        board = Board.model_validate({"kind": path.stem, **toml.read(path)})
    except ValidationError as error:
        problems = toml.explain(error, Board)
        raise ConfigError(f"{path}: {problems}", hint="docs/reference/boards.md has every key") from error
    if board.gpu is not None and board.gpu not in registry.names("knobs"):
        families = tuple(name for name in registry.names("knobs") if name.startswith("gpu"))
        wrong = registry.unknown("GPU knob family", board.gpu, families)
        raise ConfigError(f"{path}: gpu: {wrong.message}", hint=wrong.hint)
    return board


def _all() -> tuple[Board, ...]:
    """Every board file there is. One of the user's that cannot be read is left out, and said."""
    found = []
    for kind, paths in _files().items():
        for path in paths:
            try:
                found.append(read(path))
            except ConfigError as error:
                if path.parent == FOLDER:
                    raise
                registry.leave_out("boards", kind, str(path), error.message.removeprefix(f"{path}: "))
    return tuple(found)


def globs() -> tuple[str, ...]:
    """Node patterns by which kinds are told apart: to be read before ``recognise``."""
    return tuple(dict.fromkeys(node for board in _all() for node in board.recognise.nodes))


def recognise(props: dict[str, str], tree: Tree, *, named: str | None = None) -> Board:
    """The board kind of a device.

    Args:
        props: its properties (``ro.*`` on Android, ``os.*`` elsewhere).
        tree: its nodes, at least those of ``globs``; may be empty, then properties alone decide.
        named: the kind the user gave in ``lab.toml``; taken as it is.

    Returns:
        The kind with the highest priority among those that fit; an unknown phone is ``generic-android``, anything else
        ``linux``.

    Raises:
        ConfigError: ``named`` is no kind; the kind that fits is described by several files.
    """
    if named is not None:
        return load(named)
    fitting = [board for board in _all() if _fits(board.recognise, props, tree)]
    if fitting:
        return load(max(fitting, key=lambda board: (board.recognise.priority, board.kind)).kind)
    return load(ANDROID if any(name.startswith("ro.") for name in props) else LINUX)


def _fits(wanted: Recognise, props: dict[str, str], tree: Tree) -> bool:
    if not wanted.props and not wanted.nodes:
        return False
    by_props = all(
        any(re.fullmatch(pattern, props.get(name, "")) for pattern in patterns)
        for name, patterns in wanted.props.items()
    )
    return by_props and all(tree.glob(pattern) for pattern in wanted.nodes)
