"""What the agent itself costs while something is measured."""

from pathlib import Path

import pytest
from agent_tools import Bench, codes, load, one_run, plan

from devicelab.model.plan import Sampling


@pytest.mark.slow
def test_ten_samples_a_second_of_ten_nodes_take_less_than_half_a_percent_of_a_core(plain_bench: Bench) -> None:
    nodes = [str(path) for path in Path("/sys/class/net/lo/statistics").iterdir()][:8]
    nodes += ["/proc/loadavg", "/sys/devices/system/cpu/online"]
    sampling = Sampling(period_ms=100, nodes=tuple(nodes))
    record = plain_bench.run(plan(one_run(load(), hold_ms=5000, sampling=sampling))).record
    assert codes(record) == []
    assert len(record.samples.t_ns) >= 45
    assert all(len(texts) == len(record.samples.t_ns) for texts in record.samples.nodes.values())
    assert record.agent_cpu_ns < 0.005 * (record.window_end_ns - record.window_start_ns)
