"""What the report's own figures and tables make of several programs: each tenant for itself."""

from dataclasses import replace

import numpy as np
import pandas as pd

from devicelab.report import frames, tables
from devicelab.report.figures import built_in
from tests.klodata import FrameResults
from tests.tenantdata import campaign, experiment


def response(_: str, tenant: str, rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(5 if tenant == "high" else 500, 0.1, n)


def tenants() -> FrameResults:
    made = campaign(experiment(), response, throughput=lambda _, tenant: 100.0 if tenant == "high" else 2.0)
    copies = made.metric_rows[made.metric_rows["program"] == "low"]
    more = copies.assign(program="low#2")
    made.metric_rows = pd.concat([made.metric_rows, more], ignore_index=True)
    return made


def test_figures_of_runs_tell_tenants_apart_and_put_copies_together() -> None:
    """One median of both would belong to neither."""
    figures = {figure.title: figure for figure in built_in(tenants(), {})}
    rows = next(figure for title, figure in figures.items() if "hroughput" in title).data
    medians = rows.groupby("cell")["value"].median().round()
    shared = {cell.rpartition(" · ")[2]: median for cell, median in medians.items() if "native" in cell}
    assert shared == {"high": 100, "low": 2}


def test_the_rows_of_tenants_alone_have_names_of_their_own() -> None:
    results = tenants()
    labels = [view.cell for view in tables.condition_views(results, {})]
    assert len(set(labels)) == len(labels)
    assert sorted(label for label in labels if "standalone" in label) == [
        "scheduler standalone, pressure copies:2, tenant low",
        "scheduler standalone, tenant high",
    ]


def test_samples_of_two_programs_are_two_distributions() -> None:
    results = tenants()
    runs = list(results.run_rows["run_id"])
    parts = [
        pd.DataFrame({"run_id": runs, "program": p, "total_ns": ns}) for p, ns in (("a", 1e6), ("b", 9e6), ("b#2", 8e6))
    ]
    results.sample_tables["inferences"] = pd.concat(parts, ignore_index=True)
    found = {one.name: one for one in frames.distributions(results)}
    assert set(found) == {"latency-a", "latency-b"}
    assert set(np.concatenate(list(found["latency-b"].samples.values()))) == {9e6, 8e6}
    results.sample_tables["inferences"] = parts[0]
    assert [one.name for one in frames.distributions(results)] == ["latency"]


def test_the_files_of_an_installed_scheduler_are_listed_with_their_hashes() -> None:
    text = f"{'a' * 64}  bin/xserver\nsha256sum: lib: no such file\n{'b' * 64}  lib/libshimcuda.so\n{'c' * 63}  short\n"
    witness = {"name": "xsched files", "exit_code": 0, "stdout": text + f"{'d' * 64}  more\n" * 1000}
    results = tenants()
    results = replace(results, records={run_id: {"witnesses": [witness]} for run_id in results.run_rows["run_id"]})
    rows = tables.binaries(results).rows
    assert [row for row in rows if row[0].startswith("xsched: ")] == [
        ("xsched: xserver", "a" * 64),
        ("xsched: libshimcuda.so", "b" * 64),
        ("xsched: more", "d" * 64),
    ]
    assert tables.binaries(tenants()).rows == ()
