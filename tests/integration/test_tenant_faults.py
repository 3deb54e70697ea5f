"""Tenants that crash, hang, run out of memory or never get ready invalidate their leg, with the reason, no other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devicelab.errors import ConfigError
from devicelab.model.experiment import Tenant
from devicelab.store import Store
from tests import tenantlab

pytestmark = [pytest.mark.slow, tenantlab.UNNICED]

# Hardly nicer, so that it gets on where other work is done too.
LEG = "nice:1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.sqlite") as opened:
        yield opened


@pytest.mark.parametrize(
    ("how", "reasons"),
    [
        ("crashes", ("program-failed: low was ended by signal 11", "output-unusable: low: hostile printed nothing")),
        ("killed", ("not-ready: low ended before it was ready",)),
        ("dies-loading", ("not-ready: low ended before it was ready", "ImportError: no such model")),
        ("out-of-memory", ("not-ready: low ended before it was ready", "MemoryError")),
        ("mute", ("not-ready: low did not announce READY in time",)),
        ("hangs", ("timeout: low did not end within",)),
        ("babbles", ("output-unusable: low: line 2 is not JSON",)),
    ],
)
def test_a_tenant_that_misbehaves_invalidates_its_leg_and_nothing_else(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, how: str, reasons: tuple[str, ...]
) -> None:
    # Only where somebody waits in vain is the wait short; a busy machine takes its time for the others.
    limits = {"mute": {"ready_ms": 4_000}, "hangs": {"tail_ms": 2_000}}
    tenantlab.with_hostile_workload(monkeypatch, **limits.get(how, {}))
    tenants = (
        Tenant(name="high", priority=2, workload="cpu_tenant", arrivals="fixed:50", params={"work_us": 200}),
        Tenant(name="low", priority=1, workload="hostile", params={"how": how}, targets={"share_pct": "> 20"}),
    )
    factors = {"scheduler": ("standalone", "native", LEG)}
    done = tenantlab.run(tmp_path, store, tenants=tenants, factors=factors)
    flags = tenantlab.flags_by_leg(store, done)
    assert flags["native"] == []
    assert flags["standalone"] == []
    for reason in reasons:
        assert any(reason in flag for flag in flags[LEG]), flags[LEG]
    assert done.runs == done.planned == 4
    assert done.invalid == 1
    assert [finding.verdict for finding in done.findings if finding.claim == f"{LEG}: low share_pct > 20"] == [
        "invalid"
    ]
    assert tenantlab.left_behind([str(tmp_path), "DEVICELAB_READY_FD"]) == []


def test_a_device_without_the_interpreter_is_refused_before_the_first_run(tmp_path: Path, store: Store) -> None:
    device = tenantlab.entry(tmp_path, python="/no/such/python3")
    tenants = (Tenant(name="model", workload="torch_model", params={"model": "matmul"}),)
    with pytest.raises(ConfigError, match="/no/such/python3"):
        tenantlab.run(tmp_path, store, device=device, tenants=tenants, factors={"scheduler": ("native",)})
    assert store.campaigns()[0].runs_done == 0
