"""Inputs made to fill memory are taken or refused with little memory to spare."""

import pytest

from tests.fuzz import weights

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", weights.CASES)
def test_no_input_fills_the_memory(name: str) -> None:
    found = weights.weigh(name)
    assert found.ended, found.refused
