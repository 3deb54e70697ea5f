"""Whatever ends a load, a pin or a sweep on this side: the agent is ended, and what is told is what really was."""

import dataclasses
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from board_trees import facts as board_facts

from devicelab.device import agent as commands
from devicelab.device import runner
from devicelab.errors import ConfigError, DeviceRefusedError, MeasurementError, RestoreError
from devicelab.experiment.plan import Planned
from devicelab.experiment.programs import Needs
from devicelab.ground.interruption import interruptible
from devicelab.jobs import conductor as conducting
from devicelab.jobs import load, pin
from devicelab.jobs.load import Loader
from devicelab.model.journal import Flag, PlanEnd, PlanStart, ProgramResult, RunRecord
from devicelab.model.plan import Plan, Run
from devicelab.model.tree import Node
from devicelab.workloads import overhead
from tests import labdata

CPUS = tuple(Node(path=f"/sys/devices/system/cpu/{name}", text="0-3\n") for name in ("online", "present"))
NUMBERS = overhead.parse_level("1000 5000 20")


def ended(reason: str, *flags: Flag) -> PlanEnd:
    return PlanEnd(event="plan-end", reason=reason, t_ns=1, runs_done=0, flags=flags)  # type: ignore[arg-type]


class Agent:
    """Stands for the runner and the device: notes what is asked of it, and does what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.found = commands.Status()
        self.at: dict[str, list[Callable[[Callable[[Any], None]], Any]]] = {}
        for name in ("send", "start", "attend", "drain", "clean"):
            monkeypatch.setattr(runner, name, lambda *args, name=name, **_: self._do(name, args))
        for name in ("stop", "restore", "status"):
            monkeypatch.setattr(commands, name, lambda *args, name=name, **_: self._do(name, args))
        self.device: Any = SimpleNamespace(facts=labdata.facts(nodes=CPUS))

    def _do(self, name: str, args: tuple[Any, ...]) -> Any:
        if name == "status":
            return self.found
        self.asked.append(name)
        steps = self.at.get(name)
        see = args[2] if name in ("attend", "drain") else None
        return steps.pop(0)(see) if steps else None  # type: ignore[arg-type]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return Agent(monkeypatch)


def interrupt(_see: object = None) -> None:
    signal.raise_signal(signal.SIGINT)


def tell(*flags: Flag, status: str = "done") -> Callable[[Callable[[Any], None]], None]:
    def attend(see: Callable[[Any], None]) -> None:
        record = labdata.record("load-1", use=0.0, flags=flags)
        see(record.model_copy(update={"status": status, "programs": ()}))

    return attend


@pytest.mark.parametrize(
    ("status", "flag", "hint"),
    [
        ("failed", Flag(code="affinity-refused", detail="load0: the kernel refuses CPUs 2"), "online"),
        ("done", Flag(code="load-died", detail="load0 ended by itself with exit code 0"), "batches"),
        ("failed", Flag(code="load-not-running", detail="load0 was not seen to run within 5 s"), "frozen"),
    ],
)
def test_a_load_that_did_not_run_is_an_error_with_its_reason(agent: Agent, status: str, flag: Flag, hint: str) -> None:
    agent.at["attend"] = [tell(flag, status=status)]
    result = Loader(agent.device).run(NUMBERS, cores="2")
    assert not result.ran
    with pytest.raises(MeasurementError, match=flag.detail) as caught:
        load.require_ran(result)
    assert (caught.value.exit_code, hint in (caught.value.hint or "")) == (6, True)


def held(pct: float, *cpu_ms: int) -> Callable[[Callable[[Any], None]], None]:
    """Processes of a held load that had so much CPU time in a window of a second."""

    def attend(see: Callable[[Any], None]) -> None:
        loads = tuple(
            ProgramResult(
                name=f"load{n}", role="load", pid=9 + n, window_cpu_ns=ms * 10**6, stdout=f"near {900 + n} {pct:.0f}\n"
            )
            for n, ms in enumerate(cpu_ms)
        )
        see(labdata.record("load-1", use=0.9).model_copy(update={"programs": loads}))

    return attend


def test_a_held_use_is_judged_by_the_cpu_time_of_the_load_alone(agent: Agent) -> None:
    agent.at["attend"] = [held(45, 446, 452)]
    result = Loader(agent.device).run(overhead.Hold(use_pct=45), cores="0-1")
    assert (result.load_pct, result.wanted_pct, result.args) == (44.9, 45.0, (900, 45, 20))
    assert result.cores_pct > 80, "others are seen, too"
    load.require_held(result)


def test_copies_share_what_is_wanted_of_a_core(agent: Agent) -> None:
    agent.at["attend"] = [held(45, 225, 225)]
    result = Loader(agent.device).run(overhead.Hold(use_pct=22.5), cores="1", per_core=2)
    assert (result.load_pct, result.wanted_pct) == (45.0, 45.0)
    load.require_held(result)


def test_a_use_that_others_did_not_leave_is_an_error_that_says_what_was_reached(agent: Agent) -> None:
    agent.at["attend"] = [held(70, 500, 489)]
    result = Loader(agent.device).run(overhead.Hold(use_pct=70), cores="0-1")
    with pytest.raises(MeasurementError, match=r"70 % was not held: the load had 49\.5 % of the cores") as caught:
        load.require_held(result)
    assert caught.value.exit_code == 6
    load.require_held(dataclasses.replace(result, interrupted=True))
    load.require_held(dataclasses.replace(result, load_pct=69.0))


def test_a_load_with_a_remark_is_told_with_it(agent: Agent) -> None:
    agent.at["attend"] = [tell(Flag(code="agent-busy", detail="sampling took 3 %"))]
    result = Loader(agent.device).run(NUMBERS)
    load.require_ran(result)
    assert [flag.code for flag in result.flags] == ["agent-busy"]


def test_a_signal_between_the_start_of_a_load_and_its_return_ends_it(agent: Agent) -> None:
    agent.at = {"start": [interrupt], "drain": [tell(Flag(code="interrupted", detail="signal 15"), status="failed")]}
    result = Loader(agent.device).run(NUMBERS)
    assert (result.interrupted, result.flags) == (True, ())
    assert agent.asked == ["send", "start", "stop", "drain", "clean"]


def test_an_impatient_second_signal_does_not_keep_a_load_from_being_ended(agent: Agent) -> None:
    agent.at = {
        "attend": [interrupt],
        "stop": [interrupt],
        "drain": [tell(Flag(code="interrupted", detail="signal 15"), status="failed")],
    }
    assert Loader(agent.device).run(NUMBERS).interrupted
    assert agent.asked == ["send", "start", "attend", "stop", "drain", "clean"]


def test_a_signal_before_a_load_was_started_stops_nobodys_agent(agent: Agent) -> None:
    agent.at["send"] = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        Loader(agent.device).run(NUMBERS)
    assert agent.asked == ["send", "clean"]


def test_a_load_that_nobody_watches_any_more_is_ended(agent: Agent) -> None:
    def broken(_see: object) -> None:
        raise BrokenPipeError

    agent.at["attend"] = [broken]
    with pytest.raises(BrokenPipeError):
        Loader(agent.device).run(NUMBERS)
    assert agent.asked == ["send", "start", "attend", "stop", "drain", "clean"]


def pin_plan() -> Plan:
    return Plan(plan_id="c-pin", campaign="c", device="phone-1", holder="me", keep=True)


def plan_start(*flags: Flag) -> PlanStart:
    return PlanStart(
        event="plan-start",
        plan_id="c-pin",
        agent_version="1",
        agent_pid=1,
        boot_id="b",
        t_ns=1,
        t_unix_ns=1,
        flags=flags,
    )


@pytest.mark.parametrize(
    ("flag", "end", "error", "said"),
    [
        (None, ended("signal"), DeviceRefusedError, "nothing is pinned, the agent undid it: it was ended by a signal"),
        (
            None,
            ended("complete", Flag(code="write-failed", detail="the undo journal cannot be written")),
            DeviceRefusedError,
            "nothing is pinned, .* the undo journal cannot be written",
        ),
        (
            Flag(code="write-failed", detail="/sys/a: reads 5"),
            ended("failure"),
            DeviceRefusedError,
            "nothing is pinned, .* /sys/a: reads 5",
        ),
        (
            Flag(code="write-failed", detail="/sys/a: reads 5"),
            ended("failure", Flag(code="restore-failed", detail="/sys/b: Input/output error")),
            RestoreError,
            "/sys/b: Input/output error",
        ),
    ],
)
def test_a_pin_that_the_agent_undid_is_not_called_pinned(
    agent: Agent, flag: Flag | None, end: PlanEnd, error: type[Exception], said: str
) -> None:
    def attend(see: Callable[[Any], None]) -> PlanEnd:
        see(plan_start(*([flag] if flag else [])))
        return end

    agent.at["attend"] = [attend]
    with interruptible() as signals, pytest.raises(error, match=said):
        pin._execute(agent.device, pin_plan(), signals)


def test_a_pin_that_holds_is_told_with_its_steps(agent: Agent) -> None:
    def attend(see: Callable[[Any], None]) -> PlanEnd:
        see(plan_start())
        return ended("complete")

    agent.at["attend"] = [attend]
    with interruptible() as signals:
        assert pin._execute(agent.device, pin_plan(), signals) == ()
        interrupt()  # too late: it is pinned, and said to be
    assert agent.asked == ["send", "start", "attend"]


@pytest.mark.parametrize(
    ("end", "pending", "restored"), [("complete", (), True), ("signal", (), False), ("signal", ("/sys/a",), True)]
)
def test_an_interrupted_pin_does_not_stay(agent: Agent, end: str, pending: tuple[str, ...], restored: bool) -> None:
    agent.found = commands.Status(pending=pending)
    agent.at = {"attend": [interrupt], "stop": [interrupt], "drain": [lambda see: see(ended(end))]}
    with interruptible() as signals, pytest.raises(KeyboardInterrupt):
        pin._execute(agent.device, pin_plan(), signals)
    assert agent.asked == ["send", "start", "attend", "stop", "drain", *(["restore"] if restored else [])]


def test_a_pin_is_written_in_the_order_of_the_knobs_and_for_the_cores_that_will_be_there() -> None:
    offline = {"/sys/devices/system/cpu/cpu7/online": "0\n", "/sys/devices/system/cpu/online": "0-6\n"}
    phone = board_facts("sm8150", change=dict(offline))
    chosen = pin.settings_for({"cpu": "max", "cores": "all-online"}, phone)
    assert list(chosen) == ["cores", "cpu"]
    assert chosen["cpu"].unmet == ()
    with pytest.raises(ConfigError, match="cpuu"):
        pin.settings_for({"cpuu": "max"}, phone)


def conductor(agent: Agent) -> tuple[conducting._Conductor, list[tuple[str, ...]]]:
    """A sweep of one plan of two runs, with a store that notes how it ended."""
    finished: list[tuple[str, ...]] = []
    store: Any = SimpleNamespace(
        done_runs=lambda _: set(),
        finish_campaign=lambda *words: finished.append(words),
        commit_run=lambda *_, **__: True,
    )
    cell = labdata.cells(labdata.experiment())[0]
    runs = tuple(Run(run_id=f"r{i}", cell_id=cell.cell_id, repetition=i) for i in range(2))
    plan = Plan(plan_id="c-1", campaign="c", device="phone-1", holder="me", runs=runs)
    planned = Planned({cell.cell_id: cell}, (plan,), {}, Needs())
    return conducting._Conductor(agent.device, store, labdata.experiment(), "c", planned), finished


def test_a_signal_as_the_agent_of_a_sweep_starts_ends_it(agent: Agent) -> None:
    agent.at = {"start": [interrupt], "stop": [interrupt]}
    one, finished = conductor(agent)
    assert one.run_to_end()
    assert agent.asked == ["send", "start", "stop", "drain"]
    assert finished == [("c", "interrupted", "stopped early")]


def test_a_signal_before_a_sweep_started_anything_stops_nobodys_agent(agent: Agent) -> None:
    agent.at["send"] = [interrupt]
    one, finished = conductor(agent)
    assert one.run_to_end()
    assert agent.asked == ["send"]
    assert finished == [("c", "interrupted", "stopped early")]


def test_a_sweep_whose_progress_cannot_be_told_ends_its_agent(agent: Agent) -> None:
    def attend(see: Callable[[Any], None]) -> None:
        see(cut_off)

    def broken(_progress: object) -> None:
        raise BrokenPipeError

    cut_off = labdata.record("r0")
    agent.at = {"attend": [attend], "drain": [attend]}
    one, finished = conductor(agent)
    one.on_progress = broken
    with pytest.raises(BrokenPipeError):
        one.run_to_end()
    assert agent.asked == ["send", "start", "attend", "stop", "drain"]
    assert finished == [("c", "interrupted", "stopped early")]


def test_a_run_that_was_cut_off_counts_once_it_was_done_again(agent: Agent) -> None:
    one, _ = conductor(agent)
    cut_off = labdata.record("r0", flags=[Flag(code="interrupted", detail="the agent was ended by signal 15")])
    one._see(cut_off)
    assert [run.run_id for run in one.missing()] == ["r0", "r1"]
    whole: RunRecord = labdata.record("r0")
    one._see(whole)
    assert [run.run_id for run in one.missing()] == ["r1"]


class Answers:
    """A device whose agent answers ``status`` as told, one after the other, and notes ``stop``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *found: commands.Status) -> None:
        self.found, self.stopped, self.now = list(found), 0, 0.0
        monkeypatch.setattr(commands, "status", lambda _: self.found.pop(0) if len(self.found) > 1 else self.found[0])
        monkeypatch.setattr(commands, "ask", self._ask)
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep)
        monkeypatch.setattr(commands, "time", clock)
        self.device: Any = SimpleNamespace(facts=labdata.facts(nodes=CPUS))

    def _ask(self, _device: object, *words: str, **_: object) -> tuple[int, dict[str, Any], str]:
        self.stopped += words[0] == "stop"
        return 0, {}, ""

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


def test_an_agent_that_was_started_this_moment_is_stopped_as_soon_as_it_says_that_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = commands.Status(plan_id="b-1")
    there = Answers(monkeypatch, commands.Status(), old, old, commands.Status(alive=True, plan_id="c-pin"))
    commands.stop(there.device, pin_plan())
    assert there.stopped == 1


def test_an_agent_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Answers(monkeypatch, commands.Status(plan_id="c-pin"))
    commands.stop(there.device, pin_plan())
    assert (there.stopped, there.now) == (0, 0.0)


def test_another_users_agent_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Answers(monkeypatch, commands.Status(alive=True, plan_id="other-1"))
    commands.stop(there.device, pin_plan())
    assert there.stopped == 0
