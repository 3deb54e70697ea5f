"""Energy against time: planted campaigns, whose front and whose answer are known."""

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from devicelab.analyses import answer, energy
from devicelab.model.experiment import Experiment
from devicelab.model.measurement import Measurement, Metric
from devicelab.model.results import Results
from devicelab.store import Store
from tests import labdata

LEVELS = {"cpu": ("min", "mid", "max"), "measured_on": ("big", "little")}
# Time (ms) and energy (J) of one inference: what is slower has to use less, or it is beaten.
PLANTED = {
    ("max", "big"): (10.0, 0.10),
    ("mid", "big"): (14.0, 0.07),
    ("min", "big"): (30.0, 0.08),
    ("max", "little"): (28.0, 0.05),
    ("mid", "little"): (45.0, 0.045),
    ("min", "little"): (90.0, 0.06),
}


def _experiment(repetitions: int) -> Experiment:
    return labdata.experiment(
        name="energy_k_frequency",
        factors=LEVELS,
        set={},
        repetitions=repetitions,
        analyses=("energy",),
        answer={"quantity": "fastest_is_cheapest"},
    )


def _campaign(
    store: Store,
    planted: dict[tuple[str, str], tuple[float, float]],
    repetitions: int = 12,
    *,
    measured: bool = True,
    once: dict[tuple[str, str, int], tuple[float, float]] | None = None,
) -> Results:
    """``once``: by how much time and energy of single runs are more than planted."""
    of = _experiment(repetitions)
    campaign = labdata.begin(store, of)
    chance = np.random.default_rng(3)
    cells = labdata.cells(of)
    for seq, (repetition, cell) in enumerate(itertools.product(range(repetitions), cells)):
        setting = str(cell.levels["cpu"]), str(cell.levels["measured_on"])
        time_ms, joules = planted[setting]
        slower, dearer = (once or {}).get((*setting, repetition), (1.0, 1.0))
        time_ms, joules = time_ms * slower, joules * dearer
        noise = chance.normal(1, 0.004, 2)
        metrics = {
            "energy_per_inference_j": Metric(joules * noise[0], "J"),
            "energy_j": Metric(30 * joules * noise[0], "J"),
            "energy_error_j": Metric(0.1 * joules, "J"),
            "power_mean_w": Metric(1e3 * joules / time_ms, "W"),
        }
        told: dict[str, str | int | float | bool] = {"meter": "battery", "scope": "whole device"}
        if not measured:
            metrics, told = {}, {"missing": "energy-charging: the battery does not feed the device alone"}
        store.commit_run(
            campaign,
            cell,
            labdata.record(labdata.run_id(campaign, cell, repetition), seq),
            repetition=repetition,
            measurements={
                "measure": Measurement(metrics={"total_ns": Metric(time_ms * 1e6 * noise[1], "ns")}),
                "energy": Measurement(metrics=metrics, info=told),
            },
            flags=(),
        )
    store.finish_campaign(campaign, "complete")
    return store.results(campaign)


def test_the_front_holds_what_no_other_setting_beats_in_both(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "lab.sqlite")) as store:
        settings = energy.table(_campaign(store, PLANTED))
        on = settings[settings["front"]]
        assert list(on["label"]) == [
            "CPU clock max, on big",
            "CPU clock mid, on big",
            "CPU clock max, on little",
            "CPU clock mid, on little",
        ]
        assert list(on["energy_j"]) == pytest.approx([0.10, 0.07, 0.05, 0.045], rel=0.01)
        assert (settings["energy_low_j"] < settings["energy_high_j"]).all()


def test_equal_points_beat_nobody_and_are_both_on_the_front() -> None:
    assert energy.front([1.0, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 1.0]) == [True, True, False, True]


def test_the_fastest_that_uses_more_is_said_with_its_interval(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "lab.sqlite")) as store:
        (found,) = answer.analyse(_campaign(store, PLANTED))
    assert found.verdict == "no"
    assert found.estimate == pytest.approx(0.10 / 0.045, rel=0.01)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 0.10 / 0.045 <= found.high
    assert "fastest: CPU clock max, on big; least energy: CPU clock mid, on little" in found.reasons[0]


def test_the_fastest_that_uses_the_least_is_a_yes_and_few_repetitions_are_none(tmp_path: Path) -> None:
    cheap = {**PLANTED, ("max", "big"): (10.0, 0.04)}
    with Store.open(str(tmp_path / "lab.sqlite")) as store:
        (found,) = answer.analyse(_campaign(store, cheap))
        assert found.verdict == "yes"
        (found,) = answer.analyse(_campaign(store, PLANTED, 5))
        assert found.verdict == "insufficient n"


def test_one_repetition_that_went_wrong_chooses_nothing(tmp_path: Path) -> None:
    """A time and an energy that are ten times too large in one run, of the best of each."""
    once = {("max", "big", 2): (10.0, 1.0), ("mid", "little", 4): (1.0, 10.0), ("min", "big", 0): (0.01, 0.01)}
    with Store.open(str(tmp_path / "lab.sqlite")) as store:
        (found,) = answer.analyse(_campaign(store, PLANTED, once=once))
    assert found.reasons[0] == "fastest: CPU clock max, on big; least energy: CPU clock mid, on little"


def test_the_repetitions_that_chose_do_not_judge(tmp_path: Path) -> None:
    """Every even run of one setting looks twice as cheap as it is: it is chosen, and judged by the odd ones."""
    lucky = {("mid", "big", n): (1.0, 0.3) for n in range(0, 12, 2)}
    with Store.open(str(tmp_path / "lab.sqlite")) as store:
        (found,) = answer.analyse(_campaign(store, PLANTED, once=lucky))
    assert "least energy: CPU clock mid, on big" in found.reasons[0]
    assert found.estimate == pytest.approx(0.10 / 0.07, rel=0.02)


@pytest.mark.parametrize(
    ("times_ms", "energies_j", "scales"),
    [
        ((1.0, 8.0), (1.0, 8.0), ("linear", "linear")),
        ((1.0, 8.1), (1.0, 8.1), ("log", "log")),
        ((1.0, 9.0), (0.0, 9.0), ("log", "linear")),
        ((8.0, 9.0), (-1.0, 9.0), ("linear", "linear")),
        ((9.0, 1.0), (9.0, 1.0), ("log", "log")),
    ],
)
def test_what_spans_more_than_eight_times_is_drawn_on_a_scale_of_ratios(
    times_ms: tuple[float, ...], energies_j: tuple[float, ...], scales: tuple[str, str]
) -> None:
    rows = pd.DataFrame({"label": ["a", "b"], "n": 6, "time_ms": times_ms, "energy_j": energies_j, "front": True})
    rows = rows.assign(**dict.fromkeys(("time_low_ms", "time_high_ms", "energy_low_j", "energy_high_j"), math.nan))
    drawn = Figure()
    energy._draw(drawn, rows)
    (axes,) = drawn.axes
    assert (axes.get_xscale(), axes.get_yscale()) == scales


def test_a_campaign_without_energy_says_why(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "lab.sqlite")) as store:
        results = _campaign(store, PLANTED, 2, measured=False)
        found = [*answer.analyse(results), *energy.analyse(results)]
        assert {one.verdict for one in found} == {"cannot tell here"}
        assert all("energy-charging" in one.reasons[0] for one in found)
        assert energy.figures(results) == ()


def test_what_was_measured_is_said_with_its_scope(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "lab.sqlite")) as store:
        meter, pareto = energy.analyse(_campaign(store, PLANTED))
    assert "whole device, gross" in meter.reasons[0]
    assert meter.unit == "W"
    assert math.isfinite(meter.estimate or math.nan)
    assert pareto.claim.endswith("4 of 6 settings")
