"""Comparisons at their bounds: what counts as a difference, what became of a target, what is not the same besides."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import _stats
from devicelab.compare import campaigns, changes
from devicelab.compare import nights as comparing
from devicelab.compare.campaigns import _beyond, _outcome, _partner, _where
from devicelab.compare.changes import Change
from devicelab.errors import ConfigError
from devicelab.model.experiment import Tenant
from devicelab.model.night import CellVerdict
from devicelab.model.scheduler_files import scheduler_files
from tests import labdata


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        *((-5.0, 5.0, "no"), (-5.1, 5.0, "inconclusive"), (-5.0, 5.1, "inconclusive"), (5.0, 9.0, "inconclusive")),
        *((5.1, 9.0, "yes"), (-9.0, -5.0, "inconclusive"), (-9.0, -5.1, "yes"), (-9.0, 9.0, "inconclusive")),
        *((None, 9.0, "insufficient n"), (-9.0, None, "insufficient n"), (None, None, "insufficient n")),
    ],
)
def test_a_difference_is_judged_against_what_matters_on_either_side(
    low: float | None, high: float | None, verdict: str
) -> None:
    assert _beyond(_stats.Interval(0.0, low, high, 5), 5.0) == verdict


def test_a_leg_is_compared_with_its_partner_and_told_by_both() -> None:
    keys = [("high", "native", "pair"), ("low", "mps", ""), ("low", "standalone", "pair")]
    assert [_partner(key, None, None) for key in keys] == keys
    assert [_partner(key, "native", "mps") for key in keys] == [("high", "mps", "pair"), *keys[1:]]
    assert [_where(key, key) for key in keys] == ["high, native, pair", "low, mps", "low, standalone, pair"]
    assert _where(keys[0], ("high", "mps", "pair")) == "high, native → mps, pair"


def test_what_became_of_a_target_follows_from_both_verdicts() -> None:
    kept = {"pass": True, "yes": True, "cannot tell here": True, "fail": False, "no": False}
    words = {(True, True): "kept", (True, False): "regressed", (False, True): "fixed", (False, False): "still fails"}
    every: Any = [*kept, "inconclusive", "insufficient n", "invalid"]
    for one, two in itertools.product(every, every):
        before, after = (SimpleNamespace(verdict=verdict) for verdict in (one, two))
        known = one in kept and two in kept
        assert _outcome(before, after) == (words[kept[one], kept[two]] if known else "undecided")  # type: ignore[arg-type]


# --- cells ---------------------------------------------------------------------------------------------------------


def results(values: dict[tuple[str, str, str], list[float]], **more: Any) -> Any:
    """Something like results: (cell, program, metric) → one value a run, the last run of each cell invalid."""
    runs, metrics = [], []
    for (cell, program, metric), found in values.items():
        for n, value in enumerate([*found, 1e9]):
            run = f"{cell}-{n}"
            runs.append({"run_id": run, "cell": cell, "cell_id": cell, "valid": n < len(found), "flags": ()})
            metrics.append({"run_id": run, "program": program, "metric": metric, "value": value, "unit": "ns"})
    frame = pd.DataFrame(runs).drop_duplicates("run_id", ignore_index=True)
    kept = pd.DataFrame(metrics)
    experiment = more.pop("experiment", labdata.experiment())
    return SimpleNamespace(
        campaign="c", experiment=experiment, info={"simulated": False, **more}, runs=frame.copy,
        metrics=kept.copy, evidence=lambda _run: {},
    )  # fmt: skip


def compared(a: list[float], b: list[float], tolerance: float = 0.05) -> tuple[campaigns.Shift, ...]:
    key = ("x", "p", "t")
    return campaigns.compare(results({key: a}), results({key: b}), tolerance=tolerance).shifts


RISING = [10.0, 11.0, 12.0, 13.0, 14.0, 25.0]


def test_medians_of_the_valid_runs_are_compared_as_ratio_where_all_are_above_nothing() -> None:
    (one,) = compared(RISING, [2 * value for value in RISING])
    assert (one.a, one.b, one.n_a, one.n_b, one.kind, one.metric) == (12.5, 25.0, 6, 6, "ratio", "t")
    assert one.effect == pytest.approx(2, rel=0.2)
    for a, b in (([0.0, *RISING], RISING), (RISING, [0.0, *RISING]), ([-1.0, *RISING], RISING)):
        (shift,) = compared(a, b)
        assert shift.kind == "shift"
    (half,) = compared([value / 20 for value in RISING], RISING)
    assert half.kind == "ratio", "a part of a unit is above nothing"


@pytest.mark.parametrize(
    ("a", "b", "shown"),
    [
        *(([5.0, 5.0], [5.0, 5.0, 5.0], 0), ([5.0, 5.0], [6.0, 6.0], 1), ([5.0, 5.5], [5.0, 5.0], 1)),
        *(([5.0, 5.0], [5.0, 5.5], 1), ([0.0, 0.0], [0.0], 0)),
    ],
)
def test_a_figure_that_is_always_the_same_number_is_no_row(a: list[float], b: list[float], shown: int) -> None:
    assert len(compared(a, b)) == shown


def test_a_difference_of_shifts_is_judged_by_a_share_of_the_median_before() -> None:
    before, after = [-10.0, -10.1, -9.9, -10.0, -10.05, -9.95], [-10.3, -10.4, -10.2, -10.3, -10.35, -10.25]
    for tolerance, verdict in ((0.05, "no"), (0.01, "yes")):
        (shift,) = compared(before, after, tolerance)
        assert (shift.kind, shift.verdict) == ("shift", verdict)


def test_cells_of_one_campaign_alone_are_named_and_programs_that_share_a_figure_are_told_apart() -> None:
    a = results({("x", "p", "t"): RISING, ("x", "q", "t"): RISING, ("y", "p", "u"): RISING, ("", "p", "v"): RISING})
    b = results(
        {("x", "p", "t"): RISING[:5], ("x", "q", "t"): RISING[1:], ("z", "p", "u"): RISING, ("", "p", "v"): RISING[1:]}
    )
    done = campaigns.compare(a, b)
    assert (done.only_a, done.only_b) == (("y",), ("z",))
    assert [(one.where, one.metric) for one in done.shifts] == [("x", "p.t"), ("x", "q.t"), ("all runs", "v")]
    assert not done.simulated
    for one, two in itertools.product([False, True], repeat=2):
        pair = [results({("x", "p", "t"): RISING}, simulated=simulated) for simulated in (one, two)]
        assert campaigns.compare(*pair).simulated is (one or two)


def test_adjusted_p_values_stay_with_their_figures() -> None:
    rng = np.random.default_rng(1)
    figures = {("x", "p", f"t{n}"): [*(100 + 3 * n * (n % 2) + rng.normal(0, 1, 8))] for n in range(6)}
    plain = {("x", "p", f"t{n}"): [*(100 + rng.normal(0, 1, 8))] for n in range(6)}
    shifts = campaigns.compare(results(figures), results(plain)).shifts
    raw = [_stats.ratio(np.array(figures[key]), np.array(plain[key])).p for key in figures]
    assert [one.metric for one in shifts] == [metric for *_, metric in figures]
    if all(p is not None for p in raw):
        order = sorted(range(6), key=lambda n: raw[n] or 0)
        assert sorted(range(6), key=lambda n: (shifts[n].p or 0, raw[n])) == order
        assert all((one.p or 0) >= (p or 0) for one, p in zip(shifts, raw, strict=True))


def test_legs_are_named_of_both_campaigns_with_tenants_or_of_none() -> None:
    plain = results({("x", "p", "t"): RISING})
    tenants = SimpleNamespace(experiment=SimpleNamespace(tenants=("a",)))
    for a, b in ((plain, tenants), (tenants, plain)):
        with pytest.raises(ConfigError, match="the other has none"):
            campaigns.compare(a, b)  # type: ignore[arg-type]
    for legs in ({"leg_a": "native"}, {"leg_b": "mps"}, {"leg_a": "native", "leg_b": "mps"}):
        with pytest.raises(ConfigError, match="name a leg of both"):
            campaigns.compare(plain, plain, **legs)
    for legs in ({"leg_a": "native"}, {"leg_b": "mps"}):
        with pytest.raises(ConfigError, match="name a leg of both"):
            campaigns.compare(tenants, tenants, **legs)  # type: ignore[arg-type]


# --- what is not the same besides ----------------------------------------------------------------------------------


def told(a: dict[str, Any], b: dict[str, Any], *, of: Any = None, to: Any = None) -> list[Change]:
    one, two = (
        SimpleNamespace(info=info, experiment=experiment or labdata.experiment(), runs=pd.DataFrame)
        for info, experiment in ((a, of), (b, to))
    )
    return list(changes.changes(one, two))  # type: ignore[arg-type]


def test_what_a_campaign_and_its_programs_say_of_themselves_is_compared_and_nothing_else() -> None:
    assert told({}, {}) == told({"kernel": "1", "question": "a"}, {"kernel": "1", "question": "b"}) == []
    assert told({"kernel": "1"}, {"kernel": "2"}) == [Change("kernel", "1", "2")]
    assert told({"kernel": "1"}, {}) == [Change("kernel", "1", "")]
    files = ({"binaries": {"klo": "a" * 20, "agent": "c"}}, {"binaries": {"klo": "b" * 20, "agent": "c", "new": "d"}})
    assert told(*files) == [Change("binary klo", "a" * 12, "b" * 12), Change("binary new", "", "d")]
    said = ({"p": {"driver": "1", "k": 4}, "q": {"driver": "1"}}, {"p": {"driver": "2", "k": 5}, "r": {"driver": "3"}})
    assert told(*({"programs": programs} for programs in said)) == [Change("p: driver", "1", "2")]
    cards = [{"programs": {"p": {"device_uuid": uuid} if uuid else {}}} for uuid in ("GPU-1", "GPU-2", "")]
    for one, two in itertools.product(cards, cards):
        uuids = [card["programs"]["p"].get("device_uuid", "") for card in (one, two)]
        assert told(one, two) == ([Change("p: GPU", *uuids)] if all(uuids) and uuids[0] != uuids[1] else [])


def test_settings_and_tenants_that_both_have_are_compared() -> None:
    plain = labdata.experiment()
    assert told({}, {}, of=plain, to=plain.model_copy(update={"name": "n", "question": "?"})) == [
        Change("experiment", plain.name, "n")
    ]
    later = plain.model_copy(update={"settle_s": 9.5, "set": {}, "seed": 77})
    assert told({}, {}, of=plain, to=later) == [
        Change("setting settle_s", str(plain.settle_s), "9.5"), Change("setting seed", str(plain.seed), "77"),
        Change("setting set", "placement = one-per-core", ""),
    ]  # fmt: skip
    one = [Tenant(name="a", workload="w", priority=1), Tenant(name="b", workload="w")]
    two = [Tenant(name="a", workload="w", priority=2, params={"k": 1, "j": []}), Tenant(name="c", workload="w")]
    pair = [plain.model_copy(update={"measure": None, "tenants": tuple(tenants)}) for tenants in (one, two)]
    assert told({}, {}, of=pair[0], to=pair[1]) == [
        Change("tenant a: priority", "1", "2"), Change("tenant a: params", "", "k = 1"),
    ]  # fmt: skip


ONE, TWO = "1" * 64, "2" * 64


def test_files_of_a_scheduler_are_taken_from_the_first_valid_run_of_each_leg() -> None:
    said = {
        "0": f"{ONE} /x/lib.so", "1": f"{ONE}  /opt/my lib/a.so\n{TWO} /b.so\nodd\n{TWO[1:]} /short.so",
        "2": f"{TWO} /opt/my lib/a.so", "3": f"{TWO} /c.so",
    }  # fmt: skip
    runs = pd.DataFrame(
        {"run_id": [*said], "valid": [False, True, True, True], "scheduler": ["xsched", "xsched", "xsched", "mps"]}
    )

    def of(change: dict[str, str]) -> Any:
        def evidence(run: str) -> dict[str, Any]:
            return {
                "witnesses": [
                    {"name": "xsched log", "stdout": f"{ONE} /y"}, {"name": "files", "stdout": f"{ONE} /z"},
                    {"name": f"{'mps' if run == '3' else 'xsched'} files", "stdout": {**said, **change}[run]},
                ]
            }  # fmt: skip

        return SimpleNamespace(experiment=SimpleNamespace(tenants=("a",)), runs=lambda: runs, evidence=evidence)

    assert scheduler_files(of({})) == {"xsched": {"a.so": ONE, "b.so": TWO}, "mps": {"c.so": TWO}}
    assert list(changes._of_schedulers(of({}), of({"0": f"{TWO} /q", "2": f"{TWO} /q"}))) == []
    assert list(changes._of_schedulers(of({}), of({"1": f"{ONE} /a.so\n{ONE} /b.so"}))) == [
        Change("xsched b.so", TWO[:12], ONE[:12])
    ]
    alone = SimpleNamespace(experiment=SimpleNamespace(tenants=()))
    assert scheduler_files(alone) == {}  # type: ignore[arg-type]


# --- nights --------------------------------------------------------------------------------------------------------


def verdict(word: str, shift: float | None = None, threshold: float | None = 5.0, **more: Any) -> CellVerdict:
    fields = {"night": "n", "experiment": "e", "cell_id": "c", "cell": "x", "device": "a", "program": "p"}
    figure = {"metric": "total_ns", "unit": "ns", "verdict": word, "shift_pct": shift, "threshold_pct": threshold}
    return CellVerdict.model_validate({**fields, **figure, **more})


@pytest.mark.parametrize(
    ("one", "measured_again"),
    [
        *((verdict("regression"), True), (verdict("regression", established=True), False)),
        *((verdict("regression", confirmed=False), False), (verdict("regression", confirmed=True), False)),
        *((verdict("improvement", 9.0), False), (verdict("unchanged", 9.0), False)),
        *((verdict("too noisy", 5.0), True), (verdict("too noisy", 4.9), False), (verdict("too noisy", -9.0), False)),
        *((verdict("too noisy"), False), (verdict("too noisy", 9.0, None), False)),
        (verdict("too noisy", 9.0, established=True), False),
        (verdict("too noisy", 9.0, confirmed=True), False),
        (verdict("too noisy", 9.0, metric="nobody_knows", unit="1"), False),
        (verdict("too noisy", -9.0, metric="throughput_per_s", unit="1/s"), True),
        (verdict("too noisy", 9.0, metric="throughput_per_s", unit="1/s"), False),
    ],
)
def test_what_is_worse_and_not_yet_sure_is_measured_once_more(one: CellVerdict, measured_again: bool) -> None:
    assert comparing.suspicious([one]) == ((one,) if measured_again else ())


def test_verdicts_are_told_worst_first_and_the_largest_shift_of_each_first() -> None:
    told_ = [
        verdict("regression", 5.0), verdict("regression", -9.0), verdict("regression"), verdict("improvement", 50.0),
        verdict("unchanged", 0.5), verdict("unchanged"),
    ]  # fmt: skip
    found = sorted(told_, key=comparing.rank)
    assert [one.shift_pct for one in found if one.verdict == "regression"] == [-9.0, 5.0, None]
    assert found[0].verdict == "regression"
    assert [one.shift_pct for one in found if one.verdict == "unchanged"] == [0.5, None]
