"""GPU use while tenants run, by the driver's own gauge: "some kernel was running", not occupancy.

NVIDIA tells it through ``nvidia-smi`` (a witness of the run), AMD without a node through its own tools; amdgpu, Adreno
and Exynos Mali through a node that the agent samples. Of several NVIDIA cards the one on which the driver lists a
process of the run is taken: the busiest may be another user's. Where it lists none (in a container it has other pids)
and several cards work, no figure is given. Of several nodes the busiest is taken.
"""

import re
import statistics
from collections.abc import Collection, Sequence
from dataclasses import replace

from devicelab.experiment import amd_smi
from devicelab.experiment.energy import nvml
from devicelab.model.device import Facts
from devicelab.model.experiment import Experiment
from devicelab.model.journal import RunRecord
from devicelab.model.measurement import Measurement, Metric
from devicelab.model.plan import Witness

PROGRAM = "gpu use"
"""Under this name the readings are stored beside the tenants'."""

# amdgpu: Documentation/gpu/amdgpu/thermal.rst. Adreno (adreno_sysfs.c) says "NN %", Mali "NN%".
GLOBS = (
    "/sys/class/drm/card*/device/gpu_busy_percent",
    "/sys/class/kgsl/kgsl-3d0/gpu_busy_percentage",
    "/sys/kernel/gpu/gpu_busy",
)
_QUERY = "--query-gpu=index,utilization.gpu,clocks.sm,temperature.gpu,power.draw"
# Which card a process is on: cards by index, processes by card.
AMD = "amd gpu use"
CARDS, HOLDERS = "gpu cards", "gpu programs"
_QUERIES = {CARDS: "--query-gpu=index,uuid", HOLDERS: "--query-compute-apps=pid,gpu_uuid"}
_COLUMNS = {"gpu_use_pct": "pct", "gpu_sm_mhz": "MHz", "gpu_temperature_c": "C", "gpu_power_w": "W"}


def nodes(facts: Facts) -> tuple[str, ...]:
    """Nodes of the device that tell its GPU's use."""
    return tuple(path for pattern in GLOBS for path in facts.tree.glob(pattern) if facts.tree.text(path) is not None)


# $1: seconds of the gauge, $2: seconds of the energy counter, $3: Python, $4: its script, then the gauge's words. The
# counter's lines stand apart from the gauge's, and where there is no such Python or counter it prints none.
_BOTH = """
seconds=$1 longer=$2 python=$3 script=$4; shift 4
timeout "$((longer + 5))" "$python" -c "$script" "$longer" 2>/dev/null &
timeout "$seconds" "$@"; code=$?
wait; exit $code
"""


def witnesses(facts: Facts, duration_s: float, python: str = "python3") -> tuple[Witness, ...]:
    """Which cards the processes are on, then NVIDIA's gauge, twice a second, and its energy counter.

    They end before the tenants do.
    """
    if facts.board.kind == "amd-server" and not nodes(facts):
        seconds = max(1, int(duration_s) - 4)
        look = ("sh", "-c", amd_smi.LOOK, "sh", str(seconds))
        return (Witness(name=AMD, argv=look, timeout_ms=(seconds + 10) * 1000),)
    if facts.board.kind != "nvidia-server":
        return ()
    seconds, longer = max(1, int(duration_s) - 4), max(1, int(duration_s) - 2)
    smi = ("nvidia-smi", _QUERY, "--format=csv,noheader,nounits", "-lms", "500")
    argv = ("sh", "-c", _BOTH, "sh", str(seconds), str(longer), python, nvml.SAMPLER, *smi)
    return (
        *(Witness(name=name, argv=("nvidia-smi", query, "--format=csv,noheader")) for name, query in _QUERIES.items()),
        Witness(name=PROGRAM, argv=argv, timeout_ms=(longer + 10) * 1000),
    )


def read(record: RunRecord, experiment: Experiment | None = None) -> Measurement | None:
    """Means over a run's window, ``None`` if nothing told the GPU's use; with an experiment also the card's power."""
    for witness in record.witnesses:
        if witness.name == AMD:
            use = amd_smi.use_pct(witness.stdout)
            return None if use is None else Measurement(metrics={"gpu_use_pct": Metric(use, "pct")})
        if witness.name == PROGRAM:
            cards = _cards(record)
            got = parse(witness.stdout, cards)
            if experiment is not None:
                power = nvml.powers(witness.stdout, cards, record.window_start_ns, experiment)
                if power:
                    got = replace(got or Measurement(), metrics={**(got.metrics if got else {}), **power})
            return got
    gauges = [_texts(texts) for path, texts in record.samples.nodes.items() if _is_gauge(path)]
    means = [statistics.fmean(values) for values in gauges if values]
    return Measurement(metrics={"gpu_use_pct": Metric(max(means), "pct")}) if means else None


def _cards(record: RunRecord) -> frozenset[str]:
    """Indices of the cards on which the driver lists a process of the run, or the MPS server that works for them."""
    texts = {witness.name: witness.stdout for witness in record.witnesses if witness.exit_code == 0}
    pids = {str(result.pid) for result in record.programs}
    pids |= set(re.findall(r"^server (\d{1,10})$", texts.get("mps clients", ""), re.MULTILINE))
    held = {card for pid, card in _pairs(texts.get(HOLDERS, "")) if pid in pids}
    return frozenset(index for index, card in _pairs(texts.get(CARDS, "")) if card in held)


def _pairs(text: str) -> list[tuple[str, str]]:
    words = (line.split(",") for line in text.splitlines())
    return [(one[0].strip(), one[1].strip()) for one in words if len(one) == 2]


def parse(text: str, ours: Collection[str] = ()) -> Measurement | None:
    """What ``nvidia-smi`` printed: means over the lines of the busiest card; a figure it does not know is left out.

    Args:
        text: its output.
        ours: indices of the cards that the run's processes are on; if they are not known, nothing is told of several
            cards that work.
    """
    cards: dict[str, list[list[float | None]]] = {}
    for line in text.splitlines():
        index, *values = (word.strip() for word in line.split(","))
        if len(values) == len(_COLUMNS) and re.fullmatch(r"[0-9]{1,4}", index):
            cards.setdefault(index, []).append([_number(value) for value in values])
    best: tuple[float, str, dict[str, Metric]] | None = None
    working = 0
    for index, rows in cards.items():
        if ours and index not in ours:
            continue
        metrics = {}
        for name, column in zip(_COLUMNS, zip(*rows, strict=True), strict=True):
            known = [value for value in column if value is not None]
            if known:
                metrics[name] = Metric(statistics.fmean(known), _COLUMNS[name])
        working += "gpu_use_pct" in metrics and metrics["gpu_use_pct"].value > 0
        if "gpu_use_pct" in metrics and (best is None or metrics["gpu_use_pct"].value > best[0]):
            best = (metrics["gpu_use_pct"].value, index, metrics)
    if best is None or (working > 1 and not ours):
        return None
    return Measurement(metrics=best[2], info={"gpu_index": int(best[1])})


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else None


def _texts(texts: Sequence[str | None]) -> list[float]:
    numbers = (_number((text or "").replace("%", "").strip()) for text in texts)
    return [number for number in numbers if number is not None]


def _is_gauge(path: str) -> bool:
    return any(re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]*"), path) for pattern in GLOBS)
