"""The event loop of a board's host process."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from virtualboards.loop import READ, WRITE, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def test_timers_fire_in_order_of_their_time_and_cancelled_ones_do_not(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_later(0.02, loop.stop)
    loop.call_later(0.01, lambda: seen.append("second"))
    loop.call_later(0.0, lambda: seen.append("first"))
    loop.call_later(0.0, lambda: seen.append("never")).cancel()
    loop.run()
    assert seen == ["first", "second"]


def test_a_timer_further_away_than_epoll_can_count_waits(loop: Loop) -> None:
    for delay_s in (3e6, 1e9, float("inf")):
        loop.call_later(delay_s, lambda: None)
    thread = threading.Timer(0.02, lambda: loop.call_soon(loop.stop))
    thread.start()
    loop.run()
    thread.join()


def test_a_call_from_another_thread_wakes_the_loop(loop: Loop) -> None:
    thread = threading.Thread(target=lambda: loop.call_soon(loop.stop))
    thread.start()
    loop.run()
    thread.join()


def test_a_parked_descriptor_is_not_served_even_when_its_peer_hangs_up(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    calls: list[int] = []
    loop.watch(left.fileno(), READ, calls.append)
    loop.watch(left.fileno(), 0, calls.append)
    right.close()
    loop.call_later(0.01, loop.stop)
    loop.run()
    assert calls == []
    loop.watch(left.fileno(), READ, lambda events: (calls.append(events), loop.stop()))
    loop.run()
    assert calls == [READ]


def test_a_descriptor_forgotten_by_an_earlier_callback_of_the_round_is_not_served(loop: Loop) -> None:
    pipes = [os.pipe() for _ in range(2)]
    calls: list[int] = []

    def serve(fd: int, other: int) -> None:
        calls.append(fd)
        loop.forget(other)
        loop.stop()

    (a, a_end), (b, b_end) = pipes
    loop.watch(a, READ, lambda _: serve(a, b))
    loop.watch(b, READ, lambda _: serve(b, a))
    os.write(a_end, b"x")
    os.write(b_end, b"x")
    loop.run()
    assert len(calls) == 1
    for fd in (a, a_end, b, b_end):
        os.close(fd)


def test_a_peer_that_is_gone_counts_as_writable_so_that_the_write_tells(loop: Loop) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    seen: list[int] = []
    loop.watch(writer, WRITE, lambda events: (seen.append(events), loop.stop()))
    loop.run()
    assert seen == [WRITE]
    os.close(writer)
