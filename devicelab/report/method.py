"""The method of a campaign as a paragraph to copy into a paper: what ran on what, how, versions, citation."""

import datetime as dt

from devicelab import __version__
from devicelab.analyses import _frames
from devicelab.model.results import Results

_PROJECT = "https://github.com/devicelab/devicelab"


def method(results: Results) -> str:
    """What somebody needs to repeat it, in sentences; only what is stored."""
    sentences = (_ran(results), _design(results), _held(results), _judged(results), _versions(results), _cite(results))
    return " ".join(one for one in sentences if one)


def _ran(results: Results) -> str:
    info = results.info
    board = str(info.get("board_title") or info.get("board") or "a device")
    parts = [board + (" (simulated)" if info.get("simulated") else "")]
    system = ", ".join(str(info[name]) for name in ("os", "os_build") if info.get(name))
    parts += [f"running {system}"] if system else []
    parts += [f"kernel {info['kernel']}"] if info.get("kernel") else []
    parts += [f"GPU driver {info['gpu_driver']}"] if info.get("gpu_driver") else []
    measure = results.experiment.measure
    if measure is None:
        tenants = ", ".join(f"{one.name} ({one.workload})" for one in results.experiment.tenants)
        what = f"The tenants {tenants}" if tenants else "The experiment"
    else:
        params = ", ".join(f"{name} {value}" for name, value in measure.params.items())
        what = f"The workload {measure.workload}{f' ({params})' if params else ''}"
    return f"{what} ran on {', '.join(parts)}."


def _design(results: Results) -> str:
    runs, experiment = results.runs(), results.experiment
    if runs.empty:
        return ""
    factors = "; ".join(
        f"{_frames.WORDS.get(name, name)} {', '.join(_frames.level_text(level) for level in levels)}"
        for name, levels in experiment.factors.items()
    )
    counts = runs.groupby("cell_id").size()
    ends = " to ".join(dict.fromkeys(map(str, (counts.min(), counts.max()))))
    varied = f" ({factors})" if factors else ""
    order = f"in an order shuffled within each repetition (seed {results.info.get('seed', experiment.seed)})"
    return (
        f"{counts.size} combinations of levels{varied} were run {ends} times each, each run a fresh process, {order}."
    )


def _held(results: Results) -> str:
    runs = results.runs()
    invalid = int((~runs["valid"].astype(bool)).sum()) if len(runs) else 0
    fixed = results.experiment.set
    told = "; ".join(f"{_frames.WORDS.get(name, name)} {_frames.level_text(level)}" for name, level in fixed.items())
    held = f" Held: {told}." if told else ""
    left = f"{invalid} of {len(runs)} runs, in which it did not hold, were left out" if invalid else "it held in each"
    return f"That the treatment held was verified in every run from what the device itself reports; {left}.{held}"


def _judged(results: Results) -> str:
    rule = results.experiment.rule
    if rule is not None:
        return "Intervals are 95 % confidence sequences over repetitions, valid however often the data was looked at."
    return "Medians and 95 % intervals are over repetitions (order statistics; Hodges-Lehmann for paired comparisons)."


def _versions(results: Results) -> str:
    info = results.info
    hashes = ", ".join(f"{name} {sha[:12]}" for name, sha in dict(info.get("binaries") or {}).items())
    return f"devicelab {info.get('version', __version__)}" + (f"; programs by SHA-256: {hashes}." if hashes else ".")


def _cite(results: Results) -> str:
    started = results.info.get("start_unix_ns")
    year = str(dt.datetime.fromtimestamp(started / 1e9, dt.UTC).year) if started else "n.d."
    version = results.info.get("version", __version__)
    return f"Cite as: devicelab {version}, {_PROJECT}, campaign {results.campaign} ({year})."
