"""A read-only picture of a device's nodes: path → text, as the agent's ``snapshot`` prints it.

Knobs compute their facts from a tree alone, so that a captured tree and a live device are the same to them.
"""

import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping

from devicelab.model.plan import Noun


class Node(Noun):
    """One file: ``text`` if it could be read, else ``errno``. ``mode`` holds the permission bits; a link has a target.

    ``writable`` tells whether the agent that looked (with the rights it had) may write it.
    """

    path: str
    kind: str = "file"
    mode: int = 0o444
    text: str | None = None
    errno: int = 0
    target: str | None = None
    writable: bool = False


class Tree(Mapping[str, Node]):
    """Nodes by absolute path, with the look-ups knobs need. Values are stripped of surrounding blanks by ``text``."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._nodes = {node.path: node for node in nodes}

    def __getitem__(self, path: str) -> Node:
        return self._nodes[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def text(self, path: str) -> str | None:
        """The node's text without surrounding blanks, ``None`` if absent, unreadable or empty."""
        node = self._nodes.get(path)
        return (node.text.strip() or None) if node is not None and node.text is not None else None

    def number(self, path: str) -> int | None:
        """The first integer of the node's text, ``None`` if there is none."""
        numbers = self.numbers(path)
        return numbers[0] if numbers else None

    def numbers(self, path: str) -> tuple[int, ...]:
        """All blank-separated integers of the node's text, in the order they stand there."""
        words = (self.text(path) or "").replace(",", " ").split()
        return tuple(int(word) for word in words if word.lstrip("-").isdecimal())

    def words(self, path: str) -> tuple[str, ...]:
        """All blank-separated words of the node's text."""
        return tuple((self.text(path) or "").split())

    def glob(self, pattern: str) -> tuple[str, ...]:
        """Paths that match a shell pattern in which ``*`` does not cross a slash, sorted naturally."""
        depth = pattern.count("/")
        found = (p for p in self._nodes if p.count("/") == depth and _match(p, pattern))
        return tuple(sorted(found, key=_natural))


def _match(path: str, pattern: str) -> bool:
    parts = zip(path.split("/"), pattern.split("/"), strict=True)
    return all(fnmatch.fnmatchcase(part, shape) for part, shape in parts)


def _natural(path: str) -> tuple[tuple[int, int, str], ...]:
    pieces: list[tuple[int, int, str]] = []
    word = ""
    for char in path + "\0":
        if word and (char.isdecimal() != word[0].isdecimal()):
            pieces.append((0, int(word), "") if word[0].isdecimal() else (1, 0, word))
            word = ""
        word += char
    return tuple(pieces)


def parse_snapshot(data: bytes) -> Tree:
    """The output of ``agent snapshot`` (one JSON object a line) as a tree.

    Raises:
        ValueError: a line is not a node.
    """
    nodes = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                nodes.append(Node.model_validate(json.loads(line)))
            except ValueError as error:
                raise ValueError(f"snapshot line {number} is not a node: {error}") from error
    return Tree(nodes)


def cpu_list(text: str) -> tuple[int, ...]:
    """CPU numbers from the kernel's list format ("0-3,7") or a blank-separated list ("0 1 2 3").

    Raises:
        ValueError: not such a list, or longer than 4096 CPUs.
    """
    cpus: set[int] = set()
    for part in text.replace(",", " ").split():
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 0 <= low <= high < 4096:
            raise ValueError(f"not a CPU list: {text!r}")
        cpus.update(range(low, high + 1))
    return tuple(sorted(cpus))
