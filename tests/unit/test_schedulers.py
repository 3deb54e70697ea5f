"""Every scheduler: what it gives the tenants, what it refuses, and when its leg is not to be believed."""

import os
import subprocess
from pathlib import Path

import pytest

from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.ground import registry
from devicelab.model.experiment import Tenant
from devicelab.model.journal import ProgramResult
from tests.schedulerdata import GOOD, MIG, PIDS, STREAMS, THREE, good, treat, verify
from tests.tenantdata import place, record


def test_every_scheduler_is_tested_here() -> None:
    assert set(GOOD) == set(registry.names("schedulers"))


@pytest.mark.parametrize("name", GOOD)
def test_a_treatment_that_was_seen_raises_no_flag(name: str) -> None:
    assert verify(name, GOOD[name][0], good(name)) == ()


@pytest.mark.parametrize("name", GOOD)
def test_every_tenant_is_treated_and_nothing_else_is_switched_on(name: str) -> None:
    treatment = treat(name, GOOD[name][0])
    assert set(treatment.tenants) == {"A", "B", "C"}
    for given in treatment.tenants.values():
        assert {"LD_PRELOAD", "XSCHED_*", "CUDA_MPS_*", "HSA_CU_MASK"} <= set(given.env_scrub)
    names = [witness.name for witness in treatment.witnesses]
    assert len(names) == len(set(names))
    if name != "stream_priority":  # which its tenants prove themselves
        assert set(GOOD[name][1]) <= set(names)


@pytest.mark.parametrize("name", GOOD)
def test_every_step_can_be_undone(name: str) -> None:
    for step in treat(name, GOOD[name][0]).steps:
        assert step.kind == "command"
        assert step.undo is not None


@pytest.mark.parametrize("name", [name for name in GOOD if name != "stream_priority"])
def test_a_treatment_that_nobody_saw_makes_the_leg_invalid(name: str) -> None:
    for witnesses in ({}, dict.fromkeys(GOOD[name][1])):
        (flag,) = verify(name, GOOD[name][0], record(PIDS, witnesses, stdout=STREAMS))
        assert flag.code == "scheduler-not-seen"
        assert flag.detail.startswith(name)


@pytest.mark.parametrize("name", GOOD)
def test_one_copy_without_the_treatment_makes_the_leg_invalid(name: str) -> None:
    """The record of a run in which the second copy of C is the one that nobody treated."""
    said = dict(GOOD[name][1])
    said = {key: text for key, text in said.items() if not key.endswith("C#2")}
    said = {key: "\n".join(line for line in text.split("\n") if "14" not in line) for key, text in said.items()}
    streams = {**STREAMS, "C#2": STREAMS["A"]}
    (flag,) = verify(name, GOOD[name][0], record(PIDS, said, stdout=streams))
    assert "C#2" in flag.detail


@pytest.mark.parametrize("name", GOOD)
def test_a_tenant_alone_is_judged_by_itself(name: str) -> None:
    seen = record({"B": 12}, GOOD[name][1], stdout=STREAMS)
    assert verify(name, GOOD[name][0], seen) == ()


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("native", "fast"),
        ("nice", "0"), ("nice", "20"), ("nice", "-5"), ("nice", "low"), ("nice", "²"),
        ("mps", "0"), ("mps", "101"), ("mps", "half"), ("mps", "$(reboot)"), ("mps", "40+50"), ("mps", "40+"),
        ("mps", "priority+priority"),
        ("mps_static", ""), ("mps_static", "0"), ("mps_static", "x"),
        ("hami", ""), ("hami", "0"), ("hami", "100"), ("hami", "half"),
        ("green", ""), ("green", "0"), ("green", "100"), ("green", "40+most"), ("green", "40+all+all"), ("green", "²"),
        ("stream_priority", "-5"),
        ("xsched", "GBL"), ("xsched", "hpf"), ("xsched", "HPF; reboot"),
        ("mig", ""), ("mig", "0"), ("mig", "GPU-1"), ("mig", ",".join(MIG[:2])), ("mig", MIG[0] + ";reboot"),
        ("cu_mask", ""), ("cu_mask", "0-9"), ("cu_mask", "0-9,10-19,x"), ("cu_mask", "0-9,10-19,20-79,80-99"),
    ],
)  # fmt: skip
def test_a_variant_that_makes_no_sense_is_refused(name: str, variant: str) -> None:
    with pytest.raises(ConfigError):
        treat(name, variant)


def test_native_finds_a_foreign_scheduler_in_a_tenant() -> None:
    maps = "7f0000 r-xp 00000000 08:01 9 /opt/xsched/lib/libshimcuda.so\nlooked\n"
    (flag,) = verify("native", "", good("native", witnesses={"maps B": maps}))
    assert "B has libshimcuda.so loaded" in flag.detail


def test_niceness_is_spread_evenly_over_the_ranks() -> None:
    given = {name: one.nice for name, one in treat("nice", "").tenants.items()}
    assert given == {"A": 0, "B": 10, "C": 19}
    assert {name: one.nice for name, one in treat("nice", "6").tenants.items()} == {"A": 0, "B": 3, "C": 6}
    equals = (THREE[0], THREE[1].model_copy(update={"priority": 3}))
    assert {one.nice for one in treat("nice", "", equals).tenants.values()} == {0}


def test_a_niceness_the_session_does_not_share_is_no_niceness() -> None:
    seen = good("nice", witnesses={"session C": "/autogroup-9 nice 0\n"})
    (flag,) = verify("nice", "", seen)
    assert "session of C had niceness 0 instead of 19" in flag.detail


def test_a_kernel_without_autogroups_is_judged_by_the_process() -> None:
    quiet = {key: ("" if key.startswith("session") else text) for key, text in GOOD["nice"][1].items()}
    assert verify("nice", "", record(PIDS, quiet)) == ()


def test_an_inherited_niceness_is_named_as_the_likely_cause() -> None:
    (flag,) = verify("nice", "", good("nice", witnesses={"nice A": "nice 5\n"}))
    assert "A ran at niceness 5 instead of 0; was devicelab itself started with it?" in flag.detail


def test_mps_gives_the_less_important_a_share_or_a_lower_priority() -> None:
    def extra(variant: str) -> dict[str, dict[str, str]]:
        given = treat("mps", variant).tenants
        return {n: {k: v for k, v in one.env.items() if not k.endswith("DIRECTORY")} for n, one in given.items()}

    assert extra("") == {"A": {}, "B": {}, "C": {}}
    share = {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "40"}
    assert extra("40") == {"A": {}, "B": share, "C": share}
    below = {"CUDA_MPS_CLIENT_PRIORITY": "1"}
    assert extra("priority") == {"A": {}, "B": below, "C": below}
    assert extra("40+priority") == {"A": {}, "B": share | below, "C": share | below}
    assert treat("mps", "stream").tenants["A"].params == {"stream_priority": -1}
    assert treat("mps", "40+stream").tenants["A"].params == {"stream_priority": -1}
    where = {one.env["CUDA_MPS_PIPE_DIRECTORY"] for one in treat("mps", "").tenants.values()}
    assert where == {"/var/tmp/devicelab-1000/mps/pipe"}


def test_mps_proves_what_its_variant_gives() -> None:
    share = {f"environ {name}": "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=40\n" for name in ("B", "C", "C#2")}
    assert set(share) <= {witness.name for witness in treat("mps", "40").witnesses}
    assert verify("mps", "40", good("mps", witnesses=share)) == ()
    (flag,) = verify("mps", "40", good("mps", witnesses={**share, "environ C#2": ""}))
    assert flag.detail == "mps: C#2 does not have CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=40"
    (flag,) = verify("mps", "40", good("mps", witnesses={**share, "environ C#2": None}))
    assert flag.detail == "mps: the environment of C#2 could not be read while it ran"
    (flag,) = verify("mps", "priority", good("mps", witnesses={f"environ {name}": "" for name in ("B", "C", "C#2")}))
    assert flag.detail == "mps: B does not have CUDA_MPS_CLIENT_PRIORITY=1"
    assert verify("mps", "stream", good("mps")) == ()
    (flag,) = verify("mps", "stream", record(PIDS, GOOD["mps"][1], stdout={**STREAMS, "A": STREAMS["B"]}))
    assert flag.detail == "mps: the stream of A does not say that its priority is -1"


def test_mps_proves_both_parts_of_a_variant() -> None:
    share, below = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=40\n", "CUDA_MPS_CLIENT_PRIORITY=1\n"
    names = ("B", "C", "C#2")
    assert verify("mps", "40+priority", good("mps", witnesses={f"environ {n}": share + below for n in names})) == ()
    (flag,) = verify("mps", "40+priority", good("mps", witnesses={f"environ {n}": share for n in names}))
    assert flag.detail == "mps: B does not have CUDA_MPS_CLIENT_PRIORITY=1"


@pytest.mark.parametrize("name", ["mps", "green"])
def test_a_daemon_that_somebody_told_to_give_less_is_found(name: str) -> None:
    clients = GOOD[name][1]["mps clients"]
    assert verify(name, GOOD[name][0], good(name, witnesses={"mps clients": clients + "default 100.0\n"})) == ()
    (flag,) = verify(name, GOOD[name][0], good(name, witnesses={"mps clients": clients + "default 20.0\n"}))
    assert "20.0% of the SMs" in flag.detail


def test_hami_limits_the_less_important_alone_and_needs_its_library(tmp_path: Path) -> None:
    given = treat("hami", "50").tenants
    assert [one.env.get("CUDA_DEVICE_SM_LIMIT") for one in given.values()] == [None, "50", "50"]
    assert given["A"].front == ()
    with pytest.raises(ConfigError, match="where is HAMi-core"):
        treat("hami", "50", where=place("nvidia-server"))
    (flag,) = verify("hami", "50", good("hami", witnesses={"maps C": "looked\n"}))
    assert flag.detail == "hami: C does not have libvgpu.so loaded"
    (flag,) = verify("hami", "50", good("hami", witnesses={"maps A": "/opt/hami/libvgpu.so\nlooked\n"}))
    assert flag.detail == "hami: A has libvgpu.so loaded"
    where = place("nvidia-server", {"hami": str(tmp_path)})
    front = treat("hami", "50", where=where).tenants["B"].front
    done = subprocess.run([*front, "echo", "worked"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert "prefixes.hami" in done.stderr


@pytest.mark.parametrize(
    ("said", "code"), [("13010", 0), ("13020", 0), ("13000", 1), ("MPS version 12090", 1), ("what?", 1)]
)
def test_static_partitions_are_gated_on_the_daemons_own_version(tmp_path: Path, said: str, code: int) -> None:
    control = tmp_path / "nvidia-cuda-mps-control"
    control.write_text(f"#!/bin/sh\n[ \"$1\" = -v ] && echo '{said}'\n")
    control.chmod(0o755)
    gate, *_ = treat("mps_static", "4").steps
    assert gate.kind == "command"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(gate.do, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code
    assert code == 0 or "need nvidia-cuda-mps-control 13010 or newer" in done.stderr


def test_green_contexts_share_the_sms_by_rank() -> None:
    first, rest = {"sm_pct": 40, "sm_part": "first"}, {"sm_pct": 40, "sm_part": "rest"}
    assert {n: one.params for n, one in treat("green", "40").tenants.items()} == {"A": rest, "B": first, "C": first}
    assert {n: one.params for n, one in treat("green", "40+all").tenants.items()} == {"A": {}, "B": first, "C": first}
    with pytest.raises(DeviceRefusedError, match="torch_model"):
        treat("green", "40", (Tenant(name="x", workload="cpu_tenant"),))


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("B", '"sm_granted":52', '"sm_granted":16', "B was granted 16 SMs, not the 52 that were asked for"),
        ("A", '"sm_granted":80', '"sm_granted":132', "A was granted 132 SMs, not the 80"),
        ("C#2", '"sm_granted":52', '"sm_granted":"52"', "C#2 does not say how many SMs"),
        ("C", '"sm_asked":52,', "", "C does not say how many SMs"),
        ("C", '"sm_granted":52,', "", "C does not say how many SMs"),
        ("C#2", '"0-51"', '""', "C#2 does not say on which SMs"),
        ("C#2", '"0-51"', '"all of them"', "C#2 does not say on which SMs"),
        ("C", '"0-51"', '"0-60"', "C ran on 61 SMs, more than the 52"),
        ("A", '"sm_granted":80', '"sm_granted":84', "52 SMs were granted of 132, so that some serve both sides"),
    ],
)
def test_a_green_context_without_its_sms_is_not_seen(name: str, old: str, new: str, why: str) -> None:
    streams = {**STREAMS, name: STREAMS[name].replace(old, new)}
    assert streams != STREAMS
    (flag,) = verify("green", "40", record(PIDS, GOOD["green"][1], stdout=streams))
    assert why in flag.detail


def test_the_drivers_rounding_is_no_fault_of_a_green_context() -> None:
    streams = {
        **STREAMS,
        "A": STREAMS["A"].replace('"sm_granted":80,"sm_ids":"0-79"', '"sm_granted":76,"sm_ids":"0-75"'),
    }
    assert streams != STREAMS
    assert verify("green", "40", record(PIDS, GOOD["green"][1], stdout=streams)) == ()


@pytest.mark.parametrize("name", [*GOOD])
def test_a_proof_looks_at_every_process_whoever_stands_before_it(name: str) -> None:
    """Loads and other programs stand among the tenants; what is wrong with the last of them is seen."""
    seen = good(name)
    others = [ProgramResult(name=other, role="load", pid=9) for other in ("load", "D")]
    mixed = seen.model_copy(update={"programs": (others[0], *seen.programs[:2], others[1], *seen.programs[2:])})
    assert verify(name, GOOD[name][0], mixed) == ()
    last = {what: text.replace("14", "15") for what, text in GOOD[name][1].items()}
    last = {what: text for what, text in last.items() if not what.endswith("C#2")}
    broken = record(PIDS, last, stdout={**STREAMS, "C#2": "{}\n"})
    programs = (others[0], *broken.programs[:2], others[1], *broken.programs[2:])
    flags = verify(name, GOOD[name][0], broken.model_copy(update={"programs": programs}))
    assert [flag.code for flag in flags] == ["scheduler-not-seen"]


@pytest.mark.parametrize("name", ["mps", "mps_static", "green"])
def test_a_tenant_that_the_daemon_does_not_know_is_named(name: str) -> None:
    clients = GOOD[name][1]["mps clients"]
    (flag,) = verify(name, GOOD[name][0], good(name, witnesses={"mps clients": clients.replace("14\n", "15\n")}))
    assert "C#2 (pid 14)" in flag.detail


@pytest.mark.parametrize("name", ["stream_priority", "mig", "cu_mask", "green", "mps_static"])
def test_a_model_on_the_cpu_is_not_under_a_gpus_scheduler(name: str) -> None:
    streams = {**STREAMS, "C#2": STREAMS["C#2"].replace('"threads"', '"device":"cpu","threads"')}
    (flag,) = verify(name, GOOD[name][0], record(PIDS, GOOD[name][1], stdout=streams))
    assert flag.code == "scheduler-not-seen"
    assert flag.detail.startswith(f"{name}: C#2 ran on the CPU")
    assert verify("nice", "", record(PIDS, GOOD["nice"][1], stdout=streams)) == ()


@pytest.mark.parametrize("output", ["", "no JSON\n", "[1]\n", "[" * 100_000, '{"stream_priority":false}\n'])
def test_a_stream_that_says_nothing_readable_has_no_priority(output: str) -> None:
    (flag,) = verify("stream_priority", "", record(PIDS, {}, stdout={**STREAMS, "B": output}))
    assert "stream of B" in flag.detail


def test_a_daemon_or_server_that_ended_early_makes_the_leg_invalid() -> None:
    (flag,) = verify("mps", "", good("mps", restored=("the daemon had ended before\n",)))
    assert "ended before the tenants did" in flag.detail
    (flag,) = verify("xsched", "HPF", good("xsched", restored=("", "the server had ended before\n")))
    assert "ended before the tenants did" in flag.detail


@pytest.mark.parametrize("name", [name for name in GOOD if name not in {"mps", "mps_static", "green", "cu_mask"}])
def test_no_leg_but_mps_connects_to_a_daemon_of_somebody_elses(name: str) -> None:
    """CUDA looks in /tmp/nvidia-mps where the variable is not set."""
    for given in treat(name, GOOD[name][0]).tenants.values():
        assert given.env["CUDA_MPS_PIPE_DIRECTORY"] == "/nonexistent/no-mps"


def test_a_mig_device_that_is_not_there_is_named() -> None:
    (flag,) = verify("mig", ",".join(MIG), good("mig", witnesses={"gpus": "GPU 0: H100\n"}))
    assert MIG[0] in flag.detail
    one = treat("mig", MIG[0]).tenants
    assert {given.env["CUDA_VISIBLE_DEVICES"] for given in one.values()} == {MIG[0]}


def test_stream_priorities_are_for_tenants_that_have_streams() -> None:
    with pytest.raises(DeviceRefusedError, match="torch_model"):
        treat("stream_priority", "", (Tenant(name="x", workload="cpu_tenant"),))
    given = {name: one.params["stream_priority"] for name, one in treat("stream_priority", "").tenants.items()}
    assert given == {"A": -1, "B": 0, "C": 0}
