"""Energy through the whole of it: a virtual board whose power is known, the real agent, adb, the store."""

from pathlib import Path

import pytest

from devicelab.store import Store
from devicelab.transports._root import wrap as as_root
from tests.benches import Bench, finished, left_behind, wait_for
from tests.processes import kill_all
from tests.sim_fixtures import StartBoard
from virtualboards import lifecycle
from virtualboards.faults import Fault

pytestmark = [pytest.mark.sim, pytest.mark.slow]

_EXPERIMENT = """question = "How much?"
repetitions = {repetitions}
settle_s = 0.05
hold_s = {hold_s}
foreign_pct = 100
foreign_core_pct = 100
analyses = ["energy"]

[energy]
idle_s = 1.0

[set]
charging = "{charging}"
"""
_NODE = "/sys/class/power_supply/battery/batt_slate_mode"


def _sweep(place: Path, charging: str, *, repetitions: int = 1, hold_s: float = 5.0) -> tuple[str, ...]:
    experiment = place / f"e-{charging.replace(':', '-')}.toml"
    text = _EXPERIMENT.format(charging=charging, repetitions=repetitions, hold_s=hold_s)
    experiment.write_text(text, encoding="utf-8")
    return (
        "sweep",
        str(experiment),
        "--store",
        str(place / f"{experiment.stem}.sqlite"),
        "--report",
        str(place / "r.html"),
    )


def _figures(place: Path, charging: str) -> tuple[dict[str, float], list[str], float]:
    """Figures and flags of the one run, and how long its window was in seconds."""
    with Store.open(place / f"e-{charging.replace(':', '-')}.sqlite") as store:
        results = store.results(store.campaign(None).campaign)
        metrics = results.metrics()
        (run,) = results.runs().itertuples()
        record = results.evidence(str(run.run_id))
        window_s = (record["window_end_ns"] - record["window_start_ns"]) / 1e9
        return dict(zip(metrics["metric"], metrics["value"], strict=True)), [one.code for one in run.flags], window_s


def test_a_planted_power_is_measured_with_the_charger_kept_away_and_given_back(
    virtual_board: StartBoard, tmp_path: Path
) -> None:
    bench = Bench(virtual_board("note10", name="note10", abi="x86_64"), tmp_path)
    lifecycle.arm(bench.board.name, [Fault("power", args={"watts": 2.0})])
    assert bench.run(*_sweep(tmp_path, "off")) == 0, bench.said()
    metrics, flags, window_s = _figures(tmp_path, "off")
    assert flags == []
    assert window_s >= 5.0  # a busy machine ends it late
    assert metrics["power_mean_w"] == pytest.approx(2.0, rel=0.01)
    assert metrics["energy_j"] == pytest.approx(2.0 * window_s, rel=0.01)
    assert metrics["energy_net_j"] == pytest.approx(0.0, abs=0.02 * 2.0 * window_s)
    assert left_behind(bench, bench.fresh) == []
    # With the charger there, or below the floor of charge, there is a reason and no number.
    lifecycle.arm(bench.board.name, [Fault("charge", args={"pct": 50.0})])
    for charging, reasons in (("on", {"energy-charging"}), ("off:60", {"energy-charging", "charger-returned"})):
        assert bench.run(*_sweep(tmp_path, charging, hold_s=1.0)) == 6, bench.said()
        metrics, flags, _ = _figures(tmp_path, charging)
        assert set(flags) == reasons
        assert "energy_j" not in metrics
        assert left_behind(bench, bench.fresh) == []


def test_the_charger_comes_back_after_host_and_agent_were_killed(virtual_board: StartBoard, tmp_path: Path) -> None:
    bench = Bench(virtual_board("note10", name="note10", abi="x86_64"), tmp_path)
    words = _sweep(tmp_path, "off", repetitions=2, hold_s=4.0)
    with bench.device() as device:
        # The whole tree takes a busy machine longer than a run.
        read = as_root(device.facts.root, ["cat", _NODE])
        host = bench.start(*words)
        assert wait_for(lambda: device.transport.run(read).stdout == b"1\n", 60.0), bench.said()
        host.kill()
        kill_all(bench.agents())
        finished(host)
        # Nobody comes back for now.
        assert wait_for(lambda: device.transport.run(read).stdout == b"0\n", 30.0), bench.tree()[_NODE]
    assert wait_for(lambda: not bench.programs("agent"), 10.0), bench.programs("agent")
    assert bench.run("restore") == 0, bench.said()
    assert bench.tree()[_NODE][1] == "0\n"
    assert bench.run(*words, "--resume") == 0, bench.said()
    assert left_behind(bench, bench.fresh) == []
