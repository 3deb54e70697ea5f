"""What leaves the database after a night, and what never does: first the decision, then the deed.

Deleted are the oldest nights, with their campaigns: those beyond the number to be kept, and as many as it takes to get
below the size that is allowed. Never deleted are the nights that the next one will be compared with (the newest
complete ones of each farm), the newest night, one that may still be running, and campaigns outside of nights.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devicelab.model.night import Farm, Retention
from devicelab.store.sizes import NightSize

if TYPE_CHECKING:
    from devicelab.store.database import Store

# Larger than any disk: no limit at all (``inf`` among them).
_ENDLESS_GB = 1e12


@dataclass(frozen=True)
class Decision:
    """What goes.

    Attributes:
        delete: nights with the reason why, oldest first.
        thin: nights of which the raw samples go, oldest first.
        bytes: about what that frees.
        short_bytes: what the database would still be above the size allowed; the rest of the nights is protected.
    """

    delete: Mapping[str, str]
    thin: tuple[str, ...]
    bytes: int
    short_bytes: int = 0


@dataclass(frozen=True)
class Pruned:
    """What was done, or would be.

    Attributes:
        deleted: nights with the reason why, oldest first.
        thinned: nights of which the raw samples were dropped.
        bytes: about what that freed inside the database.
        rows: of raw samples dropped.
        used_bytes: what the database holds afterwards (free space inside it left out).
        short_bytes: how far it is above the size allowed nevertheless.
    """

    deleted: Mapping[str, str]
    thinned: tuple[str, ...]
    bytes: int
    rows: int
    used_bytes: int
    short_bytes: int


def decide(
    nights: Sequence[NightSize], retention: Retention, *, baseline_nights: Mapping[str, int], used_bytes: int
) -> Decision:
    """What retention asks for, as far as it is allowed.

    Args:
        nights: in any order, of one farm or of several; each farm's are counted for themselves, the size is common.
        retention: the rules.
        baseline_nights: by farm: how many complete nights the next one is compared with.
        used_bytes: what the whole database holds.
    """
    oldest_first = sorted(nights, key=lambda night: (night.started_unix_ns, night.night))
    kept = protected(nights, baseline_nights)
    delete: dict[str, str] = {}
    for ranked in _by_farm(nights):
        for rank, night in enumerate(ranked):
            if retention.nights is not None and rank >= retention.nights and night.night not in kept:
                delete[night.night] = f"older than the newest {retention.nights} of {night.farm}"
    left = used_bytes - sum(night.bytes for night in nights if night.night in delete)
    thin = tuple(
        night.night
        for night in oldest_first
        if night.night in _old(nights, retention.thin_samples_after_nights) - delete.keys() and night.sample_bytes
    )
    left -= sum(night.sample_bytes for night in nights if night.night in thin)
    allowed = None if retention.max_gb is None or retention.max_gb > _ENDLESS_GB else int(retention.max_gb * 1e9)
    for night in oldest_first:
        if allowed is None or left <= allowed:
            break
        if night.night not in kept and night.night not in delete:
            delete[night.night] = f"the database holds more than {retention.max_gb:g} GB"
            left -= night.bytes - (night.sample_bytes if night.night in thin else 0)
    return Decision(
        delete={night.night: delete[night.night] for night in oldest_first if night.night in delete},
        thin=tuple(night for night in thin if night not in delete),
        bytes=used_bytes - left,
        short_bytes=0 if allowed is None else max(0, left - allowed),
    )


def protected(nights: Sequence[NightSize], baseline_nights: Mapping[str, int]) -> frozenset[str]:
    """Nights that are never deleted.

    Of each farm: the newest, the newest complete ones that the next night is compared with, and those called running
    that are newer than any that ended (an older one was left so by a killed process).
    """
    kept: set[str] = set()
    for ranked in _by_farm(nights):
        complete = [night.night for night in ranked if night.status == "complete"]
        kept.update(complete[: baseline_nights.get(ranked[0].farm, Farm.model_fields["baseline_nights"].default)])
        kept.add(ranked[0].night)
        for night in ranked:
            if night.status != "running":
                break
            kept.add(night.night)
    return frozenset(kept)


def prune(store: "Store", retention: Retention, *, farms: Mapping[str, int], dry_run: bool = False) -> Pruned:
    """Do what ``decide`` says; each night is one transaction, so that an end in the middle leaves whole nights.

    Space is free inside the database afterwards and used again; ``Store.vacuum`` gives it back to the disk.

    Args:
        store: the database.
        retention: the rules; nothing is done without any.
        farms: the farms whose nights may go, and how many complete nights each compares with.
        dry_run: only say what would be done.

    Raises:
        StoreError: the database refuses; what was done until then stays done.
    """
    deleted: dict[str, str] = {}
    thinned: list[str] = []
    freed = rows = 0
    while True:
        nights = [night for night in store.night_sizes() if night.farm in farms]
        used = store.used_bytes()
        decided = decide(nights, retention, baseline_nights=farms, used_bytes=used)
        if dry_run or not (decided.delete or decided.thin):
            return Pruned(
                deleted={**deleted, **decided.delete},
                thinned=(*thinned, *decided.thin),
                bytes=freed + decided.bytes,
                rows=rows,
                used_bytes=used,
                short_bytes=decided.short_bytes,
            )
        for night in decided.delete:
            store.delete_night(night)
        for night in decided.thin:
            rows += sum(store.thin_samples(campaign.campaign) for campaign in store.night_campaigns(night))
        deleted |= decided.delete
        thinned += decided.thin
        freed += max(0, used - store.used_bytes())


def merged(several: Iterable[Pruned]) -> Pruned:
    """What several calls did together."""
    total = Pruned({}, (), 0, 0, 0, 0)
    for one in several:
        total = Pruned(
            deleted={**total.deleted, **one.deleted},
            thinned=(*total.thinned, *one.thinned),
            bytes=total.bytes + one.bytes,
            rows=total.rows + one.rows,
            used_bytes=one.used_bytes,
            short_bytes=max(total.short_bytes, one.short_bytes),
        )
    return total


def _by_farm(nights: Sequence[NightSize]) -> Iterator[list[NightSize]]:
    """Each farm's nights, newest first."""
    for farm in dict.fromkeys(night.farm for night in nights):
        own = [night for night in nights if night.farm == farm]
        yield sorted(own, key=lambda night: (night.started_unix_ns, night.night), reverse=True)


def _old(nights: Sequence[NightSize], after: int | None) -> set[str]:
    """Nights beyond the newest ``after`` of their farm; none without a limit."""
    return set() if after is None else {night.night for ranked in _by_farm(nights) for night in ranked[after:]}
