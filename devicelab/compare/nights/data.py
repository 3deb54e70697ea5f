"""The past of every figure a night measured, as arrays; and which figures are compared, and which way is worse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from devicelab.compare.nights.causes import Surroundings, surroundings
from devicelab.compare.nights.stats import Floats, Ints
from devicelab.model.night import NightInfo
from devicelab.store.figures import Figures

if TYPE_CHECKING:
    from devicelab.store.reading import StoreReader

HISTORY = 400
"""Nights that are read; older ones tell little about the noise of today."""

PARTS = frozenset(
    {
        # Parameters and counts of what was done.
        "k", "flushes", "requests", "sum",
        # Shares of a time that is judged as a whole: `devicelab report` of the campaign shows them.
        "idle_sum_ns", "starved_sum_ns", "launch_sum_ns", "wait_for_flush_mean_ns", "t_prod_mean_ns", "flush_mean_ns",
        "service_p50_ns",
        # The tool's own: planning, profiling, and how punctual it was.
        "planning_ns", "total_profiled_ns", "total_profiled_wall_ns", "profiling_cost_pct", "lateness_p99_ns",
        # Of energy a run's and an inference's joules are compared; these follow from them, or say how good they are.
        "energy_error_j", "energy_net_j", "energy_net_per_inference_j", "energy_net_per_request_j", "energy_delay_js",
        "power_mean_w", "power_idle_w",
    }
)  # fmt: skip
"""Figures of devicelab's own workloads that are not compared; a user's program is compared in everything it prints."""

_TIMES = frozenset({"ns", "us", "µs", "ms", "s", "min", "h"})
_MORE = ("throughput", "share_pct", "fps", "hit_rate", "score", "accuracy")
_LOSSES = ("dropped", "missed", "preemption", "error", "failure", "lost")
_LESS = (*_LOSSES, "empty_seconds", "latency", "gap", "cost")


def worse(metric: str, unit: str) -> Literal["more", "less"] | None:
    """Which way is worse: times, joules and losses when larger, other rates and shares when smaller; else ``None``."""
    if unit in _TIMES or unit == "J":
        return "more"
    rate = unit.startswith("1/") or unit.endswith(("/s", "/ms", "/min")) or unit in {"fps", "Hz"}
    if rate or metric.endswith(("_per_s", "_per_second")):
        return "more" if any(word in metric for word in _LOSSES) else "less"
    if any(word in metric for word in _LESS) or metric.endswith(("_ns", "_us", "_ms")):
        return "more"
    return "less" if any(word in metric for word in _MORE) else None


@dataclass(frozen=True)
class Key:
    """What a series is of; the fields are those of ``CellVerdict``."""

    experiment: str
    cell_id: str
    cell: str
    device: str
    program: str
    metric: str
    unit: str


@dataclass(frozen=True)
class Past:
    """Series, the newest column being the night judged; columns are calendar nights.

    Attributes:
        keys: of the series.
        nights: ids of the columns, oldest first.
        values: (series, nights, repetitions), valid runs alone, NaN where there is none.
        again: (series, repetitions), those of ``values`` that were measured again in the night judged.
        surroundings: of (device, experiment) and column, where a campaign is known.
    """

    keys: tuple[Key, ...]
    nights: tuple[str, ...]
    values: Floats
    again: Floats
    surroundings: Mapping[tuple[str, str], Mapping[int, Surroundings]]

    def nights_with_data(self) -> NDArray[np.bool_]:
        """(series, nights)."""
        return np.asarray(np.isfinite(self.values).any(axis=2))


def read(reader: "StoreReader", night: NightInfo) -> Past:
    """Everything the night measured (or was to measure and did before), over the farm's nights before it.

    Earlier nights count however they ended: a run is valid by its own evidence. A night that still runs does not.
    """
    earlier = [
        info.night
        for info in reader.nights(farm=night.farm)
        if info.started_unix_ns < night.started_unix_ns and info.status != "running" and info.night != night.night
    ]
    nights = (*reversed(earlier[:HISTORY]), night.night)
    figures = reader.figures(nights, without=PARTS)
    column = {name: number for number, name in enumerate(nights)}
    now = [number for number, info in figures.campaigns.items() if info.night == night.night]
    groups = {(figures.campaigns[number].device, figures.campaigns[number].experiment) for number in now}
    wanted = [n for n, info in figures.campaigns.items() if (info.device, info.experiment) in groups]
    confirming = {task.campaign for task in reader.tasks(night.night) if task.confirms is not None}
    second = [number for number in now if figures.campaigns[number].campaign in confirming]
    values, again, keys = _arrays(figures, wanted, column, now, second, reader.planned(now))
    conditions = reader.conditions(wanted)
    known: dict[tuple[str, str], dict[int, Surroundings]] = {}
    for number in sorted(wanted, key=lambda n: figures.campaigns[n].started_unix_ns):
        info = figures.campaigns[number]
        of = known.setdefault((info.device, info.experiment), {})
        if info.night is not None and number in conditions:
            of.setdefault(column[info.night], surroundings(info, conditions[number]))
    return Past(keys, nights, values, again, known)


def _arrays(
    figures: Figures,
    wanted: Sequence[int],
    column: Mapping[str, int],
    now: Sequence[int],
    second: Sequence[int],
    planned: frozenset[tuple[int, int]],
) -> tuple[Floats, Floats, tuple[Key, ...]]:
    groups: dict[tuple[str, str], int] = {}
    most = max(figures.campaigns, default=0) + 1
    group_of, night_of = np.full(most, -1), np.full(most, -1)
    for number in wanted:
        info = figures.campaigns[number]
        group_of[number] = groups.setdefault((info.device, info.experiment), len(groups))
        night_of[number] = column[str(info.night)]
    row = group_of[figures.campaign] >= 0
    campaign, value = figures.campaign[row], figures.value[row]
    sizes = (len(groups), int(figures.cell.max(initial=0)) + 1, int(figures.name.max(initial=0)) + 1)
    labels = np.ravel_multi_index((group_of[campaign], figures.cell[row], figures.name[row]), sizes)
    found, series = np.unique(labels, return_inverse=True)
    codes = np.stack(np.unravel_index(found, sizes), axis=1)
    cells_now = {(int(group_of[number]), cell) for number, cell in planned}
    kept = np.array([(group, cell) in cells_now for group, cell, _ in codes.tolist()], dtype=bool)
    kept[series[np.isin(campaign, now)]] = True
    place = np.cumsum(kept) - 1
    row = kept[series]
    series, campaign, value = place[series[row]], campaign[row], value[row]
    count = int(kept.sum())
    values = _stacked(series, night_of[campaign], value, (count, len(column)))
    repeated = np.isin(campaign, second)
    again = _stacked(series[repeated], np.zeros(int(repeated.sum()), np.int64), value[repeated], (count, 1))[:, 0]
    names = list(groups)
    keys = []
    for group, cell, name in codes[kept].tolist():
        device, experiment = names[group]
        program, metric, unit = figures.names[name]
        cell_id, label = figures.cells[cell]
        keys.append(Key(experiment, cell_id, label, device, program, metric, unit))
    return values, again, tuple(keys)


def _stacked(series: Ints, column: Ints, value: Floats, shape: tuple[int, int]) -> Floats:
    """Values in the order given as (series, columns, repetitions), NaN behind the last one."""
    slot = series * shape[1] + column
    order = np.argsort(slot, kind="stable")
    ordered = slot[order]
    first = np.searchsorted(ordered, ordered, side="left")
    depth = np.arange(ordered.size) - first
    deepest = int(depth.max(initial=0)) + 1
    stacked = np.full((shape[0] * shape[1], deepest), np.nan)
    stacked[ordered, depth] = value[order]
    return stacked.reshape(*shape, deepest)
