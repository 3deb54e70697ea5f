"""Everything that is said and drawn of planted tenants, as it was read once (``tests/goldens.py``)."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import priority
from devicelab.analyses.priority import certificate
from devicelab.analyses.priority.data import load
from devicelab.experiment import gauge
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag
from devicelab.model.tuning import Tuning
from tests import goldens
from tests.klodata import FrameResults
from tests.tenantdata import campaign, experiment

SLOWER = {"native": 6.0, "nice": 1.3, "nice:10": 1.15, "standalone+nice": 1.05}
LEFT = {"native": 50.0, "nice": 40.0, "nice:10": 38.0, "standalone+nice": 97.0}
TENANTS = (
    Tenant.model_validate(
        {
            "name": "high",
            "priority": 3,
            "workload": "cpu_tenant",
            "arrivals": "fixed:100",
            "deadline_ms": 20,
            "params": {"model": "resnet", "mode": "int8", "batch": 2},
            "targets": {"p50_ms": "< 7", "p99_ratio": "< 2", "dropped": "<= 1", "preemption_p50_ms": "< 1"},
        }
    ),
    Tenant(name="low", priority=1, workload="cpu_tenant", targets={"share_pct": "> 30", "gpu_use_pct": "> 90"}),
)


def times(scheduler: str, tenant: str, rng: np.random.Generator, n: int) -> np.ndarray:
    one = rng.lognormal(0, 0.03)  # a whole process is faster or slower than another
    return one * (SLOWER.get(scheduler, 1.0) * rng.normal(5, 0.2, n) if tenant == "high" else rng.normal(9, 0.4, n))


def flags(scheduler: str, repetition: int) -> tuple[Flag, ...]:
    if scheduler == "nice:10":
        return (Flag(code="scheduler-not-seen", detail="nice: odd"),) if repetition % 2 else ()
    return (Flag(code="timeout", detail="low"),) if scheduler == "mps" else ()


@cache
def together() -> FrameResults:
    """Two pressures; a leg that lost half of its runs and one that lost all; figures of the card."""
    schedulers = ("standalone", "standalone+nice", "native", "nice", "nice:10", "mps")
    results = campaign(
        experiment(factors={"scheduler": schedulers, "pressure": (2, 16)}, repetitions=7, tenants=TENANTS),
        times,
        throughput=lambda scheduler, tenant: LEFT.get(scheduler, 100.0) if tenant == "low" else 103.0,
        flags=flags,
        dropped=lambda scheduler, tenant: 3 if (scheduler, tenant) == ("native", "high") else 0,
        empty=lambda scheduler, tenant: 2.0 if tenant == "low" and scheduler == "nice" else 0.0,
        gpu_use=lambda scheduler: {"native": 88.0, "nice": 91.5}.get(scheduler, 60.0),
        requests=80,
    )
    more = []
    for run in results.run_rows.to_dict("records"):
        watts = {"native": 400.0, "nice": 350.0}.get(run["scheduler"], 300.0) + run["repetition"]
        more += [(run["run_id"], gauge.PROGRAM, "card_w", watts, "W")]
        if run["scheduler"] != "nice:10":
            more += [(run["run_id"], gauge.PROGRAM, "card_idle_w", 90.0 + run["repetition"], "W")]
        if run["scheduler"] == "nice":
            granted = (("sm_total", 132.0), ("sm_asked", 33.0), ("sm_granted", 40.0))
            more += [(run["run_id"], "low", name, value, "1") for name, value in granted]
    rows = pd.DataFrame(more, columns=list(results.metric_rows.columns))
    return replace(results, metric_rows=pd.concat([results.metric_rows, rows], ignore_index=True))


def tuned(chosen: str, *keep: str) -> FrameResults:
    of = together().experiment.model_copy(update={"tuning": Tuning(aim="low.throughput", keep=keep, chosen=chosen)})
    return replace(together(), experiment=of)


@cache
def alone() -> FrameResults:
    of = experiment(factors={"scheduler": ("standalone",)}, repetitions=3, tenants=TENANTS)
    return campaign(of, times, requests=80)


def _answers(results: FrameResults) -> str:
    return goldens.findings(one(results) for one in priority.ANSWERS.values())


def _certified() -> str:
    services = load(together())
    bounds = ("high.p99_ratio < 2", "low.share_pct > 39")
    said = []
    for results in (tuned("nice", *bounds), tuned("native", *bounds), tuned("mps", *bounds), tuned("nice")):
        said += [*certificate.certificate(results, services), certificate.answer(results, services)]
    return goldens.findings(said)


SAID: dict[str, Callable[[], str]] = {
    "tenants": lambda: goldens.findings(priority.analyse(together())) + _answers(together()),
    "tenants-figures": lambda: goldens.figures(priority.figures(together())),
    "tenants-table": lambda: goldens.table(priority.table(together())),
    "tenants-certified": _certified,
    "tenants-alone": lambda: _answers(alone()) + goldens.figures(priority.figures(alone())),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_and_drawn_of_tenants_is_what_was_read(name: str, request: pytest.FixtureRequest) -> None:
    goldens.same(name, SAID[name](), write=request.config.option.write_goldens)
