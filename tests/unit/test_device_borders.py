"""Bounds of what is believed of a device, and of how long it is waited for."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicelab.device import journal_reader, reservation, watch
from devicelab.device.agent import Status, _seconds
from devicelab.device.journal_reader import JournalReader
from devicelab.errors import DistrustError
from devicelab.model.journal import PlanStart, RunRecord, RunStart, seal_line
from devicelab.model.plan import Command, Gate, Plan, Program, Run, Sampling, Write

# --- journals ------------------------------------------------------------------------------------------------------


def event(n: int) -> bytes:
    return seal_line({"event": "run-start", "run_id": str(n), "seq": n, "t_ns": n}).rstrip(b"\n")


LINES = st.lists(
    st.integers(0, 99).map(event) | st.just(b"") | st.binary(max_size=8).map(lambda b: b"{" + b.replace(b"\n", b"")),
    max_size=12,
)


@settings(max_examples=60)
@given(LINES, st.lists(st.integers(0, 400), max_size=5), st.binary(max_size=3).map(lambda b: b.replace(b"\n", b"x")))
def test_a_journal_is_the_same_however_it_is_cut(lines: list[bytes], cuts: list[int], rest: bytes) -> None:
    whole = b"".join(line + b"\n" for line in lines) + rest
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    reader = JournalReader()
    found = [one for a, b in itertools.pairwise(places) for one in reader.feed(whole[a:b])]
    good = [line for line in lines if line.startswith(b'{"event"')]
    assert [getattr(one, "seq", None) for one in found] == [json.loads(line)["seq"] for line in good]
    assert reader.lost == sum(bool(line) for line in lines) - len(good)
    assert reader.reopen() == reader.offset == len(whole) - len(rest)


def test_a_journal_that_broke_off_is_read_on_from_its_last_whole_line() -> None:
    whole = event(1) + b"\n" + event(2) + b"\n"
    reader = JournalReader()
    first = list(reader.feed(whole[:-5]))
    again = list(reader.feed(whole[reader.reopen() :]))
    assert [one.seq for one in (*first, *again)] == [1, 2]  # type: ignore[union-attr]
    assert reader.offset == len(whole)


@pytest.mark.parametrize("line", [b"", b"damaged"])
def test_damage_is_borne_up_to_a_bound(monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    monkeypatch.setattr(journal_reader, "MOST_DAMAGED", 3)
    reader = JournalReader("phone-1")
    assert list(reader.feed((line + b"\n") * 3 + event(1) + b"\n")) != []
    with pytest.raises(DistrustError, match="without end"):
        list(reader.feed(line + b"\n"))


@pytest.mark.parametrize("cut", [False, True])
def test_a_line_is_believed_up_to_a_length(monkeypatch: pytest.MonkeyPatch, cut: bool) -> None:
    monkeypatch.setattr(journal_reader, "_MAX_LINE", len(event(10)))

    def feed(line: bytes) -> int:
        reader = JournalReader("phone-1")
        parts = (line[:60], line[60:], b"\n") if cut else (line + b"\n",)
        return sum(len(list(reader.feed(part))) for part in parts)

    assert feed(event(1)) == feed(event(10)) == 1
    with pytest.raises(DistrustError, match="a line without end"):
        feed(event(100))


def test_as_many_events_as_the_plan_has_are_believed() -> None:
    reader = JournalReader("phone-1", most_events=2)
    assert len(list(reader.feed(event(1) + b"\n" + event(2) + b"\n"))) == 2
    with pytest.raises(DistrustError, match="more events"):
        list(reader.feed(event(3) + b"\n"))


def test_the_first_ten_damages_are_kept_with_their_places() -> None:
    reader = JournalReader()
    list(reader.feed(b"x\n" * 12))
    assert reader.lost == 12
    assert [text.partition(":")[0] for text in reader.damaged] == [f"at byte {2 * n}" for n in range(10)]


# --- time ----------------------------------------------------------------------------------------------------------


def run(**more: Any) -> Run:
    return Run(run_id="a", cell_id="c", repetition=0, **more)


def program(role: Any = "measure", **more: Any) -> Program:
    return Program(name=f"{role}{len(more)}", role=role, argv=("x",), **more)


def test_a_run_lasts_at_most_what_its_parts_may_take_one_after_the_other() -> None:
    gates = (Gate(path="/a", timeout_ms=7_000, why="w"), Gate(path="/b", timeout_ms=11_000, why="w"))
    steps = (Write(path="/n", value="1", verify_ms=500, why="w"), Command(do=("x",), why="w", timeout_ms=13_000))
    parts = {"steps": steps, "gates": gates, "settle_ms": 250, "cooldown_ms": 17_000}
    own_s = 2.5 + 13 + 7 + 11 + 0.25 + 17
    assert watch.longest_s(run(**parts, hold_ms=3_000)) == pytest.approx(own_s + 3)
    two = (
        program(timeout_ms=19_000, barrier=True, ready_timeout_ms=29_000),
        program(timeout_ms=23_000, ready_timeout_ms=99_000),
        program(timeout_ms=5_000, barrier=True, ready_timeout_ms=1_000, nice=1),
        program("load", timeout_ms=98_000, barrier=True, ready_timeout_ms=97_000),
    )
    # Tenants run side by side; those that wait for each other wait together.
    assert watch.longest_s(run(**parts, programs=two)) == pytest.approx(own_s + 23 + 29)


def test_live_samples_are_counted_by_their_period() -> None:
    def plan(period_ms: int, live: bool) -> Plan:
        runs = (run(hold_ms=10_000, settle_ms=0, sampling=Sampling(period_ms=period_ms)),)
        return Plan(plan_id="p", campaign="c", device="d", holder="h", runs=runs, live=live)

    silent = watch.most_events(plan(100, False))
    assert silent == 1_010
    assert watch.most_events(plan(100, True)) == silent + 4 * 100
    assert watch.most_events(plan(0, True)) == silent + 4 * 10_000


class Now:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.s = 1000.0
        monkeypatch.setattr(watch.time, "monotonic", lambda: self.s)


def plan_of(*runs: Run, setup: tuple[Any, ...] = ()) -> Plan:
    return Plan(plan_id="p", campaign="c", device="d", holder="h", runs=runs, setup=setup)


def overdue_after(one: watch.Watch, now: Now, most_s: float = 1000) -> float:
    """Seconds from now until it is asked whether the agent is alive."""
    began = now.s
    while not one.overdue() and now.s - began < most_s:
        now.s += 0.25
    lasted, now.s = now.s - began - 0.25, began
    return lasted


def record(run_id: str) -> RunRecord:
    times = {"t_start_ns": 0, "t_end_ns": 1, "t_unix_ns": 0}
    return RunRecord.model_validate({"event": "run", "run_id": run_id, "seq": 0, "status": "done", **times})


def test_silence_is_normal_for_as_long_as_what_was_begun_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = Now(monkeypatch)
    one = watch.Watch(plan_of(run(hold_ms=30_000, settle_ms=0, cooldown_ms=20_000)), 10, 60)
    assert overdue_after(one, now) == 10
    agent = {"agent_version": "1", "agent_pid": 1, "boot_id": "b"}
    one.see(PlanStart.model_validate({"event": "plan-start", "plan_id": "p", "t_ns": 1, "t_unix_ns": 1, **agent}))
    assert overdue_after(one, now) == 30  # a run before may still cool down
    one.see(RunStart(event="run-start", run_id="a", seq=0, t_ns=1))
    assert overdue_after(one, now) == 60
    one.see(record("a"))
    assert overdue_after(one, now) == 30
    one.waited(5)
    assert overdue_after(one, now) == 35


@pytest.mark.parametrize(("patience_s", "bears_s"), [(300, 300), (59, 60), (0, 60)])
def test_talk_without_progress_is_borne_for_a_while_beyond_what_is_due(
    monkeypatch: pytest.MonkeyPatch, patience_s: float, bears_s: float
) -> None:
    now = Now(monkeypatch)
    setup = (Command(do=("x",), why="w", timeout_ms=40_000),)
    one = watch.Watch(plan_of(run(), setup=setup), 10, patience_s)
    now.s += 10 + 40 + bears_s
    one.breathe("d")
    assert overdue_after(one, now) == 10
    now.s += 0.25
    with pytest.raises(DistrustError, match=f"nothing has come of it for {bears_s:.0f} s beyond"):
        one.breathe("d")


# --- words of a device ---------------------------------------------------------------------------------------------

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("until", "lasts"),
    [(NOW, False), (NOW + 0.001, True), (NOW + 60 * 86_400, True), (NOW + 60 * 86_400 + 1, False)],
)
def test_a_reservation_lasts_until_its_end_and_no_longer_than_anybody_may_ask_for(until: float, lasts: bool) -> None:
    text = json.dumps({"who": "a", "until_unix_s": until, "why": ""})
    assert (reservation.parse(text, NOW) is not None) is lasts


@pytest.mark.parametrize("text", ["30d", "720h", "43200m"])
def test_thirty_days_are_the_longest(text: str) -> None:
    assert reservation.span_s(text) == reservation.LONGEST_S == 30 * 86_400
    number = text[:-1]
    with pytest.raises(Exception, match="not a length of time"):
        reservation.span_s(f"{number}.001{text[-1]}")


@pytest.mark.parametrize(
    ("said", "seconds"), [(0, 0), (1.5, 1.5), (1e9, 0), (-1, 0), ("5", 0), (None, 0), (999_999_999, 999_999_999)]
)
def test_seconds_of_an_agent_are_a_length_of_time_or_none(said: object, seconds: float) -> None:
    assert _seconds(said) == seconds


@pytest.mark.parametrize(
    ("alive", "plan_id", "works"),
    [
        (True, "c-1-abc", True),
        (False, "c-1-abc", False),
        (True, "c-11-abc", False),
        (True, None, False),
        (True, "c-1", False),
    ],
)
def test_an_agent_works_for_the_campaign_whose_plan_it_has(alive: bool, plan_id: str | None, works: bool) -> None:
    assert Status(alive=alive, plan_id=plan_id).works_for("c-1") is works
