"""Energy of a whole NVIDIA card while tenants work, from the driver's cumulative counter (NVML, since Volta).

The counter is the card's: every tenant, every other program on it, and what it takes idle. What it takes idle is read
in the pauses between windows, while the tenants are loaded and nobody works. Source: NVML reference,
nvmlDeviceGetTotalEnergyConsumption (millijoules since the driver was loaded).
"""

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from devicelab.model.experiment import Experiment
from devicelab.model.measurement import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Prints lines ``energy,CARD,ns,mJ``, 20 KB at most; where there is no counter it prints nothing.
# sys.argv: seconds to go on for.
SAMPLER = """
import ctypes, sys, time
nvml, seconds = ctypes.CDLL("libnvidia-ml.so.1"), float(sys.argv[1])
count, cards = ctypes.c_uint(), []
if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
    sys.exit(1)
for index in range(count.value):
    card = ctypes.c_void_p()
    if not nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(card)):
        cards.append((index, card))
pause = max(0.1, seconds * len(cards) / 450)
end = time.monotonic() + seconds
while time.monotonic() < end:
    for index, card in cards:
        energy = ctypes.c_ulonglong()
        if not nvml.nvmlDeviceGetTotalEnergyConsumption(card, ctypes.byref(energy)):
            print(f"energy,{index},{time.monotonic_ns()},{energy.value}", flush=True)
    time.sleep(pause)
"""

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
