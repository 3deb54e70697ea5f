"""The XSched leg against a server that stands in for the real one: set-up, proof on live pids, endings, clean-up."""

import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devicelab.device.lab import DeviceEntry
from devicelab.schedulers import xsched
from devicelab.store import Store
from tests import tenantlab

pytestmark = pytest.mark.slow

LEG = "xsched:HPF"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.sqlite") as opened:
        yield opened


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An installed prefix with a server in it."""
    (tmp_path / "xsched/bin").mkdir(parents=True)
    (tmp_path / "xsched/lib").mkdir()
    (tmp_path / "xsched/lib/libshimcuda.so").write_bytes(b"no library at all")
    server = tmp_path / "xsched/bin/xserver"
    source = Path(__file__).parents[1] / "xserver_standin.py"
    server.write_text(f"#!{sys.executable}\n" + source.read_text())
    server.chmod(0o755)
    return tmp_path / "xsched"


def device(tmp_path: Path, prefix: Path) -> DeviceEntry:
    return tenantlab.entry(tmp_path, board="nvidia-server", prefixes={"xsched": str(prefix), "cuda": "/bin/sh"})


def queues() -> set[str]:
    lines = Path("/proc/sysvipc/msg").read_text().splitlines()[1:]
    return {line.split()[1] for line in lines}


def own_queue(prefix: Path) -> str:
    """The SysV queue that the last server made."""
    return (prefix / "bin/queue-id").read_text()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_leg_under_the_server_is_proved_and_leaves_nothing(tmp_path: Path, store: Store, prefix: Path) -> None:
    others = queues()
    done = tenantlab.run(
        tmp_path, store, device=device(tmp_path, prefix), factors={"scheduler": ("native", "standalone+xsched", LEG)}
    )
    assert tenantlab.flags_by_leg(store, done) == {"native": [], "standalone+xsched": [], LEG: []}
    assert done.runs == 4
    results = store.results(done.campaign)
    (run_id,) = results.runs().query("scheduler == @LEG")["run_id"]
    record = results.evidence(run_id)
    pids = {program["name"]: program["pid"] for program in record["programs"]}
    said = {witness["name"]: witness["stdout"] for witness in record["witnesses"]}
    assert said["xserver"].endswith("server alive\n")
    for pid in pids.values():
        assert f"from process {pid} created" in said["xserver"]
    assert len(said["xsched files"].split()) == 4  # checksums of the server and the shim stand for their versions
    settings = [json.loads(line) for line in (prefix / "bin/settings.log").read_text().splitlines()]
    assert {one["XSCHED_AUTO_XQUEUE_PRIORITY"] for one in settings} == {"1", "2"}
    assert {one["LD_LIBRARY_PATH"] for one in settings} == {f"{prefix}/lib"}
    assert own_queue(prefix) not in queues()
    assert queues() == others
    assert tenantlab.left_behind([str(prefix), "xserver"]) == []
    assert not (tmp_path / "device/xsched").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces here")
def test_the_server_listens_in_a_network_namespace_of_its_own(tmp_path: Path, store: Store, prefix: Path) -> None:
    with socket.socket() as taken:  # a server on the host's port would be in the way without the namespace
        taken.bind(("127.0.0.1", xsched.PORT))
        taken.listen()
        done = tenantlab.run(tmp_path, store, device=device(tmp_path, prefix), factors={"scheduler": (LEG,)})
    assert tenantlab.flags_by_leg(store, done) == {LEG: []}
    assert not listens(xsched.PORT)


def test_a_tenant_without_a_queue_makes_the_leg_invalid(tmp_path: Path, store: Store, prefix: Path) -> None:
    (prefix / "bin/ignore-priority").write_text("1")
    done = tenantlab.run(tmp_path, store, device=device(tmp_path, prefix), factors={"scheduler": ("native", LEG)})
    flags = tenantlab.flags_by_leg(store, done)
    assert flags["native"] == []
    (flag,) = flags[LEG]
    assert flag.startswith("scheduler-not-seen: xsched: no XQueue for low (pid ")
    assert own_queue(prefix) not in queues()


def test_a_server_that_dies_makes_the_leg_invalid_and_is_cleaned_up(tmp_path: Path, store: Store, prefix: Path) -> None:
    (prefix / "bin/die-after").write_text("0.3")
    changes = {"factors": {"scheduler": (LEG, "native")}, "duration_s": 1.5}
    done = tenantlab.run(tmp_path, store, device=device(tmp_path, prefix), **changes)
    flags = tenantlab.flags_by_leg(store, done)
    assert flags["native"] == []
    assert any("XSched: the server ended while tenants ran" in flag for flag in flags[LEG])
    assert any(flag.startswith("scheduler-not-seen: xsched: the server ") for flag in flags[LEG])
    assert own_queue(prefix) not in queues()
    assert not (tmp_path / "device/xsched").exists()


def test_a_server_that_cannot_start_fails_its_leg_with_its_words(tmp_path: Path, store: Store, prefix: Path) -> None:
    (prefix / "bin/fail").write_text("libhal.so: cannot open shared object file")
    done = tenantlab.run(tmp_path, store, device=device(tmp_path, prefix), factors={"scheduler": (LEG, "native")})
    flags = tenantlab.flags_by_leg(store, done)
    assert flags["native"] == []
    assert flags[LEG][0].startswith("write-failed: sh: exit code 1")
    assert "libhal.so: cannot open shared object file" in flags[LEG][0]
    assert not (tmp_path / "device/xsched").exists()


def test_a_prefix_that_is_not_there_fails_its_leg_alone(tmp_path: Path, store: Store, prefix: Path) -> None:
    shutil.rmtree(prefix)
    done = tenantlab.run(tmp_path, store, device=device(tmp_path, prefix), factors={"scheduler": (LEG, "native")})
    flags = tenantlab.flags_by_leg(store, done)
    assert flags["native"] == []
    assert flags[LEG][0].startswith("write-failed: ")
    assert not (tmp_path / "device/xsched").exists()


def test_queues_of_others_are_left_alone(tmp_path: Path, store: Store, prefix: Path) -> None:
    import ctypes

    libc = ctypes.CDLL(None)
    made = [libc.msgget(0, 0o1600)]

    # Another program's, made while the server works, that nobody has sent to yet.
    def follow() -> None:
        while not (prefix / "bin/settings.log").exists():
            time.sleep(0.02)
        made.append(libc.msgget(0, 0o1600))

    meanwhile = threading.Thread(target=follow, daemon=True)
    meanwhile.start()
    try:
        tenantlab.run(tmp_path, store, device=device(tmp_path, prefix), factors={"scheduler": (LEG,)})
        meanwhile.join(5)
        assert len(made) == 2
        assert set(map(str, made)) <= queues()
    finally:
        for queue in made:
            libc.msgctl(queue, 0, None)
