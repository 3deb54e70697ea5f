"""Decisions of a farm at their bounds: fit or not, how long, until when, what first, where the way back ends."""

import datetime as dt
import itertools
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from board_trees import facts
from hypothesis import given, settings
from hypothesis import strategies as st

from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError, DeviceRefusedError, DeviceUnreachableError
from devicelab.experiment import evidence
from devicelab.farm import clock, estimate, health, recover, schedule, selectors, standing
from devicelab.farm.care import Limits
from devicelab.model.campaign import CampaignInfo
from devicelab.model.experiment import Experiment, Thermal
from devicelab.model.night import Farm, HealthRules, JobEntry, Task
from devicelab.store import Store

RULES = health.Rules(HealthRules(min_free_mib=100, min_battery_pct=20, max_c=50))


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.waited: list[float] = []
        monkeypatch.setattr("time.monotonic", lambda: self.now_s)

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        self.now_s += seconds
        return False


# --- health --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "worst", "step"), [("free_mib", 100, -1), ("battery_pct", 20, -1), ("hottest_c", 50, 1)]
)
def test_a_device_is_fit_at_the_bound_and_not_beyond(name: str, worst: float, step: int) -> None:
    assert health.judge({name: worst}, {}, RULES) == health.judge({name: worst - step}, {}, RULES) == ()
    assert len(health.judge({name: worst + step}, {}, RULES)) == 1
    assert health.judge({name: worst + step}, {}, health.Rules(HealthRules(**dict.fromkeys(_OFF)))) == ()


_OFF = ("min_free_mib", "min_battery_pct", "max_c")


def device(said: bytes = b"", *, zone: str = "42000\n", **battery: str) -> Any:
    """An open device that answers every command with the same words."""
    nodes = {f"/sys/class/power_supply/battery/{name}": f"{text}\n" for name, text in battery.items()}
    nodes |= {f"/sys/class/thermal/thermal_zone0/{name}": text for name, text in (("type", "cpu-0"), ("temp", zone))}
    transport = SimpleNamespace(run=lambda _argv: SimpleNamespace(stdout=said))
    return SimpleNamespace(facts=facts("empty", change=dict(nodes)), transport=transport)


DF = b"Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a 9000000 10 2097152 1% /data\n361.25 99.00\n"


def test_space_is_told_in_mib_and_uptime_in_seconds() -> None:
    got = health.figures(device(DF))
    assert (got["free_mib"], got["uptime_s"], got["hottest_c"]) == (2048, 361.25, 42)


@pytest.mark.parametrize(
    ("capacity", "temp", "pct", "celsius"),
    [
        ("0", "251", 0, 25.1),
        ("100", "-399", 100, -39.9),
        ("-1", "-400", None, None),
        ("101", "2000", None, None),
        ("50", "1999", 50, 199.9),
    ],
)
def test_a_battery_tells_percent_and_tenths_within_reason(
    capacity: str, temp: str, pct: float | None, celsius: float | None
) -> None:
    got = health.figures(device(DF, capacity=capacity, temp=temp))
    assert (got.get("battery_pct"), got.get("battery_c")) == (pct, celsius)


@pytest.mark.parametrize(("hottest", "hot"), [(49.9, False), (50.0, False), (50.1, True), (None, False)])
def test_waiting_helps_whoever_is_hotter_than_allowed(hottest: float | None, hot: bool) -> None:
    figures = {} if hottest is None else {"hottest_c": hottest}
    seen = health.Health(device="a", ok=True, at_unix_ns=1, figures=figures)
    assert health.too_hot(seen, RULES.wanted) is hot
    assert not health.too_hot(seen, HealthRules(max_c=None))


def test_a_device_is_waited_for_until_it_is_cool_or_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Clock(monkeypatch)
    monkeypatch.setattr(evidence, "thermal_zones", lambda _facts: {"zone": "cpu"})
    assert health.cool(device(b"50000\n"), HealthRules(max_c=50, cool_s=5), time.wait)
    assert time.waited == []
    assert not health.cool(device(b"50001\n"), HealthRules(max_c=50, cool_s=5), time.wait)
    assert time.waited == [2.0, 2.0, 1.0]
    assert not health.cool(device(b"50001\n"), HealthRules(max_c=50, cool_s=5), lambda _s: True)
    assert health.cool(device(b"nonsense\n"), HealthRules(max_c=50, cool_s=5), time.wait), "nothing tells of heat"


def test_several_tables_that_changed_are_counted_and_one_that_is_gone_is_said() -> None:
    before = health.Health(
        device="a",
        ok=True,
        at_unix_ns=1,
        facts={"clock_tables": "1", "clocks a": "x", "clocks b": "y", "clocks c": "z"},
    )
    rules = health.Rules(HealthRules(), before)
    (one,) = health.judge({}, {"clock_tables": "2", "clocks b": "y", "clocks c": "z"}, rules)
    assert one == "clock tables changed: a was x, is gone"
    (many,) = health.judge({}, {"clock_tables": "2", "clocks b": "q"}, rules)
    assert many == "clock tables changed: a was x, is gone, and 2 more"


CPU = "/sys/devices/system/cpu"


def test_what_ought_not_to_change_between_nights_is_named_once() -> None:
    """Tables of policies, and of single CPUs only where there are no policies; one that is long is told by its ends."""
    policy = {f"{CPU}/cpufreq/policy0/scaling_available_frequencies": "300 200 100 200\n"}
    own = {f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "300\n", f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "200\n"}

    def tables(nodes: dict[str, str], **props: str) -> dict[str, str]:
        found = health.steady_facts(facts("empty", change=dict(nodes), props=props))
        return {name.removeprefix("clocks "): text for name, text in found.items() if name.startswith("clocks ")}

    both = tables({**policy, **own})
    assert list(both) == list(policy)
    assert both[next(iter(policy))].startswith("3 steps 100 to 300 (")
    assert tables(own) == {f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "300"}
    assert tables({next(iter(policy)): "100 200 300\n"}) == tables(policy), "the order of a list is nobody's change"
    assert tables({next(iter(policy)): "100 250 300\n"}) != tables(policy)


@pytest.mark.parametrize(
    ("props", "serial", "build"),
    [
        ({"ro.serialno": "s", "os.id": "i", "ro.build.fingerprint": "f", "os.pretty_name": "p"}, "s", "f"),
        ({"os.id": "i", "os.pretty_name": "p"}, "i", "p"),
        ({}, None, None),
    ],
)
def test_a_device_is_known_by_what_it_says_of_itself(
    props: dict[str, str], serial: str | None, build: str | None
) -> None:
    found = health.steady_facts(facts("empty", props=props))
    assert (found.get("serial"), found.get("os_build")) == (serial, build)
    assert found["kernel"] == "4.14.117"


# --- time ----------------------------------------------------------------------------------------------------------

EVENING = dt.datetime(2026, 11, 30, 22, 0, 0, 500)  # noqa: DTZ001 - what a clock shows


@pytest.mark.parametrize(
    ("deadline", "hours"), [("22:01", 1 / 60), ("22:00", 24), ("21:59", 24 - 1 / 60), ("06:30", 8.5)]
)
def test_a_deadline_is_the_next_time_that_the_clock_shows_it(deadline: str, hours: float) -> None:
    ends = clock.ends_at(Farm(name="f", jobs=JOBS, deadline=deadline), EVENING)
    assert ends is not None
    assert (ends - EVENING).total_seconds() / 3600 == pytest.approx(hours, abs=1e-6)
    assert (ends.second, ends.microsecond) == (0, 0)
    sharp = clock.ends_at(Farm(name="f", jobs=JOBS, deadline="22:00"), EVENING.replace(microsecond=0))
    assert sharp == EVENING.replace(microsecond=0) + dt.timedelta(days=1)


JOBS = (JobEntry(experiment="load_calibration", devices="a"),)


def test_limits_wait_no_longer_than_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Clock(monkeypatch)
    limits = Limits.ending_in(threading.Event(), 5)
    waited: list[float] = []
    monkeypatch.setattr(limits.stop, "wait", lambda seconds: waited.append(seconds) or time.wait(seconds))
    assert not limits.wait(4)
    assert limits.wait(4)
    assert limits.wait(4)
    assert waited == [4, 1, 0]
    assert not Limits.ending_in(threading.Event(), None).wait(0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-0.1, "in the future: was the clock set?"),
        (0, "0.0 h ago"),
        (7200, "2.0 h ago"),
        (172_799, "48.0 h ago"),
        (172_800, "2 days ago"),
        (864_000, "10 days ago"),
    ],
)
def test_how_long_ago_is_told_in_hours_then_in_days(seconds: float, words: str) -> None:
    assert standing._ago(seconds) == words


@pytest.mark.parametrize(("free", "low"), [(49, True), (50, False), (51, False)])
def test_a_disk_with_less_than_a_twentieth_free_is_low(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, low: bool
) -> None:
    place = str(tmp_path / "s.sqlite")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(total=1_000 * 10**9, free=free * 10**9))
    with Store.open(place) as store:
        line = standing._database(store, place)
    assert f"{free}.0 GB free" in line.found
    assert bool(line.todo) is low


@pytest.mark.parametrize("at", ["00:00", "09:05", "23:59"])
def test_a_night_starts_at_the_time_that_was_said(tmp_path: Path, at: str) -> None:
    timer = standing.units("lab", ["/bin/devicelab"], tmp_path, at)["devicelab-lab.timer"]
    assert f"OnCalendar=*-*-* {at}:00" in timer
    minute, hour, *_ = standing.cron_line(["devicelab"], tmp_path, at, tmp_path / "log").split()
    assert f"{int(hour):02d}:{int(minute):02d}" == at
    for wrong in ("24:00", "9:05", "12:60"):
        with pytest.raises(ConfigError):
            standing.units("lab", ["x"], tmp_path, wrong)


# --- estimates -----------------------------------------------------------------------------------------------------


def experiment(**more: Any) -> Experiment:
    return Experiment.model_validate(
        {"name": "x", "question": "?", "settle_s": 1, "hold_s": 20, "cooldown_s": 300, **more}
    )


def test_a_plan_takes_every_time_that_its_file_names() -> None:
    def run_s(**more: Any) -> float:
        two, one = (estimate.from_plan(experiment(**more), runs).seconds for runs in (2, 1))
        assert one > two - one, "a task costs something of its own"
        return two - one

    loads = run_s()
    assert 1 + 20 + 300 <= loads < 1 + 20 + 300 + 2
    assert run_s(cooldown_s=301) == loads + 1
    assert run_s(settle_s=2) == loads + 1
    assert run_s(hold_s=21) == loads + 1
    assert run_s(thermal=Thermal(window_s=8)) == loads + 8
    klo = {"measure": {"workload": "klo", "params": {"network": "mobilenet_v1"}}}
    assert run_s(**klo) == run_s(**klo, hold_s=90), "a measurement ends by itself"
    pair = {"tenants": [{"name": name, "workload": "cpu_tenant"} for name in "ab"], "duration_s": 60}
    assert 361 <= run_s(**pair) < 363


def campaign(n: int, seconds: float, runs: int) -> CampaignInfo:
    return CampaignInfo(
        campaign=f"c{n}", status="complete", device="a", address="adb:a", board="note10", experiment="x",
        started_unix_ns=10**9, ended_unix_ns=10**9 + round(seconds * 1e9), runs_planned=runs, runs_done=runs,
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 99)), min_size=1, max_size=9), st.integers(1, 50))
def test_the_past_tells_the_time_of_a_run_and_that_times_the_runs(past: list[tuple[int, int]], runs: int) -> None:
    found = [campaign(n, seconds, done) for n, (seconds, done) in enumerate(past)]
    one, many = estimate.from_history(found, 1), estimate.from_history(found, 1 + runs)
    assert one is not None
    assert many is not None
    each = sorted(seconds / done for seconds, done in past)
    middle = (each[(len(each) - 1) // 2] + each[len(each) // 2]) / 2
    assert many.seconds - one.seconds == pytest.approx(runs * middle)
    assert one.seconds == pytest.approx(middle + 5)


def test_the_ten_newest_of_the_kind_that_were_finished_count(tmp_path: Path) -> None:
    every = [campaign(n, 100.0 * (n < 10) + 9 * (n >= 10), 1) for n in range(20)]
    other = [one.model_copy(update={"board": "pixel"}) for one in every]
    stopped = [one.model_copy(update={"status": "interrupted", "ended_unix_ns": 5}) for one in every]
    asked: list[dict[str, object]] = []

    class Past:
        def campaigns(self, **how: object) -> tuple[CampaignInfo, ...]:
            asked.append(how)
            return (*other, *stopped, *every)

    estimator = estimate.Estimator(Past())  # type: ignore[arg-type]
    for _ in range(2):
        assert estimator.of(experiment(repetitions=1), "note10").seconds == pytest.approx(105)
    assert len(asked) == 1
    assert estimator.of(experiment(repetitions=1), None).basis == "plan"


def test_no_estimate_is_longer_than_the_budget_of_its_runs() -> None:
    estimator = estimate.Estimator(None)
    free = estimator.of(experiment(stop={}), None).seconds
    assert free > 6 * 300
    assert estimator.of(experiment(stop={"budget": "10 min"}), None).seconds == pytest.approx(605)
    assert estimator.of(experiment(stop={"budget": "10 h"}), None).seconds == free


# --- what comes first ----------------------------------------------------------------------------------------------


def task(number: int, device: str | None = None, **more: Any) -> Task:
    return Task(task_id=f"1.{number}", job=number, experiment="e", selector="any 1 of tag=x", device=device, **more)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 2), st.sampled_from(["a", "b", None])), max_size=8))
def test_a_free_device_takes_what_the_rule_says(work: list[tuple[int, int, str | None]]) -> None:
    tasks = [task(n, device, priority=priority) for n, (_, priority, device) in enumerate(work)]
    lasts = {one.task_id: float(work[n][0]) for n, one in enumerate(tasks)}

    def seconds(one: Task, _device: str) -> float:
        return lasts[one.task_id]

    def fits(one: Task, device: str) -> bool:
        return one.device in {None, device}

    for left in (None, 15.0):
        got = schedule.pick(tasks, "a", fits, seconds, left)
        may = [one for one in tasks if fits(one, "a") and (left is None or lasts[one.task_id] <= left)]
        assert (got is None) == (not may)
        for other in may:
            assert got is not None
            ahead = [(one.priority, one.device is not None, lasts[one.task_id]) for one in (got, other)]
            assert ahead[0] >= ahead[1]


def test_a_task_that_takes_exactly_what_is_left_is_done() -> None:
    for left, done in ((10.0, True), (9.99, False)):
        found = schedule.foretell([task(1, "a")], ["a"], lambda *_: True, lambda *_: 10.0, left)
        assert bool(found.slots) is done
        assert found.end_s == (10.0 if done else 0.0)


def test_a_device_with_nothing_to_do_keeps_the_others_from_nothing() -> None:
    waiting = [task(n, "b") for n in range(3)]
    found = schedule.foretell(waiting, "ab", lambda one, device: one.device == device, lambda *_: 10.0)
    assert [(slot.device, slot.start_s) for slot in found.slots] == [("b", 0.0), ("b", 10.0), ("b", 20.0)]
    assert found.end_s == 30


def test_what_finds_no_time_is_told_with_the_quickest_device_it_could_have() -> None:
    takes = {"a": 300.0, "b": 60.0, "c": 5.0}
    found = schedule.foretell(
        [task(1)], "abc", lambda _, device: device != "c", lambda _, device: takes[device], limit_s=30
    )
    assert [why for _, why in found.dropped] == ["takes about 1 min 00 s, and that much is not left"]


@pytest.mark.parametrize("count", [1, 1000, 1001, 0])
def test_any_n_of_asks_for_one_to_a_thousand(count: int) -> None:
    pool = {f"d{n}": selectors.Known(DeviceEntry(name=f"d{n}", address=f"adb:{n}", tags=("x",))) for n in range(1000)}

    def check() -> None:
        selectors.check(selectors.parse(f"any {count} of tag=x"), pool, ())

    if 1 <= count <= 1000:
        check()
        fewer = dict(itertools.islice(pool.items(), count - 1))
        if fewer:
            with pytest.raises(ConfigError, match=f"asks for {count} devices, and {count - 1} fit"):
                selectors.check(selectors.parse(f"any {count} of tag=x"), fewer, ())
    else:
        with pytest.raises(ConfigError):
            check()


# --- the way back --------------------------------------------------------------------------------------------------

PHONE = DeviceEntry(name="a", address="adb:a")


class Away:
    """A connection to a device that is back after so many tries."""

    def __init__(self, tries: int) -> None:
        self.tries, self.closed = tries, 0

    def reconnect(self, timeout_s: float) -> None:
        assert timeout_s > 0
        self.tries -= 1
        if self.tries >= 0:
            raise DeviceUnreachableError("away", device="a")

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(("tries", "waits"), [(0, 0), (1, 1), (5, 5)])
def test_a_device_that_comes_back_in_time_is_taken(monkeypatch: pytest.MonkeyPatch, tries: int, waits: int) -> None:
    time, held = Clock(monkeypatch), Away(tries)
    recover.reconnect(PHONE, 5.0, time.wait, held)  # type: ignore[arg-type]
    assert time.waited == [1.0] * waits
    assert held.closed == 0, "a connection in use stays open"


def test_a_device_that_stays_away_is_given_up_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    time, opened = Clock(monkeypatch), Away(99)
    monkeypatch.setattr("devicelab.transports.connect", lambda _address: opened)
    with pytest.raises(DeviceUnreachableError):
        recover.reconnect(PHONE, 5.0, time.wait)
    assert time.waited == [1.0] * 5
    assert opened.closed == 6
    with pytest.raises(DeviceUnreachableError):
        recover.reconnect(PHONE, 5.0, lambda _s: True, Away(99))  # type: ignore[arg-type]


@pytest.mark.parametrize(("boot_id", "waited"), [("b", []), ("", [5.0])])
def test_a_reboot_of_an_unknown_boot_is_given_time_to_go_down(
    monkeypatch: pytest.MonkeyPatch, boot_id: str, waited: list[float]
) -> None:
    time = Clock(monkeypatch)
    monkeypatch.setattr(recover, "_order", lambda *_: None)
    monkeypatch.setattr(recover, "_is_up", lambda *_: True)
    recover.reboot(PHONE, root="none", boot_id=boot_id, wait=time.wait)
    assert time.waited == waited


def test_a_reboot_is_waited_for_as_long_as_was_said_and_never_of_this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    time, ordered = Clock(monkeypatch), []
    monkeypatch.setattr(recover, "_order", lambda entry, _root: ordered.append(entry.name))
    monkeypatch.setattr(recover, "_is_up", lambda *_: False)
    with pytest.raises(DeviceUnreachableError, match="within 10 s"):
        recover.reboot(PHONE, root="none", boot_id="b", wait=time.wait, timeout_s=10)
    assert 10 <= sum(time.waited) <= 11
    assert ordered == ["a"]
    with pytest.raises(DeviceRefusedError):
        recover.reboot(DeviceEntry(name="me", address="local:"), root="none", boot_id="b", wait=time.wait)
    assert ordered == ["a"]
