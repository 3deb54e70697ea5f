"""Bounds of what a scheduler may be told, at them and just beyond; and proofs that look at every process."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.ground import registry
from devicelab.model.experiment import Tenant
from devicelab.schedulers import _shared, nice, xsched
from devicelab.schedulers.base import Treatment
from tests.tenantdata import place, record

PAIR = (Tenant(name="A", priority=2, workload="torch_model"), Tenant(name="B", priority=1, workload="torch_model"))
GPU = place("nvidia-server", {"xsched": "/opt/xsched"})


def treat(name: str, variant: str, tenants: tuple[Tenant, ...] = PAIR) -> Treatment:
    return registry.scheduler(name).treat(variant, tenants, GPU)


@pytest.mark.parametrize(
    ("name", "variant", "beyond"),
    [
        ("nice", "1", "0"),
        ("nice", "19", "20"),
        ("mps", "1", "0"),
        ("mps", "100", "101"),
        ("cu_mask", "0-9,10-9999", "0-9,10-10000"),
        *(
            ("xsched", f"HPF({text.format(at)})", f"HPF({text.format(past)})")
            for text, at, past in (
                ("threshold={},batch=1", 1, 0),
                ("threshold={}", 1_000_000, 1_000_001),
                ("batch={}", 1, 0),
                ("level={}", 1, 0),
                ("level={}", 3, 4),
                ("timeslice={}", 100, 99),
                ("timeslice={}", 100_000, 100_001),
                ("batch={}", 16, 17),  # of the usual threshold
                ("threshold={}", 8, 7),  # of the usual batch
            )
        ),
    ],
)
def test_the_last_value_that_makes_sense_is_taken_and_the_next_refused(name: str, variant: str, beyond: str) -> None:
    assert treat(name, variant).tenants
    with pytest.raises(ConfigError):
        treat(name, beyond)


@pytest.mark.parametrize("sign", [1, -1])
def test_xsched_knows_priorities_of_a_byte(sign: int) -> None:
    def with_priority(value: int) -> tuple[Tenant, ...]:
        return (PAIR[0], PAIR[1].model_copy(update={"priority": sign * value}))

    assert treat("xsched", "HPF", with_priority(255)).tenants["B"].env["XSCHED_AUTO_XQUEUE_PRIORITY"] == str(sign * 255)
    with pytest.raises(ConfigError, match="-255 to 255"):
        treat("xsched", "HPF", with_priority(256))


def test_times_for_xsched_are_microseconds_to_the_nearest() -> None:
    tenant = PAIR[0].model_copy(update={"deadline_ms": 33.3336, "laxity_ms": 0.0004, "utilization_pct": 66.6})
    given = {policy: xsched.environment(tenant, policy, {}) for policy in ("KEDF", "LAX", "PUP")}
    assert given["KEDF"]["XSCHED_AUTO_XQUEUE_DEADLINE"] == "33334"
    assert given["LAX"]["XSCHED_AUTO_XQUEUE_LAXITY"] == "0"
    assert given["PUP"]["XSCHED_AUTO_XQUEUE_UTILIZATION"] == "67"
    for policy, env in given.items():
        hints = {"DEADLINE", "LAXITY", "UTILIZATION"} & {name.rpartition("_")[2] for name in env}
        assert len(hints) == 1, policy


def test_xsched_needs_a_gpu_that_it_knows() -> None:
    with pytest.raises(DeviceRefusedError, match="NVIDIA or AMD"):
        registry.scheduler("xsched").treat("", PAIR, place("linux", {"xsched": "/opt/xsched"}))


PRIORITIES = st.lists(st.integers(-300, 300), min_size=1, max_size=8)


@given(PRIORITIES, st.integers(1, 19))
def test_the_more_important_is_never_nicer(priorities: list[int], lowest: int) -> None:
    tenants = tuple(Tenant(name=f"t{n}", priority=p, workload="cpu_tenant") for n, p in enumerate(priorities))
    got = nice.niceness(tenants, lowest)
    ranks = _shared.ranks(tenants)
    for one in tenants:
        for other in tenants:
            assert (one.priority > other.priority) == (ranks[one.name] < ranks[other.name])
            assert one.priority < other.priority or got[one.name] <= got[other.name]
    least, most = min(priorities), max(priorities)
    assert {got[one.name] for one in tenants if one.priority == most} == {0}
    if least < most:
        assert {got[one.name] for one in tenants if one.priority == least} == {lowest}
    assert sorted(set(ranks.values())) == list(range(len(set(priorities))))


@given(st.integers(1, 40))
def test_every_copy_has_a_name_that_leads_back_to_its_tenant(copies: int) -> None:
    names = _shared.copy_names(Tenant(name="t", workload="cpu_tenant", copies=copies))
    assert len(set(names)) == len(names) == copies
    assert {_shared.tenant_of(name) for name in names} == {"t"}
    witnesses = _shared.proc_witnesses("look", "echo", [Tenant(name="t", workload="cpu_tenant", copies=copies)])
    assert [one.argv[-1] for one in witnesses] == [f"{{pid:{name}}}" for name in names]


@pytest.mark.parametrize(
    ("variant", "name", "settings"),
    [
        ("", "", {}),
        ("HPF", "HPF", {}),
        ("HPF()", "HPF", {}),
        ("HPF( a = 1 ,b=2)", "HPF", {"a": "1", "b": "2"}),
        ("x(a==)", "x", {"a": "="}),
        ("(a=)", "", {"a": ""}),
    ],
)
def test_a_variant_is_a_name_and_settings(variant: str, name: str, settings: dict[str, str]) -> None:
    assert _shared.settings_of(variant) == (name, settings)


@pytest.mark.parametrize("variant", ["x(a)", "x(=1)", "x(a=1,a=2)", "x(a=1", "x)a=1(", "x(a=1)b", "x y", "x(a=1,)"])
def test_a_variant_that_is_half_a_setting_is_refused(variant: str) -> None:
    with pytest.raises(ConfigError):
        _shared.settings_of(variant)


# --- proofs --------------------------------------------------------------------------------------------------------


def nice_record(a: int, b: int, **more: str) -> Any:
    return record({"A": 1, "B": 2}, {"nice A": f"nice {a}\n", "nice B": f"nice {b}\n", **more})


@pytest.mark.parametrize(("a", "b", "seen"), [(0, 19, True), (1, 19, False), (0, 18, False), (0, -19, False)])
def test_niceness_is_seen_to_the_number(a: int, b: int, seen: bool) -> None:
    assert (registry.scheduler("nice").verify("", PAIR, nice_record(a, b)) == ()) is seen


def xsched_log(*lines: str) -> str:
    return "\n".join(("policy HPF", *lines, *(f"XQueue from process {pid} created" for pid in (1, 2)), "server alive"))


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        (("process 1 priority 2", "process 2 priority 1"), True),
        (("process 1 priority 2", "process 2 priority 2"), False),
        (("process 1 priority 2",), False),
        (("process 1 priority 2", "process 2 priority 1", "process 2 priority 3"), False),
        (("process 1 priority 2", "process 2 priority -1"), False),
    ],
)
def test_every_queue_of_xsched_has_the_one_priority_it_should(lines: tuple[str, ...], seen: bool) -> None:
    run = record({"A": 1, "B": 2}, {"xserver": xsched_log(*lines)})
    assert (registry.scheduler("xsched").verify("HPF", PAIR, run) == ()) is seen
    other = record({"A": 1, "B": 2}, {"xserver": xsched_log(*lines).replace("policy HPF", "policy UP")})
    (flag,) = registry.scheduler("xsched").verify("HPF", PAIR, other)
    assert "policy UP, not HPF" in flag.detail


def test_a_policy_that_logs_no_priorities_is_proved_without_them() -> None:
    tenants = tuple(one.model_copy(update={"deadline_ms": 5.0}) for one in PAIR)
    run = record({"A": 1, "B": 2}, {"xserver": xsched_log().replace("policy HPF", "policy KEDF")})
    assert registry.scheduler("xsched").verify("KEDF", tenants, run) == ()


def test_one_device_of_mig_serves_all_and_each_is_looked_for() -> None:
    ids = [f"MIG-{n}0000000-0000-0000-0000-000000000000" for n in (1, 2)]
    both = {"environ A": f"CUDA_VISIBLE_DEVICES={ids[0]}", "environ B": f"CUDA_VISIBLE_DEVICES={ids[0]}"}
    listed = {"gpus": f"(UUID: {ids[0]})"}
    verify = registry.scheduler("mig").verify
    assert {one.env["CUDA_VISIBLE_DEVICES"] for one in treat("mig", ids[0]).tenants.values()} == {ids[0]}
    assert verify(ids[0], PAIR, record({"A": 1, "B": 2}, {**listed, **both})) == ()
    (flag,) = verify(",".join(ids), PAIR, record({"A": 1, "B": 2}, {**listed, **both}))
    assert flag.detail == f"mig: no such MIG device: {ids[1]}"


def test_a_model_on_the_cpu_is_found_behind_one_that_is_not() -> None:
    def said(device: str, tool: str = "torch_tenant") -> str:
        return json.dumps({"tool": tool, "device": device}) + "\n"

    def flags(**stdout: str) -> tuple[object, ...]:
        return _shared.on_cpu("mig", PAIR, record({"A": 1, "B": 2}, {}, stdout=stdout))

    assert flags(A=said("cuda"), B=said("cuda")) == ()
    assert flags(A=said("cuda"), B=said("cpu", "cpu_tenant")) == ()
    assert len(flags(A=said("cuda"), B=said("cpu"))) == 1


@pytest.mark.parametrize(
    ("variant", "taken"), [("1", True), ("99", True), ("1+all", True), ("0", False), ("100", False), ("001", False)]
)
def test_a_green_share_is_one_to_ninety_nine_percent(variant: str, taken: bool) -> None:
    if taken:
        rest, first = (treat("green", variant).tenants[name].params for name in "AB")
        assert first == {"sm_pct": int(variant.partition("+")[0]), "sm_part": "first"}
        assert rest == ({} if "all" in variant else {**first, "sm_part": "rest"})
    else:
        with pytest.raises(ConfigError):
            treat("green", variant)


@pytest.mark.parametrize(("variant", "seen"), [("", True), ("stream", False), ("priority", True)])
def test_only_streams_are_asked_for_their_priority(variant: str, seen: bool) -> None:
    said = {"mps clients": "client 1\nclient 2\n", "environ B": "CUDA_MPS_CLIENT_PRIORITY=1\n"}
    run = record({"A": 1, "B": 2}, said, stdout=dict.fromkeys("AB", "{}\n"))
    assert (registry.scheduler("mps").verify(variant, PAIR, run) == ()) is seen


def test_a_witness_that_failed_said_nothing() -> None:
    run = record({"A": 1}, {"look": "x\n"})
    assert _shared.said(run, "look") == "x\n"
    failed = [witness.model_copy(update={"exit_code": 1}) for witness in run.witnesses]
    assert _shared.said(run.model_copy(update={"witnesses": tuple(failed)}), "look") is None
    assert _shared.said(run, "other") is None
