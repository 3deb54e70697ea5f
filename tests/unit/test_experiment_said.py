"""Plans of rich experiments, as they were read once (``tests/goldens.py``); words of an experiment at their bounds."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from board_trees import CPU, facts

from devicelab.errors import ConfigError
from devicelab.experiment import aims, bounds, plan, proposing, targets, tenancy, timeline, tracing
from devicelab.model.experiment import Experiment, Tenant, Tracing
from devicelab.model.plan import Run
from devicelab.schedulers.base import Place
from tests import goldens
from tests.schedulerdata import GPU

PHONE: dict[str, Any] = {
    "name": "x",
    "question": "?",
    "factors": {"load": ["none", "1000 5000 20"], "placement": ["one-big", "two-per-core"], "k": [1, 4]},
    "exclude": [{"load": "1000 5000 20", "placement": "one-big", "k": 4}],
    "set": {"cpu": "max", "cores": "big"},
    "repetitions": 1,
    "settle_s": 1.5,
    "cooldown_s": 2.25,
    "sample_hz": 4,
    "thermal": {"max_c": 45},
    "energy": {"idle_s": 3.5, "required": False},
    "measure": {"workload": "klo", "params": {"network": "mobilenet_v1", "backend": "emulated"}, "timeout_s": 42},
}
SERVED: dict[str, Any] = {
    "name": "x",
    "question": "?",
    "factors": {"scheduler": ["standalone", "native", "nice", "nice:7"], "pressure": ["copies:3"]},
    "repetitions": 1,
    "duration_s": 20,
    "windows": 3,
    "pause_s": 2.5,
    "settle_s": 0.5,
    "tenants": [
        {
            "name": "high",
            "priority": 2,
            "workload": "torch_model",
            "params": {"model": "vit_b_16"},
            "arrivals": "poisson:40",
            "deadline_ms": 30,
        },
        {"name": "low", "priority": 1, "workload": "torch_model", "params": {"model": "resnet50"}, "copies": 2},
    ],
}


def planned(asked: dict[str, Any], place: Place, **more: Any) -> str:
    """A plan as text: what is needed and unmet, then each run, part by part."""
    made = plan.make(Experiment.model_validate(asked), place, campaign="c", holder="h", **more)
    lines = [f"{made.runs} runs in {len(made.plans)} plans; needs {made.needs}"]
    lines += [f"unmet {word}: {reasons}" for word, reasons in made.unmet.items()]
    lines += [f"cell {cell.levels}" for cell in made.cells.values()]
    for one in made.plans:
        for run in one.runs:
            lines += [f"run {run.repetition} of {made.cells[run.cell_id].levels}: {plan.programmed_ms(run)} ms"]
            lines += [f"  {line}" for line in _run(run)]
    return "\n".join(lines) + "\n"


def _run(run: Run) -> Iterator[str]:
    told = run.model_dump(mode="json", exclude={"run_id", "cell_id", "repetition"}, exclude_defaults=True)
    for name, part in told.items():
        for one in part if isinstance(part, list) else [part]:
            yield f"{name} {json.dumps(_short(one), ensure_ascii=False)}"


def _short(part: Any) -> Any:
    """Scripts by their length: they are programs of their own, which other tests run."""
    if isinstance(part, dict):
        return {key: _short(one) for key, one in part.items()}
    if isinstance(part, list):
        return [_short(one) for one in part]
    return f"({len(part.splitlines())} lines)" if isinstance(part, str) and part.count("\n") > 1 else part


RECORD: dict[str, Any] = {
    "run_id": "r",
    "t_start_ns": 1_000,
    "t_end_ns": 9_000,
    "flags": [{"code": "hot", "detail": "70 C"}, {"code": "late", "detail": "by 2 s"}],
    # A phase before the run began, and one after it ended: an agent's clock is not trusted.
    "phases": [{"name": "pin", "t_ns": 500}, {"name": "measure", "t_ns": 4_000}, {"name": "restore", "t_ns": 9_500}],
    "programs": [
        {"name": "m", "role": "measure", "start_ns": 4_100, "end_ns": 8_000, "granted": [4, 5]},
        {"name": "l", "role": "load", "start_ns": 3_900, "end_ns": 3_900, "granted": []},
        {"name": "never", "role": "load", "start_ns": 5_000, "end_ns": 4_999},
        {"name": "unknown", "role": "load", "start_ns": 0, "end_ns": 10},
    ],
    "steps": [
        {"path": f"{CPU}/cpufreq/policy{n}/scaling_{end}_freq", "after": after, "held": held}
        for n, end, after, held in (
            (0, "min", "1000000\n", True), (0, "max", "1000000", True), (4, "min", "500000", True),
            (4, "max", "900000", True), (6, "max", "700000", True), (7, "min", "700000", False),
            (7, "max", "700000", True),
        )
    ],
    "idle": {"t_ns": [100, 300], "nodes": {"/sys/class/thermal/thermal_zone1/temp": ["31000", "x"]}},
    "samples": {
        "t_ns": [2_000, 3_000, 4_000, 5_000, 6_000],
        "nodes": {
            f"{CPU}/cpufreq/policy0/scaling_cur_freq": ["1020000", "1020001", "980000", "979999", "1"],
            f"{CPU}/cpufreq/policy4/scaling_cur_freq": ["1", "2", "3", "4", "5"],
            f"{CPU}/cpufreq/policy7/scaling_cur_freq": ["1", "2", "3", "4", "5"],
            "/sys/class/kgsl/kgsl-3d0/gpuclk": ["600000000", None, "300000000", "0", ""],
        },
        "busy": {"0": [0, 5, 5, 4, None], "10": [0, 10, 40, 41, 41], "x": [0, 1, 2, 3, 4]},
        "total": {"0": [0, 10, 20, 30, 40], "10": [0, 10, 20, 21, 21], "x": [0, 1, 2, 3, 4]},
    },
}  # fmt: skip


def happened() -> str:
    return "\n".join(_rows(one(RECORD)) for one in (timeline.series, timeline.spans, timeline.pins_lost)) + "\n"


def _rows(frame: pd.DataFrame) -> str:
    return "\n".join([" | ".join(frame.columns), *(" | ".join(map(str, row)) for row in frame.itertuples(index=False))])


def recorded() -> str:
    """A phone's run with the system's tracer, and a server's with one that is attached to its tenants."""
    lines = []
    for asked, place, wanted in (
        (PHONE, Place(facts("sm8150")), Tracing(when="always")),
        (SERVED, GPU, Tracing(when="always", tool="perf", most_mb=7)),
        (SERVED, GPU, Tracing(when="always")),
    ):
        (one, *_) = plan.make(Experiment.model_validate(asked), place, campaign="c", holder="h").plans
        traced = tracing.traced(one.runs[0], wanted, place.facts, campaign="c", file="/tmp/run.trace")
        assert traced.run_id == tracing.run_id("c", traced.cell_id) != one.runs[0].run_id
        told = {step.model_dump_json(): step for step in (*traced.steps, *traced.attached)}
        known = {step.model_dump_json() for step in one.runs[0].steps}
        for text, step in told.items():
            if text not in known:
                where = "attached" if step in traced.attached else f"step {traced.steps.index(step)}"
                lines.append(f"{where} {json.dumps(_short(step.model_dump(mode='json', exclude_defaults=True)))}")
    return "\n".join(lines) + "\n"


SAID: dict[str, Callable[[], str]] = {
    "plan-phone": lambda: planned(PHONE, Place(facts("sm8150"))),
    "plan-tenants": lambda: planned(SERVED, GPU),
    "plan-traced": recorded,
    "timeline": happened,
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_planned_and_what_happened_is_what_was_read(name: str, request: pytest.FixtureRequest) -> None:
    goldens.same(name, SAID[name](), write=request.config.option.write_goldens)


# --- words at their bounds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("< 5 %", ("<", 5.0, "%")), (">=1.2", (">=", 1.2, "")), (" <= .5ms ", ("<=", 0.5, "ms")),
        ("> -1e-3 µs", (">", -1e-3, "µs")), ("< +2 1/s", ("<", 2.0, "1/s")),
        ("5", None), ("< ", None), ("= 5", None), ("< 1e999", None), ("< nan", None), ("< 5 %%", None), ("<> 5", None),
    ],
)  # fmt: skip
def test_a_bound_is_a_sign_a_number_and_a_unit(text: str, parts: tuple[str, float, str] | None) -> None:
    if parts is None:
        with pytest.raises(ConfigError, match="no bound"):
            bounds.parse_bound(text)
    else:
        assert bounds.parse_bound(text) == parts


@pytest.mark.parametrize(("sign", "kept"), [("<", "100"), ("<=", "110"), (">", "001"), (">=", "011")])
def test_a_promise_is_kept_below_at_and_above_its_number_as_its_sign_says(sign: str, kept: str) -> None:
    (target,) = targets.of(Tenant(name="t", priority=1, workload="cpu_tenant", targets={"p99_ms": f"{sign} 2"}))
    assert "".join(str(int(target.keeps(value))) for value in (1.999, 2.0, 2.001)) == kept
    assert str(target) == f"p99_ms {sign} 2"


TWO = tuple(Tenant(name=name, priority=1, workload="cpu_tenant") for name in ("low", "v1.p99"))


@pytest.mark.parametrize(
    ("text", "aim"),
    [
        ("low.throughput", ("low", "throughput_per_s", True)),
        (" low.share ", ("low", "share_pct", True)),
        ("low.p99.9_ms", ("low", "p99.9_ms", False)),
        ("low.gpu_use_pct", ("low", "gpu_use_pct", True)),
        ("low.dropped", ("low", "dropped", False)),
        ("throughput", None),
        ("other.throughput", None),
        ("low.speed", None),
    ],
)
def test_an_aim_names_a_tenant_and_a_figure_and_knows_which_way_is_better(
    text: str, aim: tuple[str, str, bool] | None
) -> None:
    if aim is None:
        with pytest.raises(ConfigError):
            aims.parse_aim(text, TWO)
    else:
        got = aims.parse_aim(text, TWO)
        assert (got.tenant, got.figure, got.up) == aim
        assert str(got) == f"{aim[0]}.{aim[1]}"


@pytest.mark.parametrize(("number", "fine"), [("0", True), ("0.001", True), ("-0.001", False), ("5 ms", False)])
def test_what_is_promised_or_kept_is_a_number_from_nought_on(number: str, fine: bool) -> None:
    tenant = TWO[0].model_copy(update={"targets": {"p99_ms": f"< {number}"}})
    if fine:
        assert aims.parse_keep(f"low.p99_ms<{number}", TWO).target == targets.of(tenant)[0]
        return
    with pytest.raises(ConfigError, match="no bound"):
        aims.parse_keep(f"low.p99_ms < {number}", TWO)
    with pytest.raises(ConfigError, match="no bound"):
        targets.of(tenant)


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({"copies": 1}, True), ({"copies": 1024}, True), ({"copies": 1025}, False),
        ({"arrivals": "fixed:0.000001"}, True), ({"arrivals": "fixed:0.0000009"}, False),
        ({"arrivals": "poisson:10000000"}, True), ({"arrivals": "poisson:10000000.1"}, False),
        ({"arrivals": "every:2"}, True), ({"arrivals": "continuous"}, True), ({"arrivals": "continuous:2"}, False),
        ({"name": "a" * 32}, True), ({"name": "a" * 33}, False), ({"name": "b"}, False), ({"name": "-a"}, False),
    ],
)  # fmt: skip
def test_tenants_are_checked_at_their_bounds(change: dict[str, Any], fine: bool) -> None:
    one = {"name": "a", "priority": 1, "workload": "cpu_tenant", **change}
    other = {"name": "b", "priority": 2, "workload": "cpu_tenant"}
    tenants = tuple(Tenant.model_construct(**{**Tenant(**other).model_dump(), **each}) for each in (one, other))
    of = Experiment.model_validate({"name": "x", "question": "?"}).model_copy(update={"tenants": tenants})
    if fine:
        tenancy.check(of)
    else:
        with pytest.raises(ConfigError, match="tenant"):
            tenancy.check(of)


@pytest.mark.parametrize(
    ("trials", "sizes"),
    [(2, (2,)), (3, (2, 1)), (8, (2, 6)), (9, (3, 6)), (10, (3, 6, 1)), (40, (12, 6, 6, 6, 6, 4))],
)
def test_a_third_is_drawn_blindly_and_the_rest_by_sixes(trials: int, sizes: tuple[int, ...]) -> None:
    assert proposing.batches(trials) == sizes
    assert sum(sizes) == trials


def test_numbers_among_the_levels_are_ordered_from_three_on_and_words_are_as_they_come() -> None:
    cells: dict[str, dict[str, Any]] = {
        f"{n}": {"k": k, "on": on, "two": two, "one": 1}
        for n, (k, on, two) in enumerate([(16, "b", 2), (2, "a", 1), (4, "b", 2)])
    } | {"3": {"k": 2, "on": "c", "one": 1}}
    assert proposing._factors(cells) == {"k": [2, 4, 16], "on": ["b", "a", "c"], "two": [2, 1, None]}
    assert proposing._ordered([1, 2, 4]) is True
    assert proposing._ordered([1, 2]) is proposing._ordered([1, 2, "x"]) is proposing._ordered([1, 2, True]) is False
    assert (proposing._param(2, [1, 2, 4]), proposing._param(1, [1, 2])) == (2, "1")
    assert proposing._index(None, [2, 1, None]) == 2


def test_the_same_data_have_the_same_proposals_and_no_setting_is_proposed_twice() -> None:
    pytest.importorskip("optuna")
    cells: dict[str, Any] = {f"{k}-{on}": {"k": k, "on": on} for k in range(8) for on in "abcd"}
    propose = proposing.from_optuna(cells, 10, seed=3)
    first = propose({}, ())
    assert len(first) == 3
    assert set(first) <= set(cells)
    values = {cell: {0: 1.0 + int(cell[0]), 1: 1.01 + int(cell[0])} for cell in cells}
    tried: tuple[str, ...] = first
    while more := propose({cell: values[cell] for cell in tried}, tried):
        again = proposing.from_optuna(dict(reversed([*cells.items()])), 10, seed=3)
        assert again({cell: values[cell] for cell in tried}, tried) == more
        assert not set(more) & set(tried)
        tried += more
    assert len(tried) == 10
    assert propose({}, first) == (), "nothing is known"


@pytest.mark.parametrize(("when", "chosen"), [("flagged", 8), ("always", 8)])
def test_at_most_eight_cells_are_run_once_more_the_most_flagged_first(when: Any, chosen: int) -> None:
    rows = [(f"c{cell}", n >= cell) for cell in range(12) for n in range(12)]
    runs = pd.DataFrame(rows, columns=["cell_id", "valid"])
    got = tracing.cells(Tracing(when=when), runs)
    assert len(got) == chosen
    assert got == tuple(f"c{cell}" for cell in (range(11, 3, -1) if when == "flagged" else range(8)))
    assert tracing.cells(Tracing(when=when), runs[:0]) == ()
    if when == "flagged":
        assert tracing.cells(Tracing(when=when), runs[runs["valid"]]) == ()
