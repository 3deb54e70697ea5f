"""The load's level text, command line and output."""

import pytest

from devicelab.errors import ConfigError, MeasurementError
from devicelab.workloads import overhead
from devicelab.workloads.base import Context


@pytest.mark.parametrize("text", ["10 1000 20", "1000 100000 20", "1000 5000 20", " 0  0 62 "])
def test_a_level_is_three_numbers(text: str) -> None:
    params = overhead.parse_level(text)
    assert params.level().split() == text.split()
    assert overhead.command(params, Context(dir="/d")).argv == ("/d/overhead", *text.split())


@pytest.mark.parametrize(
    ("text", "level", "word"),
    [("45%", "45%", "45"), (" 12.50 % ", "12.5%", "12.5"), ("100%", "100%", "100"), ("0.0001%", "0.0001%", "0.0001")],
)
def test_a_level_is_a_use_to_hold(text: str, level: str, word: str) -> None:
    hold = overhead.parse_level(text)
    assert hold.level() == level
    assert overhead.command(hold, Context(dir="/d")).argv == ("/d/overhead", "--hold", word)


def test_a_held_load_tells_the_fixed_load_with_its_rounds() -> None:
    near = overhead.near(b"near 1247 93211\n")
    assert near is not None
    assert near.level() == "1247 93211 20"


@pytest.mark.parametrize(
    "output", [b"", b"near 1247", b"near 1247 93211", b"near -1 2\n", b"near 1 2 3\n", b"\xffnear"]
)
def test_a_held_load_that_told_nothing_whole_told_nothing(output: bytes) -> None:
    assert overhead.near(output) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0%", "no use from"),
        ("100.0001%", "no use from"),
        ("4.00001%", "no use from"),
        ("-5%", "no use from"),
        ("45%%", "no use from"),
        ("1000 5000 20%", "no use from"),
        ("\u0665%", "no use from"),
        ("", "has 0 numbers instead of 3"),
        ("1000 5000", "has 2 numbers instead of 3"),
        ("1 2 3 4", "has 4 numbers instead of 3"),
        ("-1 5000 20", "sleep_us is '-1'"),
        ("1000 5e3 20", "inner_iter is '5e3'"),
        ("1000 5000 x", "log2_outer_iter is 'x'"),
        ("1000 5000 63", "log2_outer_iter"),
        ("1000 9223372036854775808 20", "inner_iter"),
        ("9223372036854775807 1 1", "sleep_us"),
        ("1000 \u0665 20", "inner_iter"),
        ("1 1 " + "9" * 5000, "log2_outer_iter"),
    ],
)
def test_a_wrong_level_is_refused_with_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match="T_sleep_us inner_iter log2_outer_iter") as caught:
        overhead.parse_level(text)
    assert complaint in caught.value.message


def test_a_load_that_was_killed_printed_nothing_and_that_is_fine() -> None:
    params = overhead.parse_level("1000 5000 20")
    assert overhead.parse(b"", params).metrics == {}
    assert overhead.parse(b"12345\n", params).metrics["sum"].value == 12345


@pytest.mark.parametrize("output", [b"usage: overhead", b"1 2", b"-5\n", b"9" * 30, b"\xff\xfe"])
def test_anything_but_a_sum_is_an_error(output: bytes) -> None:
    with pytest.raises(MeasurementError):
        overhead.parse(output, overhead.parse_level("1 1 1"))
