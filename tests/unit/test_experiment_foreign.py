"""Whether the device was ours: what the agent's looks at other programs amount to, and when they flag a run."""

from typing import Any

import pytest

from devicelab.experiment import foreign
from devicelab.experiment.conditions import run_conditions
from devicelab.model.experiment import Experiment
from devicelab.model.journal import Others, RunRecord

IDLE = Experiment(question="?")
S = 1_000_000_000


def span(work: dict[str, int], *, ticks: int = 100, agent_ns: int = 0) -> dict[str, Any]:
    return {"span_ns": S, "agent_ns": agent_ns, "work": work, "total": dict.fromkeys(work, ticks)}


def looks(**more: Any) -> Others:
    """Two CPUs for a second; nothing works but for what is said."""
    return Others.model_validate({"before": span({"0": 0, "1": 0}), "during": span({"0": 0, "1": 0}), **more})


def hog(cpu_ns: int, name: str = "yes", pid: int = 4711) -> dict[str, Any]:
    return {"others_ns": cpu_ns, "heaviest": [{"pid": pid, "name": name, "cpu": 1, "cpu_ns": cpu_ns}]}


def said(others: Others | None, of: Experiment = IDLE) -> list[str]:
    found = foreign.flags(others, of)
    assert {flag.code for flag in found} <= {"foreign-load"}
    assert not any(flag.remark for flag in found)
    return [flag.detail for flag in found]


def test_a_program_that_is_not_ours_flags_the_run_and_is_named() -> None:
    (detail,) = said(looks(during=span({"0": 0, "1": 95}), **hog(95 * S // 100)))
    assert "yes (pid 4711) 95%" in detail
    assert "95% of CPU 1" in detail
    assert "0% of all CPUs before the run, 48% during it" in detail


def test_what_we_started_is_not_held_against_anybody() -> None:
    """The lab's own load on every CPU, and the kernel's threads that work for it."""
    assert said(looks(during=span({"0": 100, "1": 100}), ours_ns=18 * S // 10, kernel_ns=S // 10)) == []


def test_ticks_that_count_our_sleeping_loads_wrong_are_no_strangers() -> None:
    assert said(looks(during=span({"0": 90, "1": 90}), ours_ns=15 * S // 10)) == []


def test_others_before_the_run_flag_it_too() -> None:
    (detail,) = said(looks(before=span({"0": 60, "1": 0})))
    assert "30% of all CPUs before the run" in detail


def test_the_agents_own_work_before_the_run_is_ours() -> None:
    assert said(looks(before=span({"0": 60, "1": 0}, agent_ns=55 * S // 100))) == []


@pytest.mark.parametrize("hidden", [True, False])
def test_programs_that_cannot_be_seen_are_said_to_be_nameless(hidden: bool) -> None:
    (detail,) = said(looks(during=span({"0": 80, "1": 80}), ours_ns=S // 10, hidden=hidden))
    assert "cannot be named" in detail
    assert ("this user may not see them" in detail) is hidden


def test_one_core_taken_of_many_is_enough() -> None:
    many = {str(cpu): 0 for cpu in range(64)}
    others = looks(before=span(many), during=span({**many, "1": 99}), **hog(99 * S // 100))
    assert "99% of CPU 1" in said(others)[0]


def test_the_bounds_are_the_experiments_own() -> None:
    others = looks(during=span({"0": 0, "1": 95}), **hog(95 * S // 100))
    assert said(others, IDLE.model_copy(update={"foreign_pct": 60.0, "foreign_core_pct": 100.0})) == []
    little = looks(during=span({"0": 0, "1": 8}), **hog(8 * S // 100))
    assert said(little) == []
    assert said(little, IDLE.model_copy(update={"foreign_pct": 1.0}))


def test_journals_of_agents_that_did_not_look_say_nothing() -> None:
    old = {"event": "run", "run_id": "r", "seq": 0, "status": "done", "t_start_ns": 1, "t_end_ns": 2, "t_unix_ns": 3}
    record = RunRecord.model_validate(old)
    assert record.others is None
    assert said(record.others) == []
    assert run_conditions(old).foreign == foreign.ForeignUse()


def test_evidence_tells_others_by_core() -> None:
    others = looks(before=span({"0": 10, "1": 30}), during=span({"0": 0, "1": 95}), **hog(95 * S // 100))
    data = {"t_start_ns": 0, "t_end_ns": 1, "others": others.model_dump()}
    found = run_conditions(data).foreign
    assert found.before == {"0": 10, "1": 30, "all": 20}
    assert found.during["1"] == 95
