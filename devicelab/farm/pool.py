"""The devices a farm may use: those that lab.toml names, those that are attached, and what their kind is."""

from devicelab.device.choose import Seen, attached
from devicelab.device.facts import identify
from devicelab.device.lab import LOCAL, Lab, load_lab
from devicelab.errors import LabError
from devicelab.farm.selectors import Known, Past
from devicelab.ground import side_by_side
from devicelab.store import Store

# For a device to say what it is; one that does not in time is taken for what it was.
_ANSWER_S = 30.0
# Nights of the past whose selectors are remembered.
_RECENT = 50


def known_devices(lab: Lab | None = None, store: Store | None = None) -> dict[str, Known]:
    """Devices by name. This computer is among them by its name ``local``, and by kind or tag only if lab.toml has it.

    Kinds come from lab.toml, else the device is asked, else (it does not answer) from its newest stored campaign.

    Raises:
        ConfigError: lab.toml is wrong.
    """
    lab = lab if lab is not None else load_lab()
    seen = attached(lab, ask_kind=False)
    shown = [one for one in seen if one.entry.name != LOCAL or LOCAL in lab.devices]
    asked = {one.entry.name: kind for one, kind in side_by_side.asked(_ask, shown, deadline_s=_ANSWER_S)}
    found = {}
    for one in seen:
        name = one.entry.name
        kind = (asked[name] or _remembered(name, store)) if name in asked else None
        found[name] = Known(one.entry, kind, present=one.state in {"device", "named"})
    return found


def _ask(seen: Seen) -> str | None:
    if seen.entry.board is not None or seen.state not in {"device", "named"}:
        return seen.entry.board
    try:
        return identify(seen.entry)
    except LabError:
        return None  # it is asked again, and its trouble told, when it is its turn


def _remembered(device: str, store: Store | None) -> str | None:
    campaigns = store.campaigns(device=device, limit=1) if store is not None else ()
    return campaigns[0].board if campaigns else None


def remembered(store: Store) -> Past:
    """Selectors and devices of the past: who is away now is no mistake in a farm file."""
    nights = store.nights(limit=_RECENT)
    selectors = frozenset(entry.devices for info in nights for entry in info.job.jobs)
    return Past(selectors, lambda name: bool(store.campaigns(device=name, limit=1)))
