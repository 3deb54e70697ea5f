"""What the agent's answers on a device are taken for, whatever it says; and what is asked of it."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from board_trees import facts

from devicelab.device import agent, reservation, runner
from devicelab.device.facts import Device
from devicelab.device.lab import DeviceEntry
from devicelab.errors import (
    ConfigError,
    DeviceBusyError,
    DeviceRefusedError,
    DeviceUnreachableError,
    DistrustError,
    RestoreError,
)
from devicelab.experiment.programs import Needs
from devicelab.model.journal import Event, PlanEnd, seal_line
from devicelab.model.plan import Plan, Run
from devicelab.transports.base import Completed, Parcel

PLAN = Plan(plan_id="c-1", campaign="c", device="d", holder="h", runs=(Run(run_id="a", cell_id="c", repetition=0),))
Answer = tuple[int, object, str]
"""Exit code, what is said on stdout (an object: as JSON), on stderr."""


class Phone:
    """A transport whose device answers what it is told to, by the first word of the command behind the agent's."""

    address = "adb:0123"

    def __init__(self, **answers: Answer | Callable[[], Answer]) -> None:
        self.answers, self.asked, self.pushed = answers, list[list[str]](), list[tuple[str, bytes]]()

    def run(self, argv: Sequence[str], **_options: object) -> Completed:
        words = " ".join(argv)
        self.asked.append(list(argv))
        for name, answer in self.answers.items():
            if f" {name}" in f" {words.replace('bin/agent ', 'agent-')}".replace("/agent-", " "):
                code, out, err = answer() if callable(answer) else answer
                data = out if isinstance(out, bytes) else json.dumps(out).encode()
                return Completed(code, data, err.encode())
        return Completed(0, b"", b"")

    def push_many(self, pairs: Sequence[tuple[Path, str, int]]) -> None:
        self.pushed += [(where, path.read_bytes()) for path, where, _mode in pairs]

    def push(self, path: Path, where: str) -> None:
        self.push_many([(path, where, 0o644)])

    def send(self, pairs: Sequence[tuple[Path, str, int]]) -> Parcel:
        self.push_many(pairs)
        return Parcel(
            tuple((where, where, hashlib.sha256(path.read_bytes()).hexdigest(), "") for path, where, _ in pairs)
        )

    def start(self, argv: Sequence[str], **_options: object) -> Iterator[bytes]:
        self.asked.append(list(argv))
        return iter(())


def device(**answers: Any) -> Any:
    phone = Phone(**answers)
    entry = DeviceEntry(name="board", address=phone.address)
    return Device(entry, phone, facts("empty", root="none"), SimpleNamespace(sha256="s"), {})  # type: ignore[arg-type]


IDLE = {"lease": {}, "agent": {"alive": False}, "undo": {}}
WORKS = {
    "lease": {"holder": "bob@host", "remaining_s": 30.5},
    "agent": {"alive": True, "plan_id": "c-1"},
    "undo": {"pending": ["/a"]},
}


def test_a_status_says_who_holds_the_device_and_what_is_left() -> None:
    found = agent.status(device(status=(0, WORKS, "")))
    assert found == agent.Status(True, "bob@host", 30.5, ("/a",), "c-1")
    assert agent.status(device(status=(0, IDLE, ""))) == agent.Status()
    over = {**WORKS, "lease": {"holder": "bob", "expired": True}}
    assert agent.status(device(status=(0, over, ""))).holder is None


def test_what_a_pin_holds_on_purpose_is_kept_and_not_left() -> None:
    undo = {"pending": [], "kept": ["/old"], "active": ["/new"]}
    keeping = {**IDLE, "agent": {"alive": True, "state": "keeping"}, "undo": undo}
    working = {**keeping, "agent": {"alive": True, "state": "working"}}
    assert agent.status(device(status=(0, keeping, ""))).kept == ("/old", "/new")
    assert agent.status(device(status=(0, working, ""))).kept == ("/old",)


@pytest.mark.parametrize("answer", [b"", b"{}", {"lease": [], "agent": 5, "undo": {"pending": "x"}}])
def test_an_agent_that_says_nothing_of_the_form_holds_nothing(answer: object) -> None:
    assert agent.status(device(status=(0, answer, ""))) == agent.Status()


@pytest.mark.parametrize("answer", [b"no JSON", b"[1]", b"null", b"[" * 9999])
def test_an_answer_that_is_none_is_told_with_what_was_said_instead(answer: bytes) -> None:
    with pytest.raises(DeviceRefusedError, match=r"`agent status` gave no answer \(exit code 7\): 'not found'"):
        agent.status(device(status=(7, answer, "not found")))
    with pytest.raises(DeviceRefusedError, match=re.escape(repr(answer[:200])[:20])):
        agent.status(device(status=(7, answer, "")))


@pytest.mark.parametrize(("size", "believed"), [(0, True), (1, False)])
def test_an_answer_has_the_length_of_one(size: int, believed: bool) -> None:
    text = b'{"x": "' + b"y" * ((2 << 20) - 9 + size) + b'"}'
    if believed:
        assert agent.status(device(status=(0, text, ""))) == agent.Status()
    else:
        with pytest.raises(DistrustError, match="2048 KiB"):
            agent.status(device(status=(0, text, "")))


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (8, RestoreError, "could not be put back as it was found: /a, /b"),
        (3, DeviceBusyError, "busy now"),
        (9, DeviceRefusedError, r"restore failed \(exit code 9\): busy now"),
    ],
)
def test_what_could_not_be_put_back_is_named(code: int, error: type[Exception], words: str) -> None:
    assert {8, 3} == {RestoreError.exit_code, DeviceUnreachableError.exit_code}
    with pytest.raises(error, match=words):
        agent.restore(device(restore=(code, {"failed": ["/a", "/b"]}, "busy now")))
    assert agent.restore(device(restore=(0, {"restored": 3}, ""))) == {"restored": 3}


@pytest.mark.parametrize(("said", "words"), [("disk full", "disk full"), ("", "see `devicelab devices`")])
def test_what_is_not_named_is_told_in_the_agents_words_or_where_to_look(said: str, words: str) -> None:
    with pytest.raises(RestoreError, match=f"as it was found: {words}"):
        agent.restore(device(restore=(8, {}, said)))


def test_people_are_named_without_their_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicelab.ground.user.holder", lambda: "bob@host pid 7")
    assert reservation.me() == "bob@host"


def test_a_device_is_made_ready_for_whoever_holds_it_and_nobody_else() -> None:
    mine = {**IDLE, "lease": {"holder": "me"}}
    left = {**mine, "undo": {"pending": ["/a"]}}
    assert agent.make_ready(device(status=(0, mine, "")), "me") == ()
    undone = device(status=(0, left, ""), restore=(0, {}, ""))
    assert agent.make_ready(undone, "me") == ("/a",)
    assert any("restore" in words for words in undone.transport.asked)
    for answer, holder, words in (
        (WORKS, "me", "held by bob@host for 30 s more"),
        (WORKS, "bob@host", "held by bob@host"),  # his agent is still at work
        (left, "you", "held by me"),
        ({**IDLE, "agent": {"alive": True}}, "me", r"held by another agent\n"),
    ):
        with pytest.raises(DeviceBusyError, match=words):
            agent.make_ready(device(status=(0, answer, "")), holder)
    idle = replace(device(status=(0, WORKS, "")), idle=True)
    assert agent.make_ready(idle, "me") == ()
    assert idle.transport.asked == []


def test_only_the_agent_of_this_campaign_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def stopped(answer: dict[str, Any], plan: Plan | None = PLAN) -> bool:
        one = device(status=(0, answer, ""), stop=(0, {}, ""))
        agent.stop(one, plan)
        return any("stop" in words for words in one.transport.asked)

    def works(plan_id: str, alive: bool = True) -> dict[str, Any]:
        return {**IDLE, "agent": {"alive": alive, "plan_id": plan_id}}

    assert stopped(works("c-1"))
    assert stopped(works("c-2"))  # another plan of the campaign
    assert stopped(works("other-1"), None)
    before = now[0]
    assert not stopped(works("c-1", alive=False)), "it has ended by itself"
    assert now[0] == before
    assert not stopped(works("other-1")), "somebody else's is waited past, and goes on"
    assert 10 <= now[0] - before < 11


# --- what runs there -----------------------------------------------------------------------------------------------


def test_what_differs_is_pushed_and_what_is_there_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "tool"
    own.write_bytes(b"mine")
    built = tmp_path / "agent"
    built.write_bytes(b"binary")
    new = hashlib.sha256(b"binary").hexdigest()
    program = SimpleNamespace(path=built, program="agent", sha256=new)
    monkeypatch.setattr(runner, "compiled", lambda *_: (program,))
    one = device()
    where = f"{one.facts.dir}/bin"

    def pushed(plan: Plan | None = None) -> list[str]:
        one.transport.pushed.clear()
        needs = Needs(("agent",), files=(own,))
        if plan is None:
            runner.deploy(one, needs)
        else:
            runner.start(one, plan, runner.send(one, needs, plan))
        return [path.removeprefix(one.facts.dir) for path, _ in one.transport.pushed]

    one.sums["agent"] = "old"
    assert pushed() == ["/bin/agent", "/bin/tool"]
    assert (where, dict(one.transport.pushed)[f"{where}/tool"]) == (where, b"mine")
    assert one.sums == {"agent": new, "tool": hashlib.sha256(b"mine").hexdigest()}
    assert pushed() == []
    assert pushed(PLAN) == ["/plans/c-1/plan.json"]
    assert json.loads(one.transport.pushed[0][1])["plan_id"] == "c-1"
    own.write_bytes(b"changed")
    assert pushed(PLAN) == ["/bin/tool", "/plans/c-1/plan.json"]
    assert pushed() == []


def test_an_interpreter_that_does_not_run_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "compiled", lambda *_: ())
    runner.deploy(device(python3=(0, b"", "")), Needs(python=True))
    with pytest.raises(ConfigError, match="'python3' does not run there: not found"):
        runner.deploy(device(python3=(127, b"", "sh: 1\nnot found\n")), Needs(python=True))


def test_plans_of_a_campaign_are_those_that_are_called_so() -> None:
    one = device(ls=(0, b"c-1f c-a2 c-x cc-1 c-1f.tmp d-1\n", ""))
    assert runner.plans_there(one, "c") == ("c-1f", "c-a2")
    assert runner.plans_there(one, ".") == ()


def test_a_file_that_is_not_there_is_empty() -> None:
    assert runner.fetch(device(head=(0, b"data", "")), "/x", 9) == b"data"
    assert runner.fetch(device(head=(1, b"half", "")), "/x", 9) == b""


@pytest.mark.parametrize(
    ("log", "free", "error", "words"),
    [
        ("busy: held by bob\n", 10**6, DeviceBusyError, "held by bob"),
        ("plan invalid: runs\n", 10**6, ConfigError, "does not take the plan: plan invalid: runs"),
        ("", 63, DeviceRefusedError, "No space left"),
    ],
)
def test_the_last_words_of_an_agent_tell_what_became_of_it(
    log: str, free: int, error: type[Exception], words: str
) -> None:
    space = f"Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/a 9 9 {free} 1% /data\n".encode()
    with pytest.raises(error, match=words):
        runner._last_words(device(cat=(0, log.encode(), ""), df=(0, space, "")), PLAN)


def test_an_agent_that_died_is_told_with_its_last_line_and_a_disk_with_room_is_no_reason() -> None:
    space = b"x\n/dev/a 9 9 64 1% /data\n"
    one = device(cat=(0, b"first\nlast\n", ""), df=(0, space, ""))
    assert runner._last_words(one, PLAN) == "the agent ended before its plan did; its last words: last"
    assert runner._last_words(device(cat=(0, b"", ""), df=(0, space, "")), PLAN) == ""


END = seal_line({"event": "plan-end", "reason": "complete", "t_ns": 9, "runs_done": 1})
START = seal_line({"event": "run-start", "run_id": "a", "seq": 0, "t_ns": 1})


def attended(
    monkeypatch: pytest.MonkeyPatch, *streams: Sequence[bytes], alive: bool = True, **options: Any
) -> tuple[list[Event], PlanEnd]:
    """What comes of a plan whose journal comes in these streams, each broken off at its end but the last."""
    left = list(streams)
    offsets = []

    def follow(_device: Device, _plan: Plan, offset: int, *_idle: float) -> Any:
        offsets.append(offset)
        yield from left.pop(0)
        if left:
            raise DeviceUnreachableError("gone", device="board")

    monkeypatch.setattr(runner, "_follow", follow)
    monkeypatch.setattr(runner, "regain_root", lambda _: None)
    monkeypatch.setattr(agent, "status", lambda _: agent.Status(alive=alive, plan_id="c-1"))
    seen: list[Event] = []
    end = runner.attend(device(), PLAN, seen.append, **options)
    assert offsets[0] == 0
    return seen, end


def test_a_journal_that_breaks_off_in_the_middle_of_a_line_is_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, end = attended(monkeypatch, [START[:20]], [START + END[:9]], [END, b""])
    assert [event.event for event in seen] == ["run-start", "plan-end"]
    assert end.reason == "complete"


def test_an_agent_that_is_gone_has_ended_with_what_it_journalled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, _ = attended(monkeypatch, [START], [END, b""], alive=False)
    assert [event.event for event in seen] == ["run-start", "plan-end"]
    with pytest.raises(runner.AgentLostError, match="ended before its plan did"):
        attended(monkeypatch, [START], [b""], alive=False)


def test_whoever_asks_to_stop_is_heard_between_two_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter((False, True))
    with pytest.raises(runner.StopRequestedError):
        attended(monkeypatch, [START, START, END, b""], stop=lambda: next(asked))


# --- reservations --------------------------------------------------------------------------------------------------


def test_a_reservation_lies_on_the_device_until_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    one = device(cat=(1, b"", ""))
    made = reservation.reserve(one, 3600, "w" * 900)
    ((where, text),) = one.transport.pushed
    assert where.startswith(one.facts.dir)
    assert reservation.parse(text.decode(), 1_800_000_000.0) == made
    assert (made.until_unix_s, made.why) == (1_800_003_600.0, "w" * 200)
    assert made.who == reservation.me()
    assert made.words().endswith(f": {made.why}")
    assert reservation.Reservation("a", 0.0).words().startswith("reserved by a until 19")
    assert not reservation.Reservation("a", 0.0).words().endswith(": ")
    theirs = json.dumps({"who": "bob", "until_unix_s": 1_800_000_060.0, "why": ""}).encode()
    with pytest.raises(DeviceBusyError, match="reserved by bob"):
        reservation.reserve(device(cat=(0, theirs, "")), 60, "")
    with pytest.raises(DeviceBusyError):
        reservation.release(device(cat=(0, theirs, "")))
    forced = device(cat=(0, theirs, ""))
    found = reservation.release(forced, force=True)
    assert found is not None
    assert found.who == "bob"
    assert forced.transport.asked[-1][:2] == ["rm", "-f"]
