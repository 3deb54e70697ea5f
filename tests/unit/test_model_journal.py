"""The journal's lines survive cuts and damage without a wrong run."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.device.journal_reader import JournalReader
from devicelab.errors import DistrustError
from devicelab.model.journal import RunRecord, RunStart, parse_line, seal_line

START: dict[str, Any] = {"event": "run-start", "run_id": "a", "seq": 0, "t_ns": 5}
RUN: dict[str, Any] = {
    "event": "run",
    "run_id": "ä\n",
    "seq": 0,
    "status": "done",
    "t_start_ns": 1,
    "t_end_ns": 2,
    "t_unix_ns": 3,
}


def test_a_sealed_line_is_read_back() -> None:
    event = parse_line(seal_line(RUN))
    assert isinstance(event, RunRecord)
    assert event.run_id == "ä\n"


@given(st.integers(min_value=0, max_value=len(seal_line(RUN)) - 2), st.integers(min_value=1, max_value=255))
def test_any_changed_byte_is_noticed(place: int, change: int) -> None:
    line = bytearray(seal_line(RUN))
    line[place] ^= change
    if b"\n" not in line[:-1]:
        with pytest.raises(ValueError, match="journal line"):
            parse_line(bytes(line))


@given(st.binary(max_size=300))
def test_garbage_is_never_an_event(data: bytes) -> None:
    with pytest.raises(ValueError, match="journal line"):
        parse_line(data)


@given(st.lists(st.integers(min_value=1, max_value=40), max_size=30))
def test_chunks_of_any_size_give_the_same_events(sizes: list[int]) -> None:
    data = seal_line(START) + seal_line(RUN) + seal_line(START)
    reader = JournalReader()
    events = []
    for size in sizes:
        events += reader.feed(data[:size])
        data = data[size:]
    events += reader.feed(data)
    assert [type(event) for event in events] == [RunStart, RunRecord, RunStart]
    assert not reader.damaged


def test_an_unfinished_line_is_read_again_after_a_lost_connection() -> None:
    first, second = seal_line(START), seal_line(RUN)
    reader = JournalReader()
    assert len(list(reader.feed(first + second[:20]))) == 1
    assert reader.reopen() == len(first)
    assert len(list(reader.feed(second))) == 1


def test_a_damaged_line_is_counted_and_the_next_one_read() -> None:
    damaged = seal_line(RUN).replace(b'"seq":0', b'"seq":1')
    reader = JournalReader()
    assert [type(e) for e in reader.feed(damaged + seal_line(START))] == [RunStart]
    assert len(reader.damaged) == 1


def _read(reader: JournalReader, piece: bytes) -> None:
    for _ in range(1000):
        list(reader.feed(piece))


def test_damage_is_counted_and_not_kept() -> None:
    reader = JournalReader()
    assert not list(reader.feed(b'{"event":"run"}\n' * 9_000))
    assert reader.lost == 9_000
    assert len(reader.damaged) <= 10


@pytest.mark.parametrize("piece", [b"\n", b'{"event":"run"}\n', b"\x00" * 10 + b"\n"])
def test_damage_without_end_is_no_journal(piece: bytes) -> None:
    reader = JournalReader("phone-1")
    with pytest.raises(DistrustError, match="without end") as caught:
        _read(reader, piece * 1000)
    assert caught.value.device == "phone-1"


def test_events_without_end_are_no_journal_of_a_plan() -> None:
    reader = JournalReader("phone-1", most_events=100)
    with pytest.raises(DistrustError, match="more events"):
        _read(reader, seal_line(START))


def test_a_line_in_many_pieces_is_put_together_once() -> None:
    line = seal_line({**RUN, "run_id": "x" * 3_000_000})
    reader = JournalReader()
    pieces = (line[at : at + 64] for at in range(0, len(line), 64))
    assert [type(event) for piece in pieces for event in reader.feed(piece)] == [RunRecord]


def test_what_a_flag_says_is_cut() -> None:
    event = parse_line(seal_line({**RUN, "flags": [{"code": "c" * 9_000, "detail": "d" * 90_000}]}))
    assert isinstance(event, RunRecord)
    assert len(event.flags[0].code) < 200
    assert len(event.flags[0].detail) < 5_000
    assert "90000" in event.flags[0].detail
