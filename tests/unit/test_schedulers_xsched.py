"""XSched: settings and hints, the front of a tenant, and what the server's log has to say."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devicelab.errors import ConfigError, DeviceRefusedError
from tests.schedulerdata import GOOD, PIDS, THREE, good, treat, verify
from tests.tenantdata import place


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
