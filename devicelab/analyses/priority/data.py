"""Per tenant and leg: latencies, throughput, starvation, fairness, from raw requests of valid runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devicelab.analyses import _frames, _stats
from devicelab.experiment import gauge
from devicelab.model.experiment import STANDALONE, Experiment, Tenant
from devicelab.model.results import Results

NS_PER_MS = 1e6
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}

OF_CARD = ("gpu_use_pct", "card_w", "card_idle_w")
"""Figures of a run that are the card's."""

SMS = ("sm_total", "sm_asked", "sm_granted")
"""Figures of a run that say what a tenant's green context was granted."""

Times = Literal["response", "service"]
Key = tuple[str, str, str]
Leg = tuple[str, str]

_NOTHING_SERVED = pd.DataFrame({name: np.empty(0, np.int64) for name in ("scheduled_ns", "start_ns", "end_ns")})


@dataclass(frozen=True)
class Windows:
    """When the tenants of a run work, from their common start: ``length_ns`` long, one every ``every_ns``."""

    length_ns: int
    every_ns: int

    @classmethod
    def of(cls, experiment: Experiment) -> "Windows":
        """Those of an experiment's runs."""
        length, pause = experiment.duration_s, experiment.pause_s if experiment.windows > 1 else 0.0
        return cls(round(length * 1e9), round(length * 1e9) + round(pause * 1e9))

    def left_ns(self, scheduled_ns: NDArray[Any]) -> NDArray[Any]:
        """From a scheduled time to the end of its own window."""
        return self.length_ns - scheduled_ns % max(self.every_ns, 1)


@dataclass(frozen=True)
class Service:
    """One tenant in one leg at one pressure, over all valid repetitions.

    Attributes:
        leg: level of ``scheduler`` (``standalone``, ``native``, ``xsched:HPF`` ...).
        pressure: level of ``pressure``, "" if there is none or it says nothing about this cell.
        response_ns: end minus scheduled of every request, all repetitions. A request that still waited when the window
            ended counts with what it had waited by then, a lower bound: leaving it out would make an overloaded tenant
            look fast. (Where a full queue drops requests, those have no response; they are counted as dropped.)
        service_ns: end minus start of those that were served.
        by_run: one row a repetition, which is its index: ``throughput_per_s dropped missed longest_gap_ms
            empty_seconds copies gpu_use_pct card_w card_idle_w`` and ``response q0.5`` ... ``service q0.999`` in ns.
    """

    tenant: str
    leg: str
    pressure: str
    response_ns: NDArray[np.int64]
    service_ns: NDArray[np.int64]
    by_run: pd.DataFrame

    @property
    def repetitions(self) -> int:
        """Number of valid runs."""
        return len(self.by_run)

    def figure(self, column: str) -> _stats.Interval:
        """Median over repetitions of a per-run figure, with its interval."""
        return _stats.median_interval(self.by_run[column])

    def quantile_ms(self, q: float, of: Times = "response") -> _stats.Interval:
        """A quantile of the response (or service) in ms: each run's own, median over the repetitions.

        Requests of a run are not independent (one stall delays many), so no interval is taken from their number. Where
        every run has too few for the quantile, all requests together give an estimate without bounds.
        """
        got = self.figure(f"{of} q{q}").map(lambda ns: ns / NS_PER_MS)
        values = self.response_ns if of == "response" else self.service_ns
        if got.n or values.size == 0:
            return got
        return _stats.Interval(float(np.quantile(values, q)) / NS_PER_MS, None, None, 0)


def load(results: Results) -> dict[Key, Service]:
    """All services by (tenant, leg, pressure), from valid runs."""
    runs = _frames.valid_runs(results)
    if runs.empty:
        return {}
    tenants = {tenant.name: tenant for tenant in results.experiment.tenants}
    done, lost = _by_program(results.samples("requests")), _by_program(results.samples("dropped"))
    told = _figures(results.metrics())
    # A tenant that served nothing has figures and no requests: it ran all the same.
    rated = (key for key, figures in told.items() if "throughput_per_s" in figures)
    ran: dict[str, list[str]] = {}
    for owner, program in dict.fromkeys((*done, *lost, *rated)):
        ran.setdefault(owner, []).append(program)
    windows = Windows.of(results.experiment)
    found: dict[Key, list[_OneRun]] = {}
    for run in runs.to_dict("records"):
        run_id = str(run["run_id"])
        card = told.get((run_id, gauge.PROGRAM), {})
        for name, tenant in tenants.items():
            programs = [(run_id, program) for program in ran.get(run_id, ()) if program.partition("#")[0] == name]
            if not programs:
                continue
            served = [done[program] for program in programs if program in done]
            own = [told.get(program, {}) for program in programs]
            one = _one_run(
                tenant,
                pd.concat(served) if served else _NOTHING_SERVED,
                [lost[program] for program in programs if program in lost],
                own,
                windows,
            )
            one.row.update({name: card.get(name, np.nan) for name in OF_CARD})
            one.row.update({name: _largest(own, name) for name in SMS})
            one.row.update(copies=float(len(programs)), repetition=float(run["repetition"]))
            found.setdefault((name, *leg_of(run)), []).append(one)
    return {key: _service(key, every) for key, every in found.items()}


def leg_of(run: Mapping[Any, Any]) -> Leg:
    """(scheduler, pressure) of a row of ``Results.runs``; a pressure the cell does not have is ""."""
    # A column of numbers beside runs without one holds floats: 16 has to stay "16".
    pressure = _frames.level_text(run.get("pressure"))
    return str(run.get("scheduler", "native")), "" if pressure == "-" else pressure


@dataclass(frozen=True)
class _OneRun:
    response_ns: NDArray[np.int64]
    service_ns: NDArray[np.int64]
    row: dict[str, float]


def _by_program(frame: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    if frame.empty:
        return {}
    groups = frame.groupby(["run_id", "program"], sort=False)
    return {(str(run_id), str(program)): part for (run_id, program), part in groups}


def _figures(metrics: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    """The figures of each program of each run; of several of a name the last."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    columns = (metrics[name].to_list() for name in ("run_id", "program", "metric", "value"))
    for run_id, program, metric, value in zip(*columns, strict=True):
        if np.isfinite(value):
            found.setdefault((str(run_id), str(program)), {})[metric] = float(value)
    return found


def _largest(own: Sequence[Mapping[str, float]], name: str) -> float:
    """The largest of what a tenant's programs say; NaN where none says it."""
    return max((figures[name] for figures in own if name in figures), default=np.nan)


def _one_run(
    tenant: Tenant,
    done: pd.DataFrame,
    lost: list[pd.DataFrame],
    own: Sequence[Mapping[str, float]],
    windows: Windows,
) -> _OneRun:
    dropped = np.concatenate([part["scheduled_ns"].to_numpy(np.int64) for part in lost]) if lost else np.empty(0)
    served = (done["end_ns"] - done["scheduled_ns"]).to_numpy(np.int64)
    waited = windows.left_ns(dropped) if not tenant.params.get("queue") else np.empty(0)
    response = np.concatenate([served, waited[waited > 0].astype(np.int64)])
    service = (done["end_ns"] - done["start_ns"]).to_numpy(np.int64)
    row = {
        f"{name} q{q}": _stats.run_quantile(values, q)
        for name, values in (("response", response), ("service", service))
        for q in QUANTILES.values()
    }
    limit = np.inf if tenant.deadline_ms is None else tenant.deadline_ms * NS_PER_MS
    row |= {
        "throughput_per_s": sum(figures.get("throughput_per_s", 0.0) for figures in own),
        "dropped": float(dropped.size),
        "missed": float((served > limit).sum() + dropped.size),
        "longest_gap_ms": _largest(own, "longest_gap_ns") / NS_PER_MS,
        "empty_seconds": _largest(own, "empty_seconds"),
    }
    return _OneRun(response, service, row)


def _service(key: Key, every: Iterable[_OneRun]) -> Service:
    runs = list(every)
    return Service(
        *key,
        response_ns=np.concatenate([one.response_ns for one in runs]),
        service_ns=np.concatenate([one.service_ns for one in runs]),
        by_run=pd.DataFrame([one.row for one in runs]).set_index("repetition"),
    )


def standalone_of(services: Mapping[Key, Service], service: Service) -> Service | None:
    """The same tenant alone: at the same pressure where that changes the tenant itself."""
    return services.get((service.tenant, STANDALONE, service.pressure)) or services.get(
        (service.tenant, STANDALONE, "")
    )


def legs(results: Results) -> tuple[Leg, ...]:
    """(leg, pressure) of everything that was run, valid or not: native first, then as the experiment lists them."""
    factors = results.experiment.factors
    order = {name: [_frames.level_text(level) for level in factors.get(name, ())] for name in ("scheduler", "pressure")}

    def rank(leg: Leg) -> tuple[int, bool, int, Leg]:
        return _place(leg[1], order["pressure"]), leg[0] != "native", _place(leg[0], order["scheduler"]), leg

    return tuple(sorted({leg_of(run) for run in results.runs().to_dict("records")}, key=rank))


def _place(level: str, order: list[str]) -> int:
    return order.index(level) if level in order else len(order)


def shared(leg: Leg) -> bool:
    """Whether tenants ran together in a leg."""
    return not is_alone(leg[0])


def is_alone(scheduler: str) -> bool:
    """Whether a level of ``scheduler`` has every tenant alone."""
    return scheduler == STANDALONE or scheduler.startswith(f"{STANDALONE}+")


def jain(shares: NDArray[np.float64]) -> float:
    """Jain's fairness index of shares (1: all equal, 1/n: one has everything). Jain, Chiu, Hawe 1984."""
    total = float(np.square(shares).sum())
    return float(shares.sum() ** 2 / (shares.size * total)) if total > 0 else float("nan")
