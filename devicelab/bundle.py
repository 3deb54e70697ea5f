"""Bundles: a plan with its binaries and scripts as one archive for a machine that devicelab cannot reach.

``sh run.sh`` there needs a POSIX shell and the tenants' Python, and leaves ``result.tar``; ``import_result`` brings
its journals into the store, idempotently.
"""

import io
import json
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from devicelab import plan as planning
from devicelab import registry, sweep
from devicelab.boards import load as load_board
from devicelab.build import build
from devicelab.errors import ConfigError
from devicelab.facts import node_patterns
from devicelab.lab import DeviceEntry, explain
from devicelab.model.campaign import BinaryInfo
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment
from devicelab.model.journal import RunRecord
from devicelab.model.plan import Noun, Plan
from devicelab.model.tree import parse_snapshot
from devicelab.runner import JournalReader
from devicelab.schedulers.base import Place
from devicelab.store import Store

MANIFEST = "bundle.json"
RESULT = "result.tar"
_MAX_MEMBER = 1 << 30
_MAX_MEMBERS = 10_000

_RUN = """#!/bin/sh
# Runs the plans of this bundle on this machine and leaves result.tar beside this script. Needs nothing but a shell
# and the tenants' Python. Can be started again: what is journalled is not run twice.
cd "$(dirname "$0")" || exit 1
chmod +x bin/* 2>/dev/null
mkdir -p out
{ echo "machine=$(uname -m)"; echo "kernel=$(uname -r)"; echo "boot_id=$(cat /proc/sys/kernel/random/boot_id)"
  nvidia-smi --query-gpu=name,driver_version,vbios_version --format=csv,noheader 2>/dev/null | sed 's/^/nvidia=/'
  cat /sys/module/amdgpu/version 2>/dev/null | sed 's/^/amdgpu=/'; } >out/machine.txt
./bin/agent restore --state state >/dev/null 2>&1
./bin/agent snapshot patterns.txt >out/snapshot.jsonl 2>/dev/null
code=0
for plan in plans/*.json; do
  name=$(basename "$plan" .json)
  ./bin/agent run "$plan" --state state --out "out/$name" || code=$?
done
tar -cf result.tar bundle.json out
echo "result.tar is ready (exit code $code)"
exit $code
"""


class Manifest(Noun):
    """What a bundle says about itself, and what a result brings back."""

    bundle_version: int = 1
    campaign: str
    experiment: Experiment
    facts: Facts
    cells: tuple[Cell, ...]
    plans: tuple[Plan, ...]
    binaries: tuple[BinaryInfo, ...] = ()
    command: str = ""
    made_unix_ns: int = Field(default_factory=time.time_ns)


@dataclass(frozen=True)
class Imported:
    """What an import did: runs new to the store, runs that were there already, damaged journal lines."""

    campaign: str
    new: int
    known: int
    damaged: int


def write_bundle(experiment: Experiment, entry: DeviceEntry, to: Path) -> Manifest:
    """Write a bundle for a machine that lab.toml describes (its ``board`` is needed, since nobody can be asked).

    Raises:
        ConfigError: no board kind, or an experiment that needs facts only the machine itself can tell.
    """
    if entry.board is None:
        raise ConfigError(
            f"what kind of board is {entry.name}? a bundle is made without asking the machine",
            hint=f'lab.toml: [devices.{entry.name}] board = "nvidia-server"',
        )
    campaign = sweep.new_campaign_id()
    facts = Facts(
        name=entry.name,
        address=entry.address,
        board=load_board(entry.board),
        abi=entry.abi,
        os="linux",
        kernel="",
        boot_id="",
        root="none",
        dir=entry.dir or f"/tmp/devicelab-{campaign}",  # noqa: S108 - a folder on the other machine, named uniquely
    )
    planned = planning.make(
        experiment, Place(facts, entry.prefixes, entry.python), campaign=campaign, holder=f"bundle {campaign}"
    )
    built = [build(name, entry.abi, place="linux") for name in planned.programs]
    manifest = Manifest(
        campaign=campaign,
        experiment=experiment,
        facts=facts,
        cells=tuple(planned.cells.values()),
        plans=planned.plans,
        binaries=tuple(sweep.binary_info(item) for item in built),
    )
    with tarfile.open(to, "w") as archive:
        _add(archive, MANIFEST, manifest.model_dump_json().encode())
        _add(archive, "run.sh", _RUN.encode(), mode=0o755)
        _add(archive, "patterns.txt", "".join(f"{p}\n" for p in node_patterns()).encode())
        for number, plan in enumerate(planned.plans):
            _add(archive, f"plans/{number:04d}.json", plan.to_json().encode())
        for item in built:
            _add(archive, f"bin/{item.program}", item.path.read_bytes(), mode=0o755)
        for name in planned.files:
            _add(archive, f"bin/{name}", registry.script(name).read_bytes())
    return manifest


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, int(time.time())
    archive.addfile(info, io.BytesIO(data))


def import_result(path: Path, store: Store) -> Imported:
    """Bring a result's journals into the store; importing it again adds nothing.

    Nothing is unpacked to disk: members are read one by one, with bounded sizes, and only those a bundle has.

    Raises:
        ConfigError: not a result of a bundle, or damaged.
    """
    members = dict(_members(path))
    if MANIFEST not in members:
        raise ConfigError(f"{path} is no result of a bundle: it has no {MANIFEST}")
    try:
        manifest = Manifest.model_validate_json(members[MANIFEST])
    except ValidationError as error:
        raise ConfigError(f"{path}: {MANIFEST}: {explain(error)}") from error
    facts = _facts(manifest.facts, members)
    known = {info.campaign for info in store.campaigns()}
    if manifest.campaign not in known:
        store.begin_campaign(
            campaign=manifest.campaign,
            experiment=manifest.experiment,
            facts=facts,
            cells=manifest.cells,
            command=manifest.command,
            binaries=manifest.binaries,
            plan_json=json.dumps([plan.model_dump(mode="json") for plan in manifest.plans]),
        )
    imported = _commit(manifest, facts, members, store)
    planned = sum(len(plan.runs) for plan in manifest.plans)
    complete = len(store.done_runs(manifest.campaign)) >= planned
    store.finish_campaign(manifest.campaign, "complete" if complete else "interrupted", "" if complete else "imported")
    return imported


def _commit(manifest: Manifest, facts: Facts, members: Mapping[str, bytes], store: Store) -> Imported:
    cells = {cell.cell_id: cell for cell in manifest.cells}
    runs = {run.run_id: run for plan in manifest.plans for run in plan.runs}
    new = known = damaged = 0
    for name, data in sorted(members.items()):
        if not name.endswith("/journal.jsonl"):
            continue
        reader = JournalReader()
        for event in reader.feed(data):
            if not isinstance(event, RunRecord) or event.run_id not in runs:
                continue
            if any(flag.code == "interrupted" for flag in event.flags):
                continue
            run = runs[event.run_id]
            cell = cells[run.cell_id]
            measurements, flags = sweep.judge(event, cell, manifest.experiment, facts)
            stored = store.commit_run(
                manifest.campaign,
                cell,
                event,
                repetition=run.repetition,
                measurements=measurements,
                flags=flags,
            )
            new, known = new + stored, known + (not stored)
        damaged += len(reader.damaged)
    return Imported(manifest.campaign, new, known, damaged)


def _facts(facts: Facts, members: Mapping[str, bytes]) -> Facts:
    """The facts as the machine told them when it ran."""
    text = members.get("out/machine.txt", b"").decode("utf-8", "replace")
    told = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    props: dict[str, str] = {k: v[:200] for k, v in told.items()}
    try:
        nodes: tuple[Any, ...] = tuple(parse_snapshot(members.get("out/snapshot.jsonl", b"")).values())
    except ValueError:
        nodes = ()
    update = {"kernel": told.get("kernel", "")[:200], "boot_id": told.get("boot_id", "")[:64], "props": props}
    return facts.model_copy(update={**update, "nodes": nodes})


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r:*") as archive:
            for count, member in enumerate(archive):
                if count >= _MAX_MEMBERS:
                    raise ConfigError(f"{path} has more than {_MAX_MEMBERS} members")
                name = member.name.removeprefix("./")
                if not member.isreg() or not (name == MANIFEST or name.startswith("out/")):
                    continue
                if member.size > _MAX_MEMBER:
                    raise ConfigError(f"{path}: {name} is larger than {_MAX_MEMBER >> 20} MiB")
                file = archive.extractfile(member)
                if file is not None:
                    yield name, file.read(_MAX_MEMBER)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
