"""Targets: files from elsewhere. TOML, captures, results of bundles, ssh configuration, blobs of the store."""

import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from devicelab import boards
from devicelab.device import lab
from devicelab.device.capture import FACTS, SNAPSHOT, read_capture
from devicelab.device.toolchain import toolchains
from devicelab.experiment import files, tenancy
from devicelab.experiment import plan as planning
from devicelab.farm import clock, job, schedule
from devicelab.farm.selectors import Known
from devicelab.ground import registry
from devicelab.jobs.bundle import MANIFEST, Manifest
from devicelab.jobs.import_ import import_result
from devicelab.model.journal import seal_line
from devicelab.model.tree import Tree
from devicelab.schedulers.base import Place
from devicelab.store import Store, codec
from devicelab.transports.adb import AdbTransport
from devicelab.transports.ssh import config as ssh_config
from devicelab.transports.ssh import hosts as ssh_hosts
from tests import labdata, tenantdata
from tests.fuzz.target import Target, joined, parted
from tests.unit import board_trees
from virtualboards.kernel.captured import spec_of

_ROOT = Path(__file__).resolve().parents[2]
_TEMPORARY = tempfile.TemporaryDirectory(prefix="devicelab-fuzz-")  # it goes with the process
_FOLDER = Path(_TEMPORARY.name)
_OUTSIDE = _FOLDER / "outside"
_INSIDE = _FOLDER / "inside"
for _one in (_OUTSIDE, _INSIDE, _FOLDER / "home" / ".ssh"):
    _one.mkdir(parents=True)
(_OUTSIDE / "file").write_text("as it was")


def _put(name: str, data: bytes) -> Path:
    path = _INSIDE / name
    path.write_bytes(data)
    return path


def _untouched() -> None:
    """Nothing was written but the file that was read (and the store, beside)."""
    assert sorted(p.name for p in _OUTSIDE.iterdir()) == ["file"]
    assert (_OUTSIDE / "file").read_text() == "as it was"
    assert {p.name for p in _FOLDER.iterdir()} <= {
        "home",
        "inside",
        "outside",
        "store.sqlite",
        "store.sqlite-wal",
        "store.sqlite-shm",
    }


def _tomls(folder: str) -> Iterator[bytes]:
    yield from (path.read_bytes() for path in sorted((_ROOT / folder).glob("*.toml")))


# --- TOML

_PLACE = Place(board_trees.facts("sm8150"), {"xsched": "/opt/x"}, "python3")


def _experiment(data: bytes) -> None:
    """The file, then values as with --set; what comes of it is planned for a phone if it is not too large."""
    text, *overrides = parted(data)
    path = _put("x.toml", text)
    made = files.load(str(path), [one.decode("utf-8", "replace") for one in overrides])
    tenancy.check(made)
    size = made.repetitions
    for levels in made.factors.values():
        size *= max(1, len(levels))
    if size <= 16:
        planning.make(made, _PLACE, campaign="c", holder="h")


def _experiment_seeds() -> Iterator[bytes]:
    yield from _tomls("experiments")
    yield joined(
        b'question = "?"\n[factors]\nk = [1]\n[measure]\nworkload = "klo"', b"repetitions=2", b"k=[1,2]", b"a.b=1"
    )


def _lab(data: bytes) -> None:
    made = lab.load_lab(_put("lab.toml", data))
    for entry in made.devices.values():
        if entry.address.startswith("adb:"):
            AdbTransport(entry.address)
        elif entry.address.startswith("ssh:"):
            _resolve(entry.address[4:])


_LAB = (
    b'default = "a"\n[devices.a]\naddress = "adb:0123@host:5038"\nboard = "note10"\ntags = ["x"]\nroot = "su-c"\n'
    b'[devices.b]\naddress = "ssh:me@[::1]:22"\ndir = "/d"\nprefixes = {xsched = "/opt"}\n'
)


def _farm(data: bytes) -> None:
    """The file, its experiments and selectors, and the night that is foretold from it."""
    phone = Known(lab.DeviceEntry(name="a", address="adb:0123", tags=("x",)), "note10")
    made = job.load(_put("farm.toml", data), {"a": phone})
    schedule.make_tasks(made, {"a": phone})
    clock.ends_at(made.farm, datetime(2026, 3, 1, 22, 0, tzinfo=UTC))


_FARM = (
    b'name = "nightly"\nbudget_s = 3600\ndeadline = "07:00"\n[[jobs]]\nexperiment = "quick"\ndevices = "board=note10"\n'
    b'priority = 5\nset = {settle_s = 1.0, "measure.params.plain" = 3}\n[[jobs]]\nexperiment = "placement"\n'
    b'devices = "any 1 of tag=x, a"\nrepetitions = 2\n[health]\nmax_c = 45\n[retention]\nnights = 30\n'
)


def _board(data: bytes) -> None:
    _put("board.toml", data)
    made = boards.read.__wrapped__(_INSIDE / "board.toml")
    boards._fits(made.recognise, {"ro.product.model": "SM-N970F"}, Tree())


def _toolchain(data: bytes) -> None:
    folder = _INSIDE / "toolchains"
    folder.mkdir(exist_ok=True)
    (folder / "x.toml").write_bytes(data)
    with mock.patch.object(registry, "data_dir", return_value=folder):
        toolchains()


# --- archives


def _capture(data: bytes) -> None:
    found = read_capture(_put("capture.tar.gz", _archive(data, packed=True)))
    spec_of(found)
    found.load()
    _untouched()


def _archive(data: bytes, *, packed: bool) -> bytes:
    """The bytes as they are, or (first byte "M") parts "NAME TYPE LINK" and content, in turn, as a tar archive."""
    if not data.startswith(b"M"):
        return data
    parts = parted(data[1:])
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for head, content in zip(parts[::2], parts[1::2], strict=False):
            name, kind, link = [*head.decode("utf-8", "replace").split(" "), "", ""][:3]
            member = tarfile.TarInfo(name)
            member.type = kind[:1].encode("ascii", "replace") or tarfile.REGTYPE
            member.linkname, member.size = link, len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(out.getvalue(), 1) if packed else out.getvalue()


def _capture_seeds() -> Iterator[bytes]:
    for name in ("sm8150", "exynos9825", "server"):
        facts = board_trees.facts(name)
        lines = "".join(node.model_dump_json(exclude_defaults=True) + "\n" for node in facts.tree.values())
        members = (FACTS.encode(), facts.model_dump_json().encode(), SNAPSHOT.encode(), lines.encode())
        seed = b"M" + joined(*members)
        yield seed
        yield _archive(seed, packed=True)
    yield b"M" + joined(b"../../outside/file 0 ", b"x", b"link 2 /etc/passwd", b"", b"dev 3 ", b"", b"/abs 1 file", b"")


_CAMPAIGN = "20261122-101500-3f2a9c"
_OF = tenantdata.experiment(repetitions=1)
_OUTPUT = (
    '{"tool":"cpu_tenant","duration_s":4.0,"arrivals":"fixed:100"}\n'
    '{"requests":{"scheduled_ns":[0,10],"start_ns":[1,11],"end_ns":[9,19]}}\n{"end":true,"requests":2}\n'
)
_stores: list[Store] = []


def _store() -> Store:
    if not _stores:
        _stores.append(Store.open(_FOLDER / "store.sqlite"))
    return _stores[0]


def _bundle(data: bytes) -> None:
    import_result(_put("result.tar", _archive(data, packed=False)), _store())
    _untouched()


def _bundle_seeds() -> Iterator[bytes]:
    planned = planning.make(_OF, tenantdata.place(), campaign=_CAMPAIGN, holder="bundle")
    manifest = Manifest(
        campaign=_CAMPAIGN,
        experiment=_OF,
        facts=tenantdata.place().facts,
        cells=tuple(planned.cells.values()),
        plans=planned.plans,
    )
    lines = []
    for seq, run in enumerate(planned.plans[0].runs):
        record = labdata.record(run.run_id, seq).model_dump(mode="json")
        programs = [
            {"name": p.name, "role": "measure", "pid": 9, "exit_code": 0, "stdout": _OUTPUT} for p in run.programs
        ]
        lines.append(seal_line({**record, "programs": programs}))
    seed = b"M" + joined(
        MANIFEST.encode(), manifest.model_dump_json().encode(),
        b"out/machine.txt", b"machine=x86_64\nkernel=6.8\n",
        b"out/snapshot.jsonl", b'{"path": "/sys/module/nvidia/version", "text": "570.1\\n"}\n',
        b"out/0000/journal.jsonl", b"".join(lines),
    )  # fmt: skip
    yield seed
    yield _archive(seed, packed=False)
    yield gzip.compress(_archive(seed, packed=False))
    yield b"M" + joined(b"../../outside/file 0 ", b"x", b"out/0000/journal.jsonl 2 /etc/passwd", b"")


# --- ssh


def _resolve(text: str) -> ssh_config.Target:
    # Without OpenSSH, whose `Match exec` would run what the noise says.
    with (
        mock.patch.object(Path, "home", return_value=_FOLDER / "home"),
        mock.patch.object(ssh_config.shutil, "which", return_value=None),
    ):
        return ssh_config.resolve(text, "ssh:x")


def _ssh(data: bytes) -> None:
    address, config, *hosts = (*parted(data), b"")
    home = _FOLDER / "home" / ".ssh"
    (home / "config").write_bytes(config)
    (home / "known_hosts").write_bytes(b"\n".join(hosts))
    target = _resolve(address.decode("utf-8", "replace"))
    known = ssh_hosts.read((home / "known_hosts",))
    known.keys(target.known_as)
    known.keys("[host]:2222")


_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
_SSH = joined(
    b"me@host:2222",
    b"Host host other-*\n  HostName 10.0.0.1\n  Port 22\n  User root\n  IdentityFile ~/.ssh/id\n  IdentitiesOnly yes\n"
    b"  ProxyJump a,b:23\n  UserKnownHostsFile ~/x /y\n  HostKeyAlias k\nHost foo\n  ProxyCommand nc %h %p\n",
    f"[host]:2222,other ssh-ed25519 {_KEY}\n@revoked * ssh-ed25519 {_KEY}".encode(),
    f"|1|MMKKWbEsPM8vuVeGNhO5QVdSjWI=|KBFcqVrwfk8Lh8vqSbYZ4hI5Wqs= ssh-ed25519 {_KEY}".encode(),
)


# --- blobs


def _blob(data: bytes) -> None:
    """The blob itself, or (first byte "Z") what is to be packed into one."""
    blob = codec.pack(data[1:]) if data.startswith(b"Z") else data
    codec.decode_table(blob)


def _blob_seeds() -> Iterator[bytes]:
    for table in labdata.measurement(1).tables.values():
        blob = codec.encode_table(table)[1]
        yield blob
        yield b"Z" + codec.unpack(blob)
    yield b"Z" + json.dumps({"format": 1, "rows": 0, "columns": [["a", "int64"]]}).encode() + b"\n"


_TOML_WORDS = (b"[[", b"]]", b"inf", b"nan", b"1979-05-27T07:32:00Z", b"'''", b"{}", b"[[[[", b"\\ud800")

TARGETS = (
    Target(
        "toml-experiment", "experiment files and --set, up to the plan", _experiment, _experiment_seeds, _TOML_WORDS
    ),
    Target("toml-lab", "lab.toml and the addresses in it", _lab, lambda: (_LAB,), (*_TOML_WORDS, b"@", b":")),
    Target(
        "toml-farm",
        "farm files, up to the tasks of a night",
        _farm,
        lambda: (_FARM,),
        (*_TOML_WORDS, b"any ", b"=", b"1e300", b"inf"),
    ),
    Target(
        "toml-board", "files of board kinds", _board, lambda: _tomls("devicelab/boards"), (*_TOML_WORDS, b"(", b"*")
    ),
    Target("toml-toolchain", "files of toolchains", _toolchain, lambda: _tomls("toolchains"), _TOML_WORDS),
    Target("capture", "captures, up to the virtual board", _capture, _capture_seeds, (b"..", b"0-300", b"[]", b"null")),
    Target(
        "bundle", "results of bundles, into a store", _bundle, _bundle_seeds, (b"..", b"GNU.sparse.map=", b"27 size=")
    ),
    Target(
        "ssh",
        "addresses, ~/.ssh/config and known_hosts",
        _ssh,
        lambda: (_SSH,),
        (b"|1|", b"Port ", b"~x/", b"Include "),
    ),
    Target("blob", "blobs of samples", _blob, _blob_seeds, (b"int64", b"float64", b"rows"), allowed=(ValueError,)),
)
