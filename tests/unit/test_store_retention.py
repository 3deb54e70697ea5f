"""Retention: what goes and what never does; and that what went is said wherever it would be asked for."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from devicelab.cli import report, store
from devicelab.errors import ConfigError, SamplesDroppedError
from devicelab.model.night import Farm, JobEntry, Retention
from devicelab.report import build_report, conclude
from devicelab.report.summary import junit, markdown
from devicelab.store import Store
from devicelab.store.retention import Decision, NightSize, Pruned, decide, merged, protected, prune
from tests import labdata

GB = 10**9
app = typer.Typer()
report.register(app)
store.register(app)


def night(number: int, farm: str = "f", status: str = "complete", size: int = GB, samples: int = GB // 2) -> NightSize:
    return NightSize(f"{farm}-{number:03}", farm, status, number, size, samples)  # type: ignore[arg-type]


def asked(nights: list[NightSize], baseline: int = 2, /, **limits: float) -> Decision:
    farms = dict.fromkeys((one.farm for one in nights), baseline)
    total = sum(one.bytes for one in nights)
    return decide(nights, Retention.model_validate(limits), baseline_nights=farms, used_bytes=total)


def test_nothing_goes_unless_it_is_asked_for() -> None:
    assert asked([night(i) for i in range(9)]) == Decision({}, (), 0)


def test_nights_beyond_the_newest_n_of_each_farm_go() -> None:
    nights = [night(i) for i in range(5)] + [night(i, "g") for i in range(3)]
    found = asked(nights, nights=3)
    assert tuple(found.delete) == ("f-000", "f-001")
    assert "older than the newest 3 of f" in found.delete["f-000"]
    assert found.bytes == 2 * GB


def test_the_nights_that_are_compared_with_stay() -> None:
    nights = [night(0), night(1), night(2, status="failed"), night(3, status="interrupted"), night(4, status="failed")]
    found = asked(nights, nights=1, max_gb=0.001)
    assert set(found.delete) == {"f-002", "f-003"}
    assert found.short_bytes == 3 * GB - 10**6


def test_a_night_that_may_still_run_stays_and_one_that_was_killed_long_ago_goes() -> None:
    nights = [
        night(0, status="running"),
        *(night(i) for i in range(1, 4)),
        *(night(i, status="running") for i in (4, 5)),
    ]
    assert set(asked(nights, nights=1).delete) == {"f-000", "f-001"}


@pytest.mark.parametrize(("max_gb", "gone"), [(7.5, 3), (7.0, 3), (7.000_000_001, 3), (6.999_999_999, 4), (10.0, 0)])
def test_the_oldest_of_all_farms_go_until_the_size_fits(max_gb: float, gone: int) -> None:
    nights = [night(10 * i) for i in range(5)] + [night(10 * i + 5, "g") for i in range(5)]
    found = asked(nights, max_gb=max_gb)
    assert tuple(found.delete) == ("f-000", "g-005", "f-010", "g-015")[:gone]
    assert (found.bytes, found.short_bytes) == (gone * GB, 0)
    assert all(f"more than {max_gb:g} GB" in why for why in found.delete.values())


@pytest.mark.parametrize("endless", [float("inf"), 1e308])
def test_a_size_without_end_is_no_limit(endless: float) -> None:
    found = asked([night(i) for i in range(30)], max_gb=endless)
    assert (dict(found.delete), found.short_bytes) == ({}, 0)


def test_thinning_counts_for_the_size_and_leaves_out_what_is_deleted_or_thin_already() -> None:
    nights = [night(0), night(1), night(2, size=GB // 2, samples=0), *(night(i) for i in range(3, 7))]
    found = asked(nights, thin_samples_after_nights=3, max_gb=4.9)
    assert tuple(found.delete) == ("f-000",)
    assert found.thin == ("f-001", "f-003")
    assert found.bytes == 2 * GB


@given(
    statuses=st.lists(st.sampled_from(["complete", "failed", "interrupted", "running"]), max_size=30),
    farms=st.lists(st.sampled_from("fg"), min_size=30, max_size=30),
    keep=st.none() | st.integers(1, 10),
    limit=st.none() | st.floats(0.1, 20),
    thin=st.none() | st.integers(1, 10),
    baseline=st.integers(1, 9),
)
def test_whatever_is_asked_the_protected_stay(
    statuses: list[str], farms: list[str], keep: int | None, limit: float | None, thin: int | None, baseline: int
) -> None:
    nights = [night(i, farm, status) for i, (farm, status) in enumerate(zip(farms, statuses, strict=False))]
    rules = {"nights": keep, "max_gb": limit, "thin_samples_after_nights": thin}
    found = asked(nights, baseline, **{name: value for name, value in rules.items() if value is not None})
    kept = protected(nights, dict.fromkeys("fg", baseline))
    assert not kept & set(found.delete)
    assert not set(found.thin) & set(found.delete)
    left = [one for one in nights if one.night not in found.delete]
    for farm in {one.farm for one in nights}:
        complete = [one.night for one in nights if one.farm == farm and one.status == "complete"]
        assert set(complete[-baseline:]) <= {one.night for one in left}
    size = sum(one.bytes - (one.sample_bytes if one.night in found.thin else 0) for one in left)
    assert size == sum(one.bytes for one in nights) - found.bytes
    if limit is not None:
        assert found.short_bytes == max(0, size - int(limit * 1e9))
        assert found.short_bytes == 0 or {one.night for one in left} <= kept


def test_merging_nothing_is_nothing() -> None:
    assert merged([]).deleted == {}


# --- the deed --------------------------------------------------------------------------------------------------------

KLO = labdata.experiment(repetitions=2, analyses=("load", "klo"))


def farm(name: str = "f", **changes: object) -> Farm:
    fields = {"name": name, "jobs": (JobEntry(experiment="e", devices="d"),), "baseline_nights": 1, **changes}
    return Farm.model_validate(fields)


def filled(opened: Store, nights: int, of: Farm) -> list[str]:
    made = []
    for _ in range(nights):
        name = opened.begin_night(of)
        campaign = opened.begin_campaign(
            experiment=KLO,
            facts=labdata.facts(),
            cells=labdata.cells(KLO),
            command="",
            binaries=(),
            plan_json=None,
            night=name,
        )
        cell = labdata.cells(KLO)[0]
        record = labdata.record(labdata.run_id(campaign, cell, 0))
        opened.commit_run(
            campaign, cell, record, repetition=0, measurements={"measure": labdata.measurement(1)}, flags=()
        )
        opened.finish_campaign(campaign, "complete")
        opened.finish_night(name, "complete", 0)
        made.append(name)
    return made


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICELAB_STORE", str(tmp_path / "lab.sqlite"))
    return tmp_path


def run(*words: str) -> str:
    return CliRunner().invoke(app, list(words), catch_exceptions=False, standalone_mode=False).stdout


def test_pruning_deletes_and_thins_what_was_decided(lab: Path) -> None:
    with Store.open() as opened:
        nights = filled(opened, 4, farm())
        outside = labdata.fill(opened, KLO)
        done = prune(opened, Retention(nights=3, thin_samples_after_nights=2), farms={"f": 1})
        assert tuple(done.deleted) == (nights[0],)
        assert done.thinned == (nights[1],)
        assert done.rows > 0
        assert [info.night for info in opened.nights()] == nights[:0:-1]
        assert {info.night for info in opened.campaigns() if info.thinned_rows} == {nights[1]}
        assert outside in {info.campaign for info in opened.campaigns()}
        assert opened.check().problems == ()
        tiny = prune(opened, Retention(max_gb=1e-6), farms={"f": 1})
        assert tuple(tiny.deleted) == tuple(nights[1:3])
        assert tiny.short_bytes == tiny.used_bytes - 1000
        assert opened.campaign(outside).runs_done == 12


@pytest.mark.parametrize(("grows_by", "freed"), [(-7, 7), (-1, 1), (0, 0), (5, 0)])
def test_what_others_wrote_meanwhile_is_not_counted_as_freed(grows_by: int, freed: int) -> None:
    nights = {one.night: one for one in (night(i) for i in range(3))}
    sizes = iter([100, 100 + grows_by, 100 + grows_by])
    store: Any = SimpleNamespace(
        night_sizes=lambda: tuple(nights.values()), used_bytes=lambda: next(sizes), delete_night=nights.pop
    )
    done = prune(store, Retention(nights=2), farms={"f": 1})
    assert tuple(done.deleted) == ("f-000",)
    assert (done.bytes, done.used_bytes) == (freed, 100 + grows_by)


def test_what_several_prunings_did_is_the_sum_of_each_and_the_newest_size() -> None:
    one, other = Pruned({"a": "x"}, ("b",), 5, 7, 90, 3), Pruned({"c": "y"}, ("d",), 11, 13, 80, 2)
    assert merged([one, other]) == Pruned({"a": "x", "c": "y"}, ("b", "d"), 16, 20, 80, 3)


def test_a_dry_run_says_the_same_and_does_nothing(lab: Path) -> None:
    with Store.open() as opened:
        nights = filled(opened, 3, farm())
    plan = json.loads(run("store", "prune", "--nights", "1", "--thin-after", "1", "--dry-run", "--json"))
    assert list(plan["deleted"]) == nights[:2]
    assert nights[0] in run("store", "prune", "--nights", "1", "--dry-run")
    with Store.open() as opened:
        assert len(opened.nights()) == 3
    done = json.loads(run("store", "prune", "--farm", "f", "--nights", "1", "--thin-after", "1", "--json"))
    assert done["deleted"] == plan["deleted"]
    with Store.open() as opened:
        assert [info.night for info in opened.nights()] == nights[2:]


def test_without_limits_each_farm_is_pruned_as_its_own_file_says(lab: Path) -> None:
    with Store.open() as opened:
        strict = filled(opened, 3, farm("strict", retention={"nights": 1}))
        filled(opened, 3, farm("lax"))
    assert list(json.loads(run("store", "prune", "--json"))["deleted"]) == strict[:2]
    with Store.open() as opened:
        assert len(opened.nights()) == 4


def test_a_farm_nobody_knows_and_a_size_of_nothing_are_refused(lab: Path) -> None:
    Store.open().close()
    with pytest.raises(ConfigError, match="no night of a farm 'x'"):
        run("store", "prune", "--farm", "x", "--nights", "1")
    with pytest.raises(ConfigError, match="--max-gb"):
        run("store", "prune", "--max-gb", "0")


# --- what went is said -----------------------------------------------------------------------------------------------


def thinned(opened: Store) -> str:
    campaign = labdata.fill(opened, KLO)
    opened.thin_samples(campaign)
    return campaign


def test_samples_that_were_dropped_are_not_an_empty_table(lab: Path) -> None:
    with Store.open() as opened:
        results = opened.results(thinned(opened))
        with pytest.raises(SamplesDroppedError, match=r"'kernels' .* \(1152 rows\) were dropped"):
            results.samples("kernels")
        assert results.samples("never-there").empty
        assert results.info["dropped_samples"] == {"inferences": 96, "kernels": 1152}


@pytest.mark.slow
def test_an_analysis_that_needs_dropped_samples_says_so(lab: Path) -> None:
    with Store.open() as opened:
        found = {one.analysis: one for one in conclude(opened.results(thinned(opened)))}
    assert found["klo"].verdict == "insufficient n"
    assert "were dropped from the database" in found["klo"].reasons[0]
    assert found["load"].verdict != "insufficient n"


@pytest.mark.slow
def test_a_report_of_a_thinned_campaign_says_so_and_draws_no_empty_figure(lab: Path) -> None:
    with Store.open() as opened:
        campaign = labdata.fill(opened, KLO)
        before = build_report(opened, campaign).read_text()
        opened.thin_samples(campaign)
        page = build_report(opened, campaign).read_text()
        results = opened.results(campaign)
        assert "dropped" in markdown(results, ())
        assert "dropped_samples" in junit(results, ()).decode()
    assert "Raw samples dropped." not in before
    assert 'id="figure-t-prod"' in before or "figure-t-prod" in before
    assert "Raw samples dropped." in page
    assert "kernels (1152 rows)" in page
    assert "figure-t-prod" not in page
    assert "figure-cpu-use-per-load" in page


@pytest.mark.slow
def test_an_export_of_a_thinned_campaign_says_so(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with Store.open() as opened:
        campaign = thinned(opened)
    said = json.loads(run("export", campaign, "--to", "out", "--json"))
    assert said["dropped_samples"] == {"inferences": 96, "kernels": 1152}
    assert not list((lab / "out").glob("samples-*"))
    kept = json.loads((lab / "out" / "campaign.json").read_text())
    assert kept["info"]["dropped_samples"] == said["dropped_samples"]
    words = CliRunner().invoke(app, ["export", campaign, "--to", "out"], catch_exceptions=False)
    assert "kernels (1152 rows)" in words.output
    assert "samples dropped" in run("store", "list")
    assert "thinned rows" in run("store", "show")
