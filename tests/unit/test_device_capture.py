"""Captures: written and read back whole, refused when they are not what they should be, and virtual boards of them."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from sim_kernel_board import Bench, facts_of

from devicelab import knobs
from devicelab.device.capture import FACTS, SNAPSHOT, read_capture, write_capture
from devicelab.errors import ConfigError
from devicelab.jobs import pin
from devicelab.knobs import cpufreq
from devicelab.model.device import Facts
from virtualboards.kernel import spec_from_capture

CPU = "/sys/devices/system/cpu"
PATTERNS = (*knobs.globs(), *pin.capture_patterns())
OLDER = ("note10", "note10-sd855", "qualcomm", "qualcomm-865", "pixel", "oddball")
KINDS = (*OLDER, "snapdragon-8-gen-3", "tensor-g3", "exynos-2400", "dimensity-9300")
_FACTS = {"name": "x", "board": {"kind": "x", "title": "x"}, "kernel": "4.14.0", "abi": "arm64-v8a", "root": "none"}


def archive(path: Path, members: dict[str, bytes], *, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = (len(data) if kind == tarfile.REGTYPE else 0), kind
            member.linkname = "/etc/passwd"
            out.addfile(member, io.BytesIO(data))
    return path


def with_nodes(path: Path, *nodes: object) -> Path:
    lines = "".join(json.dumps(node) + "\n" for node in nodes).encode()
    return archive(path, {FACTS: json.dumps(_FACTS).encode(), SNAPSHOT: lines})


def captured(kind: str, tmp_path: Path) -> tuple[Bench, Facts, Path]:
    bench = Bench(kind)
    facts = facts_of(bench, PATTERNS)
    path = tmp_path / "capture.tar.gz"
    write_capture(facts, facts.tree.values(), path)
    return bench, facts, path


def test_a_capture_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    _, facts, path = captured("note10", tmp_path)
    loaded = read_capture(path).load()
    assert loaded == facts.model_copy(update={"nodes": loaded.nodes})
    assert dict(loaded.tree) == dict(facts.tree)
    again = tmp_path / "again.tar.gz"
    write_capture(facts, facts.tree.values(), again)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["again.tar.gz", "capture.tar.gz"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_board_made_from_a_capture_shows_what_was_captured(kind: str, tmp_path: Path) -> None:
    _, facts, path = captured(kind, tmp_path)
    copy = Bench(spec_from_capture(path))
    moving = ("temp", "gpu_tmu", "stat", "uptime", "loadavg", "time_in_state", "trans_stat", "trans_table", "idle")
    # Names of processor types, and how much of the chip each state costs, are not told by the nodes.
    unknown = ("/proc/cpuinfo", "/proc/version", "cpu_capacity", "max_state", "/physical_package_id", "gpu_model")
    different = {
        node.path: (node.text, copy.r(node.path))
        for node in facts.tree.values()
        if node.text is not None
        and not node.path.endswith((*moving, *unknown))
        and "trip_point" not in node.path
        and copy.r(node.path) != node.text.removesuffix("\n")
    }
    assert different == {}


def test_a_board_made_from_a_capture_behaves(tmp_path: Path) -> None:
    _, _, path = captured("qualcomm", tmp_path)
    copy = Bench(spec_from_capture(path))
    assert copy.spec.su == "magisk"
    assert copy.w("cpufreq/policy4/scaling_min_freq", 99999999) == "EINVAL"
    copy.wait(0.5)
    copy.tasks.parents = {2001: 0}
    assert copy.taskset(2001, {4}) == "EINVAL"
    assert copy.w("/sys/class/kgsl/kgsl-3d0/min_pwrlevel", 99) == "ok"
    assert copy.r("/sys/class/kgsl/kgsl-3d0/min_pwrlevel") == "4"
    assert copy.w("/sys/module/cpu_boost/parameters/input_boost_ms", 0) == "ok"
    assert copy.r("/sys/module/cpu_boost/parameters/input_boost_ms") == "0"


def test_a_captured_board_without_permissions_keeps_them(tmp_path: Path) -> None:
    bench = Bench("oddball")
    facts = facts_of(bench, PATTERNS, root="none")
    write_capture(facts, facts.tree.values(), tmp_path / "odd.tar.gz")
    copy = Bench(spec_from_capture(tmp_path / "odd.tar.gz"))
    assert copy.w("cpufreq/policy0/scaling_max_freq", 800000) == "EACCES"


def test_a_machine_without_cpufreq_becomes_a_board_without_it(tmp_path: Path) -> None:
    nodes = [
        {"path": "/sys/devices/system/cpu/present", "text": "0-3\n"},
        {"path": "/sys/class/dmi/id/sys_vendor", "text": "Acme\n"},
    ]
    copy = Bench(spec_from_capture(with_nodes(tmp_path / "x.tar.gz", *nodes)))
    assert copy.r("online") == "0-3"
    assert copy.r("cpufreq/policy0/scaling_max_freq") == "ENOENT"
    assert copy.r("/sys/class/dmi/id/sys_vendor") == "Acme"


@pytest.mark.parametrize(
    "node",
    [
        {"path": "/etc/passwd", "text": "x"},
        {"path": "/sys/../etc/passwd", "text": "x"},
        {"path": "//sys/x", "text": "x"},
        {"path": "sys/x", "text": "x"},
        {"path": "/sys/x\u0000y", "text": "x"},
        {"path": "/sys/" + "a" * 2000, "text": "x"},
        {"path": "/sys/x", "kind": "link", "target": "../../etc/passwd"},
        {"path": "/sys/x", "kind": "link", "target": "/etc/passwd"},
        {"path": "/sys/x", "kind": "socket"},
        {"path": "/sys/x", "mode": 0o100644},
        {"path": "/sys/x", "errno": -1},
        {"path": "/sys/x", "text": 5},
        {"path": "/sys/x", "colour": "red"},
        {"text": "no path"},
        ["no", "object"],
    ],
)
def test_a_node_that_does_not_belong_is_refused(node: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no usable capture"):
        read_capture(with_nodes(tmp_path / "x.tar.gz", node))


@pytest.mark.parametrize(
    "members",
    [
        {},
        {FACTS: b"{}"},
        {FACTS: b"{}", SNAPSHOT: b"", "more": b""},
        {"../facts.json": b"{}", SNAPSHOT: b""},
        {"/facts.json": b"{}", SNAPSHOT: b""},
        {FACTS: b"[" * 100_000, SNAPSHOT: b""},
        {FACTS: b"{", SNAPSHOT: b""},
        {FACTS: b" " * (5 << 20), SNAPSHOT: b""},
        {FACTS: b"{}", SNAPSHOT: b"\n" * 100_001},
    ],
)
def test_an_archive_with_other_members_or_too_much_in_them_is_refused(
    members: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no usable capture"):
        read_capture(archive(tmp_path / "x.tar.gz", members))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_devices_and_directories_are_refused(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not belong"):
        read_capture(archive(tmp_path / "x.tar.gz", {FACTS: b"", SNAPSHOT: b""}, kind=kind))


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devicelab.device.capture._MAX_TOTAL", 1 << 20)
    # An extended header, which a tar reader would take into memory whole.
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, 8 << 20
    with gzip.open(tmp_path / "bomb.tar.gz", "wb") as out:
        out.write(extended.tobuf(tarfile.USTAR_FORMAT))
        out.write(bytes(8 << 20))
    with pytest.raises(ConfigError, match="unpacks to more than 1 MiB"):
        read_capture(tmp_path / "bomb.tar.gz")


def test_what_is_no_archive_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    whole = with_nodes(tmp_path / "x.tar.gz", {"path": "/sys/x", "text": "y"}).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    for name in ("text", "cut", "missing"):
        with pytest.raises(ConfigError, match="no usable capture"):
            read_capture(tmp_path / name)


def test_facts_that_describe_no_device_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz", {FACTS: b'{"name": "x"}', SNAPSHOT: b""})
    with pytest.raises(ConfigError, match="describes no device"):
        spec_from_capture(path)
    with pytest.raises(ConfigError, match="does not describe a device"):
        read_capture(path).load()


def test_nodes_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    base = "/sys/devices/system/cpu/cpufreq"
    nodes = [
        {"path": f"{base}/policy{first}/{name}", "text": text}
        for first in (0, 1)
        for name, text in {"related_cpus": f"{first} 2 3", "scaling_available_frequencies": "1000 2000"}.items()
    ]
    with pytest.raises(ConfigError, match="contradicts"):
        spec_from_capture(with_nodes(tmp_path / "x.tar.gz", *nodes))


def policy_nodes(layout: str, *, table: bool) -> list[dict[str, object]]:
    """Two clusters of two CPUs as the older kernels show them (``old``), or without a list of frequencies."""
    nodes: list[dict[str, object]] = [{"path": f"{CPU}/present", "text": "0-3\n"}]
    for first, points in ((0, "300000 600000 900000 1200000"), (2, "400000 1000000 1600000 2000000")):
        folders = [f"cpu{cpu}/cpufreq" for cpu in (first, first + 1)] if layout == "old" else [f"cpufreq/policy{first}"]
        texts = {
            "related_cpus": f"{first} {first + 1}\n",
            "affected_cpus": f"{first} {first + 1}\n",
            "cpuinfo_min_freq": points.split()[0],
            "cpuinfo_max_freq": points.split()[-1],
            "scaling_min_freq": points.split()[0],
            "scaling_max_freq": points.split()[-1],
            "scaling_governor": "interactive\n",
            "scaling_available_governors": "interactive performance\n",
            "stats/time_in_state": "".join(f"{point} 10\n" for point in points.split()),
            **({"scaling_available_frequencies": points} if table else {}),
        }
        nodes += [{"path": f"{CPU}/{d}/{n}", "text": t, "mode": 0o644} for d in folders for n, t in texts.items()]
    return nodes


@pytest.mark.parametrize("layout", ["old", "new"])
@pytest.mark.parametrize("table", [True, False])
def test_what_facts_can_read_a_captured_board_reproduces(tmp_path: Path, layout: str, table: bool) -> None:
    nodes = [*policy_nodes(layout, table=table), {"path": f"{CPU}/online", "text": "0-3\n"}]
    spec = spec_from_capture(with_nodes(tmp_path / "x.tar.gz", *nodes))
    assert [(one.cpus, one.table_khz) for one in spec.policies] == [
        ((0, 1), (300000, 600000, 900000, 1200000)),
        ((2, 3), (400000, 1000000, 1600000, 2000000)),
    ]
    copy = facts_of(Bench(spec), PATTERNS)
    assert [(one.cpus, len(one.table), one.lowest, one.highest) for one in cpufreq.policies(copy)] == [
        ((0, 1), 4, 300000, 1200000),
        ((2, 3), 4, 400000, 2000000),
    ]
    assert [(one.name, one.cpus) for one in knobs.clusters(copy)] == [("little", (0, 1)), ("big", (2, 3))]


def test_cpus_that_were_offline_come_up_offline(tmp_path: Path) -> None:
    nodes = [*policy_nodes("new", table=True), {"path": f"{CPU}/online", "text": "0-1\n"}]
    copy = Bench(spec_from_capture(with_nodes(tmp_path / "x.tar.gz", *nodes)))
    assert copy.r("online") == "0-1"
    assert copy.r("offline") == "2-3"
    assert copy.r("cpu2/online") == "0"
    assert copy.r("cpu2/topology/core_id") == "ENOENT"
    assert copy.r("cpufreq/policy2/affected_cpus") in {"", "EBUSY"}
    assert copy.w("cpu2/online", 1) == "ok"
    assert copy.r("online") == "0-2"
    assert copy.r("cpufreq/policy2/affected_cpus") == "2"


@pytest.mark.parametrize("name", ["no-table", "old-layout"])
def test_captures_of_old_phones_are_read_and_made_into_boards(name: str, tmp_path: Path) -> None:
    """Two clusters, told by time_in_state alone, or by a folder for each CPU as before Linux 4.3."""
    tables = {(0, 1): (300000, 600000, 900000, 1200000), (2, 3): (400000, 1000000, 1600000, 2000000)}
    old = name == "old-layout"
    nodes: list[object] = [{"path": f"{CPU}/{file}", "text": "0-3\n"} for file in ("present", "possible", "online")]
    for cpus, table in tables.items():
        for folder in [f"cpu{cpu}/cpufreq" for cpu in cpus] if old else [f"cpufreq/policy{cpus[0]}"]:
            texts = {
                "affected_cpus": " ".join(map(str, cpus)),
                "related_cpus": " ".join(map(str, cpus)),
                "cpuinfo_min_freq": table[0],
                "cpuinfo_max_freq": table[-1],
                "scaling_min_freq": table[0],
                "scaling_max_freq": table[-1],
                "scaling_governor": "interactive",
                "scaling_available_governors": "interactive performance",
                "stats/time_in_state": "\n".join(f"{khz} 10" for khz in table),
            } | ({"scaling_available_frequencies": " ".join(map(str, table))} if old else {})
            nodes += [{"path": f"{CPU}/{folder}/{node}", "text": f"{text}\n"} for node, text in texts.items()]
    told = {**_FACTS, "address": "adb:x", "os": "android", "boot_id": "b", "dir": "/d"}
    lines = "".join(json.dumps(node) + "\n" for node in nodes).encode()
    path = archive(tmp_path / "x.tar.gz", {FACTS: json.dumps(told).encode(), SNAPSHOT: lines})
    facts = read_capture(path).load()
    assert [(one.name, one.cpus) for one in knobs.known(facts).clusters] == [("little", (0, 1)), ("big", (2, 3))]
    assert {one.cpus: one.table for one in cpufreq.policies(facts)} == tables
    copy = spec_from_capture(path)
    assert {one.cpus: one.table_khz for one in copy.policies} == tables
    assert all(set(one.governors) == {"interactive", "performance"} for one in copy.policies)


def test_cpus_of_a_policy_that_only_the_topology_tells_stay_together(tmp_path: Path) -> None:
    nodes = [
        {"path": f"{CPU}/{path}", "text": f"{text}\n"}
        for path, text in {
            "present": "0-3", "possible": "0-3", "online": "0-2",
            "cpu0/cpufreq/related_cpus": "0 1", "cpu0/cpufreq/cpuinfo_max_freq": "1000000",
            "cpu0/cpufreq/cpuinfo_min_freq": "300000",
            "cpu2/cpufreq/cpuinfo_max_freq": "2000000", "cpu2/cpufreq/cpuinfo_min_freq": "400000",
            "cpu2/topology/core_siblings_list": "2-3",
        }.items()
    ]  # fmt: skip
    copy = spec_from_capture(with_nodes(tmp_path / "x.tar.gz", *nodes))
    assert [one.cpus for one in copy.policies] == [(0, 1), (2, 3)]
    assert copy.offline == (3,)


@pytest.mark.parametrize(
    ("table", "clocks"),
    [
        ("[00] freq: 0, volt: 0\n", None),
        ("nonsense\n", None),
        ("[00] freq: 900000, volt: 1\n[01] freq: 0, volt: 1\n", (900000000,)),
    ],
)
def test_a_gpu_of_mediatek_is_made_of_clocks_that_are_some(
    table: str, clocks: tuple[int, ...] | None, tmp_path: Path
) -> None:
    nodes = [
        {"path": f"{CPU}/present", "text": "0-1\n"},
        {"path": "/proc/gpufreqv2/gpu_working_opp_table", "text": table},
        {"path": "/proc/gpufreqv2/fix_target_opp_index", "text": "fixed OPP index is disabled\n"},
    ]
    copy = Bench(spec_from_capture(with_nodes(tmp_path / "x.tar.gz", *nodes)))
    assert (copy.spec.gpu.table_hz if copy.spec.gpu else None) == clocks
    copy.wait(1)
