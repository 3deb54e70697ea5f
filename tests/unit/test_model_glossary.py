"""The words of pages."""

import re
from pathlib import Path

import pytest

from devicelab.model.glossary import figure_words

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("metric", "unit", "words"),
    [
        ("total_ns", "ns", "time of an inference"),
        ("t_prod_median_ns", "ns", "T_prod, median"),
        ("response_p99_ns", "ns", "response time P99"),
        ("frame_p50_ns", "ns", "frame time P50"),
        ("energy_net_j", "J", "energy, net of idle"),
        ("gpu_use_pct", "pct", "GPU use"),
        ("k", "1", "K"),
        ("tokens_per_s", "1/s", "tokens_per_s"),
        ("latency_p50_ns", "ns", "latency P50"),
        ("_ns", "ns", "_ns"),
        ("step_p", "1", "step_p"),
    ],
)
def test_a_figures_name_is_read_without_the_source_and_a_users_own_stays(metric: str, unit: str, words: str) -> None:
    assert figure_words(metric, unit) == words


def test_every_figure_of_our_own_workloads_that_is_no_english_has_words() -> None:
    source = "\n".join(path.read_text() for path in sorted((ROOT / "devicelab" / "workloads").glob("*.py")))
    own = re.findall(r'metrics\["(\w+?)(?:_(?:ns|pct))?"\]', source)
    assert {"t_prod_median", "wait_for_flush_mean", "planning"} <= set(own)
    assert [name for name in own if "_" in figure_words(name, "1").replace("T_prod", "").replace("T_ker", "")] == []
