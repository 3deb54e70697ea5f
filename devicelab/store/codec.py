"""How tables of samples and texts become blobs: compressed, self-describing, verifiable without devicelab.

A sample blob is zlib data. Uncompressed it is one line of JSON, ``{"format": 1, "rows": n, "columns": [[name, type],
...]}``, followed by each column's ``8 * n`` bytes. Type ``int64`` is stored as differences to the previous value
(modulo 2^64, the first to 0), ``float64`` as it is; both little-endian with the bytes regrouped by significance (all
lowest bytes first, then the next, ...). Time stamps then take about two thirds of the space of an ``.npz`` and are
written and read several times faster, which matters with a blob for every run.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from devicelab.model.measurement import Column, Table

_FORMAT = 1
_LEVEL = 6
# A blob holds one run's table or text; one that unpacks to more is damaged, or made to fill the memory.
_MAX_BYTES = 1 << 30


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def pack(data: bytes) -> bytes:
    """Compress (zlib)."""
    return zlib.compress(data, _LEVEL)


def unpack(blob: bytes) -> bytes:
    """Undo ``pack``.

    Raises:
        ValueError: not whole zlib data, or more than a run can have.
    """
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(blob, _MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"not a compressed blob: {error}") from error
    if not unpacking.eof:
        what = f"holds more than {_MAX_BYTES} bytes" if len(data) == _MAX_BYTES else "is cut"
        raise ValueError(f"not a compressed blob: it {what}")
    return data


def encode_table(table: Mapping[str, ArrayLike]) -> tuple[int, bytes]:
    """Number of rows and blob of a table of equally long integer, boolean or float columns.

    Raises:
        ValueError: columns of unequal length, not one-dimensional, or of another type.
    """
    columns = {name: _column(name, values) for name, values in table.items()}
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"columns of unequal length: { {name: len(column) for name, column in columns.items()} }")
    rows = lengths.pop() if lengths else 0
    head = {"format": _FORMAT, "rows": rows, "columns": [[name, str(c.dtype)] for name, c in columns.items()]}
    body = [json.dumps(head, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"]
    body += [_to_bytes(column) for column in columns.values()]
    return rows, pack(b"".join(body))


def decode_table(blob: bytes) -> Table:
    """Undo ``encode_table``.

    Raises:
        ValueError: damaged, cut, or of a format we do not know.
    """
    data = unpack(blob)
    line, newline, body = data.partition(b"\n")
    try:
        head: Any = json.loads(line)
        rows, version = int(head["rows"]), head["format"]
        columns = [(str(name), str(kind)) for name, kind in head["columns"]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError("sample blob without a readable head") from error
    if version != _FORMAT or not newline:
        raise ValueError(f"sample blob of unknown format {version!r}")
    if rows < 0 or len(body) != 8 * rows * len(columns):
        raise ValueError(f"sample blob holds {len(body)} bytes where {rows} rows of {len(columns)} columns should be")
    return {name: _from_bytes(body[8 * rows * i : 8 * rows * (i + 1)], kind) for i, (name, kind) in enumerate(columns)}


def _column(name: str, values: ArrayLike) -> Column:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"column {name!r} has {array.ndim} dimensions, not one")
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    if array.dtype.kind == "f" or array.size == 0:
        return array.astype(np.float64)
    raise ValueError(f"column {name!r} is of type {array.dtype}, not a number")


def _to_bytes(column: Column) -> bytes:
    if column.dtype == np.int64:
        column = np.diff(column, prepend=np.int64(0))
    little = column.astype(column.dtype.newbyteorder("<"))
    planes: NDArray[np.uint8] = np.frombuffer(little.tobytes(), np.uint8).reshape(-1, 8).T
    return planes.tobytes()


def _from_bytes(data: bytes, kind: str) -> Column:
    if kind not in {"int64", "float64"}:
        raise ValueError(f"sample blob with a column of unknown type {kind!r}")
    planes = np.frombuffer(data, np.uint8).reshape(8, -1).T
    if kind == "float64":
        return np.frombuffer(planes.tobytes(), "<f8").astype(np.float64)
    # Sums wrap around like the differences did.
    return np.cumsum(np.frombuffer(planes.tobytes(), "<i8").astype(np.int64), dtype=np.int64)
