"""What every plug-in owes, checked for all that are found: a new file in a folder is checked without a new test."""

import contextlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicelab import cli
from devicelab.errors import ConfigError, MeasurementError
from devicelab.experiment import files
from devicelab.ground import registry
from devicelab.jobs import plugin_cases, plugins
from devicelab.model.measurement import Measurement
from tests.outside import ANALYSIS, GOOD, KNOB, SCHEDULER, TRANSPORT, WORKLOAD, Outside
from tests.unit import board_trees

EVERY = [(kind, name) for kind in registry.CONTRACTS for name in registry.names(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_plug_in_keeps_its_contract(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", "tcp:127.0.0.1:1")  # nobody listens; no server is started for a test
    plugin = registry.module(kind, name)
    assert plugins.problems(kind, name, plugin) == ()
    assert plugin.__doc__


@pytest.mark.parametrize("tree", board_trees.TREES)
@pytest.mark.parametrize("name", registry.names("knobs"))
def test_a_knob_keeps_its_contract_on_every_board(name: str, tree: str) -> None:
    assert plugins.knob(registry.knob(name), board_trees.facts(tree)) == ()


@pytest.mark.parametrize("kind", registry.CONTRACTS)
def test_every_file_of_a_room_is_a_plug_in_or_says_that_it_is_none(kind: str) -> None:
    room = Path(sys.modules[f"devicelab.{kind}"].__file__ or "").parent
    modules = {path.stem for path in room.glob("*.py")} | {path.parent.name for path in room.glob("*/__init__.py")}
    assert {name for name in modules if not name.startswith("_")} - {"base"} == set(registry.own_names(kind))


@pytest.mark.parametrize("name", registry.names("workloads"))
def test_a_workload_explains_its_parameters(name: str) -> None:
    model = registry.workload(name).Params
    explained = "".join(inspect.getdoc(one) or "" for one in model.__mro__ if one.__module__.startswith("devicelab."))
    missing = [key for key in model.model_fields if key not in explained]
    assert not missing, f"no line under Attributes: for {missing}"


@pytest.mark.parametrize("name", registry.names("workloads"))
@given(output=st.binary(max_size=400))
@settings(max_examples=20, deadline=None)
def test_a_workload_reads_any_output_or_says_what_is_wrong_with_it(name: str, output: bytes) -> None:
    workload = registry.workload(name)
    params, _ = plugin_cases.sample(workload.Params)
    with contextlib.suppress(MeasurementError):
        assert isinstance(workload.parse(output, params), Measurement)


# Kind, what of a good plug-in is replaced by what, and words of the message. The first five were seen.
WRONG = {
    "a knob whose plan lacks the word": (
        "knobs", "plan(word, want, facts)", "plan(facts, want)",
        "plan takes (facts, want): write `def plan(word, want, facts) -> Setting`",
    ),
    "a knob that proves without the plan": (
        "knobs", "prove(word, want, facts, record)", "prove(record)",
        "prove takes (record): write `def prove(word, want, facts, record) -> tuple[Flag, ...]`",
    ),
    "a knob that applies thrice": ("knobs", "return True", "return 3", "applies(Facts) returned is 3 (int): bool"),
    "a scheduler that verifies nothing": (
        "schedulers", "verify(variant, tenants, record)", "verify()",
        "verify takes (): write `def verify(variant, tenants, record) -> tuple[Flag, ...]`",
    ),
    "an analysis of nothing": (
        "analyses", "analyse(results)", "analyse()",
        "analyse takes (): write `def analyse(results) -> tuple[Finding, ...]`",
    ),
    "arguments in another order": ("knobs", "plan(word, want", "plan(want, word", "plan takes (want, word, facts)"),
    "one argument too many": ("analyses", "analyse(results)", "analyse(results, deep)", "takes (results, deep)"),
    "a misspelt function": ("knobs", "def prove", "def proove", "it has no prove() (is 'proove' meant to be it?)"),
    "no place among the steps": ("knobs", "PHASE = Phase.INTERFERENCE", "", "it has no PHASE: define PHASE: Phase"),
    "one word instead of a list": ("knobs", '("fan",)', '"fan"', "WORDS is 'fan' (str): tuple[str, ...] is expected"),
    "a word that is taken": ("knobs", '("fan",)', '("load",)', "the word 'load' means something else already"),
    "nodes anywhere": ("knobs", '"/sys/class', '"sys/class', "an absolute path"),
    "a plan that is a list": ("knobs", "return Setting()", "return [Setting()]", "(list): Setting is expected"),
    "a setting of texts": ("knobs", "Setting()", 'Setting(steps=("w",))', ".steps[0] is 'w' (str): Write | Command"),
    "a plan that fails": ("knobs", "return Setting()", "return facts.fan", "AttributeError: 'Facts' object has no"),
    "nothing proved": ("knobs", "return ()", "return None", "is None (NoneType): tuple[Flag, ...] is expected"),
    "any parameter": ("workloads", "class Params(Noun)", "class Params(BaseModel)", 'model_config extra="forbid"'),
    "no program of that name": ("workloads", "NATIVE: tuple[str, ...] = ()", 'NATIVE = ("kloo",)', "native/kloo.cpp"),
    "a file called as the agent": ("workloads", "FILES: tuple[str, ...] = ()", 'FILES = ("/x/agent",)', "rename"),
    "an unspoken interpreter": ("workloads", '("true",)', "(context.python,)", "say so by PYTHON = True"),
    "a command line as a list": ("workloads", 'CommandLine(("true",))', '["true"]', "CommandLine is expected"),
    "an output that is no measurement": ("workloads", "return Measurement()", "return {}", "Measurement is expected"),
    "an output that breaks it": (
        "workloads", "return Measurement()", "return int(output)",
        "ValueError: invalid literal", "or raise MeasurementError",
    ),
    "a tenant forgotten": ("schedulers", "in tenants}", "in tenants[:1]}", "treat() says nothing of tenant 'low'"),
    "devices as a list": ("transports", "return ()", "return []", "tuple[Attached, ...] is expected"),
    "two names": ("transports", '"serial"', '"uart"', "SCHEME is 'uart' and the plug-in is called 'serial'"),
    "any address": ("transports", "raise ConfigError(", "return address[99] and (", "IndexError"),
    "findings as a list": ("analyses", "(results)", "(results) -> list[int]", "annotated to return list[int]"),
    "an analysis that waits": ("analyses", "def analyse", "async def analyse", "analyse is async: write"),
}  # fmt: skip


def _examined(kind: str, name: str) -> plugins.Examined:
    (one,) = (one for one in plugins.examine() if (one.kind, one.name) == (kind, name))
    return one


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_plug_in_is_told_what_to_change(case: str, outside: Outside) -> None:
    kind, good, bad, *words = WRONG[case]
    name, text = GOOD[kind]
    assert good in text
    outside.put(f"{kind}/{name}.py", "from pydantic import BaseModel\n" + inspect.cleandoc(text).replace(good, bad))
    one = _examined(registry.noun(kind), name)
    told = "; ".join(one.problems)
    assert all(word in told for word in words), told


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_plug_in_from_outside_has_nothing_to_change(kind: str, outside: Outside) -> None:
    name, text = GOOD[kind]
    outside.put(f"{kind}/{name}.py", text)
    assert _examined(registry.noun(kind), name).problems == ()


def test_what_else_comes_from_outside_is_examined_too(outside: Outside) -> None:
    outside.put("boards/mine.toml", "titel = 3")
    outside.put("boards/note10.toml", 'title = "Mine"')
    outside.put("experiments/mine.toml", 'question = "?"\nanalyses = ["laod"]')
    outside.put("toolchains/mine.toml", "kind = 3")
    outside.put("knobs/my-fan.py", KNOB)
    outside.put("workloads/klo.py", WORKLOAD)
    outside.install("a-lab", "devicelab.commands", "hello = hello_command", hello_command="def regster(app): ...")
    told = {(one.kind, one.name): "; ".join(one.problems) for one in plugins.examine()}
    assert "titel: no such key" in told["board kind", "mine"]
    assert "devicelab/boards/note10.toml has that name too" in told["board kind", "note10"]
    assert "did you mean 'load'" in told["experiment", "mine"]
    assert "kind" in told["toolchain", "mine"]
    assert "rename it" in told["knob", "my-fan"]
    assert "devicelab/workloads/klo.py has that name too" in told["workload", "klo"]
    assert "register(app)" in told["command", "hello"]


def test_a_knob_that_does_not_apply_here_is_said_to_be_untried(outside: Outside) -> None:
    outside.put("knobs/fan.py", KNOB.replace("return True", "return facts.board.kind == 'mine'"))
    one = _examined("knob", "fan")
    assert "plan and prove were not tried" in one.note


def test_a_sweep_does_not_begin_with_a_plug_in_that_would_end_it(outside: Outside, tmp_path: Path) -> None:
    outside.put("analyses/silence.py", ANALYSIS.replace("return ()", "return results.none"))
    experiment = tmp_path / "quiet.toml"
    experiment.write_text('question = "?"\nanalyses = ["silence"]\n[factors]\nload = ["none"]\n')
    with pytest.raises(ConfigError, match=r"analysis 'silence' breaks its contract: analyse.*AttributeError"):
        plugins.vouch(files.load(str(experiment)))


def _command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["devicelab", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_doctor_says_what_is_wrong_with_plug_ins(
    outside: Outside, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = outside.put("schedulers/fair.py", SCHEDULER.replace("verify(variant, tenants, record)", "verify()"))
    code, out, _ = _command(capsys, monkeypatch, "doctor", "--plugins", "--json")
    assert code == 2
    (one,) = (one for one in json.loads(out)["plugins"] if one["problems"])
    assert one["where"] == str(file)
    assert "verify takes ()" in one["problems"][0]


def test_a_broken_plug_in_of_every_kind_breaks_no_other_command(
    outside: Outside, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", "tcp:127.0.0.1:1")
    monkeypatch.setenv("DEVICELAB_LAB", str(tmp_path / "lab.toml"))
    (tmp_path / "lab.toml").write_text(f'[devices.local]\naddress = "local:"\ndir = "{tmp_path / "there"}"\n')
    texts: dict[str, Any] = {
        "knobs": KNOB.replace("return True", "return 3"),
        "transports": TRANSPORT.replace("return ()", "raise OSError('no bus')"),
        "analyses": "import nothing_of_that_name",
    }
    for kind, text in texts.items():
        outside.put(f"{kind}/broken.py", text)
    outside.put("boards/broken.toml", "title =")
    code, out, err = _command(capsys, monkeypatch, "devices", "--json")
    assert code == 0
    assert any(one["name"] == "local" for one in json.loads(out)["devices"])
    assert "transport 'broken'" in err
    assert "no bus" in err
    assert "broken.toml" in err
    code, out, err = _command(capsys, monkeypatch, "facts", "--board", "local")
    assert code == 0
    assert "knob 'broken'" in err
