"""Silent ones keep nobody waiting."""

import threading

import pytest

from devicelab.ground import side_by_side


def test_all_are_asked_at_once_and_answers_come_as_they_are_given() -> None:
    last = threading.Event()
    met = threading.Barrier(30)

    def ask(number: int) -> int:
        met.wait(30)  # nobody comes past it who is asked after another
        if number == 0:
            last.wait(30)
        return number * 2

    came = []
    for number, answer in side_by_side.asked(ask, range(30), deadline_s=60):
        came.append((number, answer))
        if len(came) == 29:
            last.set()
    assert came[-1] == (0, 0)
    assert sorted(came) == [(number, number * 2) for number in range(30)]


def test_who_is_silent_is_late_and_the_others_have_their_turn() -> None:
    never = threading.Event()

    def ask(number: int) -> int:
        if number < 3:
            never.wait(60)
        return number

    found = dict(side_by_side.asked(ask, range(6), deadline_s=0.2, at_once=2))
    assert found == {0: None, 1: None, 2: None, 3: 3, 4: 4, 5: 5}
    never.set()


def test_an_error_is_raised_where_the_answers_are_read() -> None:
    def ask(number: int) -> int:
        raise KeyError(number)

    with pytest.raises(KeyError):
        list(side_by_side.asked(ask, [1], deadline_s=10))


def test_nothing_is_asked_of_nobody() -> None:
    assert list(side_by_side.asked(lambda one: one, [], deadline_s=1)) == []
