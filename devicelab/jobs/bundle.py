"""Bundles: a plan with its binaries and scripts as one archive for a machine that devicelab cannot reach.

``sh run.sh`` there needs a POSIX shell and the tenants' Python, and leaves ``result.tar``, which
``devicelab.jobs.import_`` brings into the store.
"""

import io
import tarfile
import time
from pathlib import Path

from pydantic import Field

from devicelab.boards import load as load_board
from devicelab.device.build import build
from devicelab.device.facts import node_patterns
from devicelab.device.files import pushed, wanted
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError
from devicelab.experiment import plan as planning
from devicelab.experiment.plan import Planned
from devicelab.ground.files import replacing
from devicelab.ground.typed import typed
from devicelab.jobs.plugins import vouch
from devicelab.model.campaign import BinaryInfo, new_id
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment
from devicelab.model.plan import Noun, Plan
from devicelab.schedulers.base import Place

MANIFEST = "bundle.json"

_RUN = """#!/bin/sh
# Runs the plans of this bundle on this machine and leaves result.tar beside this script. Needs nothing but a shell
# and the tenants' Python. Can be started again: what is journalled is not run twice, what was cut off is done again.
# Ctrl-C, SIGTERM and SIGHUP end the run at hand; the agent puts everything back, and what there is gets packed.
cd "$(dirname "$0")" || exit 1
agent= ended= again=
# The agent has a session of its own: no signal from a terminal reaches it.
hear() {
  ended=$1 again=1
  [ -n "$agent" ] && kill -TERM "$agent" 2>/dev/null
}
trap 'hear 130' INT
trap 'hear 143' TERM
trap 'hear 129' HUP
chmod +x bin/* 2>/dev/null
mkdir -p out
{ echo "machine=$(uname -m)"; echo "kernel=$(uname -r)"; echo "boot_id=$(cat /proc/sys/kernel/random/boot_id)"
  nvidia-smi --query-gpu=name,driver_version,vbios_version --format=csv,noheader 2>/dev/null | sed 's/^/nvidia=/'
  cat /sys/module/amdgpu/version 2>/dev/null | sed 's/^/amdgpu=/'; } >out/machine.txt
./bin/agent restore --state state >/dev/null 2>&1
./bin/agent snapshot patterns.txt >out/snapshot.jsonl 2>/dev/null
code=0
for plan in plans/*.json; do
  [ -n "$ended" ] && break
  name=$(basename "$plan" .json)
  ./bin/agent run "$plan" --state state --out "out/$name" & # a shell hears nothing while it runs a command before it
  agent=$!
  [ -n "$ended" ] && kill -TERM "$agent" 2>/dev/null
  again=1 said=1
  while [ -n "$again" ]; do # a signal ends the waiting, not the agent; 127: it was waited for already
    again=
    wait "$agent"
    status=$?
    [ $status -eq 127 ] || said=$status
  done
  agent=
  [ $said -eq 0 ] || code=$said
  [ $code -ge 128 ] && break # ended by a signal: the agent has put everything back
done
trap '' INT TERM HUP # the packing is not cut off
[ -n "$ended" ] && [ $code -ne 8 ] && code=$ended
if tar -cf result.part bundle.json out && mv result.part result.tar; then
  echo "result.tar is ready (exit code $code)"
else
  echo "result.tar cannot be written; what there is lies in out" >&2
  [ $code -ne 0 ] || code=4
fi
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


def _fixed(experiment: Experiment) -> Experiment:
    """The experiment with a fixed number of repetitions: nobody can be asked there whether it is enough."""
    if experiment.rule is None:
        return experiment
    repetitions = max(experiment.repetitions, experiment.rule.min_repetitions)
    return experiment.model_copy(update={"stop": None, "search": None, "repetitions": repetitions})


def dry_run(experiment: Experiment, entry: DeviceEntry) -> tuple[Experiment, Planned, Facts]:
    """What a bundle would do there: the experiment with a fixed plan, its plans, and what is known of the machine.

    Raises:
        ConfigError: as ``write_bundle``.
    """
    experiment = _fixed(experiment)
    _, planned, facts = _plan(experiment, entry)
    return experiment, planned, facts


def _plan(experiment: Experiment, entry: DeviceEntry) -> tuple[str, Planned, Facts]:
    """The campaign's id, its plans and the machine of ``write_bundle``."""
    vouch(experiment)
    if entry.board is None:
        raise ConfigError(
            f"what kind of board is {entry.name}? a bundle is made without asking the machine",
            hint=f'lab.toml: [devices.{entry.name}] board = "nvidia-server"',
        )
    campaign = new_id()
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
    place = Place(facts, entry.prefixes, entry.python)
    planned = planning.make(experiment, place, campaign=campaign, holder=f"bundle {campaign}")
    return campaign, planned, facts


def write_bundle(experiment: Experiment, entry: DeviceEntry, to: Path) -> Manifest:
    """Write a bundle for a machine that lab.toml describes (its ``board`` is needed, since nobody can be asked).

    Raises:
        ConfigError: no board kind, an experiment that needs facts only the machine itself can tell, or a file that
            cannot be written.
    """
    experiment = _fixed(experiment)
    campaign, planned, facts = _plan(experiment, entry)
    built = [build(name, entry.abi, place="linux") for name in planned.needs.native]
    manifest = Manifest(
        campaign=campaign,
        experiment=experiment,
        facts=facts,
        cells=tuple(planned.cells.values()),
        plans=planned.plans,
        binaries=(*(item.info for item in built), *pushed(planned.needs)),
        command=typed(),
    )
    contents = [
        (MANIFEST, manifest.model_dump_json().encode(), 0o644),
        ("run.sh", _RUN.encode(), 0o755),
        ("patterns.txt", "".join(f"{p}\n" for p in node_patterns()).encode(), 0o644),
        *((f"plans/{number:04d}.json", plan.to_json().encode(), 0o644) for number, plan in enumerate(planned.plans)),
        *((f"bin/{item.program}", item.path.read_bytes(), 0o755) for item in built),
        *((f"bin/{one.name}", one.path.read_bytes(), one.mode) for one in wanted(planned.needs)),
    ]
    try:
        with replacing(to) as part, tarfile.open(part, "w") as archive:
            for name, data, mode in contents:
                _add(archive, name, data, mode)
    except OSError as error:
        raise ConfigError(f"cannot write the bundle {to}: {error.strerror or error}") from error
    return manifest


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, int(time.time())
    archive.addfile(info, io.BytesIO(data))
