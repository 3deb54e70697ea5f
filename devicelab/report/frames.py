"""What the report's own tables and figures are made of: labels, groups of cells, distributions of samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devicelab.analyses._frames import label, level_text
from devicelab.errors import SamplesDroppedError
from devicelab.model.results import Results

QUANTILES = {"p1": 0.01, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Distribution:
    """Samples of one quantity.

    Attributes:
        name: stem of the figures made of it.
        title: for people, beginning with a capital.
        unit: of the values.
        samples: ``run_id value``, one row a sample, valid runs only.
        note: how the samples were taken, a sentence.
    """

    name: str
    title: str
    unit: str
    samples: pd.DataFrame
    note: str


def factors(results: Results) -> list[str]:
    """Columns of ``runs()`` that hold levels, in the experiment's order; which tenant is alone is one of them."""
    columns = results.runs().columns
    names = [*results.experiment.factors, *results.experiment.set, *(["tenant"] if results.experiment.tenants else [])]
    found = [name if name in columns else f"factor_{name}" for name in names]
    return [name for name in dict.fromkeys(found) if name in columns]


def varied(results: Results) -> list[str]:
    """Those factors that have more than one level among the runs."""
    runs = results.runs()
    return [name for name in factors(results) if len(set(runs[name].map(str))) > 1]


def group_labels(runs: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """Label of every run by the given factors."""
    rows = runs[list(names)].itertuples(index=False)
    texts = [label({name: level_text(level) for name, level in zip(names, row, strict=True)}) for row in rows]
    return pd.Series(texts, index=runs.index, dtype="str")


def cell_order(results: Results, runs: pd.DataFrame) -> list[str]:
    """Cell ids in the order of the factors' levels as the experiment lists them."""
    experiment = results.experiment
    ranks = {name: {str(level): i for i, level in enumerate(levels)} for name, levels in experiment.factors.items()}
    first = runs.drop_duplicates("cell_id")

    def rank(position: int) -> tuple[int, ...]:
        row = first.iloc[position]
        # A level the cell does not have (no placement without a load) comes first.
        return tuple(ranks[name].get(str(row[name]), -1) for name in experiment.factors if name in first.columns)

    return [str(first["cell_id"].iloc[i]) for i in sorted(range(len(first)), key=rank)]


def distributions(results: Results) -> tuple[Distribution, ...]:
    """Latency and T_prod from the raw samples of valid runs, as far as there are any."""
    runs = results.runs()
    valid = set(runs.loc[runs["valid"], "run_id"])
    found = []
    for program, inferences in _by_program(_samples(results, "inferences"), valid):
        if "total_ns" in inferences:
            plain = inferences[inferences["profiled"] == 0] if "profiled" in inferences else inferences
            chosen = plain if len(plain) else inferences
            note = "Inferences without profiling." if len(plain) else "Every inference was profiled, which costs time."
            found.append(_named("latency", "Time of one inference", program, _of(chosen, "total_ns", valid), note))
    for program, kernels in _by_program(_samples(results, "kernels"), valid):
        if {"queued_ns", "inference"} <= set(kernels.columns):
            note = (
                "Time between two kernels handed to the queue; the first of each inference has no predecessor and is "
                "left out."
            )
            title = "Production time of a kernel (T_prod)"
            found.append(_named("t-prod", title, program, _of(t_prod(kernels), "t_prod_ns", valid), note))
    for program, requests in _by_program(_samples(results, "requests"), valid):
        if "latency_ns" in requests:
            samples = _of(requests, "latency_ns", valid)
            found.append(_named("latency", "Latency of a request", program, samples, "From its scheduled time."))
    return tuple(one for one in found if len(one.samples))


def program_of(names: pd.Series) -> pd.Series:
    """What copies are of: ``low`` for ``low#3``."""
    return names.map({name: str(name).partition("#")[0] for name in names.unique()})


def _by_program(table: pd.DataFrame, valid: set[str]) -> list[tuple[str, pd.DataFrame]]:
    """Samples by what took them; "" where all runs measured one program. Times of two belong to neither together."""
    if "program" not in table or len(set(program_of(pd.Series(table["program"].unique())))) < 2:
        return [("", table)]
    kept = table[table["run_id"].isin(valid)]
    programs = program_of(kept["program"])
    if programs.nunique() < 2:
        return [("", table)]
    return [(str(name), part) for name, part in kept.groupby(programs, sort=False)]


def _named(name: str, title: str, program: str, samples: pd.DataFrame, note: str) -> Distribution:
    if program:
        name, title = f"{name}-{program}", f"{title}: {program}"
    return Distribution(name, title, "ns", samples, note)


def t_prod(kernels: pd.DataFrame) -> pd.DataFrame:
    """``run_id t_prod_ns``: differences of ``queued_ns`` within an inference, the first of each left out."""
    # Numbers instead of texts: a million rows are sorted and compared at once.
    keys = [kernels["inference"].to_numpy()]
    keys += [pd.factorize(kernels[name])[0] for name in ("program", "run_id") if name in kernels]
    within = kernels["kernel"].to_numpy() if "kernel" in kernels else np.arange(len(kernels))
    queued, runs = kernels["queued_ns"].to_numpy(), kernels["run_id"]
    if not _ascending((within, *keys)):
        order = np.lexsort((within, *keys))
        keys, queued, runs = [key[order] for key in keys], queued[order], runs.iloc[order]
    same = np.ones(max(0, len(queued) - 1), dtype=bool)
    for key in keys:
        same &= key[1:] == key[:-1]
    return pd.DataFrame({"run_id": runs.iloc[1:][same].array, "t_prod_ns": np.diff(queued)[same]})


def _ascending(keys: Sequence[NDArray[np.int64]]) -> bool:
    """Whether rows are in the order that ``np.lexsort`` would give them: the last key counts most."""
    tied = np.ones(max(0, len(keys[-1]) - 1), dtype=bool)
    for key in reversed(keys):
        if (tied & (key[1:] < key[:-1])).any():
            return False
        tied &= key[1:] == key[:-1]
    return True


def quantiles(values: pd.Series, by: pd.Series) -> pd.DataFrame:
    """Rows of quantiles with ``n``, ``min`` and ``max``, indexed by group in the order of appearance."""
    # As numbers: labels of a million samples as texts would take more memory than the samples.
    groups = pd.Series(pd.Categorical(by, categories=by.dropna().unique()), index=values.index)
    grouped = values.groupby(groups, sort=False, observed=True)
    table: pd.DataFrame = grouped.quantile(np.asarray(list(QUANTILES.values()))).unstack()  # noqa: PD010 - the inner index becomes columns
    table.columns = pd.Index(list(QUANTILES))
    table.insert(0, "n", grouped.size())
    table["min"], table["max"] = grouped.min(), grouped.max()
    table.index = pd.Index(table.index.tolist())
    return table


def _samples(results: Results, table: str) -> pd.DataFrame:
    """Nothing where they were dropped on request: the page says so itself."""
    try:
        return results.samples(table)
    except SamplesDroppedError:
        return pd.DataFrame({"run_id": pd.Series(dtype="str")})


def _of(table: pd.DataFrame, column: str, valid: set[str]) -> pd.DataFrame:
    kept = table.loc[table["run_id"].isin(valid), ["run_id", column]]
    return kept.rename(columns={column: "value"}).reset_index(drop=True)
