"""Lengths of time for people."""

from devicelab.ground.times import duration


def test_lengths_of_time() -> None:
    assert [duration(s) for s in (48, 725, 25_500)] == ["48 s", "12 min 05 s", "7 h 05 min"]


def test_an_estimate_does_not_name_seconds_of_minutes() -> None:
    assert [duration(s, roughly=True) for s in (48, 725, 25_500)] == ["48 s", "12 min", "7 h 05 min"]
