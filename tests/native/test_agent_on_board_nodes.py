"""Steps and undo on nodes that answer as a phone's kernel does: EINVAL for min above max, nodes that vanish."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_tools import Bench, codes, load, one_run, plan, until

from devicelab.errors import DeviceRefusedError
from devicelab.model.plan import Run, Sampling, Write
from virtualboards.kernel import Kernel, load_spec, mount

pytestmark = pytest.mark.sim
CPU = "sys/devices/system/cpu"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Path]:
    """The node tree of a Snapdragon 855 board, mounted."""
    where = tmp_path / "board"
    where.mkdir()
    try:
        mounted = mount(Kernel(load_spec("qualcomm")), where)
    except DeviceRefusedError as error:
        pytest.skip(str(error))
    yield where
    mounted.close()


def write(path: Path, value: str, **more: object) -> Write:
    return Write.model_validate({"path": str(path), "value": value, "why": "x", **more})


def limits(board: Path) -> dict[str, str]:
    nodes = [*board.glob(f"{CPU}/cpufreq/policy*/scaling_*"), *board.glob(f"{CPU}/cpu*/online")]
    return {
        str(path): path.read_text() for path in nodes if path.stat().st_mode & 0o200 and "setspeed" not in path.name
    }


def test_limits_come_back_though_each_order_is_refused_once(bench: Bench, board: Path) -> None:
    policy = board / CPU / "cpufreq" / "policy4"
    before = limits(board)
    low, high = policy / "scaling_min_freq", policy / "scaling_max_freq"
    rising = (write(high, "2419200"), write(low, "2419200"))
    falling = (write(low, "710400"), write(high, "710400"))
    runs = [one_run(run_id=f"r{i}", steps=steps, hold_ms=1) for i, steps in enumerate((rising, falling))]
    crossed = one_run(run_id="r2", steps=(*falling, *rising), hold_ms=1)
    told = bench.run(plan(*runs, crossed, setup=(write(low, "1612800"), write(high, "1612800"))))
    assert [codes(r) for r in told.records] == [[], [], []]
    assert all(step.held for r in told.records for step in r.restore)
    assert limits(board) == before


def test_a_core_switched_off_takes_its_nodes_and_both_come_back(bench: Bench, board: Path) -> None:
    cpu7, policy7 = board / CPU / "cpu7" / "online", board / CPU / "cpufreq" / "policy7"
    before = limits(board)
    steps = (write(policy7 / "scaling_max_freq", "825600"), write(cpu7, "0"))
    watched = str(board / CPU / "cpu7" / "topology" / "core_id")
    sampling = Sampling(period_ms=20, nodes=(watched,))
    record = bench.run(plan(one_run(steps=steps, hold_ms=100, sampling=sampling))).record
    assert codes(record) == []
    assert set(record.samples.nodes[watched]) == {None}
    assert limits(board) == before


def test_a_write_to_an_offline_policy_fails_the_run_with_the_kernels_reason(bench: Bench, board: Path) -> None:
    policy7 = board / CPU / "cpufreq" / "policy7"
    steps = (write(board / CPU / "cpu7" / "online", "0"), write(policy7 / "scaling_max_freq", "825600"))
    before = limits(board)
    record = bench.run(plan(one_run(steps=steps, hold_ms=1))).record
    assert (record.status, codes(record)) == ("failed", ["write-failed"])
    assert limits(board) == before


@pytest.mark.parametrize("seed", range(10))
def test_random_steps_on_all_cores_come_back_after_sigkill(bench: Bench, board: Path, seed: int) -> None:
    chance = random.Random(seed)
    before = limits(board)
    runs: list[Run] = []
    for i in range(3):
        steps = []
        for _ in range(chance.randrange(1, 12)):
            path = Path(chance.choice(list(before)))
            if path.name == "online":
                value = "0" if path.parent.name != "cpu0" else "1"
            elif path.name == "scaling_governor":
                value = chance.choice(["performance", "powersave", "schedutil"])
            else:
                value = chance.choice((path.parent / "scaling_available_frequencies").read_text().split())
            steps.append(write(path, value, required=False, verify="none"))
        runs.append(one_run(run_id=f"r{i}", steps=steps, hold_ms=1))
    wanted = plan(*runs, one_run(load(), run_id="last", steps=runs[0].steps, hold_ms=600_000))
    process = bench.start(wanted)
    until(bench.loads, "the last run's load, after its steps")
    process.kill()
    process.wait()
    assert bench.ask("restore")["failed"] == []
    assert limits(board) == before
