"""Files and links a board simply has: they hold what is written to them."""

import errno
import posixpath

from virtualboards.kernel.nodes import Caller, Directory, Link, Tree, fail
from virtualboards.kernel.spec import StaticSpec


def install(tree: Tree, present: dict[str, StaticSpec]) -> None:
    """Put them into the tree, short paths first; what is there already, by this name or through a link, stays."""
    for path in sorted(present, key=lambda path: (path.count("/"), path)):
        where = _place(tree, path)
        if where is not None:
            _add(tree, where, present[path])


def _place(tree: Tree, path: str) -> str | None:
    """Where a new node of that path belongs, links on the way followed; ``None`` if it exists or cannot be there."""
    if tree.get(path) is not None:
        return None
    above, name = posixpath.split(path)
    at = "/"
    for part in above.strip("/").split("/"):
        step = posixpath.join(at, part)
        node = tree.get(step)
        if isinstance(node, Link):
            try:
                node = tree.resolve(step)
            except OSError:
                return None
            step = node.path
        if node is not None and not isinstance(node, Directory):
            return None
        at = step
    place = posixpath.join(at, name)
    return None if tree.get(place) is not None else place


def _add(tree: Tree, path: str, static: StaticSpec) -> None:
    if static.target:
        tree.link(path, posixpath.normpath(posixpath.join(posixpath.dirname(path), static.target)))
        return
    held = [static.text]

    def read() -> str:
        if static.error:
            raise fail(static.error, path)
        return held[0]

    def write(value: str, _caller: Caller) -> None:
        if static.error == errno.ENODEV:
            raise fail(static.error, path)
        held[0] = value if value.endswith("\n") else value + "\n"

    tree.file(path, read, write if static.mode & 0o222 else None, mode=static.mode, owner=static.owner)
