"""How a plan's end becomes an error: what ended it is named, with what to do, and the exit code fits."""

import pytest

from devicelab import runner, sweep
from devicelab.errors import DeviceRefusedError, RestoreError
from devicelab.model.journal import Flag, PlanEnd


def end(reason: str, *flags: Flag) -> PlanEnd:
    return PlanEnd(event="plan-end", reason=reason, t_ns=1, runs_done=0, flags=flags)  # type: ignore[arg-type]


def test_a_full_disk_on_the_device_is_named_and_refused() -> None:
    full = Flag(code="interrupted", detail="the journal cannot be written: No space left on device")
    with pytest.raises(DeviceRefusedError, match="No space left on device") as caught:
        sweep._check_end(end("failure", full), "phone")
    assert caught.value.exit_code == 4
    assert "--resume" in (caught.value.hint or "")


def test_a_plan_that_somebody_ended_can_go_on() -> None:
    with pytest.raises(runner.AgentLostError, match="signal") as caught:
        sweep._check_end(end("signal"), "phone")
    assert "--resume" in (caught.value.hint or "")


def test_what_is_not_back_as_it_was_comes_first() -> None:
    flag = Flag(code="restore-failed", detail="/sys/a: it does not show its old value")
    with pytest.raises(RestoreError, match="/sys/a"):
        sweep._check_end(end("failure", flag), "phone")


def test_a_plan_that_was_completed_is_no_error() -> None:
    sweep._check_end(end("complete"), "phone")
