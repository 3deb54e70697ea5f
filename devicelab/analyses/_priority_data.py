"""Per tenant and leg: latencies, throughput, starvation, fairness, from raw requests of valid runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devicelab.analyses import _frames, _stats
from devicelab.model.experiment import STANDALONE, Tenant
from devicelab.model.results import Results

NS_PER_MS = 1e6
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
_SECOND_NS = 10**9


@dataclass(frozen=True)
class Service:
    """One tenant in one leg at one pressure, over all valid repetitions.

    Attributes:
        leg: level of ``scheduler`` (``standalone``, ``native``, ``xsched:HPF`` ...).
        pressure: level of ``pressure``, "" if there is none or it says nothing about this cell.
        response_ns: end minus scheduled of every request, all repetitions; ``service_ns`` end minus start.
        by_run: one row a repetition: ``p50_ns p99_ns throughput_per_s dropped missed longest_gap_ns empty_seconds``.
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

    def quantile_ms(self, q: float) -> _stats.Interval:
        """A quantile of the response in ms.

        Requests of a run are not independent, so the order-statistic interval of the pooled requests is widened to
        the range of the repetitions' own quantiles: with few repetitions that is the honest width.
        """
        got = _stats.quantile_interval(self.response_ns / NS_PER_MS, q)
        if not got.known or got.low is None or got.high is None:
            return got
        own = [float(v) for v in self.by_run.get(f"q{q}", pd.Series(dtype=float)).dropna() / NS_PER_MS]
        return _stats.Interval(got.estimate, min([got.low, *own]), max([got.high, *own]), got.n)

    def range_of(self, column: str) -> _stats.Interval:
        """Median of a per-run figure with the range over the repetitions (at least three for a range)."""
        values = self.by_run[column].dropna().to_numpy(float)
        if values.size == 0:
            return _stats.NOTHING
        known = values.size >= 3
        return _stats.Interval(
            float(np.median(values)),
            float(values.min()) if known else None,
            float(values.max()) if known else None,
            int(values.size),
        )


Key = tuple[str, str, str]


def load(results: Results) -> dict[Key, Service]:
    """All services by (tenant, leg, pressure)."""
    runs = _frames.valid_runs(results)
    requests, dropped, metrics = results.samples("requests"), results.samples("dropped"), results.metrics()
    if runs.empty or requests.empty:
        return {}
    tenants = {tenant.name: tenant for tenant in results.experiment.tenants}
    found: dict[Key, list[tuple[pd.DataFrame, pd.Series]]] = {}
    lost = dropped.groupby(["run_id", "program"]).size() if len(dropped) else pd.Series(dtype=int)
    wide = metrics.pivot_table(index=["run_id", "program"], columns="metric", values="value")
    parts = {
        (str(run_id), str(program)): part
        for (run_id, program), part in requests.groupby(["run_id", "program"], sort=False)
    }
    for run in runs.to_dict("records"):
        programs = [program for run_id, program in parts if run_id == run["run_id"]]
        for name in {program.partition("#")[0] for program in programs}:
            if name not in tenants:
                continue
            copies = [p for p in programs if p.partition("#")[0] == name]
            part = pd.concat([parts[run["run_id"], p] for p in copies])
            row = _of_run(part, [(run["run_id"], p) for p in copies], wide, lost, tenants[name])
            pressure = run.get("pressure")
            key = (name, str(run.get("scheduler", "native")), "" if _absent(pressure) else str(pressure))
            found.setdefault(key, []).append((part, row))
    return {key: _service(key, rows) for key, rows in found.items()}


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _of_run(
    part: pd.DataFrame,
    programs: list[tuple[str, str]],
    wide: pd.DataFrame,
    lost: "pd.Series[int]",
    tenant: Tenant,
) -> pd.Series:
    response = (part["end_ns"] - part["scheduled_ns"]).to_numpy()
    own = wide.reindex(programs)
    row = {f"q{q}": float(np.quantile(response, q)) if response.size else np.nan for q in QUANTILES.values()}
    row["throughput_per_s"] = float(own["throughput_per_s"].sum())
    row["dropped"] = float(sum(lost.get(key, 0) for key in programs))
    limit = np.inf if tenant.deadline_ms is None else tenant.deadline_ms * NS_PER_MS
    row["missed"] = float((response > limit).sum()) + row["dropped"]
    row["longest_gap_ms"] = float(own["longest_gap_ns"].max()) / NS_PER_MS
    row["empty_seconds"] = float(own["empty_seconds"].min())
    return pd.Series(row)


def _service(key: Key, rows: list[tuple[pd.DataFrame, pd.Series]]) -> Service:
    requests = pd.concat([part for part, _ in rows])
    return Service(
        *key,
        response_ns=(requests["end_ns"] - requests["scheduled_ns"]).to_numpy(np.int64),
        service_ns=(requests["end_ns"] - requests["start_ns"]).to_numpy(np.int64),
        by_run=pd.DataFrame([row for _, row in rows]),
    )


def standalone_of(services: Mapping[Key, Service], service: Service) -> Service | None:
    """The same tenant alone: at the same pressure where that changes the tenant itself."""
    return services.get((service.tenant, STANDALONE, service.pressure)) or services.get(
        (service.tenant, STANDALONE, "")
    )


def legs(services: Mapping[Key, Service]) -> Iterator[tuple[str, str]]:
    """(leg, pressure) of the legs in which tenants ran together, natives first."""
    together = {(s.leg, s.pressure) for s in services.values() if not s.leg.startswith(STANDALONE)}
    yield from sorted(together, key=lambda key: (key[0] != "native", key))


def jain(shares: NDArray[np.float64]) -> float:
    """Jain's fairness index of shares (1: all equal, 1/n: one has everything). Jain, Chiu, Hawe 1984."""
    total = float(np.square(shares).sum())
    return float(shares.sum() ** 2 / (shares.size * total)) if total > 0 else float("nan")
