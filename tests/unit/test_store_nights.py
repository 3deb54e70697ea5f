"""Nights in the store: tasks, health, quarantine, verdicts, deleting and thinning, on both databases."""

import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, create_engine, insert, select, text

import devicelab.store
from devicelab.errors import StoreError
from devicelab.model.night import CellVerdict, Farm, Health, HealthRules, JobEntry, Task
from devicelab.store import Store, schema
from tests import labdata, postgres

FARM = Farm(name="nightly", jobs=(JobEntry(experiment="overhead", devices="any 2 of tag=sd855", set={"k": [1, 4]}),))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "lab.sqlite")
    return postgres.new_database(request.getfixturevalue("postgres_server"), f"nights-{secrets.token_hex(4)}")


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store.open(place) as opened:
        yield opened
        assert opened.check().problems == ()


def task(number: int = 0, **changes: object) -> Task:
    fields = {"task_id": f"t{number}", "job": 0, "experiment": "overhead", "selector": "tag=sd855", **changes}
    return Task.model_validate(fields)


def verdict(night: str, number: int = 0, **changes: object) -> CellVerdict:
    fields = {
        "night": night,
        "experiment": "overhead",
        "cell_id": f"c{number}",
        "cell": "load=none",
        "device": "phone-1",
        "program": "klo",
        "metric": "total_ns",
        "unit": "ns",
        "verdict": "regression",
        "shift_pct": 4.5,
        "low_pct": 3.5,
        "baseline": ("n-1", "n-2"),
        "causes": ("gpu_driver: 1 became 2",),
        **changes,
    }
    return CellVerdict.model_validate(fields)


def campaign_of(store: Store, night: str) -> str:
    of = labdata.experiment(repetitions=1)
    campaign = store.begin_campaign(
        experiment=of,
        facts=labdata.facts(),
        cells=labdata.cells(of),
        command="",
        binaries=(),
        plan_json="{}",
        night=night,
    )
    for seq, cell in enumerate(labdata.cells(of)):
        record = labdata.record(labdata.run_id(campaign, cell, 0), seq)
        store.commit_run(
            campaign, cell, record, repetition=0, measurements={"measure": labdata.measurement(seq)}, flags=()
        )
    store.finish_campaign(campaign, "complete")
    return campaign


def test_a_night_is_kept_with_the_job_as_it_was(store: Store) -> None:
    farm = FARM.model_copy(update={"health": HealthRules(max_c=None, root=True), "deadline": "06:30"})
    night = store.begin_night(farm)
    assert night.startswith("nightly-2")
    info = store.night()
    assert (info.night, info.farm, info.status, info.ended_unix_ns) == (night, "nightly", "running", None)
    assert info.job == farm
    assert info.host
    store.finish_night(night, "failed", 7)
    ended = store.night(night)
    assert (ended.status, ended.exit_code) == ("failed", 7)
    assert ended.ended_unix_ns is not None
    store.finish_night(night, "running", None)
    assert (store.night().status, store.night().ended_unix_ns, store.night().exit_code) == ("running", None, None)


def test_nights_are_found_newest_first_and_by_the_beginning_of_their_id(store: Store) -> None:
    first, second = store.begin_night(FARM), store.begin_night(FARM, night="a-night")
    other = store.begin_night(FARM.model_copy(update={"name": "other"}))
    assert [info.night for info in store.nights()] == [other, second, first]
    assert [info.night for info in store.nights(farm="nightly", limit=1)] == [second]
    assert store.night(first[:-1]).night == first
    store.begin_night(FARM, night="a-night-again")
    assert store.night("a-night").night == "a-night"
    with pytest.raises(StoreError, match="several nights begin with"):
        store.night("a-n")
    with pytest.raises(StoreError, match="no night 'nix'"):
        store.night("nix")


def test_an_id_is_taken_once(store: Store) -> None:
    store.begin_night(FARM, night="n")
    with pytest.raises(StoreError, match="stored already"):
        store.begin_night(FARM, night="n")


def test_what_names_no_stored_night_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="no night is stored"):
        store.night()
    for write in (
        lambda: store.finish_night("nix", "complete", 0),
        lambda: store.put_tasks("nix", [task()]),
        lambda: store.put_verdicts("nix", []),
        lambda: store.add_health(Health(device="a", night="nix", ok=True, at_unix_ns=1)),
        lambda: store.delete_night("nix"),
    ):
        with pytest.raises(StoreError, match="no night 'nix'"):
            write()


def test_tasks_are_put_once_and_replaced_in_their_place(store: Store) -> None:
    night, other = store.begin_night(FARM), store.begin_night(FARM)
    store.put_tasks(night, [task(2, priority=5), task(1)])
    store.put_tasks(other, [task(1, reason="of another night")])
    done = task(2, status="failed", device="phone-1", campaign="c", attempts=1, reason="gone\0", priority=5)
    store.put_tasks(night, [done, task(3, confirms="t2")])
    assert store.tasks(night) == (done.model_copy(update={"reason": "gone\ufffd"}), task(1), task(3, confirms="t2"))
    assert [one.reason for one in store.tasks(other)] == ["of another night"]


def test_a_task_is_claimed_by_one_of_many(store: Store, place: str) -> None:
    night = store.begin_night(FARM)
    store.put_tasks(night, [task(i) for i in range(8)])
    won: list[tuple[str, str]] = []

    def work(device: str) -> None:
        with Store.open(place) as own:
            wanted = [task(i, status="running", device=device) for i in range(8)]
            won.extend((one.task_id, device) for one in wanted if own.claim_task(night, one.task_id, "waiting", one))

    threads = [threading.Thread(target=work, args=(f"phone-{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted((one.task_id, one.device) for one in store.tasks(night))
    assert len(won) == 8
    assert not store.claim_task(night, "t0", "waiting", task(0))
    assert not store.claim_task(night, "nix", "waiting", task(0, task_id="nix"))
    with pytest.raises(ValueError, match="instead of t1"):
        store.claim_task(night, "t1", "running", task(2))


def test_health_comes_back_newest_first(store: Store) -> None:
    night = store.begin_night(FARM)
    before = Health(
        device="a",
        night=night,
        task_id="t1",
        phase="before",
        ok=False,
        reasons=("hot: 70 C\0",),
        figures={"hottest_c": 70.0, "battery_pct": float("nan")},
        facts={"serial": "X\ud800"},
        at_unix_ns=5,
    )
    store.add_health(before)
    store.add_health(Health(device="a", ok=True, at_unix_ns=7))
    store.add_health(Health(device="b", ok=True, at_unix_ns=6))
    assert [(look.device, look.at_unix_ns) for look in store.health()] == [("a", 7), ("b", 6), ("a", 5)]
    assert [look.at_unix_ns for look in store.health(device="a", limit=1)] == [7]
    (stored,) = store.health(night=night)
    assert stored == before.model_copy(
        update={"reasons": ("hot: 70 C\ufffd",), "facts": {"serial": "X?"}, "figures": {"hottest_c": 70.0}}
    )


def test_a_quarantine_lasts_until_it_is_released(store: Store) -> None:
    first = store.quarantine("a", "does not answer", "n")
    assert store.quarantine("a", "hot") == first
    store.quarantine("b", "no space")
    assert {one.device for one in store.quarantines(active=True)} == {"a", "b"}
    assert store.release("a", note="new cable")
    assert not store.release("a")
    assert store.quarantine("a", "hot").reason == "hot"
    history = store.quarantines(device="a")
    assert [(one.reason, one.note, one.released_unix_ns is None) for one in history] == [
        ("hot", "", True),
        ("does not answer", "new cable", False),
    ]


def test_verdicts_are_replaced_and_narrowed(store: Store) -> None:
    first, second = store.begin_night(FARM), store.begin_night(FARM)
    store.put_verdicts(first, [verdict(first, 7)])
    store.put_verdicts(first, [verdict(first, 0), verdict(first, 1, device="b", shift_pct=float("nan"))])
    store.put_verdicts(second, [verdict(second, 2, confirmed=False)])
    assert [one.cell_id for one in store.verdicts()] == ["c2", "c0", "c1"]
    assert store.verdicts(night=first, device="phone-1") == (verdict(first, 0),)
    assert store.verdicts(device="b")[0].shift_pct is None
    assert store.verdicts(experiment="nix") == ()
    with pytest.raises(ValueError, match="of another night"):
        store.put_verdicts(first, [verdict(second)])


def test_a_deleted_night_takes_its_campaigns_with_it(store: Store) -> None:
    gone, stays = store.begin_night(FARM), store.begin_night(FARM)
    campaigns = [campaign_of(store, night) for night in (gone, gone, stays)]
    assert [info.campaign for info in store.night_campaigns(gone)] == campaigns[:2]
    for night in (gone, stays):
        store.put_tasks(night, [task()])
        store.put_verdicts(night, [verdict(night)])
        store.add_health(Health(device="a", night=night, ok=True, at_unix_ns=1))
        store.quarantine(night, "hot", night)
    store.delete_night(gone)
    assert [info.night for info in store.nights()] == [stays]
    assert [info.campaign for info in store.campaigns()] == campaigns[2:]
    assert {one.night for one in store.verdicts()} == {stays}
    assert {look.night for look in store.health()} == {stays}
    assert store.tasks(gone) == ()
    assert {one.night for one in store.quarantines()} == {gone, stays}


def test_a_task_forgets_a_deleted_campaign(store: Store) -> None:
    night, other = store.begin_night(FARM), store.begin_night(FARM)
    campaign = campaign_of(store, other)
    store.put_tasks(night, [task(status="complete", campaign=campaign)])
    store.delete_night(other)
    assert store.campaigns() == ()
    assert store.tasks(night)[0].campaign is None


def test_thinned_samples_leave_figures_and_a_note(store: Store) -> None:
    campaign = campaign_of(store, store.begin_night(FARM))
    before = store.results(campaign)
    rows = len(before.samples("kernels")) + len(before.samples("inferences"))
    assert store.thin_samples(campaign) == rows
    assert store.thin_samples(campaign) == 0
    assert store.campaign(campaign).thinned_rows == rows
    after = store.results(campaign)
    assert after.metrics().equals(before.metrics())
    assert after.runs()["run_id"].tolist() == before.runs()["run_id"].tolist()
    assert after.evidence(after.runs()["run_id"][0])["event"] == "run"
    with pytest.raises(StoreError, match="no campaign"):
        store.thin_samples("nix")


def test_nights_say_what_they_take(store: Store) -> None:
    empty, full = store.begin_night(FARM), store.begin_night(FARM)
    before = store.used_bytes()
    campaign = campaign_of(store, full)
    one, other = store.night_sizes()
    assert (one.night, other.night, other.bytes, other.sample_bytes) == (full, empty, 0, 0)
    assert 0 < one.sample_bytes < one.bytes
    assert store.used_bytes() > before
    store.thin_samples(campaign)
    thinned = store.night_sizes()[0]
    assert (thinned.sample_bytes, thinned.bytes) == (0, one.bytes - one.sample_bytes)


def test_what_does_not_fit_together_is_found(place: str) -> None:
    with Store.open(place) as store:
        night = store.begin_night(FARM)
        campaign = campaign_of(store, night)
        store.thin_samples(campaign)
        store.put_tasks(night, [task(1, status="complete", campaign="nix"), task(2, status="complete")])
        store.add_health(Health(device="a", ok=True, at_unix_ns=1))
        with store._writer.begin() as connection:
            connection.execute(text("UPDATE health SET more_json = '{'"))
            connection.execute(text("UPDATE campaigns SET thinned_rows = 1"))
        problems = store.check().problems
    assert len(problems) == 3, problems
    assert f"campaign {campaign}: counts 1 rows of dropped samples" in " ".join(problems)
    assert "campaign nix, which is not stored" in " ".join(problems)
    assert "health" in " ".join(problems)


def test_a_database_from_before_nights_is_upgraded_with_everything_in_it(place: str, tmp_path: Path) -> None:
    with Store.open(tmp_path / "new.sqlite") as source:
        campaign = labdata.fill(source, labdata.experiment(repetitions=1), invalid_every=3)
        expected = source.results(campaign)
        frames = expected.runs(), expected.metrics(), expected.samples("kernels")
        old_tables(place, source)
    with Store.open(place) as store:
        found = store.results(campaign)
        for frame, wanted in zip((found.runs(), found.metrics(), found.samples("kernels")), frames, strict=True):
            assert frame.equals(wanted)
        assert store.campaign().thinned_rows == 0
        assert store.nights() == ()
        store.put_tasks(store.begin_night(FARM), [task()])
        assert store.check().problems == ()


def old_tables(place: str, source: Store) -> None:
    """A database of the first schema with the rows of ``source`` that it can hold."""
    url = place.replace("postgresql:", "postgresql+psycopg:") if ":" in place else f"sqlite:///{place}"
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(devicelab.store.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        old = MetaData()
        old.reflect(connection)
        assert "nights" not in old.tables
        with source._engine.connect() as reader:
            for table in old.sorted_tables:
                if table.name in schema.metadata.tables:
                    now = schema.metadata.tables[table.name]
                    rows = reader.execute(select(*(now.c[column.name] for column in table.columns))).mappings().all()
                    if rows:
                        connection.execute(insert(table), [dict(row) for row in rows])
    engine.dispose()
