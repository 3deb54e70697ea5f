"""Captures: a real device's facts and nodes as one archive, from which a virtual board can be made.

An archive is a gzipped tar with exactly two members: ``facts.json`` (``Facts`` without its nodes) and
``snapshot.jsonl`` (one ``Node`` a line). It comes from elsewhere, so nothing in it is trusted: it is read in memory
with limits, never unpacked, and anything that does not belong is refused.

Reading needs the standard library only, since virtual boards do it; ``Capture.load`` gives the nouns.
"""

import gzip
import io
import json
import posixpath
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devicelab.errors import ConfigError
from devicelab.ground import budget
from devicelab.ground.files import replacing

if TYPE_CHECKING:
    from devicelab.model.device import Facts
    from devicelab.model.tree import Node

FACTS, SNAPSHOT = "facts.json", "snapshot.jsonl"
ROOTS = ("/sys", "/proc", "/dev")
"""Where captured nodes may lie."""

_MAX_FILE = 32 << 20
_MAX_TOTAL = 64 << 20
_MAX_FACTS = 4 << 20
_MAX_FACTS_VALUES = 100_000
_MAX_NODE_VALUES = 50
_MAX_NODES = 100_000
_MAX_TEXT = 1 << 20
_MAX_PATH = 1024
_NODE_TYPES: dict[str, tuple[type, ...]] = {
    "path": (str,),
    "kind": (str,),
    "mode": (int,),
    "text": (str, type(None)),
    "errno": (int,),
    "target": (str, type(None)),
    "writable": (bool,),
}


@dataclass(frozen=True)
class Capture:
    """What an archive holds, as checked plain data: ``facts`` is ``Facts`` without nodes, ``nodes`` are ``Node``."""

    facts: dict[str, Any]
    nodes: tuple[dict[str, Any], ...]

    def load(self) -> "Facts":
        """The facts with their nodes.

        Raises:
            ConfigError: the facts are not such.
        """
        from pydantic import ValidationError

        from devicelab.ground import toml
        from devicelab.model.device import Facts
        from devicelab.model.tree import Node

        try:
            nodes = tuple(Node.model_validate(node) for node in self.nodes)
            return Facts.model_validate({**self.facts, "nodes": nodes})
        except ValidationError as error:
            raise ConfigError(
                f"the capture's {FACTS} does not describe a device: {toml.explain(error)[:2000]}"
            ) from error


def write_capture(facts: "Facts", nodes: "Iterable[Node]", path: Path) -> None:
    """Write the archive, whole or not at all. The same facts and nodes give the same bytes.

    Raises:
        ConfigError: the file cannot be written.
    """
    lines = "".join(f"{node.model_dump_json(exclude_defaults=True)}\n" for node in nodes)
    members = {FACTS: facts.model_dump_json(indent=1) + "\n", SNAPSHOT: lines}
    try:
        with (
            replacing(path) as scratch,
            scratch.open("wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for name, text in members.items():
                data = text.encode()
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    except OSError as error:
        raise ConfigError(f"cannot write the capture {path}: {error.strerror or error}") from error


def read_capture(path: Path) -> Capture:
    """Read and check an archive.

    Raises:
        ConfigError: it cannot be read, is not a capture, or holds what a capture must not (other members, links, paths
            outside /sys, /proc and /dev, more than the limits).
    """
    try:
        if path.stat().st_size > _MAX_FILE:
            raise _bad(path, f"it is larger than {_MAX_FILE >> 20} MiB")
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as packed:
            members = _members(path, _Limited(packed))
    except (OSError, EOFError, tarfile.TarError, ValueError, zlib.error) as error:
        raise _bad(path, str(error) or type(error).__name__) from error
    except RecursionError as error:  # tarfile reads a chain of extended headers by calling itself
        raise _bad(path, "its headers are nested too deep") from error
    if set(members) != {FACTS, SNAPSHOT}:
        raise _bad(path, f"it lacks {', '.join(sorted({FACTS, SNAPSHOT} - set(members)))}")
    facts = _json(path, FACTS, members[FACTS], _MAX_FACTS_VALUES)
    return Capture(facts, _nodes(path, members[SNAPSHOT]))


class _Limited(io.RawIOBase):
    """A stream that ends with an error instead of growing for ever."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source, self._left = source, _MAX_TOTAL

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._left + 1 if size < 0 else min(size, self._left + 1)
        data = self._source.read(wanted)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {_MAX_TOTAL >> 20} MiB")
        return data


def _members(path: Path, stream: _Limited) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if not member.isreg() or member.name not in {FACTS, SNAPSHOT} or member.name in members:
                raise _bad(path, f"member {member.name[:80]!r} does not belong there")
            limit = _MAX_FACTS if member.name == FACTS else _MAX_TOTAL
            if member.size > limit:
                raise _bad(path, f"{member.name} is larger than {limit >> 20} MiB")
            content = archive.extractfile(member)
            members[member.name] = content.read() if content is not None else b""
    return members


def _nodes(path: Path, data: bytes) -> tuple[dict[str, Any], ...]:
    if data.count(b"\n") > _MAX_NODES:
        raise _bad(path, f"it has more than {_MAX_NODES} nodes")
    nodes = []
    for number, line in enumerate(io.BytesIO(data), 1):
        if line.strip():
            where = f"{SNAPSHOT} line {number}"
            node = _json(path, where, line, _MAX_NODE_VALUES)
            complaint = _complaint(node)
            if complaint:
                raise _bad(path, f"{where}: {complaint}")
            nodes.append(node)
    return tuple(nodes)


def _complaint(node: dict[str, Any]) -> str | None:
    wrong = [key for key, value in node.items() if key not in _NODE_TYPES or type(value) not in _NODE_TYPES[key]]
    if wrong or "path" not in node:
        return f"not a node ({wrong[0][:80] if wrong else 'no path'})"
    place = node["path"]
    if len(place) > _MAX_PATH or not _inside(place):
        return f"{place[:80]!r} is not a path below {', '.join(ROOTS)}"
    if len(node.get("text") or "") > _MAX_TEXT:
        return f"the text of {place} is longer than {_MAX_TEXT} characters"
    if node.get("kind", "file") not in {"file", "dir", "link"} or not 0 <= node.get("mode", 0o444) <= 0o7777:
        return f"{place} has a kind or mode no node has"
    if not 0 <= node.get("errno", 0) < 4096:
        return f"{place} has an error number no kernel gives"
    target = node.get("target")
    if target is not None:
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        if len(target) > _MAX_PATH or not _inside(whole):
            return f"the link {place} leads outside {', '.join(ROOTS)}"
    return None


def _inside(place: str) -> bool:
    clean = posixpath.normpath(place) == place and "\0" not in place and not place.startswith("//")
    return clean and place.startswith(tuple(f"{root}/" for root in ROOTS))


def _json(path: Path, where: str, data: bytes, most_values: int) -> dict[str, Any]:
    try:
        value = budget.loads(data, most_values)
        if b"\\ud" in data.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except ValueError as error:
        raise _bad(path, f"{where} is not JSON, or not of a device: {str(error)[:100]}") from error
    if not isinstance(value, dict):
        raise _bad(path, f"{where} is not a JSON object")
    return value


def _bad(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is no usable capture: {why}", hint="`devicelab capture --board NAME` makes one")
