"""The first signal interrupts the work on a device; those that follow do not keep it from being given back."""

import signal
import threading

import pytest

from devicelab.ground import interruption
from devicelab.ground.interruption import announcing, interruptible

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set; the command line's handlers are in place."""
    now = [100.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: now[0])
    for number in NUMBERS:
        signal.signal(number, interrupt)
    return now


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_interrupts_and_no_later_one_while_it_ends(heard: list[float], number: signal.Signals) -> None:
    with interruptible() as signals:
        with pytest.raises(KeyboardInterrupt, match=number.name):
            signal.raise_signal(number)
        signals.ending = True
        heard[0] += 60
        for again in NUMBERS:
            signal.raise_signal(again)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_what_is_being_done_is_said_the_moment_the_first_signal_comes_and_once(heard: list[float]) -> None:
    said: list[float] = []
    with announcing(lambda: said.append(heard[0])), interruptible():
        for seconds in (0.0, 1.0):
            heard[0] += seconds
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    assert said == [100.0]
    with interruptible(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert said == [100.0], "nothing is said when nobody announces any more"


def test_signals_that_come_together_are_one_wish(heard: list[float]) -> None:
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        # Where Python dropped it (in a finaliser), the command line sends it once more.
        heard[0] += 0.2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_the_starter_ignores_stays_ignored(heard: list[float]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptible():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in NUMBERS] == [interrupt, interrupt, signal.SIG_IGN]


def test_in_another_thread_nothing_is_changed(heard: list[float]) -> None:
    seen: list[object] = []

    def work() -> None:
        with interruptible():
            seen.extend(signal.getsignal(number) for number in NUMBERS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [interrupt] * 3
