"""Texts from elsewhere are looked at before anything is built from them."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.ground import budget

_VALUES = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


def _count(value: object) -> int:
    """Values besides the first: what commas and brackets stand for."""
    if isinstance(value, dict):
        return 1 + max(0, len(value) - 1) + sum(_count(one) for one in value.values())
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(map(_count, value))
    return 0


@given(_VALUES)
def test_values_are_counted_and_what_stands_in_texts_is_none(value: object) -> None:
    text = json.dumps(value).encode()
    assert budget.loads(text, _count(value)) == value
    if _count(value):
        with pytest.raises(ValueError, match="more than"):
            budget.loads(text, _count(value) - 1)


@pytest.mark.parametrize("text", [b'"' + b'\\"' * 500_000, b'"' * 500_001, b'"\\' * 500_000, b"\\" * 1_000_000])
def test_texts_without_end_are_counted_in_one_go(text: bytes) -> None:
    assert budget._TEXTS.sub(b"", text) is not None
    with pytest.raises(ValueError, match=re.compile("Expecting|Extra|Unterminated|Invalid|escape", re.IGNORECASE)):
        budget.loads(text)


def test_depth_is_a_mistake_of_the_text() -> None:
    with pytest.raises(ValueError, match="deep"):
        budget.loads(b"[" * 100_000)


def test_a_text_that_is_cut_says_how_long_it_was() -> None:
    assert budget.cut("x" * 10, 10) == "x" * 10
    assert budget.cut("x" * 11, 10) == "x" * 10 + "… (cut, 11 characters)"


def test_lines_are_counted_before_they_are_made() -> None:
    assert budget.lines(b"a\nb\n", 2) == [b"a", b"b", b""]
    with pytest.raises(ValueError, match="3 lines"):
        budget.lines(b"\n\n\n", 2)
