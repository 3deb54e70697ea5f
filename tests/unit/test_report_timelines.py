"""One run of each cell drawn: phases, series, and a band where a pin did not hold."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devicelab.experiment.timeline import pins_lost, series
from devicelab.model.journal import Flag, Phase, RunRecord, StepResult
from devicelab.model.results import Results
from devicelab.report import svg
from devicelab.report.figures_timeline import timelines
from devicelab.report.page import render
from devicelab.store import Store
from tests import labdata

_POLICY = labdata.FREQUENCY.removesuffix("/scaling_cur_freq")
_S = 1_000_000_000


def _pinned(record: RunRecord, khz: list[str | None], **more: object) -> RunRecord:
    steps = tuple(
        StepResult(path=f"{_POLICY}/scaling_{end}_freq", before="1", after="1612800", held=True)
        for end in ("max", "min")
    )
    times = tuple(record.window_start_ns + i * _S // 10 for i in range(len(khz)))
    nodes = {
        labdata.FREQUENCY: tuple(khz),
        "/sys/class/power_supply/battery/current_now": ("-250000",) * len(khz),
        "/sys/class/power_supply/battery/voltage_now": ("4000000",) * len(khz),
    }
    samples = record.samples.model_copy(update={"t_ns": times, "nodes": nodes})
    return record.model_copy(update={"steps": steps, "samples": samples, **more})


def test_a_pin_is_lost_from_the_sample_that_shows_it_to_the_next() -> None:
    khz: list[str | None] = ["1612800", "1612800", "900000", "900000", None, "1612800", "1620000"]
    record = _pinned(labdata.record("r"), khz)
    start = record.window_start_ns
    rows = pins_lost(record.model_dump(mode="json"))
    assert [
        ((a - start) // (_S // 10), (b - start) // (_S // 10))
        for a, b in zip(rows["start_ns"], rows["end_ns"], strict=True)
    ] == [
        (2, 3),
        (3, 4),
    ]
    assert set(rows["name"]) == {"policy0"}
    assert set(rows["wanted_khz"]) == {1_612_800}
    # Limits that are apart are no pin, and neither is one that was not taken.
    apart = [record.steps[0], record.steps[1].model_copy(update={"after": "300000"})]
    refused = [record.steps[0], record.steps[1].model_copy(update={"held": False})]
    for steps in (apart, refused):
        assert pins_lost(record.model_copy(update={"steps": tuple(steps)}).model_dump(mode="json")).empty


def test_power_is_a_series_of_the_timeline() -> None:
    record = _pinned(labdata.record("r"), ["1612800"] * 4)
    rows = series(record.model_dump(mode="json"))
    power = rows[rows["quantity"] == "power"]
    assert list(power["value"]) == pytest.approx([1.0] * 4)
    assert set(power["unit"]) == {"W"}


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    """Six cells; of the first one a run is flagged, and its clock fell."""
    of = labdata.experiment(repetitions=3)
    with Store.open(str(tmp_path / "lab.sqlite")) as store:
        campaign = labdata.begin(store, of)
        for repetition in range(3):
            for place, cell in enumerate(labdata.cells(of)):
                record = labdata.record(labdata.run_id(campaign, cell, repetition), 10 * repetition + place)
                phases = tuple(
                    Phase(name=name, t_ns=record.t_start_ns + i * _S // 10)
                    for i, name in enumerate(("pin", "settle", "measure", "restore"))
                )
                bad = place == 0 and repetition == 1
                khz: list[str | None] = ["900000" if bad and i > 4 else "1612800" for i in range(11)]
                flags = [Flag(code="cpu-frequency-not-held", detail="policy0: 60% at 900000")] if bad else []
                store.commit_run(
                    campaign,
                    cell,
                    _pinned(record, khz, phases=phases),
                    repetition=repetition,
                    measurements={"measure": labdata.measurement(place)},
                    flags=flags,
                )
        store.finish_campaign(campaign, "complete")
        yield store.results(campaign)


def test_each_cell_has_one_figure_and_the_run_that_did_not_hold_comes_first(results: Results) -> None:
    figures = timelines(results)
    assert len(figures) == results.runs()["cell_id"].nunique()
    flagged = [one for one in figures if "cpu-frequency-not-held" in one.caption]
    assert len(flagged) == 1
    assert "Red: a CPU clock" in flagged[0].caption
    assert all("Red" not in one.caption for one in figures if one is not flagged[0])
    for one in (flagged[0], figures[-1]):
        drawn = svg.draw(one)
        assert ("#f6c9b8" in drawn) == (one is flagged[0])  # the band, and only where there is one
        assert "restore" in drawn
        assert "GHz" in drawn


def test_the_page_has_them_folded_away(results: Results, tmp_path: Path) -> None:
    text = render(results, (), (), tmp_path / "page.html").read_text()
    assert text.count('<figure id="figure-run-') == 6
    assert "devicelab trace" in text
