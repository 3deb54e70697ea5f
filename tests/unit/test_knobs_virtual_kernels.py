"""Pins against kernels that answer: every write is accepted and reads back, and the undo leaves the tree as it was."""

import fnmatch
import posixpath
import random
from dataclasses import replace

import pytest
from sim_kernel_board import Bench

from devicelab import boards, knobs
from devicelab.errors import ConfigError
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.plan import Step, Write
from devicelab.model.tree import Node, Tree
from virtualboards.kernel import Kernel, kind_names, load_spec
from virtualboards.kernel.faults import inject

KINDS = kind_names()
NEWER = ("snapdragon-8-gen-3", "tensor-g3", "exynos-2400", "dimensity-9300")
EXPECTED_BOARD = dict.fromkeys(("oddball", "pixel", *NEWER), "generic-android")


def matching(kernel: Kernel, pattern: str) -> list[str]:
    """Paths of a pattern, as a shell finds them (links followed)."""
    found = ["/"]
    for part in pattern.strip("/").split("/"):
        deeper = []
        for folder in found:
            try:
                names = kernel.listdir(folder)
            except OSError:
                continue
            deeper += [posixpath.join(folder, name) for name in names if fnmatch.fnmatchcase(name, part)]
        found = deeper
    return found


def snapshot(kernel: Kernel, *, uid: int = 0) -> tuple[Node, ...]:
    """What the agent's snapshot tells of the nodes knobs ask for."""
    nodes = {}
    for pattern in knobs.globs():
        for path in matching(kernel, pattern):
            stat = kernel.stat(path, follow=True)
            try:
                text, error = kernel.read(path, uid).decode(), 0
            except OSError as refused:
                text, error = None, refused.errno or 0
            owner = 0o200 if uid == stat.uid else 0o002
            writable = bool(stat.mode & (0o222 if uid == 0 else owner))
            nodes[path] = Node(path=path, mode=stat.mode & 0o7777, text=text, errno=error, writable=writable)
    return tuple(nodes.values())


def facts_of(kernel: Kernel, *, uid: int = 0) -> Facts:
    nodes, props = snapshot(kernel, uid=uid), kernel.spec.props
    return Facts(
        name=kernel.spec.kind,
        address="adb:virtual",
        board=boards.recognise(props, Tree(nodes)),
        abi="arm64-v8a",
        os="android",
        kernel=kernel.spec.kernel,
        boot_id=kernel.boot_id,
        root="self" if uid == 0 else "none",
        props=props,
        dir="/data/local/tmp/devicelab",
        nodes=nodes,
    )


def shows(step: Write, read: str, wanted: str) -> bool:
    words = read.split()
    if step.verify == "at-most":
        return bool(words) and int(words[0]) <= int(wanted)
    if step.verify == "first-int":
        return words[:1] == [wanted]
    return step.verify == "none" or read.strip() == wanted


def perform(kernel: Kernel, steps: list[Step]) -> dict[str, str]:
    """Write as the agent does; what undoes it by path, in the order of the first writes."""
    undo: dict[str, str] = {}
    for step in steps:
        if step.kind != "write":
            continue
        before = kernel.read(step.path).decode()
        undo.setdefault(step.path, before.strip() if step.restore is None else step.restore)
        kernel.write(step.path, f"{step.value}\n")
        after = kernel.read(step.path).decode()
        assert shows(step, after, step.expect or step.value), (step, after)
    return undo


def put_back(kernel: Kernel, undo: dict[str, str]) -> None:
    left = list(reversed(undo.items()))
    for _ in range(3):
        refused = []
        for path, text in left:
            try:
                kernel.write(path, f"{text}\n")
            except OSError:
                refused.append((path, text))
        left = refused
    assert not left


def writable_texts(kernel: Kernel) -> dict[str, str | None]:
    return {node.path: node.text for node in snapshot(kernel) if node.writable}


def levels(kernel: Kernel, facts: Facts, chance: random.Random) -> dict[str, Level]:
    """Levels for some of the words the device knows."""
    top = max(kernel.spec.cpus)
    found: dict[str, list[Level]] = {
        "cpu": ["max", "min", "honest-min", "nearest:1500000", "0:max", "0:min"],
        "governor": sorted(set.intersection(*(set(policy.governors) for policy in kernel.spec.policies))),
        "cores": ["all-online", "0", f"0,{top}", f"0-{top - 1}"],
        "isolation": ["hold"],
        "gpu": ["max", "min", "nearest:400MHz"],
        "membus": ["max", "min"],
        "idle_states": ["on", "off"],
        "uclamp": [0, 50, 100],
    }
    known = [word for word in found if knobs.families(word, facts)]
    return {word: chance.choice(found[word]) for word in known if chance.random() < 0.6}


def odd_limits(kernel: Kernel, chance: random.Random) -> None:
    """What another user left behind."""
    for policy in kernel.policies:
        if chance.random() < 0.5 and policy.spec.limits_mode & 0o222:
            low, high = sorted(chance.choices(policy.spec.table_khz, k=2))
            folder = f"/sys/devices/system/cpu/cpufreq/policy{policy.spec.cpus[0]}"
            kernel.write(f"{folder}/scaling_max_freq", str(high))
            kernel.write(f"{folder}/scaling_min_freq", str(low))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_any_settings_are_accepted_and_undone(kind: str, seed: int) -> None:
    chance = random.Random(f"{kind}/{seed}")
    kernel = Kernel(load_spec(kind), clock=lambda: 0)
    odd_limits(kernel, chance)
    facts = facts_of(kernel)
    wants = levels(kernel, facts, chance)
    before = writable_texts(kernel)
    chosen = knobs.settings(wants, facts)
    undo = perform(kernel, [step for setting in chosen.values() for step in setting.steps])
    put_back(kernel, undo)
    assert writable_texts(kernel) == before, wants


def test_limits_that_are_shut_are_gone_round_by_the_governor_userspace() -> None:
    spec = load_spec("qualcomm")
    policies = tuple(replace(one, governors=("schedutil", "userspace")) for one in spec.policies)
    kernel = Kernel(replace(spec, policies=policies), clock=lambda: 0)
    for node in kernel.tree:
        if node.path.endswith(("/scaling_min_freq", "/scaling_max_freq")):
            node.mode = 0o444
    before, facts = writable_texts(kernel), facts_of(kernel)
    setting = knobs.settings({"cpu": "nearest:1500000"}, facts)["cpu"]
    assert setting.unmet == ()
    undo = perform(kernel, list(setting.steps))
    assert [policy.cur for policy in kernel.policies] == [
        min(policy.table, key=lambda khz: abs(khz - 1500000)) for policy in kernel.policies
    ]
    put_back(kernel, undo)
    assert writable_texts(kernel) == before


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_recognised(kind: str) -> None:
    assert facts_of(Kernel(load_spec(kind), clock=lambda: 0)).board.kind == EXPECTED_BOARD.get(kind, kind)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "oddball"])
@pytest.mark.parametrize("want", ["max", "min"])
def test_a_pin_brings_every_policy_and_the_gpu_there(kind: str, want: str) -> None:
    kernel = Kernel(load_spec(kind), clock=lambda: 0)
    facts = facts_of(kernel)
    chosen = knobs.settings({"cpu": want, "gpu": want}, facts)
    assert not [sentence for setting in chosen.values() for sentence in setting.unmet]
    perform(kernel, [step for setting in chosen.values() for step in setting.steps])
    for policy in kernel.policies:
        expected = max(policy.spec.table_khz) if want == "max" else min(policy.spec.table_khz)
        cur = f"/sys/devices/system/cpu/cpufreq/policy{policy.spec.cpus[0]}/scaling_cur_freq"
        assert int(kernel.read(cur)) == expected
    assert kernel.spec.gpu is not None
    table = kernel.spec.gpu.table_hz
    assert kernel.gpu_hz() == (max(table) if want == "max" else min(table))


@pytest.mark.parametrize("kind", KINDS)
def test_without_root_every_knob_says_what_it_could_not_do(kind: str) -> None:
    facts = facts_of(Kernel(load_spec(kind), clock=lambda: 0), uid=2000)
    chosen = knobs.settings({"cpu": "min", "gpu": "max", "cores": "0", "idle_states": "off", "uclamp": 50}, facts)
    for word, setting in chosen.items():
        assert setting.unmet, word
        assert not setting.steps, word


def test_a_level_that_no_table_has_is_refused_before_anything_is_written() -> None:
    facts = facts_of(Kernel(load_spec("qualcomm"), clock=lambda: 0))
    with pytest.raises(ConfigError):
        knobs.settings({"cpu": "max", "gpu": "123MHz"}, facts)


def test_a_phone_pinned_and_given_back_while_hot_is_fast_again_when_cool() -> None:
    bench = Bench("qualcomm")
    ceiling = "/sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq"
    fast = bench.r(ceiling)
    inject(bench.kernel, "thermal", celsius=95.0, seconds=20.0)
    bench.wait(10)
    assert int(bench.r(ceiling)) < int(fast)
    chosen = knobs.settings({"cpu": "4:min"}, facts_of(bench.kernel))
    put_back(bench.kernel, perform(bench.kernel, list(chosen["cpu"].steps)))
    bench.wait(600)
    assert bench.r(ceiling) == fast


def test_a_core_that_core_control_takes_is_held_and_given_back() -> None:
    bench = Bench("qualcomm")
    bench.wait(5)
    path = "/sys/devices/system/cpu/cpu7/core_ctl/min_cpus"
    before = bench.r(path)
    steps = list(knobs.setting("isolation", "hold", facts_of(bench.kernel)).steps)
    undo = perform(bench.kernel, steps)
    bench.wait(5)
    assert bench.r("/sys/devices/system/cpu/cpu7/isolate") == "0"
    put_back(bench.kernel, undo)
    assert bench.r(path) == before
