"""Energy against time: what an inference costs in joules at each setting, and which settings no other beats in both."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _plot, _stats
from devicelab.analyses.base import Figure
from devicelab.model.experiment import Finding, Verdict
from devicelab.model.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

# The time of one: of an inference, or of a request from its start. Without profiling, where there is that.
_TIMES = ("total_ns", "total_profiled_ns", "service_p50_ns")
_ENERGIES = ("energy_per_inference_j", "energy_per_request_j")
# A setting that uses up to so much more is as good.
TOLERANCE = 0.02
_LISTED = 12
_PICTURED = 20


def analyse(results: Results) -> tuple[Finding, ...]:
    """What was measured, and the Pareto front of the time and the energy of an inference; or why there is none."""
    simulated = _frames.simulated(results)
    found = [_meter(results)]
    settings = table(results)
    if len(settings):
        front = settings[settings["front"]]
        listed = [
            f"{row.label}: {row.time_ms:.4g} ms, {row.energy_j:.4g} J" for row in front.head(_LISTED).itertuples()
        ]
        more = [f"and {len(front) - _LISTED} more"] if len(front) > _LISTED else []
        found.append(
            Finding(
                analysis="energy",
                claim=f"Pareto front of time and energy of one: {len(front)} of {len(settings)} settings",
                verdict="info",
                n=int(settings["n"].min()),
                reasons=(*listed, *more, "medians: a setting near the front may belong to it"),
            )
        )
    return tuple(one.model_copy(update={"simulated": simulated}) for one in found)


def _meter(results: Results) -> Finding:
    told = dict(results.info.get("programs") or {}).get("energy", {})
    runs = _frames.valid_runs(results)
    joules = _frames.metric(results, "energy.energy_j").reindex(runs["run_id"]).dropna()
    claim = "Energy of the runs was measured"
    if joules.empty:
        missing = str(told.get("missing") or "") or _flagged(results)
        if runs.empty and not missing:
            return Finding(analysis="energy", claim=claim, verdict="insufficient n", reasons=("no valid run",))
        missing = missing or "the device offered nothing that tells it"
        return Finding(analysis="energy", claim=claim, verdict="cannot tell here", reasons=(missing,))
    reasons = [
        f"by {told.get('meter')}: {told.get('scope')}, gross",
        *filter(None, [str(told.get("understood_as", ""))]),
    ]
    idle = _frames.metric(results, "energy.power_idle_w").reindex(runs["run_id"]).dropna()
    if len(idle):
        reasons.append(f"idle, before the runs: {idle.median():.3g} W (median)")
    share = (_frames.metric(results, "energy.energy_error_j").reindex(joules.index) / joules).median()
    reasons.append(f"the total of one run is known to {share:.2%} (median)")
    if len(joules) < len(runs):
        reasons.append(f"{len(runs) - len(joules)} of {len(runs)} valid runs have no total")
    mean_w = runs["run_id"].map(_frames.metric(results, "energy.power_mean_w"))
    got = _stats.median_interval(_stats.per_repetition(mean_w, runs["repetition"]))
    return _findings.make("energy", claim, "info", got, unit="W", reasons=reasons)


def _flagged(results: Results) -> str:
    flags = [flag for flags in results.runs()["flags"] for flag in flags if flag.code.startswith("energy-")]
    return f"{flags[0].code}: {flags[0].detail}" if flags else ""


def table(results: Results) -> pd.DataFrame:
    """A row a cell: ``cell_id label n net_j front``, ``time_ms`` and ``energy_j`` with ``low`` and ``high`` of each.

    Medians over repetitions with 95 % intervals (NaN with fewer than six); ``front``: no other setting is as fast and
    uses as little and is better in one of both. Sorted by time.
    """
    rows = []
    times, energies, net = (_values(results, names) for names in (_TIMES, _ENERGIES, _net_names()))
    for cell_id, label, part in _cells(results):
        time, energy = (_stats.median_interval(part["run_id"].map(values).dropna()) for values in (times, energies))
        if not (time.n and energy.n):
            continue
        rows.append({
            "cell_id": cell_id,
            "label": label,
            "n": min(time.n, energy.n),
            "time_ms": time.estimate / 1e6,
            "time_low_ms": _or_nan(time.low) / 1e6,
            "time_high_ms": _or_nan(time.high) / 1e6,
            "energy_j": energy.estimate,
            "energy_low_j": _or_nan(energy.low),
            "energy_high_j": _or_nan(energy.high),
            "net_j": float(part["run_id"].map(net).median()),
        })  # fmt: skip
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    frame["front"] = front(frame["time_ms"].to_list(), frame["energy_j"].to_list())
    return frame.sort_values(["time_ms", "energy_j"], ignore_index=True)


def front(first: Sequence[float], second: Sequence[float]) -> list[bool]:
    """Which points no other is at most as large as in both, and smaller in one."""
    points = list(zip(first, second, strict=True))
    return [not any(x <= a and y <= b and (x, y) != (a, b) for x, y in points) for a, b in points]


def _net_names() -> tuple[str, ...]:
    return tuple(name.replace("energy_per", "energy_net_per") for name in _ENERGIES)


def _values(results: Results, names: Sequence[str]) -> "pd.Series[float]":
    return next((values for name in names if len(values := _frames.metric(results, name))), pd.Series(dtype="float64"))


def _cells(results: Results) -> list[tuple[str, str, pd.DataFrame]]:
    runs = _frames.valid_runs(results)
    varied = _frames.varying(results.runs())
    found = []
    for cell_id, part in runs.groupby("cell_id", sort=False):
        levels = {name: _frames.level_text(part[name].iloc[0]) for name in _frames.factors(runs)}
        found.append((str(cell_id), _frames.label(levels, only=varied), part))
    return found


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def fastest_is_cheapest(results: Results) -> Finding:
    """Whether the fastest setting uses as little energy for an inference as any, up to 2 %.

    Fastest and cheapest are chosen from the even repetitions and compared on the odd ones, pair by pair.
    """
    claim = "Is the fastest setting also the one that uses the least energy for an inference?"
    quantity = "fastest_is_cheapest"
    times, energies = (_values(results, names) for names in (_TIMES, _ENERGIES))
    chosen: dict[str, tuple[float, float]] = {}
    judged: dict[str, dict[int, float]] = {}
    labels: dict[str, str] = {}
    for cell_id, label, part in _cells(results):
        labels[cell_id] = label
        even = part[part["repetition"] % 2 == 0]["run_id"]
        pair = (float(even.map(times).median()), float(even.map(energies).median()))
        if np.all(np.isfinite(pair)):
            chosen[cell_id] = pair
        judged[cell_id] = _frames.by_cell(part[part["repetition"] % 2 == 1], energies).get(cell_id, {})
    if not chosen:
        meter = _meter(results)
        if meter.verdict != "info":
            return meter.model_copy(update={"claim": claim, "quantity": quantity})
        none = ("no setting has a time and an energy in an even repetition",)
        return Finding(analysis="energy", claim=claim, verdict="insufficient n", reasons=none, quantity=quantity)
    fastest = min(chosen, key=lambda cell: chosen[cell])
    cheapest = min(chosen, key=lambda cell: chosen[cell][::-1])
    said = [f"fastest: {labels[fastest]}; least energy: {labels[cheapest]}", "chosen from half of the repetitions"]
    if fastest == cheapest:
        others = [cell for cell in chosen if cell != fastest]
        if not others:
            return Finding(
                analysis="energy", claim=claim, verdict="insufficient n", reasons=("one setting",), quantity=quantity
            )
        cheapest = min(others, key=lambda cell: chosen[cell][1])
        said[0] = f"fastest and least energy: {labels[fastest]}; compared with the next: {labels[cheapest]}"
    both = sorted(judged[fastest].keys() & judged[cheapest].keys())
    got = _stats.paired_ratio([judged[cheapest][n] for n in both], [judged[fastest][n] for n in both])
    found = _findings.make("energy", claim, _verdict(got), got, unit="times the least energy", reasons=said)
    return found.model_copy(update={"quantity": quantity})


def _verdict(got: _stats.Interval) -> Verdict:
    if got.low is None or got.high is None:
        return "insufficient n"
    return "yes" if got.high <= 1 + TOLERANCE else "no" if got.low > 1 + TOLERANCE else "inconclusive"


ANSWERS: Mapping[str, Callable[[Results], Finding]] = {"fastest_is_cheapest": fastest_is_cheapest}


def figures(results: Results) -> tuple[Figure, ...]:
    """The settings by time and energy, with the front."""
    settings = table(results)
    if len(settings) < 2:
        return ()
    told = dict(results.info.get("programs") or {}).get("energy", {})

    def draw(figure: "MplFigure") -> None:
        _draw(figure, settings)

    counted = _plot.counted([int(n) for n in settings["n"]])
    scope = f"{told.get('scope', 'unknown scope')}, gross of idle, by {told.get('meter', '?')}"
    caption = (
        f"Median over repetitions ({counted}) with 95% intervals where there are six or more. Energy: {scope}. The "
        "line joins the settings that no other beats in both."
    )
    at = zip(settings["label"], settings["time_ms"], settings["energy_j"], strict=True)
    chart = _plot.points_chart("time of an inference, ms", "energy, J", {name: (x, y) for name, x, y in at})
    return (Figure("energy-against-time", "Energy and time of one inference", caption, settings, draw, chart=chart),)


def _draw(figure: "MplFigure", settings: pd.DataFrame) -> None:
    on, off = settings[settings["front"]], settings[~settings["front"]]
    figure.set_size_inches(6.5, 3.6 + 0.17 * min(len(on), _PICTURED))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    for part, ink, name in ((off, _plot.GREY, "beaten by another"), (on, _plot.PALETTE[0], "Pareto front")):
        if part.empty:
            continue
        spread = [
            np.abs(
                part[[f"{column}_low_{unit}", f"{column}_high_{unit}"]].to_numpy().T
                - part[f"{column}_{unit}"].to_numpy()
            )
            for column, unit in (("time", "ms"), ("energy", "j"))
        ]
        axes.errorbar(
            part["time_ms"], part["energy_j"], xerr=np.nan_to_num(spread[0]), yerr=np.nan_to_num(spread[1]),
            fmt="o", color=ink, markersize=4.5, elinewidth=0.8, label=name,
        )  # fmt: skip
    axes.step(on["time_ms"], on["energy_j"], where="post", color=_plot.PALETTE[0], linewidth=1.0)
    for number, row in enumerate(on.head(_PICTURED).itertuples(), 1):
        axes.annotate(
            str(number), (float(str(row.time_ms)), float(str(row.energy_j))),
            xytext=(4, 4), textcoords="offset points", fontsize=8,
        )  # fmt: skip
    wide = settings["time_ms"].max() > 8 * settings["time_ms"].min()
    tall = settings["energy_j"].min() > 0 and settings["energy_j"].max() > 8 * settings["energy_j"].min()
    axes.set_xscale("log" if wide else "linear")
    axes.set_yscale("log" if tall else "linear")
    axes.set_xlabel("time of one inference, ms", fontsize=9)
    axes.set_ylabel("energy of one inference, J", fontsize=9)
    _plot.clean(axes, grid="both")
    _plot.legend(figure)
    names = [f"{number}  {row.label}" for number, row in enumerate(on.head(_PICTURED).itertuples(), 1)]
    figure.supxlabel("\n".join(names), fontsize=8, x=0.02, ha="left")
