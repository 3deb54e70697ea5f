"""Campaigns side by side: the sentence says what moved, rows have units one reads, several make a matrix."""

import re
from pathlib import Path
from typing import Any

import pytest

from devicelab.compare.campaigns import Comparison, Shift, TargetShift
from devicelab.model.campaign import CampaignInfo
from devicelab.report import comparison
from devicelab.report.labels import cell_words


def shift(verdict: Any, effect: float = 1.0, **more: Any) -> Shift:
    fields: dict[str, Any] = {
        "where": "load=none, k=4", "metric": "total_ns", "unit": "ns", "a": 5.37e6, "b": 5.37e6 * effect,
        "n_a": 6, "n_b": 8, "kind": "ratio", "effect": effect, "low": effect * 0.98, "high": effect * 1.02,
        "verdict": verdict, **more,
    }  # fmt: skip
    return Shift(**fields)


def done(*shifts: Shift, targets: tuple[TargetShift, ...] = ()) -> Comparison:
    return Comparison("a-1", "b-2", (), (), (), shifts, targets)


@pytest.mark.parametrize(
    ("compared", "said"),
    [
        (
            done(shift("yes", 1.12), shift("yes", 0.5), shift("no"), shift("inconclusive")),
            (
                "In B the time of an inference when idle, K = 4 is 0.5 times that of A [0.49, 0.51] "
                "(2.685 ms instead of 5.37 ms; n = 6, 8). 2 of 4 figures differ, 1 does not, 1 is not decided."
            ),
        ),
        (
            done(shift("no"), shift("no")),
            "No difference that matters: all 2 figures are the same within the tolerance.",
        ),
        (
            done(shift("insufficient n", low=None, high=None)),
            "No difference is shown. 0 of 1 figures differ, 1 is not decided.",
        ),
        (
            done(targets=(TargetShift("high, mps", "p99_ms < 30", "pass", "fail", "regressed"),)),
            "Of 1 target 1 regressed. The campaigns have no figure in common.",
        ),
        (
            done(shift("yes", -12.5, kind="shift", unit="pct", metric="share_pct", a=50.0, b=37.5, low=-14, high=-11)),
            (
                "In B the share when idle, K = 4 is 12.5 % less than in A (37.5 % instead of 50 %; n = 6, 8). "
                "1 of 1 figures differs."
            ),
        ),
    ],
)  # fmt: skip
def test_the_sentence_says_what_moved(compared: Comparison, said: str) -> None:
    assert comparison.summary(compared).replace("\N{NO-BREAK SPACE}", " ") == said


def test_rows_stand_by_verdict_with_the_largest_change_first_and_units_for_people() -> None:
    found = comparison.groups(done(shift("no"), shift("yes", 1.1), shift("yes", 0.5)))
    assert [group.verdict for group in found] == ["yes", "no"]
    assert [row.change for row in found[0].rows] == ["0.5 times [0.49, 0.51]", "1.1 times [1.08, 1.12]"]
    assert found[0].rows[0].a == "5.37\N{NO-BREAK SPACE}ms"


def info(name: str) -> CampaignInfo:
    return CampaignInfo.model_construct(campaign=name, experiment="<b>klo</b>", device="note|10")


def test_markdown_for_a_pull_request_escapes_what_a_device_says() -> None:
    text = comparison.markdown(done(shift("yes", 1.1, where="load=<img>|x")), info("a-1"), info("b-2"))
    assert "<b>" not in text
    assert "<img>" not in text
    rows = [line for line in text.splitlines() if line.startswith("| time of an inference")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 7


def test_several_campaigns_make_a_matrix_that_can_be_sorted(tmp_path: Path) -> None:
    every = [done(shift("yes", 1.1), shift("no", where="k=1")), done(shift("yes", 1.3))]
    table = comparison.matrix(every)
    assert [one is None for row in table for one in row.others] == [False, False, False, True]
    page = comparison.write_page(every, [info("a"), info("b"), info("c")], tmp_path / "page.html").read_text("utf-8")
    assert 'id="matrix-table" class="sortable"' in page
    assert 'data-value="1.3"' in page
    assert "<b>klo" not in page
    assert "script-src 'sha256-" in page


def test_a_cell_is_called_as_findings_call_it() -> None:
    assert cell_words("load=none, k=4") == "idle, K = 4"
    assert cell_words("load=1000 5000 20, placement=one-big, k=0") == "load 1000 5000 20 one-big, one flush"
    assert cell_words("high, mps at pressure batch:8") == "high, mps at pressure batch:8"
