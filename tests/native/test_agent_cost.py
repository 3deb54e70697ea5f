"""What the agent itself costs while something is measured."""

from pathlib import Path

import pytest
from agent_tools import Bench, codes, load, one_run, plan, shell

from devicelab.model.plan import Sampling


@pytest.mark.slow
def test_ten_samples_a_second_with_those_for_energy_take_less_than_a_fifth_of_a_percent_of_a_core(
    plain_bench: Bench,
) -> None:
    # Ten for clocks and temperatures, seven as of a battery: status, current, voltage, charge, what is plugged in.
    nodes = [str(path) for path in Path("/sys/class/net/lo/statistics").iterdir()][:15]
    nodes += ["/proc/loadavg", "/sys/devices/system/cpu/online"]
    sampling = Sampling(period_ms=100, nodes=tuple(nodes))
    record = plain_bench.run(plan(one_run(load(), hold_ms=5000, sampling=sampling))).record
    assert codes(record) == []
    assert len(record.samples.t_ns) >= 45
    assert all(len(texts) == len(record.samples.t_ns) for texts in record.samples.nodes.values())
    assert record.agent_cpu_ns < 0.002 * (record.window_end_ns - record.window_start_ns)


@pytest.mark.slow
def test_hundreds_of_runs_use_no_more_memory_and_files_than_a_few(plain_bench: Bench) -> None:
    bench = plain_bench
    sizes: dict[str, tuple[int, int]] = {}
    runs = [one_run(load(), shell("head -c 100000 /dev/urandom"), run_id=f"r{i}") for i in range(300)]
    runs += [one_run(load(), run_id="last", hold_ms=60_000)]
    wanted = plan(*runs)
    process = bench.start(wanted)
    for name in ("r30", "last"):
        bench.until_journal_says(wanted, f'"run-start","run_id":"{name}"')
        proc = Path(f"/proc/{process.pid}")
        (peak_kb,) = [int(line.split()[1]) for line in (proc / "status").read_text().splitlines() if "VmHWM" in line]
        sizes[name] = peak_kb, len(list((proc / "fd").iterdir()))
    process.terminate()
    assert process.wait(30) == 143
    assert sizes["last"][0] <= sizes["r30"][0] * 1.1
    assert sizes["last"][1] <= sizes["r30"][1] + 8
