"""What was not the same under two campaigns: the platform they ran on, and the programs that measured."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devicelab.model.campaign import CampaignInfo
from devicelab.store.figures import Conditions

_SERIALS = ("ro.serialno", "ro.boot.serialno")
_BUILDS = ("ro.build.fingerprint", "ro.build.display.id", "PRETTY_NAME", "os.pretty_name")
_SAID = ("driver", "device", "device_name", "platform", "backend", "torch", "cuda", "hip")
"""Of what programs say of themselves: software and hardware under them."""


@dataclass(frozen=True)
class Surroundings:
    """Under what a night's campaign measured; "" where it is not known.

    Attributes:
        platform: what must be the same for figures to be compared: unit, board, operating system, kernel, drivers.
        programs: devicelab's version and the checksums of the binaries it pushed.
    """

    platform: Mapping[str, str]
    programs: Mapping[str, str]


def surroundings(info: CampaignInfo, conditions: Conditions) -> Surroundings:
    """Read them from a stored campaign."""
    facts = _object(conditions.facts_json)
    props = facts.get("props")
    props = props if isinstance(props, dict) else {}
    platform = {
        "unit": _first(props, _SERIALS) or info.address,
        "board": info.board,
        "simulated": "yes" if info.simulated else "no",
        "ABI": str(facts.get("abi") or ""),
        "OS build": _first(props, _BUILDS),
        "kernel": str(facts.get("kernel") or ""),
    }
    for program, text in sorted(conditions.programs.items()):
        said = _object(text)
        platform |= {f"{name} of {program}": str(said[name]) for name in _SAID if said.get(name) not in {None, ""}}
    programs = {f"binary {name}": sha256 for name, sha256 in sorted(conditions.binaries.items())}
    return Surroundings(platform, {**programs, "devicelab": info.version})


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What both know and is not the same, as ``OS build: A → B``; checksums are cut."""
    both = (name for name in now if before.get(name) and now[name] and before[name] != now[name])
    return tuple(f"{name}: {_short(name, before[name])} → {_short(name, now[name])}" for name in both)


def _short(name: str, text: str) -> str:
    return text[:12] if name.startswith("binary ") else text[:200]


def _first(props: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((str(props[name]) for name in names if props.get(name)), "")


def _object(text: str) -> dict[str, Any]:
    """Stored JSON came from a device once: anything but an object says nothing."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
