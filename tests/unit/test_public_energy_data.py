"""Other people's measurements judge ours: freqbench's raw power samples and tables, Perfetto traces of real phones.

The data stay outside: ``DEVICELAB_FREQBENCH`` names a checkout of kdrag0n/freqbench (or its ``results``),
``DEVICELAB_PERFETTO_TRACES`` a folder with traces, such as ``TestData/Perfetto`` of
microsoft/Microsoft-Performance-Tools-Linux-Android.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devicelab import boards
from devicelab.errors import ConfigError
from devicelab.experiment import energy
from devicelab.report import system_trace
from virtualboards.kernel import load_spec

# Board kind (and virtual board) → results of its chip.
CHIPS = {"qualcomm": ("sm8150", "main"), "qualcomm-865": ("sm8250", "main")}
# Of the 73 published results; older ones keep no samples.
_LEAST_FILES, _LEAST_TOTALS = 60, 800
_HALF_SPEED = 0.6


@pytest.fixture(scope="module")
def published() -> dict[Path, dict[str, Any]]:
    folder = os.environ.get("DEVICELAB_FREQBENCH")
    if not folder:
        pytest.skip("DEVICELAB_FREQBENCH names no checkout of kdrag0n/freqbench")
    paths = sorted(Path(folder).rglob("results.json"))
    assert len(paths) >= _LEAST_FILES, folder
    return {path: json.loads(path.read_text()) for path in paths}


def _totals(results: dict[str, Any]) -> Iterator[tuple[list[float], float, int]]:
    """Samples (W), the published mean power (W) and the length of every measurement."""
    for cpu in results["cpus"].values():
        for point in cpu["freqs"].values():
            for kind in ("active", "idle"):
                one = point.get(kind, {})
                if len(one.get("power_samples") or ()) >= 5:
                    yield [mw / 1e3 for mw in one["power_samples"]], one["power_mean"] / 1e3, one["elapsed_ns"]


def test_our_integral_gives_the_published_totals(published: dict[Path, dict[str, Any]]) -> None:
    """Within 1 % wherever our own error is that small; never beyond what we say it may be wrong by."""
    known = gaps = 0
    wrong: list[tuple[object, ...]] = []
    for path, results in published.items():
        every_ms = results["meta"].get("power_sample_interval")
        for watts, mean, elapsed_ns in _totals(results):
            # Each sample is taken after a pause; the last pause is cut short by the end.
            step_ns = every_ms * 1e6 if every_ms else elapsed_ns / (len(watts) + 0.5)
            times = [round((index + 1) * step_ns) for index in range(len(watts))]
            try:
                got = energy.of_power(times, watts, 0, elapsed_ns)
            except energy.FaultError as fault:
                # Samples came later than they say, so that the end is not covered.
                gaps += fault.code == "energy-gap"
                wrong += [] if fault.code == "energy-gap" else [(str(path), fault.code)]
                continue
            truth = mean * elapsed_ns / 1e9
            off = abs(got.joules - truth)
            if off > max(0.01 * abs(truth), got.error_j):
                wrong.append((str(path), got.joules, truth, got.error_j))
            if got.error_j <= 0.01 * abs(got.joules):
                known += 1
                if off > 0.01 * abs(truth):
                    wrong.append((str(path), got.joules, truth, got.error_j))
    assert wrong == []
    assert known >= _LEAST_TOTALS
    assert gaps < known / 10


@pytest.mark.parametrize("kind", CHIPS)
def test_the_tables_of_the_labs_chips_are_those_that_were_measured(
    kind: str, published: dict[Path, dict[str, Any]]
) -> None:
    chip, variant = CHIPS[kind]
    (results,) = [data for path, data in published.items() if path.parts[-3:-1] == (chip, variant)]
    board, virtual = boards.load(kind), load_spec(kind)
    policies = {policy.cpus: policy for policy in virtual.policies}
    for number, measured in results["cpus"].items():
        # freqbench names a cluster by the first CPU that does no housekeeping.
        (policy,) = [one for cpus, one in policies.items() if int(number) in cpus]
        khz = {int(point) for point in measured["freqs"]}
        assert khz == set(policy.sorted_khz), (kind, number)
        speed = {int(point): data["active"]["coremarks_per_mhz"] for point, data in measured["freqs"].items()}
        half = {point for point, each in speed.items() if each < _HALF_SPEED * max(speed.values())}
        (cluster,) = [one for one in board.clusters if int(number) in one.cpus] or [None]
        assert half == set(policy.half_speed_khz), (kind, number)
        if cluster is not None:
            assert half == set(cluster.dishonest_khz), (kind, cluster.name)


def test_traces_of_real_phones_are_read_whole(tmp_path: Path) -> None:
    folder = os.environ.get("DEVICELAB_PERFETTO_TRACES")
    if not folder:
        pytest.skip("DEVICELAB_PERFETTO_TRACES names no folder with traces")
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix in {".pftrace", ".perfetto-trace"})
    assert paths
    traced = 0
    for path in paths:
        found = system_trace.read(path)
        assert sum(found.packets.values()) > 10, path
        assert found.end_ns >= found.start_ns >= 0, path
        traced += found.events > 0 and 1e9 < found.end_ns - found.start_ns < 3600e9
    assert traced
    cut = tmp_path / "cut.pftrace"
    cut.write_bytes(paths[0].read_bytes()[:-7])
    with pytest.raises(ConfigError, match="cut"):
        system_trace.read(cut)


def test_what_is_no_trace_is_said(tmp_path: Path) -> None:
    pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    path = tmp_path / "x.pftrace"
    path.write_bytes(b"\x1f\x8b not perfetto")
    with pytest.raises(ConfigError, match="cannot read"):
        system_trace.read(path)
    for data in (b"\x0a\xff\xff\xff\xff\xff\xff", b"\x0a\x04\xff\xff\xff\xff"):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match="is no Perfetto trace"):
            system_trace.read(path)
