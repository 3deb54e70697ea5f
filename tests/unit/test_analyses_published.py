"""Our quantiles, ratios and shares on the raw data of XSched's published artefact (OSDI 2025).

The data are public (github.com/XpuOS/xsched-artifacts, `results/`) and no part of this repository: the variable
DEVICELAB_XSCHED_ARTIFACTS names a copy, and without it these tests are skipped by name.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from devicelab.analyses import _stats
from devicelab.analyses.priority.data import jain

FOLDER = os.environ.get("DEVICELAB_XSCHED_ARTIFACTS", "")
RESULTS = Path(FOLDER) / "results"
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="DEVICELAB_XSCHED_ARTIFACTS names no copy of XSched's published results"
)

Floats = NDArray[np.float64]

# P99 of the foreground task over standalone, native and under XSched, of the artefact's own CDFs, by accelerator. The
# paper says native 1.60 to 2.19, XSched 1.02 to 1.30: of the published raw data that is so of all but DLA's native leg
# (2.25) and MI50's under XSched (1.67).
FIG7 = {
    "910b": (1.60, 1.19),
    "dla": (2.25, 1.19),
    "gv100": (2.16, 1.13),
    "igpu": (1.90, 1.06),
    "k40m": (2.08, 1.04),
    "mi50": (1.79, 1.67),
    "npu3720": (1.91, 1.08),
    "ofa": (1.69, 1.29),
    "pva": (1.63, 1.08),
}


def cdf(leg: str, device: str) -> Floats:
    """Times in ns, the artefact's CDF without its first column: one value a request."""
    return np.loadtxt(RESULTS / f"fig7/raw/fp_{leg}_{device}.cdf")[:, 1]


def rates(leg: str, device: str) -> list[float]:
    """Throughput of the foreground task, then of the background one."""
    lines = (RESULTS / f"fig7/raw/up_{leg}_{device}.thpt").read_text().splitlines()
    return [float(line.split()[0]) for line in lines if line.strip()]


@pytest.mark.parametrize("device", FIG7)
def test_ratios_of_the_p99_are_the_published_ones(device: str) -> None:
    p99 = {leg: _stats.run_quantile(cdf(leg, device), 0.99) for leg in ("sa", "base", "xsched")}
    native, xsched = FIG7[device]
    assert p99["base"] / p99["sa"] == pytest.approx(native, rel=0.01)
    assert p99["xsched"] / p99["sa"] == pytest.approx(xsched, rel=0.02)


@pytest.mark.parametrize("device", FIG7)
def test_a_p99_of_too_few_requests_has_no_interval(device: str) -> None:
    """368 independent values are the least for two bounds; of four devices there are 1000, of five 100 or 200."""
    values = cdf("xsched", device)
    got = _stats.quantile_interval(values, 0.99)
    assert got.known == (values.size >= 368)
    assert np.isfinite(got.estimate)


@pytest.mark.parametrize("device", FIG7)
def test_shares_follow_what_was_asked_for(device: str) -> None:
    """Native: two equal tenants get equal shares. Under XSched three to one was asked for, at 0.9 to 1.3 in all."""
    (alone,) = rates("sa", device)
    native, xsched = (np.array(rates(leg, device)) / alone for leg in ("base", "xsched"))
    assert jain(native) == pytest.approx(1, abs=0.001)
    assert 2.5 < xsched[0] / xsched[1] < 3.3
    assert jain(xsched) == pytest.approx(0.8, abs=0.05)  # of shares as 3 to 1


def test_the_serving_case_is_told_with_its_few_requests() -> None:
    """Triton's own priorities: 1.53 times standalone, as published. 177 to 186 requests carry no interval of a P99."""
    raw = {
        leg: np.loadtxt(RESULTS / f"fig13a/raw/bert-high.{leg}.txt", delimiter=",")[:, 1]
        for leg in ("standalone", "triton", "triton-p", "xsched")
    }
    p99 = {leg: _stats.run_quantile(values, 0.99) for leg, values in raw.items()}
    assert p99["triton-p"] / p99["standalone"] == pytest.approx(1.53, abs=0.01)
    assert p99["triton"] / p99["standalone"] > p99["triton-p"] / p99["standalone"]
    assert p99["xsched"] / p99["standalone"] < 1.07  # published as 1.07; the raw data give 0.93
    assert not any(_stats.quantile_interval(values, 0.99).known for values in raw.values())
    assert all(_stats.median_interval(values).known for values in raw.values())
