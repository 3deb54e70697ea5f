"""Which devices are there (lab.toml and what is attached), and how one is chosen by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from devicelab.device import plugged
from devicelab.device.lab import LOCAL, DeviceEntry, Lab, load_lab, local_entry
from devicelab.errors import ConfigError, DeviceUnreachableError, LabError
from devicelab.ground import registry, side_by_side
from devicelab.ground.safe_text import masked

# For a device to say what it is.
_ANSWER_S = 30.0


@dataclass(frozen=True)
class Seen:
    """An attached device: its entry, the transport's state, and the board kind if it could be asked.

    ``serial`` is one that it shares with others, where it is called by its USB port instead; ``hint``, what to do for a
    transport to reach it.
    """

    entry: DeviceEntry
    state: str
    kind: str | None = None
    error: str | None = None
    serial: str | None = None
    hint: str | None = None

    @property
    def usable(self) -> bool:
        """It is there as far as can be told without asking it."""
        return self.state in {"device", "named"}


@dataclass(frozen=True)
class Blind:
    """A transport that cannot look for devices: whatever hangs on it is not seen.

    Attributes:
        state: ``unavailable``, or ``not installed``, where nothing can hang on it.
    """

    scheme: str
    state: str
    error: str
    hint: str | None = None


@dataclass(frozen=True)
class Survey:
    """What there is: devices, ``local`` last, and what could not be seen.

    Attributes:
        devices: named in lab.toml or listed by a transport.
        blind: the transports that could not look.
        unready: phones on USB that adb does not list, each as what to do about it.
    """

    devices: tuple[Seen, ...]
    blind: tuple[Blind, ...] = ()
    unready: tuple[str, ...] = ()

    @property
    def hidden(self) -> Blind | None:
        """The first transport on which devices may hang unseen."""
        return next((one for one in self.blind if one.state != "not installed"), None)


def attached(lab: Lab, *, ask_kind: bool = True) -> tuple[Seen, ...]:
    """Everything the lab names and everything the transports see, each once; ``local`` comes last.

    Devices that lab.toml names keep their name; others are called by their serial.
    """
    found = survey(lab).devices
    return with_kinds(found) if ask_kind else found


def survey(lab: Lab) -> Survey:
    """As ``attached``, without asking devices what they are, and with the transports that could not look."""
    from devicelab import transports

    seen: dict[str, Seen] = {}
    blind: list[Blind] = []
    listed = {entry.name: transports.listed_as(entry.address) for entry in lab.devices.values()}
    for attached_one in transports.discover_all():
        scheme, _, rest = attached_one.address.partition(":")
        if scheme == "local":
            continue  # this computer comes last
        if not rest:  # a transport that cannot look names no device
            hint = attached_one.details.get("hint") or None
            blind.append(Blind(scheme, attached_one.state, attached_one.details.get("error", attached_one.state), hint))
            continue
        named = [entry for entry in lab.devices.values() if listed[entry.name] == attached_one.address]
        for entry in named or [DeviceEntry(name=rest, address=attached_one.address)]:
            serial, hint = (attached_one.details.get(name) for name in ("serial", "hint"))
            seen[entry.name] = Seen(entry, attached_one.state, serial=serial, hint=hint)
    for entry in lab.devices.values():
        if entry.name not in seen and entry.name != LOCAL:
            # No transport lists it: only asking it would tell whether it is there.
            seen[entry.name] = Seen(entry, "named" if listed[entry.name] is None else "absent")
    serials = {one.serial or one.entry.address.partition(":")[2].partition("@")[0] for one in seen.values()}
    seen[LOCAL] = Seen(local_entry(lab), "device")
    return Survey(tuple(seen.values()), tuple(blind), plugged.missing(frozenset(serials)))


def with_kinds(seen: Sequence[Seen]) -> tuple[Seen, ...]:
    """The same with the kinds of boards that answer in time, all asked at once."""
    asked = {one.entry.name: kind for one, kind in side_by_side.asked(_with_kind, seen, deadline_s=_ANSWER_S)}
    late = f"does not answer within {_ANSWER_S:.0f} s"
    return tuple(asked[one.entry.name] or replace(one, error=late) for one in seen)


def _with_kind(seen: Seen) -> Seen:
    if seen.entry.board is not None:
        return replace(seen, kind=seen.entry.board)
    if not seen.usable:
        return seen
    from devicelab.device.facts import identify

    try:
        return replace(seen, kind=identify(seen.entry))
    except LabError as error:
        return replace(seen, error=error.message)


def choose(wanted: str | None, lab: Lab | None = None) -> DeviceEntry:
    """The device meant by ``--board``: a device's name, a serial, an address or a board kind; one must fit.

    Without ``wanted``: the lab's default, else the only attached device, else ``local`` if there is nothing else.

    Raises:
        ConfigError: nothing fits, or several do (they are listed).
        DeviceUnreachableError: a board kind that exists but is not attached; or, without ``wanted``, there are devices
            or may be, and none can be used: this computer never stands in for a phone.
    """
    lab = lab if lab is not None else load_lab()
    if wanted is None:
        return _choose_default(lab)
    if wanted in lab.devices:
        return lab.devices[wanted]
    if wanted in {LOCAL, "local:"}:
        return local_entry(lab)
    called = [entry for entry in lab.devices.values() if wanted in _other_names(entry)]
    if len(called) > 1:
        raise _several(called, f"{len(called)} devices of lab.toml are {wanted!r}")
    if called:
        return called[0]
    if wanted.partition(":")[0] in registry.names("transports") and ":" in wanted:
        return _at(wanted)
    surveyed = survey(lab)
    for seen in surveyed.devices:
        if wanted == seen.entry.name:
            return seen.entry
    twins = [seen.entry for seen in surveyed.devices if seen.serial == wanted]
    if twins:
        raise _several(twins, f"{len(twins)} boards have the serial {wanted!r}")
    return _choose_by_kind(wanted, surveyed)


def _other_names(entry: DeviceEntry) -> set[str]:
    """Its address, and its serial."""
    scheme, _, rest = entry.address.partition(":")
    return {entry.address, rest, rest.rpartition("@")[0] if scheme == "adb" and "@" in rest else rest} - {""}


def _at(address: str) -> DeviceEntry:
    try:
        return DeviceEntry(name=address.partition(":")[2] or address, address=address)
    except ValidationError as error:
        problems = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
        raise ConfigError(f"not a device address: {masked(address)!r}: {problems}") from None


def _choose_by_kind(wanted: str, found: Survey) -> DeviceEntry:
    from devicelab import boards

    asked = with_kinds(found.devices)
    fits = [seen for seen in asked if seen.kind == wanted]
    fits = [seen for seen in fits if seen.usable] or fits
    if len(fits) == 1:
        return fits[0].entry
    if fits:
        raise _several([seen.entry for seen in fits], f"{len(fits)} devices are of kind {wanted!r}")
    known = (*boards.kinds(), *(seen.entry.name for seen in asked))
    if wanted not in known and found.hidden is None and not found.unready:
        raise registry.unknown("device or board kind", wanted, tuple(known))
    noun = "no device of kind" if wanted in known else "no device or board kind named"
    silent = [*map(_as_seen, (one for one in asked if one.kind is None)), *_unseen(found)]
    and_yet = f" (not to be asked: {'; '.join(silent)})" if silent else ""
    raise DeviceUnreachableError(
        f"{noun} {wanted!r} is attached{and_yet}",
        hint="; ".join(_todo(found)) or _to_attach(wanted, [one for one in asked if one.entry.name != LOCAL]),
    )


def _todo(found: Survey) -> list[str]:
    """What stands between devicelab and each phone or board that is there."""
    waiting = [f"{one.entry.name} is {one.state}: {one.hint}" for one in found.devices if one.hint]
    hidden = found.hidden.hint if found.hidden else None
    return [*found.unready, *waiting, *([hidden] if hidden else [])]


def _to_attach(kind: str, others: Sequence[Seen]) -> str:
    """How a board of this kind comes to be attached, where nothing of it is seen."""
    from devicelab import boards

    there = ", ".join(f"{one.entry.name} ({one.kind})" for one in others if one.usable and one.kind)
    if there:
        return f"attached are {there}: choose one with --board NAME"
    if kind not in boards.kinds():
        return "`devicelab devices` lists what is attached"
    if not boards.load(kind).recognise.props:
        return (
            "name it in lab.toml, with an address such as ssh:me@its-host; `devicelab devices` lists what is attached"
        )
    return f"{plugged.NONE}; `devicelab sim up {kind}` starts a virtual one"


def _as_seen(seen: Seen) -> str:
    return f"{seen.entry.name} is {seen.state}{f': {seen.error}' if seen.error else ''}"


def _unseen(found: Survey) -> list[str]:
    return [f"{found.hidden.scheme}: {found.hidden.error}"] if found.hidden else []


def _choose_default(lab: Lab) -> DeviceEntry:
    if lab.default is not None:
        if lab.default not in lab.devices and lab.default != LOCAL:
            raise ConfigError(f"{lab.path}: default names {lab.default!r}, which is no device there")
        return lab.devices.get(lab.default) or local_entry(lab)
    surveyed = survey(lab)
    others = [seen for seen in surveyed.devices if seen.entry.name != LOCAL]
    # A phone that is attached and not ready counts: the one beside it may not be the one that is meant.
    present = [seen for seen in others if seen.state != "absent"]
    if len(present) > 1:
        raise _several([seen.entry for seen in present], "several devices are attached or configured")
    if present and present[0].usable:
        return present[0].entry
    if others or surveyed.hidden or surveyed.unready:
        reasons = [*map(_as_seen, others), *_unseen(surveyed), *surveyed.unready]
        todo = [f"{one.entry.name}: {one.hint}" for one in others if one.hint]
        raise DeviceUnreachableError(
            f"no device can be used: {'; '.join(reasons)}",
            hint="; ".join([*todo, "`devicelab devices` tells more; --board local is this computer"]),
        )
    return local_entry(lab)


def _several(entries: Iterable[DeviceEntry], what: str) -> ConfigError:
    names = ", ".join(sorted(entry.name for entry in entries))
    return ConfigError(f"{what}: {names}", hint="choose one with --board NAME (`local` is this computer)")


def as_json(seen: Seen) -> dict[str, Any]:
    """A seen device as plain data."""
    return {
        "name": seen.entry.name,
        "address": seen.entry.address,
        "state": seen.state,
        "board": seen.kind,
        "tags": list(seen.entry.tags),
        "error": seen.error,
    }
