"""What a bundle brings back: journals from a machine that devicelab cannot reach, into the store, idempotently.

Nothing in the archive is trusted and nothing is unpacked to disk: only members that a result has are looked at, read
piece by piece, with bounds.
"""

import gzip
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from devicelab.device.journal_reader import JournalReader
from devicelab.errors import ConfigError, DistrustError, MeasurementError, StoreError
from devicelab.experiment import tenancy
from devicelab.experiment.judge import judge
from devicelab.ground import budget, toml
from devicelab.jobs.bundle import MANIFEST, Manifest
from devicelab.model import campaign
from devicelab.model.device import Facts
from devicelab.model.journal import RunRecord
from devicelab.model.tree import parse_snapshot
from devicelab.store import Store

_MACHINE, _SNAPSHOT = "out/machine.txt", "out/snapshot.jsonl"
_LIMITS = {MANIFEST: 64 << 20, _MACHINE: 1 << 20, _SNAPSHOT: 64 << 20}
_JOURNAL = re.compile(r"out/[0-9]{4,8}/journal\.jsonl")
_CHUNK = 1 << 20
_MAX_MEMBERS = 10_000
_SHOWN = 100
_MAX_TOTAL = 16 << 30
# Journals pack ten to fifty times smaller, for they repeat themselves; what grows a thousandfold was made to.
_SMALL = 256 << 20
_MAX_GROWTH = 200
# Facts, experiment, cells and plans of some ten thousand runs.
_MAX_MANIFEST_VALUES = 4 << 20
_LONG_TEXT = re.compile(rb'"[^"]{262144}')


@dataclass(frozen=True)
class Imported:
    """What an import did: runs new to the store, runs that were there already, damaged journal lines."""

    campaign: str
    new: int
    known: int
    damaged: int


def import_result(path: Path, store: Store) -> Imported:
    """Bring a result's journals into the store; importing it again adds nothing.

    A run that was interrupted is left out, since ``run.sh`` does it again; a result from an earlier moment may be
    imported before a later one.

    Raises:
        ConfigError: not a result of a bundle, damaged, or hostile.
        MeasurementError: all that its journals hold is damaged.
        StoreError: the store refuses.
    """
    texts = _texts(path)
    if MANIFEST not in texts:
        raise _bad(path, f"it has no {MANIFEST}")
    manifest = _manifest(path, texts[MANIFEST])
    _begin(path, manifest, _facts(manifest.facts, texts), store)
    imported = _commit(path, manifest, store)
    planned = {run.run_id for plan in manifest.plans for run in plan.runs}
    complete = planned <= store.done_runs(manifest.campaign)
    if imported.new or store.campaign(manifest.campaign).status == "running":
        reason = "" if complete else "the result imported last does not hold all runs"
        store.finish_campaign(manifest.campaign, "complete" if complete else "interrupted", reason, elsewhere=True)
    return imported


def _manifest(path: Path, data: bytes) -> Manifest:
    if _LONG_TEXT.search(data):
        raise _bad(path, f"{MANIFEST} has a text, or a list, longer than any")
    try:
        manifest = Manifest.model_validate_json(budget.within(data, _MAX_MANIFEST_VALUES))
    except ValidationError as error:
        said = toml.explain(error)[:2000] if error.error_count() < _SHOWN else f"{error.error_count()} mistakes"
        raise _bad(path, f"{MANIFEST}: {said}") from error
    except ValueError as error:
        raise _bad(path, f"{MANIFEST} has {error}") from error
    if not campaign.ID.fullmatch(manifest.campaign):
        raise _bad(path, f"{MANIFEST}: {manifest.campaign[:80]!r} is no campaign's id")
    tenancy.check(manifest.experiment)
    cells = {cell.cell_id for cell in manifest.cells}
    runs = [run for plan in manifest.plans for run in plan.runs]
    if len({run.run_id for run in runs}) != len(runs) or not {run.cell_id for run in runs} <= cells:
        raise _bad(path, f"{MANIFEST}: its runs and cells do not fit together")
    return manifest


def _begin(path: Path, manifest: Manifest, facts: Facts, store: Store) -> None:
    plans = [plan.model_dump(mode="json") for plan in manifest.plans]
    if _stored(path, manifest, plans, store):
        return
    try:
        store.begin_campaign(
            campaign=manifest.campaign,
            experiment=manifest.experiment,
            facts=facts,
            cells=manifest.cells,
            command=manifest.command,
            binaries=manifest.binaries,
            plan_json=json.dumps(plans),
        )
    except StoreError:
        if not _stored(path, manifest, plans, store):  # somebody imports the same at this moment
            raise


def _stored(path: Path, manifest: Manifest, plans: list[Any], store: Store) -> bool:
    """The campaign is stored already.

    Raises:
        ConfigError: another one with its id is.
    """
    if not any(info.campaign == manifest.campaign for info in store.campaigns()):
        return False
    stored = store.plan_json(manifest.campaign)
    if stored is None or json.loads(stored) != plans or store.experiment(manifest.campaign) != manifest.experiment:
        raise _bad(path, f"another campaign with the id {manifest.campaign} is stored already")
    return True


def _commit(path: Path, manifest: Manifest, store: Store) -> Imported:
    cells = {cell.cell_id: cell for cell in manifest.cells}
    runs = {run.run_id: run for plan in manifest.plans for run in plan.runs}
    new = known = damaged = 0
    with _opened(path) as archive:
        for name, member in _members(path, archive):
            if not _JOURNAL.fullmatch(name):
                continue
            reader = JournalReader()
            for chunk in _chunks(archive, member):
                for event in reader.feed(chunk):
                    if not isinstance(event, RunRecord) or event.run_id not in runs:
                        continue
                    if any(flag.code == "interrupted" for flag in event.flags):
                        continue
                    run = runs[event.run_id]
                    cell = cells[run.cell_id]
                    measurements, flags = judge(event, cell, manifest.experiment, manifest.facts)
                    stored = store.commit_run(
                        manifest.campaign,
                        cell,
                        event,
                        repetition=run.repetition,
                        measurements=measurements,
                        flags=flags,
                    )
                    new, known = new + stored, known + (not stored)
            damaged += reader.lost
    if damaged and not new and not known:
        raise MeasurementError(
            f"{path}: all that it holds is damaged ({damaged} lines); no run was imported",
            hint="copy result.tar once more from where it was measured",
        )
    return Imported(manifest.campaign, new, known, damaged)


def _facts(facts: Facts, texts: dict[str, bytes]) -> Facts:
    """The facts as the machine told them when it ran."""
    text = texts.get(_MACHINE, b"").decode("utf-8", "replace")
    told = dict(line.partition("=")[::2] for line in text.splitlines()[:100] if "=" in line)
    props = {name[:64]: value[:200] for name, value in told.items()}
    try:
        nodes: tuple[Any, ...] = tuple(parse_snapshot(texts.get(_SNAPSHOT, b"")).values())
    except (ValueError, RecursionError):
        nodes = ()
    update = {"kernel": told.get("kernel", "")[:200], "boot_id": told.get("boot_id", "")[:64], "props": props}
    return facts.model_copy(update={**update, "nodes": nodes})


def _texts(path: Path) -> dict[str, bytes]:
    """The small members by name."""
    texts: dict[str, bytes] = {}
    with _opened(path) as archive:
        for name, member in _members(path, archive):
            if name in _LIMITS:
                if name in texts or member.size > _LIMITS[name]:
                    raise _bad(path, f"{name} is there twice, or larger than {_LIMITS[name] >> 20} MiB")
                texts[name] = b"".join(_chunks(archive, member))
    return texts


def _members(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Plain files only: links, devices and sparse files are not what ``run.sh`` packs."""
    for count, member in enumerate(archive):
        if count >= _MAX_MEMBERS:
            raise _bad(path, f"it has more than {_MAX_MEMBERS} members")
        if member.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not member.issparse():
            yield member.name.removeprefix("./"), member


def _chunks(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    file = archive.extractfile(member)
    while file is not None and (chunk := file.read(_CHUNK)):
        yield chunk


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive (plain or gzip), its damage as ``ConfigError``."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            source: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            most = min(_MAX_TOTAL, _SMALL + _MAX_GROWTH * path.stat().st_size) if packed else _MAX_TOTAL
            with tarfile.open(fileobj=_Bounded(source, most), mode="r:") as archive:
                yield archive
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, DistrustError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        raise _bad(path, str(error) or type(error).__name__) from error
    except RecursionError as error:  # tarfile reads a chain of extended headers by calling itself
        raise _bad(path, "its headers are nested too deep") from error


class _Bounded(io.RawIOBase):
    """A stream that neither hands out a huge piece (a header that claims to be one) nor goes on for ever."""

    def __init__(self, source: IO[bytes], most: int) -> None:
        self._source, self._most = source, most

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._source.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or not 0 <= offset <= self._most:
            raise ValueError(f"it claims to be larger than {self._most >> 20} MiB")
        return self._source.seek(offset)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 64 * _CHUNK:
            raise ValueError("it claims to hold a header larger than any")
        if self._source.tell() > self._most:
            raise ValueError(f"it unpacks to more than {self._most >> 20} MiB")
        return self._source.read(size)


def _bad(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is no usable result of a bundle: {why}", hint="sh run.sh leaves result.tar beside it")
