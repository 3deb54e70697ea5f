"""Reads ``farm.toml``: every mistake is named with its line before anything is started."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from devicelab import boards
from devicelab.errors import ConfigError, LabError
from devicelab.experiment import files
from devicelab.farm import selectors
from devicelab.farm.selectors import NO_PAST, Known, Past, Selector
from devicelab.ground import toml
from devicelab.jobs.plugins import vouch
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, JobEntry


@dataclass(frozen=True)
class Job:
    """A farm file, read and understood.

    Attributes:
        farm: what it says; experiments that are files have absolute paths.
        experiments, selectors: one for each of the farm's jobs.
        path: the file; ``None`` if it comes from the store.
    """

    farm: Farm
    experiments: tuple[Experiment, ...]
    selectors: tuple[Selector, ...]
    path: Path | None = None


def load(path: Path, pool: Mapping[str, Known] | None = None, past: Past = NO_PAST) -> Job:
    """The farm file with its experiments.

    Args:
        path: of the file.
        pool: devices by name; without them it is not checked whether the selectors mean any.
        past: what meant something in earlier nights, and may be away now.

    Raises:
        ConfigError: with the file, the line and the reason: no TOML, a key or value that is not known, an experiment
            that does not exist or makes no sense, a selector that means nothing here.
    """
    text, data = _read(path)
    for loc, value in _numbers(data):
        if not -_LARGEST <= value <= _LARGEST:  # NaN is not, either
            where = f"{path}{_at(text, loc)}: {'.'.join(map(str, loc))}"
            raise ConfigError(f"{where}: no number of this file may be so large (got {value:.6g})", hint=_HINT)
    try:
        farm = Farm.model_validate({"name": path.stem, **data})
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{path}{_at(text, problem['loc'])}: {toml.explain(error)}", hint=_HINT) from error
    jobs = []
    for number, entry in enumerate(farm.jobs):
        local = (path.parent / entry.experiment).absolute()
        jobs.append(entry.model_copy(update={"experiment": str(local)}) if local.suffix == ".toml" else entry)
        key = "experiment"
        try:
            experiment_of(jobs[-1].model_copy(update={"repetitions": None}))
            key = "repetitions"
            vouch(experiment_of(jobs[-1]))
            key = "devices"
            _check_devices(jobs[-1], pool, past)
        except LabError as error:
            place = _at(text, ("jobs", number, key))
            raise ConfigError(f"{path}{place}: jobs.{number}.{key}: {error.message}", hint=error.hint) from error
    return understood(farm.model_copy(update={"jobs": tuple(jobs)}), path)


_HINT = "see the reference of farm.toml"
# Databases keep whole numbers in 32 bits.
_LARGEST = 2**31 - 1


def understood(farm: Farm, path: Path | None = None) -> Job:
    """A farm with its experiments and selectors read.

    Raises:
        ConfigError: an experiment or a selector is wrong.
    """
    return Job(
        farm,
        tuple(experiment_of(entry) for entry in farm.jobs),
        tuple(selectors.parse(entry.devices) for entry in farm.jobs),
        path,
    )


def experiment_of(entry: JobEntry) -> Experiment:
    """A job's experiment, with what the job sets.

    Raises:
        ConfigError: no such experiment, or something in it is wrong.
    """
    overrides = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in entry.set.items()]
    overrides += [] if entry.repetitions is None else [f"repetitions={entry.repetitions}"]
    return files.load(entry.experiment, overrides)


def _check_devices(entry: JobEntry, pool: Mapping[str, Known] | None, past: Past) -> None:
    selector = selectors.parse(entry.devices)
    if pool is not None:
        selectors.check(selector, pool, boards.kinds(), past)


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """Text (for the lines of mistakes) and content."""
    data = toml.read(path)
    try:
        return path.read_text(encoding="utf-8"), data
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _numbers(data: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], int | float]]:
    """All numbers of the file with their places, but those that belong to experiments."""
    if isinstance(data, int | float):
        yield place, data
    elif isinstance(data, dict):
        for key, value in data.items():
            if key != "set":
                yield from _numbers(value, (*place, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from _numbers(value, (*place, number))


def _at(text: str, loc: tuple[str | int, ...]) -> str:
    """``:LINE`` of a place in a TOML text as people write it, of the table around it, or nothing."""
    names = tuple(part for part in loc if isinstance(part, str))
    number = next((part for part in loc if isinstance(part, int)), None)
    header: tuple[str, ...] = ()
    entries, best = 0, (0, 0)
    for line_number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]", line):
            path = header = tuple(part.strip("\"' ") for part in match[2].split("."))
            entries += match[1] == "[[" and header == names[:1]
        elif match := re.match(r"\s*([\w.\-\"']+)\s*=", line):
            path = (*header, *(part.strip("\"'") for part in match[1].split(".")))
        else:
            continue
        elsewhere = number is not None and path[0] == names[0] and entries != number + 1
        if not elsewhere and names[: len(path)] == path and len(path) > best[0]:
            best = (len(path), line_number)
    return f":{best[1]}" if best[1] else ""
