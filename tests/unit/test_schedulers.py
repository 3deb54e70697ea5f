"""Every scheduler: what it gives the tenants, what it refuses, and when its leg is not to be believed."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.ground import registry
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.schedulers.base import Place, Treatment
from tests.tenantdata import place, record

THREE = (
    Tenant(name="A", priority=3, workload="torch_model", params={"model": "vit_b_16"}, deadline_ms=100),
    Tenant(name="B", priority=2, workload="torch_model", params={"model": "mobilenet_v2"}),
    Tenant(name="C", priority=1, workload="torch_model", params={"model": "resnet50"}, copies=2),
)
PIDS = {"A": 11, "B": 12, "C": 13, "C#2": 14}
GPU = place("nvidia-server", {"xsched": "/opt/xsched", "hami": "/opt/hami"})
MIG = [f"MIG-{n}0000000-0000-0000-0000-000000000000" for n in (1, 2, 3)]

CUS = (("A", "0-9"), ("B", "10-19"), ("C", "20-79"), ("C#2", "20-79"))

# A variant that makes sense, for each scheduler, and what its witnesses say when all is well.
GOOD: dict[str, tuple[str, dict[str, str]]] = {
    "native": ("", {f"maps {name}": "looked\n" for name in PIDS}),
    "nice": (
        "",
        {f"nice {n}": f"nice {v}\n" for n, v in (("A", 0), ("B", 10), ("C", 19), ("C#2", 19))}
        | {f"session {n}": f"/autogroup-7 nice {v}\n" for n, v in (("A", 0), ("B", 10), ("C", 19), ("C#2", 19))},
    ),
    "mps": ("", {"mps clients": "server 5\n" + "".join(f"client {pid}\n" for pid in PIDS.values())}),
    "green": ("40", {"mps clients": "server 5\n" + "".join(f"client {pid}\n" for pid in PIDS.values())}),
    "mps_static": (
        "4",
        {
            "mps clients": "server 5\n" + "".join(f"client {pid}\n" for pid in PIDS.values()),
            "mps partitions": "first GPU-7/Dx\nrest GPU-7/Ex\n",
        }
        | {f"environ {n}": f"CUDA_MPS_SM_PARTITION=GPU-7/{'E' if n == 'A' else 'D'}x\n" for n in PIDS},
    ),
    "hami": (
        "50",
        {f"maps {n}": "looked\n" if n == "A" else "/opt/hami/libvgpu.so\nlooked\n" for n in PIDS}
        | {f"environ {n}": "CUDA_DEVICE_SM_LIMIT=50\n" for n in PIDS if n != "A"},
    ),
    "stream_priority": ("", {}),
    "xsched": (
        "HPF",
        {
            "xserver": "policy HPF\n"
            + "".join(f"process {p} priority {n}\n" for p, n in zip(PIDS.values(), (3, 2, 1, 1), strict=True))
            + "".join(f"XQueue from process {p} created\n" for p in PIDS.values())
            + "server alive\n"
        },
    ),
    "mig": (
        ",".join(MIG),
        {"gpus": "".join(f"  MIG 1g.10gb Device 0: (UUID: {one})\n" for one in MIG)}
        | {f"environ {n}": f"CUDA_VISIBLE_DEVICES={MIG[i]}\n" for n, i in (("A", 0), ("B", 1), ("C", 2), ("C#2", 2))},
    ),
    "cu_mask": (
        "0-9,10-19,20-79",
        {f"environ {n}": f"HSA_CU_MASK=0:{part}\n" for n, part in CUS},
    ),
}  # fmt: skip
SMS = {name: (80, "0-79") if name == "A" else (52, "0-51") for name in PIDS}
STREAMS = {
    name: f'{{"tool":"torch_tenant","stream_priority":{-1 if name == "A" else 0},'
    f'"sm_total":132,"sm_asked":{count},"sm_granted":{count},"sm_ids":"{ids}","threads":1}}\n'
    for name, (count, ids) in SMS.items()
}


def treat(name: str, variant: str, tenants: Sequence[Tenant] = THREE, where: Place = GPU) -> Treatment:
    return registry.scheduler(name).treat(variant, tenants, where)


def verify(name: str, variant: str, seen: RunRecord, tenants: Sequence[Tenant] = THREE) -> tuple[Flag, ...]:
    return registry.scheduler(name).verify(variant, tenants, seen)


def good(name: str, **changes: Any) -> RunRecord:
    return record(PIDS, {**GOOD[name][1], **changes.pop("witnesses", {})}, stdout=STREAMS, **changes)


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
    (flag,) = verify("mps", "40", good("mps", witnesses={**share, "environ C#2": None}))
    assert flag.detail == "mps: C#2 does not have CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=40"
    (flag,) = verify("mps", "priority", good("mps"))
    assert "B does not have CUDA_MPS_CLIENT_PRIORITY=1" in flag.detail
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


@pytest.mark.parametrize("name", ["stream_priority", "mig", "cu_mask", "green"])
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


def test_every_tenant_of_xsched_gets_the_global_scheduler_and_its_priority() -> None:
    env = treat("xsched", "").tenants["A"].env
    assert "LD_PRELOAD" not in env  # not on the shell in front of it either
    assert env["XSCHED_SCHEDULER"] == "GLB"  # preloading alone schedules nothing
    assert env["XSCHED_AUTO_XQUEUE"] == "ON"
    priorities = [one.env["XSCHED_AUTO_XQUEUE_PRIORITY"] for one in treat("xsched", "").tenants.values()]
    assert priorities == ["3", "2", "1"]


def xsched_env(variant: str, **keys: float) -> dict[str, str]:
    tenants = tuple(one.model_copy(update=keys) for one in THREE)
    found = treat("xsched", variant, tenants).tenants["A"].env
    return {name.removeprefix("XSCHED_AUTO_XQUEUE_"): value for name, value in found.items() if "AUTO_XQUEUE_" in name}


def test_settings_of_xsched_reach_every_tenant() -> None:
    usual = {"PRIORITY": "3", "LEVEL": "1", "THRESHOLD": "16", "BATCH_SIZE": "8"}
    assert xsched_env("HPF") == xsched_env("") == usual
    given = xsched_env("HPF(threshold=8, batch=4,timeslice=500)")
    assert given == {**usual, "THRESHOLD": "8", "BATCH_SIZE": "4", "TIMESLICE": "500"}


@pytest.mark.parametrize(
    "variant",
    [
        "HPF(threshold=4)", "HPF(batch=32)", "HPF(level=4)", "HPF(threshold=0,batch=0)", "HPF(speed=1)", "HPF(batch)",
        "HPF(batch=4,batch=4)", "HPF(batch=4", "HPF(timeslice=99)", "HPF(batch=-1)", "HPF(threshold=1e9)", "(batch=4)x",
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_to_xsched_are_refused(variant: str) -> None:
    with pytest.raises(ConfigError):
        treat("xsched", variant)


def test_laxity_is_slack_and_not_the_deadline() -> None:
    lax = xsched_env("LAX", laxity_ms=2.5, deadline_ms=33.0)
    assert lax["LAXITY"] == "2500"
    assert "DEADLINE" not in lax
    assert xsched_env("KEDF", deadline_ms=33.0)["DEADLINE"] == "33000"
    assert xsched_env("UP", utilization_pct=70.0)["UTILIZATION"] == "70"
    assert not {"LAXITY", "DEADLINE", "UTILIZATION"} & set(xsched_env("HPF", laxity_ms=2.5, deadline_ms=33.0))


@pytest.mark.parametrize(
    ("policy", "keys", "what"),
    [
        ("UP", {"A": {"utilization_pct": 50}}, "utilization_pct of B, C"),
        ("PUP", {}, "utilization_pct of A, B, C"),
        ("SPUP", {}, "utilization_pct of A, B, C"),
        ("KEDF", {}, "deadline_ms of B, C"),
        ("LAX", {}, "laxity_ms: none of the tenants"),
        ("AWF", {}, "which window is active"),
    ],
)
def test_a_policy_without_its_hints_is_refused_and_not_run_as_nothing(
    policy: str, keys: dict[str, dict[str, float]], what: str
) -> None:
    tenants = tuple(one.model_copy(update=keys.get(one.name, {})) for one in THREE)
    with pytest.raises(ConfigError, match=what):
        treat("xsched", policy, tenants)


def test_one_tenant_with_slack_is_enough_for_laxity() -> None:
    assert treat("xsched", "LAX", (THREE[0].model_copy(update={"laxity_ms": 5.0}), *THREE[1:]))


class Front:
    """A tenant's command line behind XSched's front, with a library and a server that are this machine's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.server = folder, subprocess.Popen(["sleep", "600"])
        stat = Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()[19]
        (folder / "pid").write_text(f"{self.server.pid}\n")
        (folder / "start").write_text(f"{stat}\n")
        self.lib = folder / "libcuda.so.1"
        self.lib.touch()

    def argv(self, *command: str, kind: str = "nvidia-server", lib: str | None = None) -> list[str]:
        name = {"nvidia-server": "cuda", "amd-server": "hip"}[kind]
        where = place(kind, {"xsched": "/opt/xsched", name: lib if lib is not None else str(self.lib)})
        *front, _ = treat("xsched", "", where=where).tenants["A"].front
        return [*front, str(self.folder), *command]

    def run(self, *command: str, **given: Any) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], **given.pop("env", {})}
        return subprocess.run(
            self.argv(*command, **given), capture_output=True, text=True, check=False, env=environment
        )


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    one = Front(tmp_path)
    yield one
    one.server.kill()
    one.server.wait()


def test_the_shim_comes_before_what_the_library_path_has_already(front: Front) -> None:
    script = 'echo "$LD_LIBRARY_PATH $XSCHED_CUDA_LIB $CUXTRA_CUDA_LIB $LD_PRELOAD"'
    alone, after = (front.run("sh", "-c", script, env=env).stdout for env in ({}, {"LD_LIBRARY_PATH": "/a:/b"}))
    assert alone == f"/opt/xsched/lib {front.lib} {front.lib} \n"
    assert after == f"/opt/xsched/lib:/a:/b {front.lib} {front.lib} \n"


def test_in_front_of_hip_the_shim_is_preloaded_into_the_tenant_alone(front: Front) -> None:
    done = front.run("sh", "-c", 'echo "$LD_PRELOAD $XSCHED_HIP_LIB $LD_LIBRARY_PATH"', kind="amd-server")
    assert done.stdout == f"/opt/xsched/lib/libshimhip.so {front.lib} \n"
    assert done.stderr.count("libshimhip") <= 1  # the loader's word on a library that is not there, once, of the tenant


@pytest.mark.parametrize("lib", ["/no/such/libcuda.so.1", ""])
def test_a_driver_that_is_not_there_is_an_error_and_no_tenant_without_a_scheduler(front: Front, lib: str) -> None:
    if not lib and any(Path(p).exists() for p in ("/usr/local/nvidia/lib64/libcuda.so.1", "/usr/lib64/libcuda.so.1")):
        pytest.skip("this machine has NVIDIA's driver")
    done = front.run("echo", "worked", lib=lib)
    assert done.returncode == 4
    assert done.stdout == ""
    assert "prefixes.cuda" in done.stderr


def test_tenants_of_a_server_that_dies_are_ended_with_the_reason(front: Front) -> None:
    tenant = subprocess.Popen(front.argv("sleep", "600"), stderr=subprocess.PIPE, text=True)
    front.server.kill()
    front.server.wait()
    _, said_last = tenant.communicate(timeout=60)
    assert tenant.returncode == -signal.SIGKILL
    assert "the server ended while tenants ran" in said_last


def test_who_looks_after_the_server_ends_with_the_tenant(front: Front) -> None:
    tenant = subprocess.Popen(front.argv("true"), stderr=subprocess.PIPE)
    assert tenant.communicate(timeout=60) == (None, b"")  # the last one who holds the pipe is gone
    assert tenant.returncode == 0


def test_a_priority_xsched_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="tenant B has priority 300"):
        treat("xsched", "HPF", (THREE[0], THREE[1].model_copy(update={"priority": 300})))


@pytest.mark.parametrize("name", [name for name in GOOD if name not in {"mps", "mps_static", "green", "cu_mask"}])
def test_no_leg_but_mps_connects_to_a_daemon_of_somebody_elses(name: str) -> None:
    """CUDA looks in /tmp/nvidia-mps where the variable is not set."""
    for given in treat(name, GOOD[name][0]).tenants.values():
        assert given.env["CUDA_MPS_PIPE_DIRECTORY"] == "/nonexistent/no-mps"


def test_xsched_needs_a_prefix_and_a_gpu() -> None:
    with pytest.raises(ConfigError, match="where is XSched installed") as caught:
        treat("xsched", "", where=place("nvidia-server"))
    assert "prefixes" in str(caught.value)
    with pytest.raises(DeviceRefusedError, match="NVIDIA or AMD"):
        treat("xsched", "", where=place("linux", {"xsched": "/opt/xsched"}))


def test_xsched_is_not_seen_when_the_server_is_dead_or_a_pid_has_no_queue() -> None:
    log = GOOD["xsched"][1]["xserver"]
    (flag,) = verify("xsched", "HPF", good("xsched", witnesses={"xserver": log.replace("server alive\n", "")}))
    assert "not alive" in flag.detail
    (flag,) = verify("xsched", "HPF", good("xsched", witnesses={"xserver": log.replace("process 12 ", "process 99 ")}))
    assert "no XQueue for B (pid 12)" in flag.detail
    other = log.replace("policy HPF", "policy UP")
    (flag,) = verify("xsched", "HPF", good("xsched", witnesses={"xserver": other}))
    assert "policy UP, not HPF" in flag.detail
    for wrong, got in (
        ("process 14 priority 3", "3"),
        ("", "none"),
        ("process 14 priority 1\nprocess 14 priority 0", "1 and 0"),
    ):
        text = log.replace("process 14 priority 1", wrong)
        (flag,) = verify("xsched", "HPF", good("xsched", witnesses={"xserver": text}))
        assert f"C#2 should have priority 1, its queue got {got}" in flag.detail
    earlier = "server alive\n" + "".join(f"XQueue (0x{p:x}) from process {p} created\n" for p in PIDS.values())
    assert verify("xsched", "HPF", good("xsched", witnesses={"xserver": earlier})) == ()


def test_a_long_log_does_not_hide_that_the_server_lives(tmp_path: Path) -> None:
    """Of a witness's output the last 64 KiB are kept."""
    (look,) = (one for one in treat("xsched", "").witnesses if one.name == "xserver")
    mine = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    (tmp_path / "pid").write_text(str(os.getpid()))
    (tmp_path / "start").write_text(mine + "\n")
    line = "[INFO] XQueue ({0}) from process {1} created\n[INFO] set priority {2} for XQueue {0}\n"
    ranks = dict(zip(PIDS.values(), (3, 2, 1, 1), strict=True))
    text = "[INFO] scheduler created with policy HPF\n\xff client process 3\n"
    text += "".join(line.format(f"0x{n:04x}{pid:04x}", pid, rank) for n in range(2000) for pid, rank in ranks.items())
    (tmp_path / "log").write_bytes(text.encode("latin-1"))
    done = subprocess.run([*look.argv[:-1], str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "server alive"
    assert len(done.stdout) < 500
    assert verify("xsched", "HPF", good("xsched", witnesses={"xserver": done.stdout})) == ()


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
