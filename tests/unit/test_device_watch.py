"""How long a board that works is believed."""

import pytest

from devicelab.device import watch
from devicelab.errors import DistrustError
from devicelab.model.journal import LiveSample, RunStart
from devicelab.model.plan import Plan, Program, Run

PLAN = Plan(
    plan_id="p",
    campaign="c",
    device="d",
    holder="h",
    runs=tuple(
        Run(
            run_id=name,
            cell_id="c",
            repetition=0,
            programs=(Program(name="m", role="measure", argv=("x",), timeout_ms=100_000),),
        )
        for name in "ab"
    ),
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    return now


def start(run: str) -> RunStart:
    return RunStart(event="run-start", run_id=run, seq=0, t_ns=1)


def test_a_run_may_last_as_long_as_its_own_time_outs(clock: list[float]) -> None:
    one = watch.Watch(PLAN, 60, 300)
    one.see(start("a"))
    clock[0] += 150
    assert not one.overdue()
    clock[0] += 20
    assert one.overdue()
    one.breathe("d")


@pytest.mark.parametrize("event", [start("a"), start("of no plan"), LiveSample(event="sample", run_id="a", t_ns=1)])
def test_what_brings_the_plan_nowhere_gives_no_more_time(clock: list[float], event: RunStart | LiveSample) -> None:
    one = watch.Watch(PLAN, 60, 300)
    one.see(start("a"))

    def go_on() -> None:
        for _ in range(1000):
            clock[0] += 5
            one.see(event)
            one.breathe("d")

    with pytest.raises(DistrustError, match="nothing has come of it"):
        go_on()


def test_each_run_gives_its_own_time_once(clock: list[float]) -> None:
    one = watch.Watch(PLAN, 60, 300)
    for name in "ab":
        one.see(start(name))
        clock[0] += 159
        assert not one.overdue()


def test_a_journal_has_no_more_events_than_its_plan_allows() -> None:
    assert watch.most_events(PLAN) < 10_000
    assert watch.most_events(PLAN.model_copy(update={"live": True})) > 2 * watch.longest_s(PLAN.runs[0]) * 10
