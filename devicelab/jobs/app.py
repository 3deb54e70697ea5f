"""Somebody else's OpenCL program under several K: the experiment for it."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from devicelab.errors import ConfigError
from devicelab.experiment import files
from devicelab.ground import toml
from devicelab.model.experiment import Experiment

WORKLOAD = "opencl_app"


def experiment(
    preset: str,
    argv: Sequence[str],
    k: str,
    env: Sequence[str] = (),
    overrides: Sequence[str] = (),
    push: Sequence[Path] = (),
) -> Experiment:
    """A preset with this program, these flush periods ("1,2,4"), these variables and files besides its own.

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
    if not push:
        return found
    try:
        return Experiment.model_validate(
            found.model_dump() | {"push": [*found.push, *(one.absolute() for one in push)]}
        )
    except ValidationError as error:
        raise ConfigError(toml.explain(error, Experiment)) from error
