"""Which cells a night measures, and how often, as tables: every condition with it and without it."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devicelab.compare.nights.held import SIGN
from devicelab.farm import dose
from devicelab.farm.dose import Seen
from devicelab.model.night import CellVerdict, DoseRules, Farm, JobEntry, NightInfo, Task
from devicelab.store import Store
from tests import labdata, nightdata
from tests.nightdata import History

JOBS = (JobEntry(experiment="e", devices="a"),)
FARM = Farm(name="f", jobs=JOBS, attempts=2, max_reboots=1, patience_s=77.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with labdata.new_store(tmp_path / "s.sqlite") as opened:
        opened.begin_night(FARM, night="n")
        yield opened


def verdict(word: str = "unchanged", **more: Any) -> CellVerdict:
    fields = {"night": "n", "experiment": "e", "cell_id": "c", "cell": "x", "device": "a", "program": "p"}
    return CellVerdict.model_validate({**fields, "metric": "t", "unit": "ns", "verdict": word, **more})


@pytest.mark.parametrize(
    ("one", "sign", "moved", "undecided"),
    [
        (verdict("regression", established=True), "t changed, established", True, False),
        (verdict("improvement", established=True), "t changed, established", True, False),
        (verdict("regression"), "t looks changed, not established", True, True),
        (verdict("improvement", evidence=SIGN), "t looks changed, not established", True, True),
        (verdict(evidence=SIGN), "t may be moving", True, True),
        (verdict(evidence=SIGN, established=True), "t may be moving", True, True),
        (verdict(evidence=SIGN - 0.1), "", False, False),
        (verdict(), "", False, False),
        (verdict(causes=("kernel: 1 became 2", "y")), "other kernel: 1 became 2", False, False),
        (verdict("too noisy", evidence=SIGN - 0.1), "t too noisy", False, False),
        (verdict("too noisy", evidence=SIGN), "t may be moving", True, True),
    ],
)
def test_what_a_verdict_says_of_a_cell(one: CellVerdict, sign: str, moved: bool, undecided: bool) -> None:
    assert dose.seen_of([one], 4) == {("e", "a", "c"): Seen(4, sign, moved, undecided)}


def test_the_most_serious_figure_speaks_for_its_cell_and_of_equal_ones_the_first() -> None:
    rising = [verdict(), verdict("too noisy"), verdict("regression", established=True), verdict("regression")]
    for low, high in itertools.combinations(rising, 2):
        for pair in ((low, high), (high, low)):
            assert dose.seen_of(pair, 1) == dose.seen_of([high], 1)
    same = [one.model_copy(update={"metric": name}) for name in "uv" for one in rising[1:2]]
    for pair in (same, same[::-1]):
        assert dose.seen_of(pair, 1) == dose.seen_of(pair[:1], 1)


def test_the_past_is_looked_at_as_far_back_as_the_policy_needs() -> None:
    rules = DoseRules(stable_after=4, every=3)
    of = History(nights=30, experiment="e", devices=("a",))
    words = itertools.cycle(["complete", "failed", "interrupted", "running"])
    infos = [
        NightInfo(night=str(n), farm="f", status=next(words), started_unix_ns=1, job=of.job)  # type: ignore[arg-type]
        for n in range(40)
    ]
    store: Any = SimpleNamespace(
        nights=lambda farm: infos if farm == "f" else [], verdicts=lambda night: [verdict(night=night)]
    )
    past = dose.past_of(store, "f", rules)[("e", "a")]["c"]
    assert past == [Seen(ago) for ago in range(1, 4 * 3 + 3 + 1)]
    asked: list[str] = []
    store.verdicts = lambda night: asked.append(night) or []
    dose.past_of(store, "f", rules)
    assert asked[:4] == ["0", "1", "4", "5"]


RULES = DoseRules(stable_after=3, every=3)


def calm(*ago: int, first: Seen | None = None) -> list[Seen]:
    return [*([first] if first else []), *map(Seen, ago)]


def shares(past: dict[str, list[Seen]], day: int = 1, **rules: Any) -> dict[str, tuple[int, str]]:
    found = dose.doses([(cell,) for cell in past], past, RULES.model_copy(update=rules), day)
    return {cell: (one.times, one.why) for one in found for cell in one.cells}


def test_turns_are_the_same_on_every_host_and_go_by_the_first_cell_of_a_group() -> None:
    past = {cell: calm(1, 2, 3) for cell in "abc"}
    turns = {cell: [day for day in range(7) if shares({cell: past[cell]}, day)[cell][0]] for cell in past}
    assert turns == {"a": [0, 3, 6], "b": [1, 4], "c": [0, 3, 6]}
    for cells in (("a", "b"), ("b", "a")):
        found = [day for day in range(7) for one in dose.doses([cells], past, RULES, day) if one.times]
        assert found == turns["a"]


@pytest.mark.parametrize(("ago", "measured"), [((2, 3, 4), 0), ((3, 4, 5), 1), ((4, 5, 6), 1)])
def test_a_cell_is_never_longer_without_a_measurement_than_its_turn_takes(ago: tuple[int, ...], measured: int) -> None:
    assert shares({"a": calm(*ago)})["a"][0] == measured
    both = dose.doses([("a", "z")], {"a": calm(1, 2, 3), "z": calm(*ago)}, RULES, 1)
    assert [one.times for one in both] == [measured], "and neither is what it is compared with"


@pytest.mark.parametrize(
    ("sign", "wakes"),
    [
        (Seen(1, "t moved", moved=True), True),
        (Seen(2, "t moved", moved=True), False),
        (Seen(1, "t too noisy"), False),
    ],
)
def test_a_change_of_last_night_wakes_the_calm(sign: Seen, wakes: bool) -> None:
    past = {"a": calm(1, 2, 3), "b": calm(3, 4, 5, first=sign)}
    found = shares(past)
    assert found["a"] == ((1, "calm, but elsewhere t moved") if wakes else (0, found["a"][1]))
    assert found["b"] == (1, f"{sign.sign} {sign.ago} night{'s' if sign.ago > 1 else ''} ago")


def test_calm_is_said_after_as_many_nights_as_the_rule_says_whatever_came_before() -> None:
    noise = Seen(4, "t too noisy")
    for nights, why in ((2, "t too noisy 4 nights ago"), (3, "calm in 3 nights; one night in 3 is enough")):
        found = shares({"a": [*calm(*range(1, nights + 1)), noise]})["a"]
        assert found == (int(nights < 3), why)
    together = dose.doses([("a", "b")], {"a": calm(1, 2, 3), "b": calm(1)}, RULES, 0)
    assert [(one.times, one.why) for one in together] == [(1, "measured in 1 nights; calm is said after 3")]


def test_what_is_undecided_is_measured_twice_with_all_it_is_compared_with_once_and_is_told_first() -> None:
    open_, other = (Seen(1, f"{name} open", moved=True, undecided=True) for name in "ts")
    past = {"a": calm(1, 2, 3), "b": calm(2, first=open_), "c": [Seen(1), open_], "d": [other], "e": [open_]}
    found = dose.doses([("a", "b"), ("c",), ("d",), ("e",)], past, RULES, 0)
    assert [(one.times, one.cells) for one in found] == [(2, ("b", "e")), (2, ("d",)), (1, ("a",)), (1, ("c",))]
    assert [one.why for one in found[:3]] == [
        "undecided: t open",
        "undecided: s open",
        "compared with what is undecided",
    ]


def test_tonights_tasks_follow_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    days: list[int] = []
    wanted = (dose.Share(times=2, cells=("b",), why="x"), dose.Share(times=1, cells=("a",), why="y"))
    rest = dose.Share(times=0, cells=("c",), why="z")
    given = [wanted, (*wanted, rest), (rest,), wanted[1:]]

    def doses(_groups: object, _past: object, _rules: object, day: int) -> tuple[dose.Share, ...]:
        days.append(day)
        return given[len(days) - 1]

    monkeypatch.setattr(dose, "doses", doses)
    monkeypatch.setattr(dose, "groups_of", lambda _: ())
    store: Any = SimpleNamespace(nights=lambda **_: [])
    tasks = [
        Task(task_id=f"1.{n}", job=n % 2, experiment="e", selector="a", device="a", priority=5 - n) for n in range(4)
    ]
    every: Any = [nightdata.experiment(History())] * 2
    found = dose.dosed(tasks, every, store, "f", RULES, 20_000 * 86_400.0 - 1)
    assert [(one.task_id, one.cells, one.priority, one.status) for one in found] == [
        ("1.0", (), 5, "waiting"),
        ("1.0c", ("b",), 1, "waiting"),
        ("1.1", ("a", "b"), 4, "waiting"),
        ("1.1c", ("b",), 1, "waiting"),
        ("1.2", (), 3, "skipped"),
        ("1.3", (), 2, "waiting"),
    ]
    assert [one.confirms for one in found] == [None, "1.0", None, "1.1", None, None]
    assert found[4].reason == "at rest: z"
    assert set(days) == {19_999}
    days.clear()
    dose.dosed(tasks, every, store, "f", RULES, 20_000 * 86_400.0)
    assert set(days) == {20_000}
    assert dose.dosed([], [], store, "f", RULES, 0.0) == ()
