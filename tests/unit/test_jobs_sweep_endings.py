"""How a plan's end becomes an error: what ended it is named, with what to do, and the exit code fits."""

from types import SimpleNamespace

import pytest

from devicelab.device import runner
from devicelab.errors import DeviceRefusedError, RestoreError
from devicelab.jobs import conductor
from devicelab.model.journal import Flag, PlanEnd
from tests import labdata


def end(reason: str, *flags: Flag) -> PlanEnd:
    return PlanEnd(event="plan-end", reason=reason, t_ns=1, runs_done=0, flags=flags)  # type: ignore[arg-type]


def test_a_full_disk_on_the_device_is_named_and_refused() -> None:
    full = Flag(code="interrupted", detail="the journal cannot be written: No space left on device")
    with pytest.raises(DeviceRefusedError, match="No space left on device") as caught:
        conductor._check_end(end("failure", full), "phone")
    assert caught.value.exit_code == 4
    assert "--resume" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "table",
    [
        b"Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/block/dm-5 1024 1024 0 100% /data\n",
        b"Filesystem     1K-blocks    Used Available Use% Mounted on\n/a/very/long/name\n 1024 1020 4 100% /\n",
    ],
)
def test_a_full_disk_is_named_where_the_agent_could_not_leave_a_word(
    table: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"cat": b"", "df": table}
    transport = SimpleNamespace(run=lambda argv: SimpleNamespace(stdout=answers[argv[0]]))
    phone = SimpleNamespace(transport=transport, facts=labdata.facts(root="none"))
    plan = SimpleNamespace(plan_id="p")
    with pytest.raises(DeviceRefusedError, match="No space left on device"):
        runner._last_words(phone, plan)  # type: ignore[arg-type]
    answers["df"] = table.replace(b" 0 100%", b" 900 12%").replace(b" 4 100%", b" 900 12%")
    assert runner._last_words(phone, plan) == ""  # type: ignore[arg-type]


def test_a_plan_that_somebody_ended_can_go_on() -> None:
    with pytest.raises(runner.AgentLostError, match="signal") as caught:
        conductor._check_end(end("signal"), "phone")
    assert "--resume" in (caught.value.hint or "")


def test_what_is_not_back_as_it_was_comes_first() -> None:
    flag = Flag(code="restore-failed", detail="/sys/a: it does not show its old value")
    with pytest.raises(RestoreError, match="/sys/a"):
        conductor._check_end(end("failure", flag), "phone")


def test_a_plan_that_was_completed_is_no_error() -> None:
    conductor._check_end(end("complete"), "phone")
