"""Tables of samples survive the way through a blob, whatever is in them."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from devicelab.store.codec import decode_table, encode_table, pack, unpack

INTS = hnp.arrays(np.int64, st.shared(st.integers(0, 40), key="n"))
FLOATS = hnp.arrays(np.float64, st.shared(st.integers(0, 40), key="n"))


@given(st.dictionaries(st.text(max_size=12), st.one_of(INTS, FLOATS), max_size=4))
def test_a_table_comes_back_bit_for_bit(table: dict[str, np.ndarray]) -> None:
    rows, blob = encode_table(table)
    back = decode_table(blob)
    assert list(back) == list(table)
    for name, column in table.items():
        assert len(column) == rows
        assert back[name].dtype == column.dtype
        assert back[name].tobytes() == column.tobytes()


def test_the_extreme_integers_and_not_a_number_survive() -> None:
    table = {
        "i": np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max, 0, -1], np.int64),
        "f": np.array([np.nan, np.inf, -np.inf, -0.0]),
    }
    back = decode_table(encode_table(table)[1])
    assert back["i"].tolist() == table["i"].tolist()
    assert np.array_equal(back["f"], table["f"], equal_nan=True)
    assert np.signbit(back["f"][3])


def test_booleans_and_small_integers_become_int64() -> None:
    back = decode_table(encode_table({"a": np.array([True, False]), "b": np.array([1, 2], np.uint8)})[1])
    assert [back["a"].dtype, back["b"].dtype] == [np.int64, np.int64]


def test_time_stamps_take_less_than_a_third_of_their_size() -> None:
    rng = np.random.default_rng(1)
    stamps = 10**15 + np.cumsum(rng.integers(8_000, 30_000, 5_000))
    assert len(encode_table({"t_ns": stamps})[1]) < stamps.nbytes / 3


@pytest.mark.parametrize(
    "table",
    [
        {"a": np.arange(3), "b": np.arange(4)},
        {"a": np.zeros((2, 2))},
        {"a": np.array(["text"])},
        {"a": np.array([object()])},
        {"a": np.array([1 + 2j])},
    ],
)
def test_what_is_no_table_of_numbers_is_refused(table: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="column"):
        encode_table(table)


def _blob(head: object, body: bytes = b"") -> bytes:
    return pack(json.dumps(head).encode() + b"\n" + body)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"no zlib",
        pack(b""),
        pack(b"not json\n"),
        pack(b"[1, 2]\n"),
        _blob({"format": 2, "rows": 0, "columns": []}),
        _blob({"format": 1, "rows": 3, "columns": [["a", "int64"]]}, b"x" * 8),
        _blob({"format": 1, "rows": 1, "columns": [["a", "object"]]}, b"x" * 8),
        _blob({"format": 1, "rows": "many", "columns": []}),
        encode_table({"a": np.arange(100)})[1][:-9],
    ],
)
def test_a_damaged_blob_is_an_error_and_not_numbers(blob: bytes) -> None:
    with pytest.raises(ValueError, match="blob"):
        decode_table(blob)


def test_a_blob_can_be_read_without_devicelab() -> None:
    head, _, body = zlib.decompress(encode_table({"t_ns": np.array([5, 7, 4])})[1]).partition(b"\n")
    assert json.loads(head) == {"format": 1, "rows": 3, "columns": [["t_ns", "int64"]]}
    planes = np.frombuffer(body, np.uint8).reshape(8, 3)
    steps = [int.from_bytes(bytes(planes[:, i]), "little", signed=True) for i in range(3)]
    assert steps == [5, 2, -3]


def test_cut_text_is_an_error() -> None:
    with pytest.raises(ValueError, match="blob"):
        unpack(pack(b"text" * 50)[:-4])
