"""Results of bundles: brought in once, whatever else the archive holds."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devicelab.errors import ConfigError
from devicelab.experiment import plan as planning
from devicelab.jobs.bundle import MANIFEST, Manifest
from devicelab.jobs.import_ import import_result
from devicelab.model.journal import seal_line
from devicelab.store import Store
from tests.tenantdata import experiment, place

pytestmark = pytest.mark.slow

CAMPAIGN = "20261122-101500-3f2a9c"
OUTPUT = (
    '{"tool":"cpu_tenant","duration_s":4.0,"arrivals":"fixed:100"}\n'
    '{"requests":{"scheduled_ns":[0,10],"start_ns":[1,11],"end_ns":[9,19]}}\n'
    '{"end":true,"requests":2,"dropped_scheduled_ns":[]}\n'
)


def manifest(**changes: Any) -> Manifest:
    of = experiment(repetitions=1)
    planned = planning.make(of, place(), campaign=CAMPAIGN, holder="bundle")
    fields = {
        "campaign": CAMPAIGN,
        "experiment": of,
        "facts": place().facts,
        "cells": tuple(planned.cells.values()),
        "plans": planned.plans,
        **changes,
    }
    return Manifest.model_validate(fields)


def line(run_id: str, seq: int, names: tuple[str, ...], *flags: str) -> bytes:
    return seal_line(
        {
            "event": "run",
            "run_id": run_id,
            "seq": seq,
            "status": "done",
            "flags": [{"code": code, "detail": "x"} for code in flags],
            "t_start_ns": 1,
            "t_end_ns": 2,
            "t_unix_ns": 1_800_000_000_000_000_000 + seq,
            "programs": [{"name": n, "role": "measure", "pid": 9, "exit_code": 0, "stdout": OUTPUT} for n in names],
        }
    )


def journal(of: Manifest) -> list[bytes]:
    (plan,) = of.plans
    return [line(run.run_id, seq, tuple(program.name for program in run.programs)) for seq, run in enumerate(plan.runs)]


def pack(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            if isinstance(name, str):
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def result(path: Path, of: Manifest | None = None, lines: list[bytes] | None = None, mode: str = "w") -> Path:
    of = of or manifest()
    machine = b"machine=x86_64\nkernel=6.8.0\nboot_id=b-1\nnvidia=NVIDIA H100, 570.1, 96\n"
    return pack(
        path,
        [
            (MANIFEST, of.model_dump_json().encode()),
            ("out/machine.txt", machine),
            ("out/snapshot.jsonl", b'{"path": "/sys/module/nvidia/version", "text": "570.1\\n"}\n'),
            ("out/0000/journal.jsonl", b"".join(journal(of) if lines is None else lines)),
        ],
        mode,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.sqlite") as opened:
        yield opened


def test_a_result_comes_in_once(tmp_path: Path, store: Store) -> None:
    path = result(tmp_path / "result.tar")
    first = import_result(path, store)
    assert (first.campaign, first.new, first.known, first.damaged) == (CAMPAIGN, 4, 0, 0)
    info = store.campaign(CAMPAIGN)
    assert info.status == "complete"
    again = import_result(path, store)
    assert (again.new, again.known) == (0, 4)
    assert store.campaign(CAMPAIGN) == info
    assert len(store.results(CAMPAIGN).runs()) == 4


def test_a_bundle_began_and_ended_with_its_runs_and_not_with_its_import(tmp_path: Path, store: Store) -> None:
    import_result(result(tmp_path / "result.tar"), store)
    info = store.campaign(CAMPAIGN)
    last = len(journal(manifest())) - 1
    assert info.started_unix_ns == 1_800_000_000_000_000_000
    assert info.ended_unix_ns == 1_800_000_000_000_000_000 + last + 1


def test_the_facts_are_those_of_the_machine_that_ran_it(tmp_path: Path, store: Store) -> None:
    import_result(result(tmp_path / "result.tar"), store)
    results = store.results(CAMPAIGN)
    assert results.info["kernel"] == "6.8.0"
    assert results.info["boot_id"] == "b-1"
    assert results.facts.props["nvidia"] == "NVIDIA H100, 570.1, 96"


def test_a_packed_result_comes_in_too(tmp_path: Path, store: Store) -> None:
    assert import_result(result(tmp_path / "result.tar.gz", mode="w:gz"), store).new == 4


def test_an_early_result_and_a_later_one_complete_each_other(tmp_path: Path, store: Store) -> None:
    lines = journal(manifest())
    part = import_result(result(tmp_path / "early.tar", lines=lines[:2]), store)
    assert part.new == 2
    assert store.campaign(CAMPAIGN).status == "interrupted"
    rest = import_result(result(tmp_path / "late.tar", lines=lines), store)
    assert (rest.new, rest.known) == (2, 2)
    assert store.campaign(CAMPAIGN).status == "complete"
    import_result(tmp_path / "early.tar", store)
    assert store.campaign(CAMPAIGN).status == "complete"


def test_damaged_lines_are_counted_and_the_others_come_in(tmp_path: Path, store: Store) -> None:
    lines = journal(manifest())
    broken = lines[1].replace(b'"done"', b'"dnoe"')
    done = import_result(
        result(tmp_path / "r.tar", lines=[lines[0], broken, b"\x00\xffgarbage\n", lines[2][:-40]]), store
    )
    assert (done.new, done.damaged) == (1, 2)  # the last line was cut: it is not complete, and not damaged
    assert store.campaign(CAMPAIGN).status == "interrupted"


def test_interrupted_runs_and_runs_of_other_plans_stay_outside(tmp_path: Path, store: Store) -> None:
    of = manifest()
    first = of.plans[0].runs[0]
    lines = [line(first.run_id, 0, ("high", "low"), "interrupted"), line("0" * 16, 1, ("high",))]
    done = import_result(result(tmp_path / "r.tar", of, lines), store)
    assert (done.new, done.known) == (0, 0)


def test_a_run_that_was_cut_off_and_done_again_comes_in_once_and_whole(tmp_path: Path, store: Store) -> None:
    of = manifest()
    whole = journal(of)
    names = tuple(program.name for program in of.plans[0].runs[1].programs)
    cut_off = line(of.plans[0].runs[1].run_id, 1, names, "interrupted")
    early = import_result(result(tmp_path / "early.tar", of, [whole[0], cut_off]), store)
    assert (early.new, store.campaign(CAMPAIGN).status) == (1, "interrupted")
    late = import_result(result(tmp_path / "late.tar", of, [whole[0], cut_off, *whole[1:]]), store)
    assert (late.new, late.known, store.campaign(CAMPAIGN).status) == (3, 1, "complete")
    assert store.results(CAMPAIGN).runs()["flags"].map(lambda flags: "interrupted" not in str(flags)).all()


def test_flags_of_the_agent_and_of_the_tenants_are_stored(tmp_path: Path, store: Store) -> None:
    of = manifest()
    run = of.plans[0].runs[0]
    import_result(result(tmp_path / "r.tar", of, [line(run.run_id, 0, ("high", "low"), "timeout")]), store)
    (flags,) = store.results(CAMPAIGN).runs()["flags"]
    # Nobody looked at the tenants' processes, so the treatment was not seen either.
    assert {"timeout", "scheduler-not-seen"} <= {flag.code for flag in flags}


def test_an_id_that_is_taken_by_another_campaign_is_refused(tmp_path: Path, store: Store) -> None:
    import_result(result(tmp_path / "r.tar"), store)
    other = manifest(experiment=experiment(repetitions=1, question="Another?"))
    with pytest.raises(ConfigError, match="another campaign"):
        import_result(result(tmp_path / "other.tar", other), store)


@pytest.mark.parametrize("campaign", ["../../../etc/x", "20261122-101500-3f2a9c/..", "", "x" * 5000, "a\n", "latest"])
def test_an_id_that_would_be_a_path_is_refused(tmp_path: Path, store: Store, campaign: str) -> None:
    with pytest.raises(ConfigError, match="no campaign's id"):
        import_result(result(tmp_path / "r.tar", manifest(campaign=campaign)), store)
    assert store.campaigns() == ()


def good_members(*extra: tuple[str | tarfile.TarInfo, bytes]) -> list[tuple[str | tarfile.TarInfo, bytes]]:
    of = manifest()
    return [*extra, (MANIFEST, of.model_dump_json().encode()), ("out/0000/journal.jsonl", b"".join(journal(of)))]


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member",
    [
        special("out/machine.txt", tarfile.SYMTYPE, "/etc/shadow"),
        special("out/machine.txt", tarfile.LNKTYPE, "/etc/shadow"),
        special("out/0001/journal.jsonl", tarfile.SYMTYPE, "../../secret"),
        special("out/0001/journal.jsonl", tarfile.FIFOTYPE),
        special("out/0001/journal.jsonl", tarfile.CHRTYPE),
        special("../../../tmp/owned", tarfile.REGTYPE),
        special("/etc/cron.d/owned", tarfile.REGTYPE),
        special("out/../../journal.jsonl", tarfile.REGTYPE),
        special("out/0001", tarfile.DIRTYPE),
    ],
)
def test_links_devices_and_paths_outside_are_not_looked_at(
    tmp_path: Path, store: Store, member: tarfile.TarInfo
) -> None:
    before = {p for p in tmp_path.rglob("*") if p.suffix != ".tar"}
    done = import_result(pack(tmp_path / "r.tar", good_members((member, b""))), store)
    assert (done.new, done.damaged) == (4, 0)
    left = {p for p in tmp_path.rglob("*") if p.suffix != ".tar"}
    assert {p.name.partition("-")[0] for p in left - before} <= {"store.sqlite"}


def test_a_file_that_claims_to_be_huge_is_refused_at_once(tmp_path: Path, store: Store) -> None:
    info = tarfile.TarInfo("out/0001/journal.jsonl")
    info.size = 1 << 50
    path = tmp_path / "r.tar"
    pack(path, good_members())
    data = path.read_bytes().rstrip(b"\0")
    data += b"\0" * (-len(data) % 512)
    path.write_bytes(data + info.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(ConfigError, match="no usable result"):
        import_result(path, store)


def test_a_sparse_file_is_not_unrolled(tmp_path: Path, store: Store) -> None:
    info = tarfile.TarInfo("out/machine.txt")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"77777777777\0"  # real size: 8 GiB of nothing
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path = tmp_path / "r.tar"
    pack(path, good_members())
    path.write_bytes(bytes(block) + path.read_bytes())
    assert import_result(path, store).new == 4


def test_a_header_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, store: Store) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 200 << 20
    path = tmp_path / "r.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        packed.write(info.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(200):
            packed.write(bytes(1 << 20))
    assert path.stat().st_size < 2 << 20
    with pytest.raises(ConfigError, match="header larger than any"):
        import_result(path, store)


def test_a_manifest_twice_or_too_large_is_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(ConfigError, match="twice"):
        import_result(pack(tmp_path / "r.tar", good_members((MANIFEST, b"{}"))), store)
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        import_result(pack(tmp_path / "s.tar", good_members(("out/machine.txt", bytes(2 << 20)))), store)


def test_thousands_of_members_are_refused(tmp_path: Path, store: Store) -> None:
    many = [(f"x{n}", b"") for n in range(10_001)]
    with pytest.raises(ConfigError, match="more than 10000 members"):
        import_result(pack(tmp_path / "r.tar", [*many, *good_members()]), store)


@pytest.mark.parametrize(
    "change",
    [
        {"campaign": 5},
        {"experiment": {}},
        {"bundle_version": "x"},
        {"plans": [{"runs": 3}]},
        {"unknown": 1},
        {"cells": []},
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_with_its_place(tmp_path: Path, store: Store, change: Any) -> None:
    data = {**json.loads(manifest().model_dump_json()), **change}
    with pytest.raises(ConfigError, match=r"bundle\.json"):
        import_result(pack(tmp_path / "r.tar", [(MANIFEST, json.dumps(data).encode())]), store)


def test_a_manifest_with_nonsense_tenants_is_refused(tmp_path: Path, store: Store) -> None:
    data = json.loads(manifest().model_dump_json())
    data["experiment"]["tenants"][0]["targets"] = {"p99_ms": "soon"}
    with pytest.raises(ConfigError, match="no bound"):
        import_result(pack(tmp_path / "r.tar", [(MANIFEST, json.dumps(data).encode())]), store)


@pytest.mark.parametrize("data", [b"", b"not a tar", bytes(4096), b"\x1f\x8b", b"\x1f\x8bgarbage", b"\xff" * 2000])
def test_what_is_no_archive_is_refused(tmp_path: Path, store: Store, data: bytes) -> None:
    path = tmp_path / "r.tar"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"r\.tar"):
        import_result(path, store)


def test_a_file_that_is_not_there_is_told(tmp_path: Path, store: Store) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        import_result(tmp_path / "none.tar", store)
    with pytest.raises(ConfigError, match="Is a directory"):
        import_result(tmp_path, store)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_archive_is_refused_or_brings_only_whole_runs(
    tmp_path: Path, store: Store, data: st.DataObject
) -> None:
    whole = result(tmp_path / "whole.tar").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    how = data.draw(st.sampled_from(["cut", "byte"]))
    byte = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.tar"
    path.write_bytes(whole[:at] if how == "cut" else whole[:at] + bytes([byte]) + whole[at + 1 :])
    try:
        done = import_result(path, store)
    except ConfigError:
        return
    assert done.new + done.known + done.damaged <= 4 + 1
