"""What the report's own tables and figures are made of: labels, groups of cells, distributions of samples."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devicelab.analyses._frames import label, level_text
from devicelab.analyses._production import production_times
from devicelab.errors import SamplesDroppedError
from devicelab.model.results import Results, portions

QUANTILES = {"p1": 0.01, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Distribution:
    """Samples of one quantity.

    Attributes:
        name: stem of the figures made of it.
        title: for people, beginning with a capital.
        unit: of the values.
        samples: by run, valid runs only; none is empty.
        note: how the samples were taken, a sentence.
    """

    name: str
    title: str
    unit: str
    samples: Mapping[str, NDArray[Any]]
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
    valid = runs.loc[runs["valid"], "run_id"].tolist()
    found = []
    every = _by_program(_taken(results, "inferences", "total_ns", valid))
    plain = _by_program(_taken(results, "inferences", "total_ns", valid, without="profiled"))
    for program, inferences in every.items():
        chosen = plain.get(program) or inferences
        note = (
            "Inferences without profiling." if program in plain else "Every inference was profiled, which costs time."
        )
        found.append(_named("latency", "Time of one inference", program, chosen, note))
    for program, kernels in _by_program(_t_prod(results)).items():
        note = (
            "Time between two kernels handed to the queue; the first of each inference has no predecessor and is "
            "left out."
        )
        found.append(_named("t-prod", "Production time of a kernel (T_prod)", program, kernels, note))
    for program, requests in _by_program(_taken(results, "requests", "latency_ns", valid)).items():
        found.append(_named("latency", "Latency of a request", program, requests, "From its scheduled time."))
    return tuple(found)


def program_of(names: pd.Series) -> pd.Series:
    """What copies are of: ``low`` for ``low#3``."""
    return names.map({name: str(name).partition("#")[0] for name in names.unique()})


def _by_program(taken: Mapping[tuple[str, str], Sequence[NDArray[Any]]]) -> dict[str, dict[str, NDArray[Any]]]:
    """Samples by what took them, run by run; "" where one program did. Times of two belong to neither together."""
    several = len({program.partition("#")[0] for program, _ in taken}) > 1
    found: dict[str, dict[str, list[NDArray[Any]]]] = {}
    for (program, run), parts in taken.items():
        if any(map(len, parts)):
            found.setdefault(program.partition("#")[0] if several else "", {}).setdefault(run, []).extend(parts)
    return {
        program: {run: np.concatenate(parts) if len(parts) > 1 else parts[0] for run, parts in by_run.items()}
        for program, by_run in found.items()
    }


def _taken(
    results: Results, table: str, column: str, valid: Collection[str], *, without: str = ""
) -> dict[tuple[str, str], list[NDArray[Any]]]:
    """A column of a table by program and run; of rows that are 0 in the column ``without``, if there is such a one.

    Nothing where the samples were dropped on request: the page says so itself.
    """
    found: dict[tuple[str, str], list[NDArray[Any]]] = {}
    with contextlib.suppress(SamplesDroppedError):
        for part in portions(results, table, valid):
            if column in part:
                rows = part[part[without] == 0] if without in part else part
                names = [name for name in ("program", "run_id") if name in rows]
                for key, values in rows.groupby(names, sort=False, observed=True)[column]:
                    texts = ("", *map(str, key))[-2:]
                    found.setdefault((texts[0], texts[1]), []).append(values.to_numpy())
    return found


def _t_prod(results: Results) -> dict[tuple[str, str], list[NDArray[Any]]]:
    with contextlib.suppress(SamplesDroppedError):
        return {key: [values] for key, values in production_times(results).items()}
    return {}


def _named(name: str, title: str, program: str, samples: Mapping[str, NDArray[Any]], note: str) -> Distribution:
    if program:
        name, title = f"{name}-{program}", f"{title}: {program}"
    return Distribution(name, title, "ns", samples, note)


def quantiles(groups: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """A row of quantiles with ``n``, ``min`` and ``max`` for each group."""
    rows = {name: np.quantile(values, list(QUANTILES.values())) for name, values in groups.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(QUANTILES), dtype="float64")
    table.insert(0, "n", [len(values) for values in groups.values()])
    table["min"], table["max"] = ([end(values) for values in groups.values()] for end in (np.min, np.max))
    return table
