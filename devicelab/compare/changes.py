"""What is not the same in two campaigns, so that unlike things are never compared silently."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from devicelab.model.experiment import Experiment
from devicelab.model.results import Results
from devicelab.model.scheduler_files import scheduler_files

# Of what a campaign says about itself, what can move its figures; in the order people ask.
_INFO = {
    "device": "device",
    "board": "board",
    "abi": "ABI",
    "os": "operating system",
    "os_build": "build of the operating system",
    "kernel": "kernel",
    "root": "way to root",
    "gpu_driver": "GPU driver",
    "simulated": "simulated",
    "version": "devicelab",
}
# Of what programs say about themselves: software and hardware, not parameters (those are the experiment's).
_SAID = ("driver", "device", "device_name", "platform", "extensions", "backend", "torch", "cuda", "hip", "version")
_SETTINGS = ("measure", "duration_s", "windows", "pause_s", "settle_s", "hold_s", "thermal", "seed", "set")


@dataclass(frozen=True)
class Change:
    """Something that is not the same: what, and its two values as text ("" if it is not known)."""

    what: str
    a: str
    b: str


def changes(a: Results, b: Results) -> tuple[Change, ...]:
    """Everything that is not the same but the figures: device, software, binaries, what was measured and how."""
    differing = [
        *_changed(_INFO, a.info, b.info),
        *_of_programs(a, b),
        *_of_maps("binary", a.info.get("binaries") or {}, b.info.get("binaries") or {}, cut=12),
        *_of_schedulers(a, b),
        *_of_experiments(a.experiment, b.experiment),
    ]
    return tuple(dict.fromkeys(differing))


def _changed(names: Mapping[str, str], a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    for name, title in names.items():
        one, other = _text(a.get(name)), _text(b.get(name))
        if one != other:
            yield Change(title, one, other)


def _of_programs(a: Results, b: Results) -> Iterator[Change]:
    """Of programs that both have: a program that ran in one campaign alone is a matter of the experiment."""
    ours, theirs = dict(a.info.get("programs") or {}), dict(b.info.get("programs") or {})
    for program, said in ours.items():
        if program in theirs:
            yield from _changed({name: f"{program}: {name}" for name in _SAID}, said, theirs[program])
            # Another card of the same kind; a campaign of an earlier version does not know its card.
            cards = [_text(one.get("device_uuid")) for one in (said, theirs[program])]
            if all(cards) and cards[0] != cards[1]:
                yield Change(f"{program}: GPU", *cards)


def _of_maps(what: str, a: Mapping[str, Any], b: Mapping[str, Any], *, cut: int) -> Iterator[Change]:
    for name in dict.fromkeys((*a, *b)):
        if a.get(name) != b.get(name):
            yield Change(f"{what} {name}", _text(a.get(name))[:cut], _text(b.get(name))[:cut])


def _of_schedulers(a: Results, b: Results) -> Iterator[Change]:
    """Of the files of an installed scheduler that both campaigns used: their checksums stand for its version."""
    ours, theirs = scheduler_files(a), scheduler_files(b)
    both = {name: files for name, files in ours.items() if name in theirs}
    for name, files in both.items():
        yield from _of_maps(name, files, theirs[name], cut=12)


def _of_experiments(a: Experiment, b: Experiment) -> Iterator[Change]:
    if a.name != b.name:
        yield Change("experiment", a.name, b.name)
    ours, theirs = a.model_dump(mode="json"), b.model_dump(mode="json")
    for name in _SETTINGS:
        if ours[name] != theirs[name]:
            yield Change(f"setting {name}", _text(ours[name]), _text(theirs[name]))
    tenants = {tenant["name"]: tenant for tenant in theirs["tenants"]}
    for tenant in ours["tenants"]:
        other = tenants.get(tenant["name"])
        if other is not None:
            for key in tenant:
                if tenant[key] != other[key]:
                    yield Change(f"tenant {tenant['name']}: {key}", _text(tenant[key]), _text(other[key]))


def _text(value: object) -> str:
    if value is None or value == {}:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_text(part)}" for name, part in value.items() if part not in (None, {}, []))
    return str(value)
