"""Energy of whole NVIDIA cards from the driver's cumulative counter (NVML, since Volta).

The counter is the card's: the run's programs, every other program on it, and what it takes idle. Beside tenants it is
read by a witness (``SAMPLER``): what a card takes idle is read in the pauses between windows, while the tenants are
loaded and nobody works. Of a program that is measured alone it is a node like any other: a helper that a step of the
run starts (``step``) writes the counters into a file, and the agent samples that, idle and in the window. Source: NVML
reference, nvmlDeviceGetTotalEnergyConsumption (millijoules since the driver was loaded).
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from devicelab.model.experiment import Experiment
from devicelab.model.journal import StepResult
from devicelab.model.measurement import Metric
from devicelab.model.plan import Command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CARDS = """
import ctypes, sys, time
nvml = ctypes.CDLL("libnvidia-ml.so.1")
count, cards = ctypes.c_uint(), []
if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
    sys.exit("NVML does not answer")
for index in range(count.value):
    card = ctypes.c_void_p()
    if not nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(card)):
        cards.append((index, card))
"""

# Prints lines ``energy,CARD,ns,mJ``, 20 KB at most; where there is no counter it prints nothing.
# sys.argv: seconds to go on for.
SAMPLER = (
    _CARDS
    + """
seconds = float(sys.argv[1])
pause = max(0.1, seconds * len(cards) / 450)
end = time.monotonic() + seconds
while time.monotonic() < end:
    for index, card in cards:
        energy = ctypes.c_ulonglong()
        if not nvml.nvmlDeviceGetTotalEnergyConsumption(card, ctypes.byref(energy)):
            print(f"energy,{index},{time.monotonic_ns()},{energy.value}", flush=True)
    time.sleep(pause)
"""
)

# sys.argv: the file, seconds between two readings, and who its parent may be: it ends when those are gone. Lines of one
# width are overwritten in place, since a reader keeps the file open; each ends with a sum, for a read that falls into a
# write. A card without the counter has none.
_WRITER = (
    _CARDS
    + """
import os
path, pause, ours = sys.argv[1], float(sys.argv[2]), {int(one) for one in sys.argv[3:]}
file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
lines, energy = {}, ctypes.c_ulonglong()
while os.getppid() in ours:
    for index, card in cards:
        if not nvml.nvmlDeviceGetTotalEnergyConsumption(card, ctypes.byref(energy)):
            now = time.monotonic_ns()
            lines[index] = f"{index:4d} {now:19d} {energy.value:19d} {now + energy.value:20d}\\n"
    if not lines:
        sys.exit("no card here counts its energy")
    os.pwrite(file, "".join(lines[index] for index in sorted(lines)).encode(), 0)
    time.sleep(pause)
"""
)

# $1: a folder for this run alone, $2: Python, $3: the helper, $4: seconds between two readings.
_START = r"""
mkdir -m 700 "$1" 2>/dev/null || { [ -O "$1" ] && [ -d "$1" ] && [ ! -L "$1" ]; } || { echo "$1 is taken" >&2; exit 1; }
rm -f "$1/energy"
setsid "$2" -c "$3" "$1/energy" "$4" $$ "$PPID" </dev/null >/dev/null 2>"$1/said" & p=$!
s=$(cat "/proc/$p/stat" 2>/dev/null) && set -- "$1" ${s##*)} && echo "$p ${21}" >"$1/pid"
n=0
until [ -s "$1/energy" ]; do
  n=$((n + 1))
  [ -d "/proc/$p" ] && [ $n -lt 100 ] || { tail -n 1 "$1/said" | head -c 300 >&2; exit 1; }
  sleep 0.1
done
"""
# $1: the folder. Ends that helper and nothing else.
_STOP = r"""
[ -O "$1" ] && [ ! -L "$1" ] || exit 0
started() {
  s=$(cat "/proc/$1/stat" 2>/dev/null) && set -- ${s##*)} && case $1 in [ZX]) ;; *) echo "${20}" ;; esac
}
if read -r p begun 2>/dev/null <"$1/pid"; then
  [ "$(started "$p")" = "$begun" ] && kill -KILL "$p"
  n=0; while [ "$(started "$p")" = "$begun" ] && [ $n -lt 50 ]; do n=$((n + 1)); sleep 0.1; done
fi
rm -f "$1/energy" "$1/pid" "$1/said" && rmdir "$1"
"""
# Starting the driver on a machine that nobody uses takes seconds.
_START_MS = 20_000

NODE = re.compile(r"/dev/shm/devicelab-[0-9a-f]{1,64}/energy")  # noqa: S108 - a folder that nobody else may enter
"""The file that the helper writes, among the nodes of a run."""
_COUNTED = re.compile(r"^ *([0-9]{1,4}) +([0-9]{1,19}) +([0-9]{1,19}) +([0-9]{1,20})$", re.MULTILINE)


def step(name: str, python: str, sample_hz: float) -> tuple[Command, str]:
    """Starts the helper under a name of its own (hexadecimal), its undo ends it; and the node to be sampled.

    Without Python, NVML or a counter there is no node, and what was missing is in the step's output.
    """
    folder = f"/dev/shm/devicelab-{name}"  # noqa: S108 - made by the step, for this user alone, or not at all
    command = Command(
        do=("sh", "-c", _START, "sh", folder, python, _WRITER, f"{0.5 / sample_hz:.4f}"),
        undo=("sh", "-c", _STOP, "sh", folder),
        why="NVML's energy counters as a node, for whole cards",
        required=False,
        timeout_ms=_START_MS,
    )
    return command, f"{folder}/energy"


def missing(steps: Sequence[StepResult]) -> str:
    """Why the helper of a run told nothing; empty if it was none of its steps, or worked."""
    for one in steps:
        if one.do and _START in one.do and not one.held:
            return (one.output or "").strip() or "NVML's helper did not start"
    return ""


def counters(texts: Sequence[str | None]) -> Mapping[str, Mapping[int, float]]:
    """Of each card the time (ns, CLOCK_MONOTONIC) and joules of every reading; a torn one is left out."""
    cards: dict[str, dict[int, float]] = {}
    for text in texts:
        for card, at, millijoules, both in _COUNTED.findall(text or ""):
            if int(at) + int(millijoules) == int(both):
                cards.setdefault(f"card{card}", {})[int(at)] = int(millijoules) * 1e-3
    return cards


_LINE = re.compile(r"^energy,([0-9]{1,4}),([0-9]{1,19}),([0-9]{1,19})$", re.MULTILINE)
# After a window its last request may still run, and the counter is renewed every 0.1 s or so.
_SETTLED_NS = 200_000_000
_LEAST_NS = 200_000_000
# Of the windows' time the counter has to cover at least this share.
_COVERED = 0.5


def powers(text: str, cards: Collection[str], start_ns: int, experiment: Experiment) -> dict[str, Metric]:
    """Mean power of the card the tenants are on: ``card_w`` in the windows, ``card_idle_w`` in the pauses between.

    Args:
        text: what the sampler printed.
        cards: indices of the cards that the run's processes are on; empty: not known, then there has to be one card.
        start_ns: common start of the tenants, on the sampler's clock.
        experiment: whose windows they are.
    """
    import numpy as np

    samples: dict[str, list[tuple[int, int]]] = {}
    for index, at, energy in _LINE.findall(text):
        if not cards or index in cards:
            samples.setdefault(index, []).append((int(at), int(energy)))
    if len(samples) != 1 or start_ns <= 0:
        return {}
    rows = np.array(sorted(next(iter(samples.values()))), dtype=np.int64)
    if len(rows) < 2 or np.any(np.diff(rows[:, 1]) < 0):
        return {}
    windows, pauses = list(_windows(start_ns, experiment)), list(_pauses(start_ns, experiment))
    busy_ns, busy_mj = _over(rows, windows)
    idle_ns, idle_mj = _over(rows, pauses)
    found = {}
    if busy_ns >= _COVERED * sum(end - begin for begin, end in windows):
        found["card_w"] = Metric(busy_mj / busy_ns * 1e6, "W")
    if idle_ns >= _LEAST_NS:
        found["card_idle_w"] = Metric(idle_mj / idle_ns * 1e6, "W")
    return found


def _windows(start_ns: int, experiment: Experiment) -> Iterator[tuple[int, int]]:
    length, pause = round(experiment.duration_s * 1e9), round(experiment.pause_s * 1e9)
    for number in range(experiment.windows):
        begin = start_ns + number * (length + pause)
        yield begin, begin + length


def _pauses(start_ns: int, experiment: Experiment) -> Iterator[tuple[int, int]]:
    pause = round(experiment.pause_s * 1e9)
    for _, end in list(_windows(start_ns, experiment))[:-1]:
        if pause > _SETTLED_NS:
            yield end + _SETTLED_NS, end + pause


def _over(rows: "NDArray[np.int64]", spans: list[tuple[int, int]]) -> tuple[float, float]:
    """Time and energy of the spans as far as samples cover them, interpolated between samples."""
    import numpy as np

    first, last = int(rows[0, 0]), int(rows[-1, 0])
    ns = mj = 0.0
    base = int(rows[0, 1])
    for begin, end in spans:
        low, high = max(begin, first), min(end, last)
        if high > low:
            at = np.interp([low - first, high - first], rows[:, 0] - first, (rows[:, 1] - base).astype(float))
            ns, mj = ns + high - low, mj + float(at[1] - at[0])
    return ns, mj
