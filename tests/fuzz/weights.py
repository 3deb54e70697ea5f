"""Inputs that are made to fill memory or time, each in a process of its own with little memory to spare.

    python -m tests.fuzz.weights [NAME ...] [--json FILE]

What holds for each: it is taken, or refused with a ``LabError``, within ``SPARE_MIB`` beyond what the imports take.
"""

import argparse
import gzip
import hashlib
import io
import json
import multiprocessing
import re
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from devicelab.device import agent, capture, probe
from devicelab.device.facts import Device
from devicelab.device.journal_reader import JournalReader
from devicelab.device.lab import DeviceEntry
from devicelab.errors import LabError
from devicelab.experiment import plan as planning
from devicelab.ground.registry import module
from devicelab.jobs.bundle import MANIFEST
from devicelab.jobs.import_ import import_result
from devicelab.model.journal import seal_line
from devicelab.model.tree import parse_snapshot
from devicelab.report import build_report
from devicelab.store import Store
from devicelab.transports.base import Completed
from devicelab.transports.local import LocalTransport
from tests import labdata
from tests.unit import board_trees
from tests.unit.test_jobs_import import journal, manifest, pack, result

SPARE_MIB = 1024
"""An answer of 13 GB was the reason for all this; a phone's honest run takes some ten MiB."""

_MIB = 1 << 20
Act = Callable[[], object]
_RUN = {"event": "run", "run_id": "r", "seq": 0, "status": "done", "t_start_ns": 1, "t_end_ns": 2, "t_unix_ns": 3}


@dataclass(frozen=True)
class Weight:
    """What became of one: ``refused`` is the error's words, empty if the input was taken."""

    name: str
    ended: bool
    peak_mib: int
    seconds: float
    refused: str


def _device(answer: bytes) -> Device:
    class Says(LocalTransport):
        def run(self, *_: Any, **__: Any) -> Completed:
            return Completed(0, answer, b"")

    entry = DeviceEntry(name="d", address="local:")
    return Device(entry, Says("local:"), board_trees.facts("sm8150"), cast("Any", None), {})


def _status(answer: bytes) -> Act:
    device = _device(answer)
    return lambda: agent.status(device)


def _floods() -> Act:
    words = ["sh", "-c", "yes '[],[],[],[],[],[],[],[],' | head -c 251658240"]
    return lambda: LocalTransport("local:").run(words)


def _probed(answer: bytes) -> Act:
    device = _device(answer)
    return lambda: probe.probe(device.entry, device.transport)


def _snapshot(data: bytes) -> Act:
    return lambda: parse_snapshot(data)


def _read(pieces: Callable[[], Iterable[bytes]]) -> Act:
    reader = JournalReader("d")
    return lambda: sum(1 for piece in pieces() for _ in reader.feed(piece))


def _pieces(data: bytes, size: int = 64 << 10) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def _sealed(event: dict[str, Any], text: str = "") -> Act:
    """A journal of one line; ``text`` stands where the event says @@."""
    body = json.dumps(event).encode()[:-1].replace(b'"@@"', text.encode())
    line = body + b',"line_sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
    del body
    return _read(lambda: _pieces(line))


def _imported(folder: Path, piece: bytes, times: int, of: bytes | None = None) -> Act:
    """A result with a journal of that piece so many times."""
    path = folder / "result.tar.gz"
    text = of or manifest().model_dump_json().encode()
    with gzip.open(path, "wb", 6) as packed, tarfile.open(fileobj=cast("Any", packed), mode="w|") as archive:
        info = tarfile.TarInfo(MANIFEST)
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
        info = tarfile.TarInfo("out/0000/journal.jsonl")
        info.size = len(piece) * times
        archive.addfile(info, cast("Any", _Again(piece, times)))

    def act() -> object:
        with Store.open(folder / "lab.sqlite") as store:
            return import_result(path, store)

    return act


class _Again(io.RawIOBase):
    """A file of one piece so many times."""

    def __init__(self, piece: bytes, times: int) -> None:
        self._piece, self._at, self._end = piece, 0, len(piece) * times

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        at = self._at % len(self._piece)
        data = (self._piece * (2 + size // len(self._piece)))[at : at + min(size, self._end - self._at)]
        self._at += len(data)
        return data


def _detail(folder: Path) -> Act:
    """A flag of 40 MiB, and the page of its campaign."""
    lines = journal(manifest())
    event = json.loads(lines[0].rpartition(b',"line_sha256"')[0] + b"}")
    event["flags"] = [{"code": "x" * _MIB, "detail": "é<" * (20 * _MIB)}]
    path = result(folder / "result.tar", lines=[seal_line(event)])

    def act() -> object:
        with Store.open(folder / "lab.sqlite") as store:
            import_result(path, store)
            (info,) = store.campaigns()
            page = build_report(store, info.campaign, folder / "page.html")
        assert page.stat().st_size < 8 * _MIB, "the page is as large as the device pleases"
        return None

    return act


def _captured(folder: Path, of_facts: bytes, snapshot: bytes) -> Act:
    path = pack(folder / "capture.tar.gz", [("facts.json", of_facts), ("snapshot.jsonl", snapshot)], "w:gz")
    return lambda: capture.read_capture(path).load()


def _output(workload: str, text: bytes, **params: Any) -> Act:
    used = module("workloads", workload)
    given = used.Params.model_validate(params)
    return lambda: used.parse(text, given)


def _cells() -> Act:
    of = labdata.experiment(factors={"load": ("none",)}, set={}, repetitions=1)
    many = of.model_copy(update={"factors": {"k": tuple(range(10**7))}})
    return lambda: planning.cells(many)


_NODE = b'{"path":"/sys/a","text":"x"}\n'
_LISTS = b"[]," * (20 * _MIB)
_QUESTION = re.compile(rb'"question":"[^"]*"')


def _asking() -> bytes:
    return _QUESTION.sub(lambda _: b'"question":"' + b"x" * (60 * _MIB) + b'"', manifest().model_dump_json().encode())


def _damaged() -> Iterator[bytes]:
    return (b'{"event":"run","run_id":"%06d"}\n' % number for number in range(10**6))


CASES: dict[str, Callable[[Path], Act]] = {
    "answer: 15 MiB of []": lambda _: _status(b'{"undo":{"pending":[' + _LISTS[: 15 * _MIB] + b"[]]}}"),
    "answer: 1.9 MiB of []": lambda _: _status(b'{"undo":{"pending":[' + _LISTS[:1_950_000] + b"[]]}}"),
    "answer: nested 100 000 deep": lambda _: _status(b'{"undo":' + b"[" * 100_000),
    "output: 240 MiB": lambda _: _floods(),
    "snapshot: 15 MiB of [] in a node": lambda _: _snapshot(
        b'{"path":"/sys/a","x":[' + _LISTS[: 15 * _MIB] + b"[]]}\n"
    ),
    "snapshot: 3.9 MiB of names in a node": lambda _: _snapshot(b'{"path":"/a"' + b',"":1' * 800_000 + b"}\n"),
    "snapshot: a node of 100 MiB": lambda _: _snapshot(b'{"path":"/sys/a","text":"' + b"x" * (100 * _MIB) + b'"}\n'),
    "snapshot: 3 million nodes": lambda _: _snapshot(_NODE * 3_000_000),
    "snapshot: 100 MiB of newlines": lambda _: _snapshot(b"\n" * (100 * _MIB)),
    "probe: 15 MiB of properties": lambda _: _probed(b"[a]: [b]\n" * 1_700_000),
    "journal: a million damaged lines": lambda _: _read(_damaged),
    "journal: a line of 127 MiB in pieces": lambda _: _read(lambda: _pieces(b"x" * (127 * _MIB) + b"\n")),
    "journal: a line without end": lambda _: _read(lambda: (b"x" * (64 << 10) for _ in range(16_000))),
    "journal: 1 GB of newlines": lambda _: _read(lambda: (b"\n" * _MIB for _ in range(1000))),
    "journal: 40 million lists": lambda _: _sealed({**_RUN, "more": "@@"}, "[" + "[]," * (40 * _MIB) + "[]]"),
    "journal: 4 million lists as times": lambda _: _sealed(
        {**_RUN, "samples": {"t_ns": "@@"}}, "[" + "[]," * 2_000_000 + "[]]"
    ),
    "journal: 4 million times": lambda _: _sealed(
        {**_RUN, "samples": {"t_ns": "@@"}}, "[" + "1999999999," * 4_000_000 + "1]"
    ),
    "journal: 2 million CPUs": lambda _: _sealed(
        {**_RUN, "samples": {"busy": "@@"}}, "{" + ",".join(f'"{n}":1' for n in range(2_000_000)) + "}"
    ),
    "journal: 2 million names": lambda _: _sealed(
        {**_RUN, "more": "@@"}, "{" + ",".join(f'"{n}":1' for n in range(2_000_000)) + "}"
    ),
    "journal: 2 million flags": lambda _: _sealed({**_RUN, "flags": "@@"}, "[" + "{}," * 2_000_000 + "{}]"),
    "journal: a text of 120 MiB": lambda _: _sealed({**_RUN, "run_id": "@@"}, '"' + "x" * (120 * _MIB) + '"'),
    "result: 1 GiB of []": lambda folder: _imported(folder, b"[]," * 349_525, 1024),
    "result: a million damaged lines": lambda folder: _imported(folder, b'{"event":"run","x":1}\n' * 1000, 1000),
    "result: 1 GB of newlines": lambda folder: _imported(folder, b"\n" * _MIB, 1000),
    "result: a manifest of 60 MiB of []": lambda folder: _imported(
        folder, b"", 1, b'{"campaign":"c","more":[' + _LISTS + b"[]]}"
    ),
    "result: a manifest of a million cells that are none": lambda folder: _imported(
        folder, b"", 1, b'{"campaign":"c","cells":[' + b"{}," * 1_000_000 + b"{}]}"
    ),
    "result: a question of 60 MiB": lambda folder: _imported(folder, b"", 1, _asking()),
    "result: a flag of 40 MiB": _detail,
    "capture: 60 MiB of [] in a node": lambda folder: _captured(
        folder, b"{}", b'{"path":"/sys/a","x":[' + _LISTS + b"[]]}\n"
    ),
    "capture: 3.9 MiB of [] in the facts": lambda folder: _captured(
        folder, b'{"props":[' + _LISTS[:3_900_000] + b"[]]}", _NODE
    ),
    "capture: 60 MiB of newlines": lambda folder: _captured(folder, b"{}", b"\n" * (60 * _MIB)),
    "capture: 90 KiB that grow to 90 MiB": lambda folder: _captured(folder, b"{}", b" " * (90 * _MIB)),
    "output of klo: 60 MiB of []": lambda _: _output("klo", b'{"event":"inference","batches":[' + _LISTS + b"[]]}\n"),
    "output of klo: 900 000 batches that are none": lambda _: _output(
        "klo", b'{"event":"inference","batches":[' + b"{}," * 400_000 + b"{}]}\n"
    ),
    "output of klo: 60 MiB of newlines": lambda _: _output("klo", b"\n" * (60 * _MIB)),
    "output of a tenant: 60 MiB of []": lambda _: _output("cpu_tenant", b'{"tool":[' + _LISTS + b"[]]}\n"),
    "output of a tenant: 60 MiB of newlines": lambda _: _output("cpu_tenant", b"\n" * (60 * _MIB)),
    "output of a command: 60 MiB of []": lambda _: _output(
        "command", b'{"a":[' + _LISTS + b"[]]}\n", argv=["x"], output="jsonl"
    ),
    "output of a command: 60 MiB of newlines": lambda _: _output(
        "command", b"\n" * (60 * _MIB), argv=["x"], output="jsonl"
    ),
    "output of ACL: 60 MiB of []": lambda _: _output(
        "acl_benchmark", b'{"Version":"1","tests":[' + _LISTS + b"[]]}\n", binary="x"
    ),
    "experiment: ten million cells": lambda _: _cells(),
}


def weigh(name: str) -> Weight:
    """Try one in a process of its own."""
    here, there = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=_try, args=(name, there))
    child.start()
    there.close()
    try:
        told = here.recv()
    except EOFError:
        child.join()
        told = (False, 0, 0.0, f"the process ended with {child.exitcode}")
    child.join()
    return Weight(name, *told)


def _try(name: str, there: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        act = CASES[name](Path(folder))
        before = _vm("VmRSS")
        most = (_vm("VmSize") + SPARE_MIB) * _MIB
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        began, said, ended = time.monotonic(), "", True
        try:
            act()
        except LabError as error:
            said = error.message
        except ValueError as error:  # what a reader of nouns raises; its callers say which device
            said = str(error)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            ended, said = False, f"{type(error).__name__}: {error}"
        took = round(time.monotonic() - began, 1)
        there.send((ended, max(0, _vm("VmHWM") - before), took, said.replace(folder, "")[:120]))


def _vm(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) >> 10 if found else 0


def main() -> int:
    """Weigh those asked for, or all; a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = []
    for name in chosen.names or CASES:
        one = weigh(name)
        found.append(one)
        print(f"| {one.name} | {one.peak_mib} | {one.seconds} | {one.refused or 'taken'} |", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(one) for one in found], indent=1))
    return 0 if all(one.ended for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
