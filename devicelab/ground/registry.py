"""Finds a plug-in or a data file by its name: a file in the right folder is all it takes to add one.

Plug-ins come from three places with one contract: the package, entry points of installed distributions, and the user's
folders (``devicelab.ground.places``). What two places claim has nobody's name until one is renamed: asking for it is an
error that names both. A plug-in from outside that cannot be used is left out and said (``left_out``); nothing else
suffers.
"""

import difflib
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from devicelab.errors import ConfigError, LabError
from devicelab.ground import contract, finding, places, user
from devicelab.ground.finding import Claim, LeftOut

if TYPE_CHECKING:
    from devicelab.analyses.base import Analysis
    from devicelab.knobs.base import Knob
    from devicelab.model.experiment import Finding
    from devicelab.model.results import Results
    from devicelab.schedulers.base import Scheduler
    from devicelab.transports.base import TransportKind
    from devicelab.workloads.base import Workload

CONTRACTS: Mapping[str, str] = MappingProxyType(
    {
        "knobs": "Knob",
        "workloads": "Workload",
        "schedulers": "Scheduler",
        "transports": "TransportKind",
        "analyses": "Analysis",
    }
)
"""Room of plug-ins → the Protocol in its ``base`` module that each keeps."""

_NOUNS = {"analyses": "analysis", "cli": "command", "boards": "board kind"}

_left_out: dict[tuple[str, str], LeftOut] = {}


@dataclass(frozen=True)
class _Room:
    """What was found for a kind: the package's own, what is usable from outside, and why names are not to be had."""

    own: Mapping[str, Claim]
    outside: Mapping[str, object]
    refused: Mapping[str, str]


def knob(name: str) -> "Knob":
    """The knob family of that name; see ``module``."""
    return cast("Knob", module("knobs", name))


def workload(name: str) -> "Workload":
    """The workload of that name; see ``module``."""
    return cast("Workload", module("workloads", name))


def scheduler(name: str) -> "Scheduler":
    """The scheduler of that name; see ``module``."""
    return cast("Scheduler", module("schedulers", name))


def transport(name: str) -> "TransportKind":
    """The transport of that name; see ``module``."""
    return cast("TransportKind", module("transports", name))


def analysis(name: str) -> "Analysis":
    """The analysis of that name; see ``module``."""
    return cast("Analysis", module("analyses", name))


def answers(name: str) -> "Mapping[str, Callable[[Results], Finding]]":
    """What the analysis of that name answers as a whole, by quantity; see ``module``."""
    found: Mapping[str, Callable[[Results], Finding]] = getattr(analysis(name), "ANSWERS", {})
    return found


def names(folder: str) -> tuple[str, ...]:
    """Names of all plug-ins of a kind, sorted; asking for one that cannot be used says why (see ``module``)."""
    room = _room(folder)
    return tuple(sorted({*room.own, *room.outside, *room.refused}))


def own_names(folder: str) -> tuple[str, ...]:
    """Names of the plug-ins that come with devicelab, sorted."""
    return tuple(sorted(_room(folder).own))


def own(folder: str) -> tuple[Any, ...]:
    """The plug-ins that come with devicelab, by name."""
    claims = _room(folder).own
    return tuple(claims[name].load() for name in sorted(claims))


def usable_names(folder: str) -> tuple[str, ...]:
    """Names of the plug-ins of a kind that are used without being asked for, sorted: each has one module.

    Of a name that the package and another place claim that is the package's, and the other is left out.
    """
    room = _room(folder)
    return tuple(sorted(name for name in (*room.own, *room.outside) if (folder, name) not in _left_out))


def usable(folder: str, name: str) -> Any:
    """The plug-in of one of ``usable_names``."""
    room = _room(folder)
    return room.outside[name] if name in room.outside else room.own[name].load()


def module(folder: str, name: str) -> Any:
    """The plug-in of that name.

    Raises:
        ConfigError: there is none of that name (the message lists those that exist), several places claim it (the
            message names them), or it cannot be used (the message says why).
    """
    room = _room(folder)
    if name in room.refused:
        raise ConfigError(room.refused[name])
    if (folder, name) in _left_out:
        raise ConfigError(str(_left_out[folder, name]))
    if name not in names(folder):
        raise unknown(noun(folder), name, names(folder))
    return usable(folder, name)


def ask(folder: str, name: str, question: str, *args: object) -> Any:
    """What a function of a plug-in answers that nobody asked for by name; ``None`` where it is left out by that.

    One of the package's own is simply called. One from outside that raises anything but a ``LabError``, or answers with
    something else than its contract says, is left out from here on, so that no other device or command suffers.
    """
    plugin = usable(folder, name)
    if name in _room(folder).own:
        return getattr(plugin, question)(*args)
    try:
        said = getattr(plugin, question)(*args)
    except LabError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a plug-in of somebody else's does
        wrong: str | None = f"{question}() failed: {type(error).__name__}: {error}"
    else:
        wrong = contract.mismatch(said, contract.returns(protocol(folder), question), f"what {question}() returned")
    if wrong is None:
        return said
    leave_out(folder, name, "plug-in from outside", wrong)
    return None


def leave_out(folder: str, name: str, where: str, why: str) -> None:
    """Do not use something from here on in this process, and say so (``left_out``)."""
    _left_out.setdefault((folder, name), LeftOut(f"{noun(folder)} {name!r}", where, why))


def left_out() -> tuple[LeftOut, ...]:
    """What this process found and does not use, with the reasons, in the order in which it was found."""
    return tuple(_left_out.values())


def look_everywhere() -> tuple[LeftOut, ...]:
    """``left_out`` once the plug-ins of every kind have been looked for."""
    for folder in CONTRACTS:
        _room(folder)
    return left_out()


def protocol(folder: str) -> type:
    """The Protocol that plug-ins of a kind keep."""
    found: type = getattr(importlib.import_module(f"devicelab.{folder}.base"), CONTRACTS[folder])
    return found


def noun(folder: str) -> str:
    """What one of a kind is called."""
    return _NOUNS.get(folder, folder.removesuffix("s"))


def claims(folder: str) -> tuple[dict[str, tuple[Claim, ...]], tuple[LeftOut, ...]]:
    """Name → the places that claim it, the package first; and what lies in the user's folder and can be no plug-in."""
    users, strays = finding.user_claims(folder, places.code_folder(folder) if folder in CONTRACTS else None)
    found: dict[str, tuple[Claim, ...]] = {}
    for claim in (*finding.own_claims(folder), *finding.entry_claims(folder), *users):
        found[claim.name] = (*found.get(claim.name, ()), claim)
    return found, strays


def _room(folder: str) -> _Room:
    return _look(folder, places.code_folder(folder))


@cache
def _look(folder: str, _place: Path | None) -> _Room:
    own: dict[str, Claim] = {}
    outside: dict[str, object] = {}
    refused: dict[str, str] = {}
    found, strays = claims(folder)
    _left_out.update({(folder, one.where): one for one in strays})
    for name, claimed in found.items():
        ours = [claim for claim in claimed if claim.own]
        if len(ours) == 1:
            own[name] = ours[0]
        if len(claimed) > 1:
            why = f"claimed by {' and by '.join(claim.where for claim in claimed)}: rename one"
            refused[name] = f"{noun(folder)} {name!r} is {why}"
            others = " and ".join(claim.where for claim in claimed if claim is not own.get(name))
            _left_out[folder, f"{name} elsewhere"] = LeftOut(f"{noun(folder)} {name!r}", others, why)
        elif not ours:
            plugin, wrong = load(folder, claimed[0])
            if wrong:
                leave_out(folder, name, claimed[0].where, "; ".join(wrong))
                refused[name] = str(_left_out[folder, name])
            else:
                outside[name] = plugin
    return _Room(own, outside, refused)


def load(folder: str, claim: Claim) -> tuple[object, tuple[str, ...]]:
    """A plug-in from outside, and what keeps it from being used: it cannot be imported, or breaks its contract."""
    try:
        plugin = claim.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in of somebody else's may do anything
        return None, (f"it cannot be imported: {type(error).__name__}: {error}",)
    return plugin, shape(folder, plugin)


def shape(folder: str, plugin: object) -> tuple[str, ...]:
    """What a plug-in lacks of its contract, as far as can be told without calling it, a sentence each."""
    if folder not in CONTRACTS:
        return () if callable(getattr(plugin, "register", None)) else ("it has no register(app): write one",)
    oddities = getattr(importlib.import_module(f"devicelab.{folder}.base"), "oddities", None)
    wrong = contract.problems(plugin, protocol(folder))
    return wrong or (oddities(plugin) if oddities is not None else ())


def toml_files(kind: str, package: Path) -> dict[str, tuple[Path, ...]]:
    """Name → the TOML files that claim it: the package's folder first, then the user's, each file once."""
    return finding.toml_claims(package, places.data_folders(kind))


def toml_file(kind: str, name: str, package: Path) -> Path:
    """The TOML file of that name.

    Raises:
        ConfigError: none has that name (the message lists those that exist), or several (the message names them).
    """
    found = toml_files(kind, package)
    if name not in found:
        raise unknown(noun(kind), name, tuple(found))
    if len(found[name]) > 1:
        paths = " and by ".join(map(str, found[name]))
        raise ConfigError(f"{noun(kind)} {name!r} is claimed by {paths}", hint="rename one of the files")
    return found[name][0]


def unknown(noun: str, name: str, known: tuple[str, ...]) -> ConfigError:
    """The error for a name nobody knows, with the nearest ones that exist."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"no {noun} named {name!r}", hint=f"{hint}known: {', '.join(known) or 'none'}")


def data_dir(name: str) -> Path:
    """The folder ``native``, ``toolchains``, ``experiments`` or ``reports``: in a checkout or inside the wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_data" / name
    return inside if inside.is_dir() else package.parent / name


def script(name: str) -> Path:
    """A file that is pushed to devices: of ``devicelab/workloads/scripts``, or an absolute path on this computer."""
    return Path(__file__).resolve().parents[1] / "workloads" / "scripts" / name


def cache_dir() -> Path:
    """Where builds and fetched journals are kept: ``$DEVICELAB_CACHE`` or the user's cache directory.

    Raises:
        ConfigError: no such variable, and the user has no home.
    """
    explicit = os.environ.get("DEVICELAB_CACHE")
    if explicit:
        return Path(explicit)
    base, home = os.environ.get("XDG_CACHE_HOME"), user.home()
    if not base and home is None:
        raise ConfigError("this user has no home for a cache directory", hint="set DEVICELAB_CACHE to a directory")
    return Path(base or f"{home}/.cache") / "devicelab"
