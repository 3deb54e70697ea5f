"""A read-only picture of a device's nodes: path → text, as the agent's ``snapshot`` prints it.

Knobs compute their facts from a tree alone, so that a captured tree and a live device are the same to them.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping

from devicelab.ground import budget
from devicelab.model.plan import Noun

# No reading of a device has more digits.
_INTEGER = re.compile(r"-?[0-9]{1,18}")

# The agent lists 50 000 nodes at most; texts in sysfs are a page, in procfs some hundred KiB at most.
_MAX_SNAPSHOT = 64 << 20
_MAX_LINES = 100_000
_MAX_NODE = 4 << 20
_MAX_NODE_VALUES = 50


class SnapshotTooLargeError(ValueError):
    """More than any device has."""


def whole(text: str | None) -> int | None:
    """A text read from a device as a whole number from 0, blanks around it passed over; ``None`` if it is none."""
    stripped = (text or "").strip()
    return int(stripped) if _INTEGER.fullmatch(stripped) and stripped[0] != "-" else None


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
        # The same patterns are asked for with every run of a plan.
        self._globs: dict[str, tuple[str, ...]] = {}

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
        return tuple(int(word) for word in words if _INTEGER.fullmatch(word))

    def cpus(self, path: str) -> tuple[int, ...]:
        """The CPUs in the node's list; CPU 0 alone, which every device has, if there is no list to be read."""
        try:
            return cpu_list(self.text(path) or "0") or (0,)
        except ValueError:
            return (0,)

    def words(self, path: str) -> tuple[str, ...]:
        """All blank-separated words of the node's text."""
        return tuple((self.text(path) or "").split())

    def glob(self, pattern: str) -> tuple[str, ...]:
        """Paths that match a shell pattern in which ``*`` does not cross a slash, sorted naturally."""
        paths = self._globs.get(pattern)
        if paths is None:
            depth = pattern.count("/")
            shapes = tuple(re.compile(fnmatch.translate(part)) for part in pattern.split("/"))
            fitting = (p for p in self._nodes if p.count("/") == depth and _match(p, shapes))
            paths = self._globs[pattern] = tuple(sorted(fitting, key=_natural))
        return paths


def _match(path: str, shapes: tuple[re.Pattern[str], ...]) -> bool:
    return all(shape.match(part) for part, shape in zip(path.split("/"), shapes, strict=True))


def _natural(path: str) -> tuple[tuple[int, int, str], ...]:
    # A number is compared by its length and then as text, so that it may be of any length.
    found = ((word.lstrip("0"), word) for word in re.findall(r"\d+|\D+", path))
    return tuple((0, len(number), number) if word.isdecimal() else (1, 0, word) for number, word in found)


class SnapshotReader:
    """Reads the output of ``agent snapshot`` (one JSON object a line) as it comes."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._rest = bytearray()
        self._bytes = self._lines = 0

    def feed(self, chunk: bytes) -> None:
        """More of the output.

        Raises:
            ValueError: a line is not a node.
            SnapshotTooLargeError: no device has so much.
        """
        self._bytes += len(chunk)
        if self._bytes > _MAX_SNAPSHOT:
            raise SnapshotTooLargeError(f"a snapshot of more than {_MAX_SNAPSHOT >> 20} MiB")
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._line(bytes(self._rest) + line)
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > _MAX_NODE:
            raise SnapshotTooLargeError(f"a line of more than {_MAX_NODE >> 20} MiB in a snapshot")

    def tree(self) -> Tree:
        """The nodes, once everything came. Errors as in ``feed``."""
        self._line(bytes(self._rest))
        self._rest.clear()
        return Tree(self._nodes)

    def _line(self, line: bytes) -> None:
        self._lines += 1
        if self._lines > _MAX_LINES:
            raise SnapshotTooLargeError(f"a snapshot of more than {_MAX_LINES} lines")
        if line.strip():
            try:
                self._nodes.append(Node.model_validate_json(budget.within(line, _MAX_NODE_VALUES)))
            except ValueError as error:
                raise ValueError(f"snapshot line {self._lines} is not a node: {str(error)[:500]}") from error


def parse_snapshot(data: bytes) -> Tree:
    """The output of ``agent snapshot`` as a tree. Errors as in ``SnapshotReader.feed``."""
    reader = SnapshotReader()
    for at in range(0, len(data), 1 << 20):
        reader.feed(data[at : at + (1 << 20)])
    return reader.tree()


def cpu_list(text: str) -> tuple[int, ...]:
    """CPU numbers from the kernel's list format ("0-3,7") or a blank-separated list ("0 1 2 3").

    Raises:
        ValueError: not such a list, or longer than 4096 CPUs.
    """
    cpus: set[int] = set()
    for part in text.replace(",", " ").split():
        first, _, last = part.partition("-")
        low, high = whole(first), whole(last or first)
        if low is None or high is None or not low <= high < 4096:
            raise ValueError(f"not a CPU list: {text[:200]!r}")
        cpus.update(range(low, high + 1))
    return tuple(sorted(cpus))
