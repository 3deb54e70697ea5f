"""When a night ends; clocks that are set in the night change neither that nor what can be resumed."""

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devicelab.errors import ConfigError
from devicelab.farm import clock, estimate
from devicelab.farm import night as conducting
from devicelab.farm.care import Limits
from devicelab.farm.job import understood
from devicelab.farm.night import Conductor
from devicelab.model.campaign import lasted_s
from devicelab.model.night import Farm, JobEntry
from devicelab.store import Store
from tests import labdata

DAY_S = 86_400.0
FARM = Farm(name="f", jobs=(JobEntry(experiment="load_calibration", devices="a"),), budget_s=3600)


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
def test_a_clock_that_is_set_changes_no_end(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    limits = Limits.ending_in(threading.Event(), 3600)
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall + step_s)
    assert not limits.over()
    passed = time.monotonic() + 3601
    monkeypatch.setattr(time, "monotonic", lambda: passed)
    assert limits.over()


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
def test_a_nights_budget_is_what_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        conductor = Conductor(understood(FARM, tmp_path / "farm.toml"), {}, store, conducting.SILENT)
        conductor.prepare()
        wall = time.time()
        monkeypatch.setattr(time, "time", lambda: wall + step_s)
        left_s = conductor.left_s()
        assert left_s is not None
        assert 3500 < left_s <= 3600


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
def test_the_night_that_was_begun_last_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        store.finish_night(store.begin_night(FARM), "complete", 0)
        wall = time.time_ns()
        monkeypatch.setattr(time, "time_ns", lambda: wall + round(step_s * 1e9))
        begun = store.begin_night(FARM)
        assert conducting.unfinished(store, "f").night == begun
        store.finish_night(begun, "complete", 0)
        with pytest.raises(ConfigError, match="no unfinished night"):
            conducting.unfinished(store, "f")


def test_a_length_of_time_is_never_negative() -> None:
    assert lasted_s(5_000_000_000, 6_000_000_000) == 1.0
    assert lasted_s(5, None) is None
    assert lasted_s(round(DAY_S * 1e9), 5) is None


def test_a_campaign_that_ended_before_it_began_is_no_estimate(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        info = store.campaign(labdata.fill(store, labdata.experiment(repetitions=1)))
        begun = info.started_unix_ns
        back = info.model_copy(update={"status": "complete", "ended_unix_ns": begun - 10**15})
        assert estimate.from_history([back], 5) is None


def test_the_night_ends_with_its_budget_or_its_deadline_whichever_comes_first() -> None:
    now = dt.datetime(2026, 11, 22, 22, 0, tzinfo=dt.UTC)
    assert clock.ends_at(FARM.model_copy(update={"budget_s": None}), now) is None
    late = FARM.model_copy(update={"budget_s": None, "deadline": "06:30"})
    assert clock.ends_at(late, now) == dt.datetime(2026, 11, 23, 6, 30, tzinfo=dt.UTC)
    both = FARM.model_copy(update={"deadline": "06:30"})
    assert clock.ends_at(both, now) == dt.datetime(2026, 11, 22, 23, 0, tzinfo=dt.UTC)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("evening", "end"),
    [
        (dt.datetime(2026, 10, 24, 22, 0), "2026-10-25T05:30:00+00:00"),  # noqa: DTZ001 - the machine's clock
        (dt.datetime(2026, 3, 28, 22, 0), "2026-03-29T04:30:00+00:00"),  # noqa: DTZ001
        (dt.datetime(2026, 7, 1, 5, 0), "2026-07-01T04:30:00+00:00"),  # noqa: DTZ001
    ],
)
def test_a_deadline_is_what_the_clock_shows_in_the_nights_in_which_it_changes(evening: dt.datetime, end: str) -> None:
    farm = FARM.model_copy(update={"budget_s": None, "deadline": "06:30"})
    found = clock.ends_at(farm, evening)
    assert found is not None
    assert dt.datetime.fromtimestamp(found.timestamp(), dt.UTC).isoformat() == end
    assert clock.local_now().tzinfo is None
    budget = farm.model_copy(update={"deadline": None, "budget_s": 9 * 3600.0})
    lasts = clock.ends_at(budget, evening)
    assert lasts is not None
    assert lasts.timestamp() - evening.timestamp() == 9 * 3600


def test_a_worker_goes_on_telling_that_it_lives_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    from tornado.ioloop import PeriodicCallback

    from devicelab.farm import worker

    async def beats() -> None:
        worker.unmoved()
        beat = asyncio.Event()
        callback = PeriodicCallback(beat.set, 5)
        callback.start()
        await asyncio.wait_for(beat.wait(), 30)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() - 86_400)
        for _ in range(3):
            beat.clear()
            await asyncio.wait_for(beat.wait(), 30)
        callback.stop()

    with ThreadPoolExecutor(1) as own:  # a browser's tests in the same process leave a loop running
        own.submit(asyncio.run, beats()).result()
