"""A load that is to hold a use is believed by what the kernel counted for it, not by what it was asked for."""

import pytest

from devicelab.experiment import loads
from devicelab.model.journal import ProgramResult, RunRecord, Samples

S = 1_000_000_000


def record(*used_pct: float, window_ns: int = 10 * S, busy: int = 50) -> RunRecord:
    programs = [
        ProgramResult(
            name=f"load{n}", role="load", pid=10 + n, granted=(0, 1), window_cpu_ns=round(pct * window_ns / 100)
        )
        for n, pct in enumerate(used_pct)
    ]
    measured = ProgramResult(name="measure", role="measure", pid=9, window_cpu_ns=window_ns)
    samples = Samples(
        tick_hz=100, t_ns=(0, window_ns), busy={"0": (0, busy), "1": (0, busy)}, total={"0": (0, 100), "1": (0, 100)}
    )
    return RunRecord(
        event="run", run_id="r", seq=0, status="done", t_start_ns=0, t_end_ns=window_ns, t_unix_ns=0,
        window_start_ns=0, window_end_ns=window_ns, programs=(measured, *programs), samples=samples,
    )  # fmt: skip


@pytest.mark.parametrize(("used", "held"), [(45.0, True), (44.0, True), (46.0, True), (43.99, False), (46.01, False)])
def test_a_use_off_by_more_than_a_point_was_not_held(used: float, held: bool) -> None:
    assert [flag.code for flag in loads.flags("45%", record(used))] == ([] if held else ["load-not-held"])


def test_each_process_is_judged_and_its_cores_are_told_beside_it() -> None:
    (flag,) = loads.flags("45%", record(45.0, 30.0))
    assert flag.detail == (
        "load1 was to hold 45 % of a core, and the kernel counted 30.0 % for it; its cores were 50 % busy in all"
    )
    assert not flag.remark


@pytest.mark.parametrize("level", ["none", "1000 5000 20", 3, True])
def test_a_load_that_holds_no_use_has_none_to_miss(level: str | int | bool) -> None:
    assert loads.flags(level, record(3.0)) == ()


@pytest.mark.parametrize(("window_ns", "judged"), [(S - 1, False), (S, True)])
def test_a_window_below_a_second_says_too_little(window_ns: int, judged: bool) -> None:
    assert bool(loads.flags("45%", record(30.0, window_ns=window_ns))) is judged
