"""What the shell offers for values: names from files and the database of this computer; no device is asked.

A completion that fails offers nothing: a shell in the middle of a line has no use for an error.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devicelab.store import Store

_Offer = Callable[[str], list[str]]


def _begun(found: Iterable[str], typed: str) -> list[str]:
    return [one for one in dict.fromkeys(found) if one.startswith(typed)]


def _fitting(find: Callable[[str], Iterable[str]]) -> _Offer:
    """A completion that offers what begins as it was typed, each once, and nothing where it cannot look."""

    def offer(incomplete: str) -> list[str]:
        try:
            return _begun(find(incomplete), incomplete)
        except (Exception, SystemExit):  # noqa: BLE001 - a broken lab.toml or plug-in is told by the command itself
            return []

    return offer


def _stored(find: "Callable[[Store], Iterable[str]]") -> Callable[[typer.Context, str], list[str]]:
    """A completion from the database that the line names; one on another computer is not asked."""

    def offer(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            with _database(ctx) as opened:
                return _begun(find(opened), incomplete)
        except (Exception, SystemExit):  # noqa: BLE001 - as above
            return []

    return offer


@contextmanager
def _database(ctx: typer.Context) -> "Iterator[Store]":
    from devicelab.store import Store

    named = ctx.params.get("store") or os.environ.get("DEVICELAB_STORE") or None
    if named is not None and ("://" in named or named.startswith("@")):
        raise ValueError("not on this computer")
    with Store.open(named, create=False) as opened:
        yield opened


@_fitting
def board(_typed: str) -> Iterable[str]:
    """Devices that lab.toml names, ``local``, kinds of boards."""
    from devicelab import boards
    from devicelab.device.lab import load_lab
    from devicelab.errors import LabError

    with suppress(LabError):
        yield from load_lab().devices
    yield "local"
    yield from boards.kinds()


@_fitting
def experiment(_typed: str) -> Iterable[str]:
    """Experiments by name."""
    from devicelab.experiment.files import known

    return known()


@_stored
def campaign(opened: "Store") -> Iterable[str]:
    """Ids of the campaigns, the newest first."""
    return [info.campaign for info in opened.campaigns(limit=100)]


@_stored
def night(opened: "Store") -> Iterable[str]:
    """Ids of the nights, the newest first, and ``last``."""
    return ["last", *(info.night for info in opened.nights(limit=100))]


@_fitting
def program(_typed: str) -> Iterable[str]:
    """Native programs and libraries."""
    from devicelab.device.build import libraries, programs

    return (*programs(), *libraries())


@_fitting
def toolchain(_typed: str) -> Iterable[str]:
    """Toolchains by name."""
    from devicelab.ground import registry

    return registry.toml_files("toolchains", registry.data_dir("toolchains"))


@_fitting
def scheduler(_typed: str) -> Iterable[str]:
    """Levels of the factor ``scheduler``."""
    from devicelab.ground import registry

    return registry.usable_names("schedulers")


@_fitting
def cores(_typed: str) -> Iterable[str]:
    """Words for CPUs that hold on any board."""
    return ("all", "big", "little", "prime")


@_fitting
def knob(_typed: str) -> Iterable[str]:
    """``WORD=`` of every knob."""
    from devicelab import knobs

    return [f"{word}=" for word in knobs.words()]


@_fitting
def override(typed: str) -> Iterable[str]:
    """``KEY=`` of what ``--set`` takes; behind ``scheduler=`` and ``measure.workload=`` the names there are."""
    from devicelab import knobs
    from devicelab.ground import registry
    from devicelab.model.experiment import Experiment

    key, equals, _ = typed.partition("=")
    if equals:
        rooms = {"scheduler": "schedulers", "measure.workload": "workloads"}
        return [f"{key}={name}" for name in registry.usable_names(rooms[key])] if key in rooms else ()
    own = ("load", "placement", "scheduler", "measure.workload", "measure.timeout_s", "measure.params.")
    plain = [name for name, field in Experiment.model_fields.items() if field.annotation in {int, float, str, bool}]
    return [name if name.endswith(".") else f"{name}=" for name in (*own, *plain, *knobs.words())]
