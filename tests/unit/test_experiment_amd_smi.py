"""What AMD's tools print of the GPU's use, in the forms of several versions; read in issues and sources, never run."""

import json
from typing import Any

import pytest

from devicelab.experiment import amd_smi, gauge
from devicelab.model.journal import WitnessResult
from devicelab.model.tree import Node
from tests.tenantdata import place, record

PERCENT = {"value": 42, "unit": "%"}


def card(number: int, use: Any) -> dict[str, Any]:
    usage = {"gfx_activity": use, "umc_activity": {"value": 1, "unit": "%"}, "vcn_activity": [PERCENT, "N/A"]}
    return {"gpu": number, "usage": usage}


FORMS = {
    "amd-smi 6": json.dumps([card(0, PERCENT), card(1, {"value": 7, "unit": "%"})]),
    "amd-smi 7": json.dumps({"gpu_data": [card(0, PERCENT)]}),
    "amd-smi as text": json.dumps([card(0, "42 %"), card(1, "N/A")]),
    "amd-smi with a note before": "'CTRL' + 'C' to stop watching output:\n" + json.dumps([card(0, PERCENT)], indent=4),
    "rocm-smi": json.dumps({"card0": {"GPU use (%)": "42"}, "card1": {"GPU use (%)": "0"}}),
    "rocm-smi with the system": json.dumps({"card0": {"GPU use (%)": "42"}, "system": {"Driver version": "6.12"}}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_tells_the_use_of_the_busiest_card(form: str) -> None:
    assert amd_smi.use_pct(f"{FORMS[form]}\n-- end\n") == 42


def test_readings_are_averaged_and_what_is_none_is_left_out() -> None:
    text = "".join(f"{json.dumps([card(0, f'{use} %')])}\n-- end\n" for use in (100, 50, "N/A"))
    assert amd_smi.use_pct(text + "Segmentation fault\n-- end\n") == 75


@pytest.mark.parametrize(
    "text",
    ["", "-- end\n", "[" * 100_000, "{}", "[1]", '[{"gpu": 0, "usage": "N/A"}]', json.dumps([card(0, True)]),
     json.dumps([card(0, 4711)]), json.dumps({"card0": {"GPU use (%)": "many"}}), json.dumps({"gpu_data": 5})],
)  # fmt: skip
def test_what_says_nothing_gives_no_figure(text: str) -> None:
    assert amd_smi.use_pct(text) is None


def test_the_tools_are_asked_only_where_the_kernel_shows_no_gauge() -> None:
    (witness,) = gauge.witnesses(place("amd-server").facts, 20)
    assert witness.name == gauge.AMD
    node = Node(path="/sys/class/drm/card1/device/gpu_busy_percent", text="3\n")
    assert gauge.witnesses(place("amd-server", nodes=(node,)).facts, 20) == ()
    said = WitnessResult(name=gauge.AMD, exit_code=0, stdout=FORMS["rocm-smi"] + "\n-- end\n")
    got = gauge.read(record({"high": 5}).model_copy(update={"witnesses": (said,)}))
    assert got is not None
    assert got.metrics["gpu_use_pct"].value == 42
