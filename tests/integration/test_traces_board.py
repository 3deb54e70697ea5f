"""A system trace on a phone: simpleperf, a stand-in of it, on a virtual board, attached to the measured program."""

from pathlib import Path

import pytest

from devicelab.experiment import tracing
from devicelab.store import Store
from devicelab.transports._root import wrap as as_root
from tests.benches import Bench, left_behind
from tests.sim_fixtures import StartBoard

pytestmark = [pytest.mark.sim, pytest.mark.slow]

# Writes down how it was called when it is told to end, or when what it records has ended, as simpleperf does.
_SIMPLEPERF = r"""#!/system/bin/sh
said="$*"; pid=${said##*-p }; pid=${pid%% *}
while [ "$1" != -o ]; do shift; done
comm=$(cat /proc/$pid/comm)
trap 'echo "$said; first it was $comm" >"$2"; exit 0' TERM
while [ -d "/proc/$pid" ]; do sleep 0.05; done
echo "$said; first it was $comm" >"$2"
"""
_EXPERIMENT = """question = "What happened?"
repetitions = 1
settle_s = 0.05
foreign_pct = 100
foreign_core_pct = 100
analyses = []

[factors]
load = ["1000 5000 20"]

[measure]
workload = "command"

[measure.params]
argv = ["sleep", "1"]
output = "none"

[trace]
when = "always"
"""


def test_simpleperf_on_a_phone_records_the_measured_program_alone(virtual_board: StartBoard, tmp_path: Path) -> None:
    bench = Bench(virtual_board("note10", name="note10", abi="x86_64"), tmp_path)
    with bench.device() as device:
        place = 'mkdir -p /product/bin && printf %s "$1" >/product/bin/simpleperf && chmod 755 /product/bin/simpleperf'
        made = device.transport.run(as_root(device.facts.root, ["sh", "-c", place, "sh", _SIMPLEPERF]))
        assert made.exit_code == 0, made
    experiment = tmp_path / "traced.toml"
    experiment.write_text(_EXPERIMENT, encoding="utf-8")
    store = tmp_path / "lab.sqlite"
    report = tmp_path / "r.html"
    assert bench.run("sweep", str(experiment), "--store", str(store), "--report", str(report)) == 0, bench.said()
    with Store.open(store) as opened:
        results = opened.results(opened.campaign(None).campaign)
        runs = results.runs()
        (run,) = (run for run, flags in zip(runs["run_id"], runs["flags"], strict=True) if flags)
        (measured,) = (one for one in results.evidence(run)["programs"] if one["role"] == "measure")
        said = results.output(run, tracing.OUTPUT).decode()
    assert said.startswith(f"record -p {measured['pid']} -f 99 ")
    assert said.endswith("; first it was agent\n")  # it had not begun yet
    assert [path.name for path in (tmp_path / "r-traces").glob("*.data")] == [f"{run}-system.simpleperf.data"]
    assert left_behind(bench, bench.fresh) == []
