"""A farm file and what follows from it without any device: selectors, mistakes with their lines, schedule."""

import itertools
import json
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from devicelab.cli import app
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError, DeviceBusyError, LabError
from devicelab.farm import closing, estimate, health, job, nightly, schedule, selectors
from devicelab.farm import night as conducting
from devicelab.farm.night import SEVERITY, worst
from devicelab.farm.nightly import NightResult
from devicelab.farm.selectors import Known
from devicelab.farm.task import campaign_id
from devicelab.model.campaign import CampaignInfo
from devicelab.model.experiment import Experiment
from devicelab.model.night import CellVerdict, Farm, Health, HealthRules, Task
from devicelab.store import Store

EVERY = Experiment(name="every", question="?", factors={"load": ("none",)}, repetitions=4, hold_s=10, settle_s=1)


def known(name: str, kind: str | None = None, *tags: str) -> Known:
    return Known(DeviceEntry(name=name, address=f"adb:{name}", tags=tags), kind)


POOL = {
    device.entry.name: device
    for device in (
        known("a", "note10", "phone"),
        known("b", "note10", "phone", "old"),
        known("c", "qualcomm", "old"),
        known("d", None),
    )
}


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "own.toml").write_text('question = "?"\n[factors]\nload = ["none"]\n', encoding="utf-8")
    path = tmp_path / "farm.toml"
    path.write_text(text, encoding="utf-8")
    return path


JOB = '[[jobs]]\nexperiment = "own.toml"\ndevices = "tag=phone"\n'


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ["a"]),
        ("a, d", ["a", "d"]),
        ("board=note10", ["a", "b"]),
        ("tag=old", ["b", "c"]),
        ("tag=phone, board=qualcomm", ["a", "b", "c"]),
        ("any 2 of tag=old,a", ["a", "b", "c"]),
    ],
)
def test_a_selector_means_the_devices_that_fit_any_of_its_words(text: str, names: list[str]) -> None:
    found = selectors.matching(selectors.parse(text), POOL.values())
    assert [device.entry.name for device in found] == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty word"),
        ("a,,b", "empty word"),
        ("kind=note10", "no selector word named 'kind='"),
        ("any tag=old", "not a selector"),
        ("any 0 of tag=old", "asks for no device"),
        ("a b", "not a selector"),
        ("z", "no device named 'z'"),
        ("tag=new", "no tag named 'new'"),
        ("board=note1", "no board kind named 'note1'"),
        ("any 3 of tag=old", "asks for 3 devices, and 2 fit: b, c"),
    ],
)
def test_a_selector_that_means_nothing_is_a_mistake(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        selectors.check(selectors.parse(text), POOL, ("note10", "qualcomm"))


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (f"budget_s = -1\n{JOB}", ":1:", "budget_s"),
        (f'deadline = "25:00"\n{JOB}', ":1:", "deadline"),
        (f'{JOB}\n[[jobs]]\nexperiment = "own.toml"\n', ":5:", "devices"),
        (f'{JOB}\n[[jobs]]\nexperiment = "own.toml"\ndevices = "a"\nrepetitions = 0\n', ":8:", "repetitions"),
        (f'{JOB}\n[[jobs]]\nexperiment = "nosuch"\ndevices = "a"\n', ":6:", "no experiment named 'nosuch'"),
        (f'{JOB}\n[[jobs]]\nexperiment = "quick"\ndevices = "tag=nosuch"\n', ":7:", "no tag named 'nosuch'"),
        (f'{JOB}\n[health]\nmin_free_mib = "much"\n', ":6:", "min_free_mib"),
        (f"{JOB}bogus = 1\n", ":4:", "bogus"),
        (f"{JOB}set = {{ bogus = [1] }}\n", ":2:", "no factor named 'bogus'"),
        ("name = \n", "", "line 1"),
        ('name = "x"\n', "", "jobs"),
        (f"{JOB}{JOB}", "", "twice"),
        (f"{JOB}repetitions = 100001\n", ":4:", "at most 100000"),
        (f"{JOB}repetitions = 1000000000\n", ":4:", "at most 100000"),
        (f"{JOB}repetitions = {10**30}\n", ":4:", "so large"),
        (f"{JOB}priority = {2**31}\n", ":4:", "so large"),
        (f"{JOB}[retention]\nmax_gb = inf\n", ":5:", "so large"),
        (f"{JOB}[health]\nmin_free_mib = nan\n", ":5:", "so large"),
        (JOB.replace("tag=phone", "any 1000000000 of board=note10"), ":3:", "not a selector"),
        (JOB.replace("tag=phone", "any 100000000 of board=note10"), ":3:", "more than 1000 devices"),
        (JOB.replace("tag=phone", f"any {'9' * 5000} of board=note10"), ":3:", "not a selector"),
        (f"budget_s = {'9' * 5000}\n{JOB}", "", "too long"),
        (f"x = {'[' * 2000}{']' * 2000}\n{JOB}", "", "nested too deep"),
    ],
)
def test_a_mistake_in_a_farm_file_is_named_with_its_line(tmp_path: Path, text: str, place: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        job.load(path, POOL)
    assert f"{path}{place}" in caught.value.message
    assert message in caught.value.message


def test_a_farm_is_called_as_its_file_and_its_own_experiments_lie_beside_it(tmp_path: Path) -> None:
    found = job.load(written(tmp_path, f"{JOB}repetitions = 2\nset = {{ hold_s = 9 }}\n"), POOL)
    assert found.farm.name == "farm"
    assert Path(found.farm.jobs[0].experiment).is_absolute()
    assert (found.experiments[0].name, found.experiments[0].repetitions, found.experiments[0].hold_s) == ("own", 2, 9)


def test_jobs_become_a_task_for_each_device_or_as_many_as_asked_for(tmp_path: Path) -> None:
    text = JOB + JOB.replace("tag=phone", "any 2 of tag=old") + JOB.replace("tag=phone", "board=qualcomm-865")
    tasks = schedule.make_tasks(job.load(written(tmp_path, text), POOL), POOL)
    assert [(task.task_id, task.device, task.status) for task in tasks] == [
        ("1.1", "a", "waiting"),
        ("1.2", "b", "waiting"),
        ("2.1", None, "waiting"),
        ("2.2", None, "waiting"),
        ("3.1", None, "skipped"),
    ]
    assert "no device fits" in tasks[-1].reason


def task(number: int, device: str | None, *, priority: int = 0) -> Task:
    return Task(
        task_id=f"1.{number}", job=0, experiment="e", selector="any 9 of tag=x", device=device, priority=priority
    )


def by_number(found: Task, _device: str) -> float:
    return 10.0 * int(found.task_id.partition(".")[2])


def fits(found: Task, device: str) -> bool:
    return found.device in {None, device}


def test_the_most_important_comes_first_then_own_work_then_the_longest() -> None:
    waiting = [task(1, "a"), task(2, None), task(3, "a"), task(4, None, priority=1), task(5, "b")]
    order = []
    while (found := schedule.pick(waiting, "a", fits, by_number)) is not None:
        waiting.remove(found)
        order.append(found.task_id)
    assert order == ["1.4", "1.3", "1.1", "1.2"]


def test_what_does_not_fit_the_budget_is_dropped_with_the_reason_and_a_shorter_task_takes_its_place() -> None:
    found = schedule.foretell([task(9, "a"), task(3, "a"), task(2, "b")], ["a"], fits, by_number, limit_s=50)
    assert [(slot.task.task_id, slot.start_s, slot.end_s) for slot in found.slots] == [("1.3", 0, 30)]
    assert {one.task_id: why for one, why in found.dropped} == {
        "1.9": "takes about 1 min 30 s, and that much is not left",
        "1.2": "b takes no work",
    }


def test_any_n_of_goes_to_different_devices_and_first_to_those_with_least_to_do() -> None:
    own = Task(task_id="2.6", job=1, experiment="e", selector="a", device="a")
    found = schedule.foretell([own, task(1, None, priority=1), task(2, None, priority=1)], "abc", fits, by_number)
    assert {slot.task.task_id: slot.device for slot in found.slots} == {"2.6": "a", "1.2": "b", "1.1": "c"}
    too_many = schedule.foretell([task(1, None), task(2, None)], ["a"], fits, by_number)
    assert [why for _, why in too_many.dropped] == ["fewer devices fit 'any 9 of tag=x' than it asks for"]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from(["a", "b", "c", None])), max_size=12),
    st.one_of(st.none(), st.floats(1, 500)),
)
def test_a_schedule_loses_nothing_and_no_device_does_two_things_at_once(
    work: list[tuple[int, str | None]], limit_s: float | None
) -> None:
    tasks = [
        Task(task_id=f"{number}.{minutes}", job=number, experiment="e", selector="any 1 of tag=x", device=device)
        for number, (minutes, device) in enumerate(work)
    ]
    found = schedule.foretell(tasks, "abc", fits, by_number, limit_s)
    placed = [slot.task.task_id for slot in found.slots]
    assert sorted(placed + [one.task_id for one, _ in found.dropped]) == sorted(one.task_id for one in tasks)
    for device in "abc":
        spans = sorted((slot.start_s, slot.end_s) for slot in found.slots if slot.device == device)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert limit_s is None or all(slot.end_s <= limit_s for slot in found.slots)


def past(seconds: float, runs: int, status: str = "complete") -> CampaignInfo:
    return CampaignInfo.model_validate(
        {
            "campaign": "c", "status": status, "device": "a", "address": "adb:a", "board": "note10",
            "experiment": "every", "started_unix_ns": 0, "ended_unix_ns": round(seconds * 1e9), "runs_planned": runs,
            "runs_done": runs,
        }
    )  # fmt: skip


def test_an_estimate_comes_from_the_past_and_else_from_the_plan() -> None:
    runs = estimate.count_runs(EVERY)
    assert runs == 4
    found = estimate.from_history([past(100, 10), past(30, 10), past(50, 10), past(9000, 10, "interrupted")], runs)
    assert found is not None
    assert found.basis == "history"
    assert 4 * 5 <= found.seconds <= 4 * 5 + 10
    planned = estimate.from_plan(EVERY, runs)
    assert planned.basis == "plan"
    assert 4 * 11 <= planned.seconds <= 4 * 12 + 10
    assert estimate.from_history([], runs) is None


def seen(ok: bool = True, **facts: str) -> Health:
    return Health(device="a", ok=ok, facts=facts, at_unix_ns=1)


def test_a_device_is_fit_or_it_is_said_why_not() -> None:
    rules = health.Rules(HealthRules(min_free_mib=100, min_battery_pct=20, max_c=50, root=True))
    well = {"free_mib": 200.0, "battery_pct": 90.0, "hottest_c": 40.0}
    assert health.judge(well, {"root": "su-c"}, rules) == ()
    ill = health.judge({"free_mib": 3.0, "battery_pct": 5.0, "hottest_c": 71.2}, {"root": "none"}, rules)
    assert ill == (
        "only 3 MiB free, 100 are needed",
        "battery at 5 %, 20 % are needed",
        "71 °C, at most 50 °C are allowed",
        "no root",
    )
    assert health.judge({}, {"root": "su-c"}, rules) == (), "what a device does not tell is not held against it"


def test_a_clock_table_that_changed_since_the_device_was_well_is_named() -> None:
    before = seen(clock_tables="x", **{"clocks /sys/p4": "20 steps 825600 to 2841600 (1)"})
    now = {"clock_tables": "y", "clocks /sys/p4": "19 steps 825600 to 2745600 (2)"}
    (reason,) = health.judge({}, now, health.Rules(HealthRules(), before))
    assert reason == (
        "clock tables changed: /sys/p4 was 20 steps 825600 to 2841600 (1), is 19 steps 825600 to 2745600 (2)"
    )
    more = {"clock_tables": "z", "clocks /sys/p4": "20 steps 825600 to 2841600 (1)", "clocks /sys/p7": "1"}
    assert health.judge({}, more, health.Rules(HealthRules(), before)) == (), "more was read, nothing is another"


@pytest.mark.parametrize(
    ("texts", "hottest"),
    [
        (["41200", "38000"], 41.2),
        (["655", "61"], 65.5),
        (["0", "-274000", "2147483647", None, "x"], 0.0),
        ([None, "-99000"], None),
    ],
)
def test_only_temperatures_that_silicon_has_count(texts: list[str | None], hottest: float | None) -> None:
    assert health.hottest_c(texts) == hottest


@pytest.mark.parametrize(
    ("codes", "code"),
    [((), 0), ((0, 0), 0), ((0, 6, 3), 3), ((3, 4, 7), 7), ((7, 8, 1), 8), ((2, 7), 7), ((130, 0), 130)],
)
def test_the_exit_code_is_the_worst_that_happened(codes: tuple[int, ...], code: int) -> None:
    assert worst(codes) == code


def test_every_exit_code_of_an_error_has_its_place_in_the_order() -> None:
    def all_of(kind: type[LabError]) -> set[int]:
        return {kind.exit_code}.union(*(all_of(child) for child in kind.__subclasses__()))

    assert all_of(LabError) <= set(SEVERITY)


def test_an_attempt_on_a_device_has_a_campaign_of_its_own_that_sorts_by_the_night() -> None:
    one = task(1, "a").model_copy(update={"attempts": 1})
    again = one.model_copy(update={"attempts": 2})
    night = "f-20261122-220000-3f2a"
    names = {campaign_id(night, one, "a"), campaign_id(night, one, "b"), campaign_id(night, again, "a")}
    assert len(names) == 3
    assert all(name.startswith("20261122-220000-") for name in names)
    assert campaign_id(night, one, "a") in names


def test_suspicious_cells_are_measured_once_more_where_they_were() -> None:
    def verdict(cell: str, device: str, said: str) -> CellVerdict:
        return CellVerdict(
            night="n", experiment="e", cell_id=cell, cell=cell, device=device, program="p", metric="m", unit="ns",
            verdict=said,  # type: ignore[arg-type]
        )  # fmt: skip

    done = [task(1, "a"), task(2, "b"), task(3, "c")]
    done = [one.model_copy(update={"status": "complete"}) for one in done[:2]] + done[2:]
    verdicts = (
        verdict("x", "a", "regression"),
        verdict("y", "a", "regression"),
        verdict("x", "b", "unchanged"),
        verdict("x", "c", "regression"),
    )
    (again,) = closing.confirmations(done, verdicts)
    assert (again.task_id, again.device, again.confirms, again.cells) == ("1.1c", "a", "1.1", ("x", "y"))
    assert not schedule.movable(again)
    assert closing.confirmations([*done, again], verdicts) == ()


def command(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words])
    if isinstance(done.exception, LabError):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


def test_a_device_is_taken_out_by_hand_and_given_work_again(tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "s.sqlite"))
    assert command("quarantine", "add", "a", "--reason", "screen broken", *store)[0] == 0
    code, text = command("quarantine", "list", "--json", *store)
    assert (code, [one["device"] for one in json.loads(text)["quarantines"]]) == (0, ["a"])
    assert command("quarantine", "release", "a", "--note", "new screen", *store)[0] == 0
    assert json.loads(command("quarantine", "list", "--json", *store)[1])["quarantines"] == []
    code, text = command("quarantine", "list", "--all", *store)
    assert "screen broken" in text
    assert "new screen" in text
    code, text = command("quarantine", "release", "a", *store)
    assert code == 2
    assert "is in no quarantine" in text


def test_what_was_seen_before_a_quarantine_was_released_does_not_bind_any_more(tmp_path: Path) -> None:
    wanted = HealthRules()
    with Store.open(tmp_path / "s.sqlite") as store:
        store.add_health(seen(clock_tables="x"))
        assert health.rules_for(store, "a", wanted).last is not None
        store.quarantine("a", "clock tables changed")
        store.release("a", "another kernel, on purpose")
        assert health.rules_for(store, "a", wanted).last is None


class Pretending:
    """Hosts whose devices do what a table says: statuses of the tasks in order; no device is touched."""

    def __init__(self, store: Store, fates: dict[str, list[str]]) -> None:
        self.store, self.fates, self.done = store, fates, []  # type: ignore[var-annotated]

    def known_devices(self, *_: object) -> dict[str, Known]:
        return POOL

    def engine(self, _: Farm, night: str, *_more: object) -> "Pretending":
        self.night = night
        return self

    def submit(self, task: Task, entry: DeviceEntry, *_: object) -> Future[Task]:
        fate = self.fates.get(entry.name, [])
        status = fate.pop(0) if fate else "complete"
        out = task.model_copy(update={"device": entry.name, "status": status, "attempts": task.attempts + 1})
        if status == "ill":
            self.store.quarantine(entry.name, "no battery", self.night)
            moves = schedule.movable(task)
            update = {"status": "waiting" if moves else "failed", "device": None if moves else entry.name}
            out = out.model_copy(update={**update, "reason": "no battery", "exit_code": 0 if moves else 4})
        self.store.put_tasks(self.night, [out])
        self.done.append((task.task_id, entry.name))
        future: Future[Task] = Future()
        future.set_result(out)
        return future

    def looks(self, *_: object) -> tuple[()]:
        return ()

    def give_back(self, *_: object) -> str:
        return ""

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def conducted(tmp_path: Path, text: str, fates: dict[str, list[str]]) -> tuple[NightResult, list[tuple[str, str]]]:
    path = written(tmp_path, text)
    with Store.open(tmp_path / "s.sqlite") as store:
        hosts = Pretending(store, fates)
        result = nightly.nightly(path, store, conducting.SILENT, hosts=hosts)
        assert store.nights()[0].exit_code == result.exit_code
    return result, hosts.done


ANY = JOB.replace("tag=phone", "any 1 of tag=old")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICELAB_CACHE", str(tmp_path / "cache"))


def test_work_of_an_ill_device_goes_to_an_equal_one_and_its_own_is_skipped(tmp_path: Path) -> None:
    text = ANY + JOB.replace("tag=phone", "b") + JOB.replace("tag=phone", "a")
    result, done = conducted(tmp_path, "attempts = 1\n" + text, {"c": ["ill"], "b": ["complete", "ill"]})
    assert {task.task_id: (task.status, task.device) for task in result.tasks} == {
        "1.1": ("skipped", None),
        "2.1": ("complete", "b"),
        "3.1": ("complete", "a"),
    }
    assert ("1.1", "c") in done
    assert ("1.1", "b") in done
    assert [one.device for one in result.quarantined] == ["b", "c"]
    assert "no device that fits 'any 1 of tag=old' is left; no battery" in result.tasks[0].reason
    assert (result.status, result.exit_code) == ("complete", 3)


def test_a_quarantine_of_an_earlier_night_is_said_and_is_no_failure(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        store.quarantine("a", "screen broken")
    result, done = conducted(tmp_path, JOB, {})
    assert done == [("1.2", "b")]
    assert [(task.status, task.reason) for task in result.tasks] == [
        ("skipped", "a: in quarantine: screen broken"),
        ("complete", ""),
    ]
    assert result.exit_code == 0


def test_a_night_in_which_nothing_was_measured_failed(tmp_path: Path) -> None:
    result, done = conducted(tmp_path, f"budget_s = 1\n{JOB}", {})
    assert done == []
    assert {task.status for task in result.tasks} == {"skipped"}
    assert (result.status, result.exit_code) == ("failed", 6)


def test_a_second_conductor_of_a_farm_is_kept_out() -> None:
    with conducting.alone("farm"), pytest.raises(DeviceBusyError, match="going on"), conducting.alone("farm"):
        pass
    with conducting.alone("farm"):
        pass
