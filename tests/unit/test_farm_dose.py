"""How much of a night each cell gets."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from devicelab.experiment import plan as planning
from devicelab.farm import dose
from devicelab.farm.dose import Seen
from devicelab.model.experiment import Answer, Check
from devicelab.model.night import DoseRules, Task
from devicelab.model.search import Search
from devicelab.store import Store
from tests import labdata, nightdata
from tests.nightdata import History

RULES = DoseRules(stable_after=5, every=3)


def calm(nights: int = 5, *signs: Seen) -> list[Seen]:
    """Signs first, then so many calm nights."""
    return [*signs, *(Seen(n) for n in range(1 + len(signs), 1 + len(signs) + nights))]


def times(past: dict[str, list[Seen]], rules: DoseRules = RULES, day: int = 0, *together: str) -> dict[str, int]:
    groups = [together, *((cell,) for cell in past if cell not in together)] if together else [(c,) for c in past]
    return {cell: one.times for one in dose.doses(groups, past, rules, day) for cell in one.cells}


def test_every_cell_gets_what_it_needs_and_says_why() -> None:
    past: dict[str, list[Seen]] = {
        "new": [],
        "young": calm(4),
        "noisy": calm(9, Seen(1, "t too noisy")),
        "steady": calm(9),
    }
    shares = dose.doses([(cell,) for cell in past], past, RULES, 1)
    said = {cell: (one.times, one.why) for one in shares for cell in one.cells}
    assert said["new"] == (1, "measured in 0 nights; calm is said after 5")
    assert said["young"] == (1, "measured in 4 nights; calm is said after 5")
    assert said["noisy"] == (1, "t too noisy 1 night ago")
    assert said["steady"][1].startswith("calm")


def test_a_calm_cell_takes_its_turn_once_in_so_many_nights_whatever_day_it_is() -> None:
    days = [times({"a": calm(9)}, day=day)["a"] for day in range(9)]
    assert sum(days) == 3
    assert days[:3] == days[3:6]
    assert times({"a": [Seen(n) for n in range(3, 12)]}, day=days.index(0)) == {"a": 1}, "three nights ago is its turn"


def test_turns_of_many_cells_are_spread_over_the_nights() -> None:
    past = {f"c{i}": calm(9) for i in range(60)}
    assert all(10 <= sum(times(past, day=day).values()) <= 30 for day in range(6))


def test_what_is_undecided_is_measured_twice_and_wakes_its_neighbours() -> None:
    undecided = Seen(1, "t may be moving", moved=True, undecided=True)
    past = {"a": calm(9, undecided), "b": calm(9), "c": calm(9)}
    assert times(past, day=1) == {"a": 2, "b": 1, "c": 1}
    once = RULES.model_copy(update={"again": False})
    assert set(times(past, once, 1).values()) == {1}


def test_noise_wakes_nobody() -> None:
    past = {"a": calm(9, Seen(1, "t too noisy")), **{f"c{i}": calm(9) for i in range(9)}}
    found = times(past)
    assert found["a"] == 1
    assert 0 in found.values()


def test_cells_that_are_compared_rest_and_run_together() -> None:
    past = {"a": calm(9), "b": calm(2), "c": calm(9)}
    for day in range(3):
        found = times(past, RULES, day, "a", "b")
        assert found["a"] == found["b"] == 1


def test_groups_follow_what_is_compared() -> None:
    plain = labdata.experiment(factors={"k": (1, 2, 3)}, set={"load": "none"}, checks=(), answer=None)
    assert [len(group) for group in dose.groups_of(plain)] == [1, 1, 1]
    check = Check(name="x", metric="total_ns", where={"k": 2}, against={"k": 1}, bound="< 5 %")
    compared = plain.model_copy(update={"checks": (check,)})
    assert sorted(len(group) for group in dose.groups_of(compared)) == [1, 2]
    asked = plain.model_copy(update={"answer": Answer(quantity="total_ns", by="k", against={"k": 1})})
    assert [len(group) for group in dose.groups_of(asked)] == [3]


def test_what_an_analysis_or_a_search_concludes_from_all_cells_keeps_them_together() -> None:
    plain = labdata.experiment(factors={"k": (1, 2), "cpu": ("min", "max")}, set={"load": "none"}, analyses=("energy",))
    of_some = Answer(quantity="total_ns", by="k", against={"k": 1}, where={"cpu": "max"})
    figure = plain.model_copy(update={"answer": of_some})
    assert sorted(len(group) for group in dose.groups_of(figure)) == [1, 1, 2]
    concluded = plain.model_copy(update={"answer": Answer(quantity="fastest_is_cheapest")})
    elsewhere = concluded.model_copy(update={"analyses": ()})
    searched = plain.model_copy(update={"search": Search(minimise=("total_ns",))})
    for of, sizes in ((concluded, [4]), (searched, [4]), (elsewhere, [1, 1, 1, 1]), (plain, [1, 1, 1, 1])):
        groups = dose.groups_of(of)
        assert [len(group) for group in groups] == sizes
        assert frozenset().union(*groups) == {cell.cell_id for cell in planning.cells(of)}


# --- from the store to tonight's tasks ---------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s.sqlite") as opened:
        yield opened


def tonight(store: Store, of: History, day: int = 0, tasks: Sequence[Task] = ()) -> tuple[Task, ...]:
    one = Task(task_id="1.1", job=0, experiment=of.experiment, selector=of.devices[0], device=of.devices[0])
    now_s = (20000 + day) * 86400.0
    return dose.dosed(tasks or (one,), [nightdata.experiment(of)], store, of.farm, RULES, now_s)


def ids(of: History) -> list[str]:
    return [cell.cell_id for cell in planning.cells(nightdata.experiment(of))]


def filled(store: Store, nights: int = 12, **last: object) -> History:
    of = History(nights=nights)
    for number, night in enumerate(nightdata.fill(store, of)):
        changes = last if number == nights - 1 else {}
        said = [
            nightdata.verdict(of, number, k, cell_id=cell, **(changes if k == 1 else {}))
            for k, cell in enumerate(ids(of))
        ]
        store.put_verdicts(night, said)
    return of


def test_a_task_of_calm_cells_measures_those_whose_turn_it_is_or_rests(store: Store) -> None:
    of = filled(store)
    found = [tonight(store, of, day) for day in range(3)]
    cells = ids(of)
    measured: list[str] = []
    for (task,) in found:
        if task.at_rest:
            assert task.reason.startswith("at rest: calm in 5 nights")
        else:
            measured += task.cells or sorted(cells)
    assert sorted(measured) == sorted(cells), "each cell once in three nights"


def test_an_undecided_cell_is_measured_once_more_with_the_time_that_is_left(store: Store) -> None:
    of = filled(store, verdict="regression")
    main, again = tonight(store, of)
    assert (main.cells, main.undecided) == ((), True)
    assert (again.task_id, again.confirms, again.cells) == ("1.1c", "1.1", (ids(of)[1],))
    assert again.priority < main.priority
    assert main.shares[0].text() == "1 cell twice: undecided: total_ns looks changed, not established"


def test_an_established_change_is_measured_as_always(store: Store) -> None:
    of = filled(store, verdict="regression", established=True)
    (main,) = tonight(store, of)
    assert (main.cells, {one.times for one in main.shares}) == ((), {1})


def test_tasks_for_any_device_and_without_history_have_their_whole_dose(store: Store) -> None:
    of = filled(store)
    anywhere = Task(task_id="1.1", job=0, experiment=of.experiment, selector="any 1 of tag=x")
    gone = Task(task_id="1.2", job=0, experiment=of.experiment, selector="b", device="b", status="skipped", reason="?")
    new = Task(task_id="1.3", job=0, experiment=of.experiment, selector="new", device="new")
    first, second, third = tonight(store, of, 0, (anywhere, gone, new))
    assert (first, second) == (anywhere, gone)
    assert (third.cells, third.status) == ((), "waiting")
