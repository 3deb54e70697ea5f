"""Several tenants on this computer for real: niceness protects the important one; bundles bring the same home."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devicelab.experiment import files
from devicelab.jobs import sweep as sweeping
from devicelab.jobs.bundle import write_bundle
from devicelab.jobs.import_ import import_result
from devicelab.store import Store
from tests import tenantlab
from tests.tenantdata import experiment

pytestmark = [pytest.mark.slow, tenantlab.UNNICED]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.sqlite") as opened:
        yield opened


@pytest.mark.skipif(os.getpriority(os.PRIO_PROCESS, 0) != 0, reason="this process is nice itself")
def test_native_sharing_hurts_the_important_tenant_and_niceness_helps(tmp_path: Path, store: Store) -> None:
    # Of nine repetitions an interval leaves the slowest and the fastest out, which may have had company.
    changed = ["repetitions=9", "duration_s=2.8", "foreign_pct=100", "foreign_core_pct=100"]
    # Nothing here is asked of the samples, and on cores that are as busy as these each takes long.
    of = files.load("cpu_priority", [*changed, "sample_hz=1"])
    done = sweeping.sweep(of, tenantlab.entry(tmp_path), store, report_to=tmp_path / "report.html")
    assert done.invalid == 0, tenantlab.flags_by_leg(store, done)
    found = {finding.claim: finding for finding in done.findings}
    hurts = found["does native sharing hurt high (P99 over standalone) at pressure copies:16?"]
    assert hurts.verdict == "yes"
    native = found["native at pressure copies:16: high p99_ratio < 3"]
    nice = found["nice:10 at pressure copies:16: high p99_ratio < 3"]
    assert native.low is not None
    assert nice.high is not None
    assert nice.high < native.low
    assert native.estimate > 3 * nice.estimate
    page = (tmp_path / "report.html").read_text()
    for title in ("Targets by leg, with verdicts", "Response of high by leg", "Requests of high against"):
        assert title in page


def test_a_bundle_runs_alone_and_its_result_comes_home_once(tmp_path: Path, store: Store) -> None:
    of = experiment(
        duration_s=0.3,
        settle_s=0,
        sample_hz=5,
        repetitions=1,
        factors={"scheduler": ("standalone", "nice:1")},
        foreign_pct=100.0,
        foreign_core_pct=100.0,
    )
    bundle, there = tmp_path / "job.tar", tmp_path / "there"
    manifest = write_bundle(of, tenantlab.entry(tmp_path, board="linux", dir=str(there / "lab")), bundle)
    there.mkdir()
    subprocess.run(["tar", "-xf", bundle, "-C", there], check=True)
    # A shell and nothing else: no Python of ours, no settings.
    environment = {"PATH": "/usr/bin:/bin"}

    def run() -> "subprocess.CompletedProcess[str]":
        argv = ["sh", str(there / "run.sh")]
        return subprocess.run(argv, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    first = run()
    assert first.returncode == 0, first.stdout + first.stderr
    imported = import_result(there / "result.tar", store)
    assert (imported.campaign, imported.new, imported.damaged) == (manifest.campaign, 3, 0)
    runs = store.results(manifest.campaign).runs()
    assert runs["valid"].all(), list(runs["flags"])
    assert store.campaign(manifest.campaign).status == "complete"
    assert run().returncode == 0  # what is journalled is not run again
    again = import_result(there / "result.tar", store)
    assert (again.new, again.known) == (0, 3)
    findings, page = sweeping.conclude(store, store.results(manifest.campaign), tmp_path / "report.html")
    assert findings
    assert page.is_file()
    assert tenantlab.left_behind([str(there)]) == []
