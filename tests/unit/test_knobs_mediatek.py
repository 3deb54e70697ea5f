"""MediaTek's GPUs: what the driver says around a run, and what it says of the clock, prove that the clock was fixed."""

import board_trees
import pytest

from devicelab import knobs
from devicelab.model.device import Facts
from devicelab.model.journal import Samples
from tests import labdata

V2 = "/proc/gpufreqv2/fix_target_opp_index"
NOW = "/sys/kernel/ged/hal/current_freqency"


def phone() -> Facts:
    table = "[00] freq: 1100000, volt: 80000\n[01] freq: 848000, volt: 75000\n[02] freq: 265000, volt: 55000\n"
    nodes = {
        "/sys/devices/system/cpu/present": "0-7\n",
        "/proc/gpufreqv2/gpu_working_opp_table": table,
        V2: "[GPUFREQ-DEBUG] fixed OPP index is disabled\n",
        NOW: "2 265000\n",
    }
    return board_trees.facts("empty", change=dict(nodes))


FREE = "[GPUFREQ-DEBUG] fixed OPP index is disabled\n"


@pytest.mark.parametrize(
    ("around", "clocks", "codes"),
    [
        ("[GPUFREQ-DEBUG] fix OPP index: 1\n", ["1 848000"] * 10, []),
        ("[GPUFREQ-DEBUG] fixed OPP index is enabled\n[01] freq: 848000, volt: 75000\n", ["1 848000"] * 10, []),
        ("[GPUFREQ-DEBUG] fix GPU/STACK OPP index: 0/1\n", ["1 848000", "0 0"] * 10, []),
        ("[GPUFREQ-DEBUG] fix OPP index: 1\n", ["1 848000"] * 8 + ["2 265000"] * 2, ["gpu-frequency-not-held"]),
        ("[GPUFREQ-DEBUG] fix OPP index: 1\n", ["garbage", "", "1"], ["gpu-frequency-not-proven"]),
        ("[GPUFREQ-DEBUG] fix OPP index: 2\n", ["1 848000"] * 10, ["limits-changed"]),
        (FREE, ["1 848000"] * 10, ["limits-changed"]),
    ],
)
def test_what_the_driver_says_proves_the_clock(around: str, clocks: list[str], codes: list[str]) -> None:
    record = labdata.record("r", 0).model_copy(
        update={"before": {V2: around}, "after": {V2: around}, "samples": Samples(nodes={NOW: tuple(clocks)})}
    )
    assert [flag.code for flag in knobs.prove("gpu", 848000, phone(), record)] == codes


def test_a_mediatek_is_locked_through_its_own_driver() -> None:
    assert knobs.families("gpu", phone())[0] == "gpu_mediatek"
    steps = knobs.settings({"lock": "on"}, phone())["gpu"].steps
    assert [(step.path, step.value, step.restore) for step in steps if step.kind == "write"] == [(V2, "0", "-1")]
