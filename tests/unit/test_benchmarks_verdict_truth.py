"""The benchmark of verdicts, in small: intervals hold what was planted, and below six repetitions nothing is said."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _verdict_parts as parts
from benchmarks import verdict_truth as truth

QUIET = {"insufficient n", "info", "inconclusive", "cannot tell here"}


@pytest.mark.parametrize("part", list(parts.PARTS))
def test_below_six_repetitions_no_part_has_an_interval_or_a_verdict(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_cached", lambda _: parts.Truth({"none": 1, parts.LOADED: 1}, _ANY))
    monkeypatch.setattr(parts, "_REQUEST_TRUTH", {"P50": 10.0, "P99": 20.0})
    seen = [one for number in (0, 3) for one in parts.PARTS[part](number, 5, np.random.default_rng(number))]
    assert seen
    for one in seen:
        if isinstance(one, parts.Held):
            assert (one.low, one.high) == (None, None)
        else:
            assert one.verdict in QUIET


_ANY = {load: dict.fromkeys(parts.KS, 1.0) for load in ("none", parts.LOADED)}


@pytest.mark.slow
def test_the_costs_and_ratios_of_planted_campaigns_are_held_by_their_intervals() -> None:
    """Of 48 intervals of L_s a fit that chooses batches by the delay it measures held 55 to 63%."""
    rows = truth.run("timestamps", 8, range(24))
    for row in ("Start on an idle GPU", "Cost of a flush", "T_prod under load / idle", "Best constant K"):
        assert rows[row]["held"] >= 0.87 * rows[row]["printed"]


def test_the_page_says_by_how_much_an_interval_is_conservative() -> None:
    said = {"verdicts": 500, "wrong": 1, "right": 450}
    kept = {
        "timestamps 6": {"Best constant K": {"asked": 500, "printed": 500, "held": 495}, "K differs": said},
        "timestamps 12": {"Best constant K": {"asked": 400, "printed": 400, "held": 380}},
    }
    page = truth.page(kept)
    assert "| Best constant K | 99.0 (+4.0) | 95.0 | 400 |" in page
    assert "| K differs | 0.2, 90 |  | 500 |" in page


def test_what_was_begun_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def counted(number: int, _repetitions: int, _rng: np.random.Generator) -> Iterator[parts.Seen]:
        ran.append(number)
        yield parts.Held("x", 1.0, 0.5, 2.0)

    monkeypatch.setattr(truth, "PARTS", {"timestamps": counted})
    for campaigns in ("3", "5"):
        monkeypatch.setattr(
            "sys.argv", ["x", "--campaigns", campaigns, "--repetitions", "6", "--keep", str(tmp_path / "kept")]
        )
        assert truth.main() == 0
    assert ran == [0, 1, 2, 3, 4]
    assert truth.numbers_of("requests", 3, 1) == [0, 1, 2, 3, 4, 8]
