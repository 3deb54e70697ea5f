"""Somebody else's OpenCL program under several K: the experiment for it, and its files on the device."""

import json
from collections.abc import Sequence
from pathlib import Path

from devicelab.device import build
from devicelab.device.facts import open_device
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError
from devicelab.experiment import files
from devicelab.model.experiment import Experiment

WORKLOAD = "opencl_app"


def experiment(
    preset: str, argv: Sequence[str], k: str, env: Sequence[str] = (), overrides: Sequence[str] = ()
) -> Experiment:
    """A preset with this program, these flush periods ("1,2,4") and these variables.

    Raises:
        ConfigError: no such preset or another workload's, no program, or K that are no numbers.
    """
    words = k.replace(",", " ").split()
    if not words or not all(word.isascii() and word.isdigit() for word in words):
        raise ConfigError(f"--k takes numbers such as 1,2,4,8, not {k!r}")
    levels = list(dict.fromkeys(int(word) for word in words))
    settings = [f"k={json.dumps(levels)}"]
    if argv:
        settings.append(f"measure.params.argv={json.dumps(list(argv))}")
    if env:
        settings.append(f"measure.params.env={json.dumps(list(env))}")
    found = files.load(preset, [*settings, *overrides])
    if found.measure is None or found.measure.workload != WORKLOAD:
        raise ConfigError(f"{preset} does not measure with the workload {WORKLOAD}", hint="see the presets app_*")
    if not argv and preset == WORKLOAD:
        raise ConfigError(
            "which program?", hint="devicelab klo app --board BOARD -- PROGRAM ARGUMENTS, or --preset NAME"
        )
    return found


def push(entry: DeviceEntry, paths: Sequence[Path]) -> None:
    """Put files beside the plan's binaries (``{dir}/NAME``), executable where they are here.

    Raises:
        ConfigError: two of one name, or a name of a program of devicelab's.
        LabError: as the transport.
    """
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        raise ConfigError("two of the files to push have one name")
    taken = sorted({*names} & {*build.programs(), *build.libraries()})
    if taken:
        raise ConfigError(f"{taken[0]} is a program of devicelab's on the device", hint="rename the file")
    device = open_device(entry)
    try:
        pairs = [
            (path, f"{device.facts.dir}/bin/{path.name}", 0o755 if path.stat().st_mode & 0o100 else 0o644)
            for path in paths
        ]
        device.transport.push_many(pairs)
    finally:
        device.transport.close()
