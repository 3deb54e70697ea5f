"""The torch tenant's script: arrivals, the open loop and its output, without torch; one real model where torch is."""

import argparse
import ast
import ctypes
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.ground import registry
from devicelab.workloads import torch_model
from devicelab.workloads._requests import parse_requests
from devicelab.workloads.base import Context
from tests import tenant_script

MS = 1_000_000
SECOND = 1_000 * MS


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return tenant_script.load()


class Clock:
    """Time that passes only by sleeping and working."""

    def __init__(self, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000 * SECOND
        monkeypatch.setattr(script, "now_ns", lambda: self.now)
        monkeypatch.setattr(script, "wait_until", self.sleep_until)

    def sleep_until(self, at_ns: int) -> None:
        self.now = max(self.now, at_ns)

    def work(self, *lengths_ns: int) -> Callable[[], None]:
        left = list(lengths_ns)

        def step() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return step


@pytest.fixture
def clock(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(script, monkeypatch)


def test_fixed_arrivals_keep_their_rate_and_end_with_the_window(script: ModuleType) -> None:
    assert script.arrivals("fixed:4", 1, SECOND) == [0, 250 * MS, 500 * MS, 750 * MS]
    assert script.arrivals("every:0.4", 1, SECOND) == [0, 400 * MS, 800 * MS]
    assert script.arrivals("continuous", 1, SECOND) is None


@given(seed=st.integers(0, 2**31), rate=st.floats(0.5, 2000))
def test_poisson_arrivals_are_sorted_inside_the_window_and_repeat_with_their_seed(seed: int, rate: float) -> None:
    script = tenant_script.load()
    found = script.arrivals(f"poisson:{rate}", seed, SECOND)
    assert found == sorted(found)
    assert all(0 <= at < SECOND for at in found)
    assert found == script.arrivals(f"poisson:{rate}", seed, SECOND)


def test_poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process(script: ModuleType) -> None:
    counts = [len(script.arrivals("poisson:100", seed, SECOND)) for seed in range(400)]
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert mean == pytest.approx(100, abs=2.5)  # 5 standard errors
    assert variance == pytest.approx(100, rel=0.35)


@pytest.mark.parametrize("text", ["fixed:0", "poisson:-1", "every:0", "fixed:x", "sometimes:3", "fixed"])
def test_arrivals_that_make_no_sense_are_refused(script: ModuleType, text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        script.arrivals(text, 1, SECOND)


def test_a_slow_request_delays_those_behind_it_and_their_wait_is_seen(script: ModuleType, clock: Clock) -> None:
    schedule = [0, 100 * MS, 200 * MS, 300 * MS]
    done, dropped = script.serve(clock.work(250 * MS, 10 * MS), schedule, clock.now, SECOND, 0)
    assert done == [
        (0, 0, 250 * MS),
        (100 * MS, 250 * MS, 260 * MS),
        (200 * MS, 260 * MS, 270 * MS),
        (300 * MS, 300 * MS, 310 * MS),
    ]
    assert dropped == []


def test_a_full_queue_drops_the_oldest_waiting_request(script: ModuleType, clock: Clock) -> None:
    schedule = [0, 100 * MS, 200 * MS, 300 * MS, 400 * MS]
    done, dropped = script.serve(clock.work(350 * MS, 10 * MS), schedule, clock.now, SECOND, 1)
    assert [scheduled for scheduled, _, _ in done] == [0, 300 * MS, 400 * MS]
    assert dropped == [100 * MS, 200 * MS]


def test_requests_that_never_began_before_the_end_are_dropped(script: ModuleType, clock: Clock) -> None:
    done, dropped = script.serve(clock.work(700 * MS), [0, 100 * MS, 200 * MS, 300 * MS], clock.now, SECOND, 0)
    assert len(done) == 2
    assert dropped == [200 * MS, 300 * MS]


def test_a_continuous_tenant_works_without_a_pause_to_the_end(script: ModuleType, clock: Clock) -> None:
    done, dropped = script.serve(clock.work(300 * MS), None, clock.now, SECOND, 0)
    assert [start for _, start, _ in done] == [0, 300 * MS, 600 * MS, 900 * MS]
    assert all(scheduled == start for scheduled, start, _ in done)
    assert dropped == []


def test_every_window_has_arrivals_of_its_own(script: ModuleType, clock: Clock) -> None:
    args = argparse.Namespace(arrivals="poisson:30", seed=7, queue=0, windows=3, pause_s=0.5)
    start = clock.now
    done, dropped = script.serve_windows(clock.work(MS), args, start, SECOND)
    due = sorted([*(scheduled for scheduled, _, _ in done), *dropped])
    expected = [at + w * 1500 * MS for w in range(3) for at in script.arrivals("poisson:30", 7 + w, SECOND)]
    assert due == expected
    assert len({tuple(script.arrivals("poisson:30", 7 + w, SECOND)) for w in range(3)}) == 3
    assert all(scheduled <= begin < end for scheduled, begin, end in done)


def test_a_continuous_tenant_rests_between_windows(script: ModuleType, clock: Clock) -> None:
    args = argparse.Namespace(arrivals="continuous", seed=7, queue=0, windows=2, pause_s=0.5)
    done, dropped = script.serve_windows(clock.work(400 * MS), args, clock.now, SECOND)
    assert [begin for _, begin, _ in done] == [at * MS for at in (0, 400, 800, 1500, 1900, 2300)]
    assert dropped == []


@given(lengths=st.lists(st.integers(1, 400 * MS), min_size=1, max_size=30), queue=st.integers(0, 3))
def test_every_scheduled_request_is_served_once_or_dropped_once(lengths: list[int], queue: int) -> None:
    script = tenant_script.load()
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(script, monkeypatch)
        schedule = script.arrivals("poisson:20", 3, SECOND)
        done, dropped = script.serve(clock.work(*lengths), schedule, clock.now, SECOND, queue)
    assert sorted([*(scheduled for scheduled, _, _ in done), *dropped]) == schedule
    assert all(scheduled <= start < end for scheduled, start, end in done)
    assert all(later[1] >= earlier[2] for earlier, later in itertools.pairwise(done))


def test_what_it_prints_is_what_the_workload_reads(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    done = [(k * MS, k * MS + 5, k * MS + 900) for k in range(4500)]
    args = argparse.Namespace(model="resnet18", arrivals="fixed:1000", duration_s=5.0, stream_priority=-1, threads=1)
    script.report(args, {"torch": "2.11", "driver": "nvidia 580"}, done, [4600 * MS], 17)
    output = capsys.readouterr().out
    got = torch_model.parse(output.encode(), torch_model.Params(model="resnet18"))
    assert got.flags == ()
    assert got.metrics["requests"].value == 4500
    assert got.metrics["dropped"].value == 1
    assert got.info["driver"] == "nvidia 580"
    assert '"stream_priority":-1,' in output.splitlines()[0]  # the proof of the leg `stream_priority` reads this


@pytest.mark.parametrize("name", torch_model.FILES)
def test_the_script_uses_nothing_newer_than_python_3_8(name: str) -> None:
    tree = ast.parse(registry.script(name).read_text(encoding="utf-8"), feature_version=(3, 8))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    strict = [node for node in calls if any(keyword.arg == "strict" for keyword in node.keywords)]
    later = {"removeprefix", "removesuffix", "pairwise", "bit_count"}  # and zip(strict=True) from 3.10 on
    assert [node.lineno for node in strict] == []
    assert not later & {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_the_gate_says_ready_and_waits_for_the_common_start(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()
    monkeypatch.setenv("DEVICELAB_READY_FD", str(ready_write))
    monkeypatch.setenv("DEVICELAB_GO_FD", str(go_read))
    os.write(go_write, b"123456789\n")
    assert script.gate() == 123456789
    assert os.read(ready_read, 16) == b"READY\n"
    os.close(go_write)
    with pytest.raises(SystemExit, match="went away"):
        script.gate()
    for end in (ready_read, ready_write, go_read):
        os.close(end)


def test_every_model_of_the_workload_is_one_the_script_knows(script: ModuleType) -> None:
    known = torch_model.Params.model_fields["model"].annotation.__args__  # type: ignore[union-attr]
    assert set(known) == set(script.MODELS)


def test_the_command_line_is_one_the_script_accepts() -> None:
    params = torch_model.Params(model="resnet50", batch=8, queue=2)
    line = torch_model.command(params, Context(dir="/lab", python="/opt/env/bin/python", arrivals="every:3", seed=9))
    assert line.barrier
    assert line.argv[:2] == ("/opt/env/bin/python", "/lab/torch_tenant.py")
    # Without torch it gets as far as importing it; a word it does not know would end it before, with exit code 2.
    argv = [sys.executable, str(registry.script("torch_tenant.py")), *line.argv[2:], "--warmup", "x"]
    refused = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--warmup" in refused.stderr


class Card:
    """A driver with 132 SMs that gives them in eights, as Hopper's does."""

    def __init__(self, green: ModuleType) -> None:
        self.green, self.contexts = green, [0]

    def __call__(self, name: str, *arguments: Any) -> None:
        if name == "cuDeviceGetDevResource":
            arguments[1]._obj.sms = 132
        elif name == "cuDevSmResourceSplitByCount":
            first, rest = arguments[0]._obj, arguments[3]._obj
            first.sms = -(-arguments[5] // 8) * 8
            rest.sms = arguments[2]._obj.sms - first.sms
        elif name == "cuDevResourceGenerateDesc":
            self.contexts.append(arguments[1]._obj.sms)
        elif name == "cuGreenCtxGetDevResource":
            arguments[1]._obj.sms = self.contexts[-1]
        elif name == "cuGreenCtxStreamCreate":
            arguments[0]._obj.value = 4711


def test_a_green_context_says_what_it_asked_for_and_what_it_was_granted() -> None:
    green = tenant_script.load("green_context.py")
    stream, told = green.create(0, 40, "first", driver=Card(green))
    assert (stream, told) == (4711, {"sm_total": 132, "sm_asked": 53, "sm_granted": 56})
    _, told = green.create(0, 40, "rest", driver=Card(green))
    assert told == {"sm_total": 132, "sm_asked": 79, "sm_granted": 76}
    assert green.ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert green.ranges([]) == ""
    # CUdevResource of cuda.h: a type, 92 bytes, a union of 48.
    assert (ctypes.sizeof(green.Resource), green.Resource.sms.offset) == (144, 96)


def test_a_driver_without_green_contexts_is_named() -> None:
    green = tenant_script.load("green_context.py")
    with pytest.raises(RuntimeError, match=r"has no cuGreenCtxCreate .*12\.4"):
        green.Driver("libc.so.6")("cuGreenCtxCreate")


def test_wrong_arrivals_end_it_with_a_usage_error_before_torch_is_loaded() -> None:
    argv = [sys.executable, str(registry.script("torch_tenant.py")), "--model", "resnet18", "--arrivals", "fixed:-1"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--arrivals fixed:-1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed here")
@pytest.mark.slow
def test_a_real_product_on_the_cpu_is_served_open_loop() -> None:
    argv = [
        sys.executable, str(registry.script("torch_tenant.py")), "--model", "matmul", "--batch", "64", "--device",
        "cpu", "--warmup", "5", "--arrivals", "fixed:50", "--duration-s", "0.5",
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, check=True)
    got = parse_requests(done.stdout, "torch_tenant")
    assert got.metrics["requests"].value + got.metrics["dropped"].value == 25
    header = json.loads(done.stdout.splitlines()[0])
    assert header["device_name"] == "cpu"
    assert header["stream_priority"] is None  # a CPU has no streams


# As torch loads its own compiler.
LAZY = "import importlib\ndef __getattr__(name):\n    return importlib.import_module(f'torch.{name}')\n"


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A torch whose compiler notes that it was loaded, and a torchvision whose operators begin with these lines."""
    for name in [one for one in sys.modules if one.split(".")[0] in ("torch", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("torch", "torch._dynamo", "torch._dynamo.utils", "torchvision", "torchvision.models"):
        # So that what a test loads is forgotten with it.
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)

    def write(operators: str) -> None:
        for name, text in {
            "torch/__init__.py": LAZY,
            "torch/_dynamo/__init__.py": "",
            "torch/_dynamo/utils.py": "def is_compile_supported(device):\n    return device == 'cuda'\nother = 7\n",
            "torchvision/__init__.py": operators,
            "torchvision/models.py": "resnet18 = 'a model'\n",
        }.items():
            place = tmp_path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")

    return write


def test_models_are_loaded_without_the_compiler(script: ModuleType, zoo: Callable[[str], None]) -> None:
    zoo("from torch._dynamo.utils import is_compile_supported\n")
    assert script.torchvision_models().resnet18 == "a model"
    assert "torch._dynamo" not in sys.modules
    assert "torch._dynamo.utils" not in sys.modules


def test_an_operator_that_asks_the_compiler_gets_its_answer(script: ModuleType, zoo: Callable[[str], None]) -> None:
    zoo("from torch._dynamo.utils import is_compile_supported\n")
    script.torchvision_models()
    ask = sys.modules["torchvision"].is_compile_supported
    assert (ask("cuda"), ask("cpu")) == (True, False)
    assert sys.modules["torch._dynamo.utils"].other == 7


@pytest.mark.parametrize(
    "operators", ["from torch._dynamo.utils import other\n", "import torch._dynamo.utils as u\nother = u.other\n"]
)
def test_whatever_else_is_wanted_of_the_compiler_is_its_own(
    script: ModuleType, zoo: Callable[[str], None], operators: str
) -> None:
    zoo(operators)
    script.torchvision_models()
    assert sys.modules["torchvision"].other == 7
    assert sys.modules["torch._dynamo.utils"].other == 7


def test_a_torchvision_that_cannot_be_loaded_says_so_and_leaves_nothing(
    script: ModuleType, zoo: Callable[[str], None]
) -> None:
    zoo("from torch._dynamo.utils import neither\n")
    with pytest.raises((ImportError, AttributeError), match="neither"):
        script.torchvision_models()
    assert sys.modules["torch._dynamo.utils"].other == 7
