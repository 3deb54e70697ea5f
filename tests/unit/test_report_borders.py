"""Words and numbers of pages at their bounds: where a unit, a plural, a rounding or a sentence changes."""

import math
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.compare.campaigns import Comparison, Shift, TargetShift
from devicelab.model.campaign import CampaignInfo
from devicelab.model.experiment import Finding
from devicelab.model.journal import Flag
from devicelab.report import beside, clean, comparison, headline, labels
from devicelab.report.units import between, clock, interval, number, quantity, scale

# --- numbers -------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", "_")


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        *(("ns", 1.0, "1 ns"), ("ns", 999.0, "999 ns"), ("ns", 1000.0, "1 µs"), ("ns", 1e6 - 1, "1_000 µs")),
        *(
            ("ns", 1e6, "1 ms"),
            ("ns", 1e9 - 1e6, "999 ms"),
            ("ns", 1e9, "1 s"),
            ("ns", 0.5, "0.5 ns"),
            ("ns", 0.0, "0 ns"),
        ),
        *(("khz", 999.0, "999 kHz"), ("khz", 1000.0, "1 MHz"), ("kHz", 1e6, "1 GHz"), ("b", 1023.0, "1_023 B")),
        *(("b", 1024.0, "1 KiB"), ("b", 2.0**20, "1 MiB"), ("b", 2.0**30, "1 GiB"), ("ns", -2e6, "−2 ms")),
        *(("kernels", 1.0, "1 kernel"), ("kernels", 2.0, "2 kernels"), ("1", 3.0, "3"), ("ns", math.inf, "∞ ns")),
        *(("ns", math.nan, "–"), ("ns", None, "–")),
    ],
)
def test_a_unit_is_the_largest_of_which_there_is_one(unit: str, value: float | None, text: str) -> None:
    assert plain(quantity(value, unit)) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        *((999_999_999.0, 4, "999_999_999"), (1e9, 4, "1.000e+09"), (1e-4, 4, "0.0001"), (9.9e-5, 4, "9.900e−05")),
        *((-math.inf, 4, "−∞"), (1.0, 1, "1"), (1.26, 2, "1.3"), (12.3456, 3, "12.3"), (1000.0, 3, "1_000")),
        *((0.012346, 3, "0.0123"), (-0.5, 4, "−0.5"), (100.04, 4, "100"), (1.5e-7, 2, "1.5e−07")),
    ],
)
def test_a_number_has_so_many_digits_that_say_something(value: float, digits: int, text: str) -> None:
    assert plain(number(value, digits)) == text


@given(st.floats(1e-4, 9e8), st.integers(3, 6))
def test_a_shown_number_is_the_number_within_its_digits(value: float, digits: int) -> None:
    shown = float(plain(number(value, digits)).replace("_", "").replace("−", "-"))
    assert shown == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits))


def test_ranges_are_in_the_unit_of_their_larger_end() -> None:
    assert plain(interval(-2e6, 1e3, "ns")) == "[−2, 0.001] ms"
    assert plain(interval(1.23456, 2.0, "1", 3)) == "[1.23, 2]"
    assert interval(1.0, 2.0, "x idle") == "[1, 2]", "several words are said at the estimate"
    for ends in ((None, 1.0), (1.0, None), (math.nan, 1.0), (1.0, math.nan)):
        assert interval(*ends, "ns") == ""
    assert [plain(between(*ends, "ns", 3)) for ends in ((1.0, 2000.0), (1000.4, 1000.0))] == ["0.001–2 µs", "1 µs"]
    assert scale("ns", [math.nan, math.inf]) == (1.0, "ns")
    assert scale("ns", []) == (1.0, "ns")
    assert (clock(1.8e18), clock(1e30)) == ("2027-01-15 08:00:00", "1.000e+21 s")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "1 kB"),
        (1, "1 kB"),
        (1500, "2 kB"),
        (2600, "3 kB"),
        (99_999, "100 kB"),
        (100_000, "0.1 MB"),
        (2_500_000, "2.5 MB"),
    ],
)
def test_a_file_s_size_is_told_in_kilobytes_then_in_megabytes(size: int, text: str) -> None:
    assert beside._size(size) == text


@pytest.mark.parametrize(
    "text", ["a", "A", "con", "com1.x", "", "...", "x" * 60, "x" * 61, "a b", "-a", "ä", "a.b_c-1", "aux.x"]
)
def test_a_page_is_called_like_its_text_or_with_a_piece_of_its_hash(text: str) -> None:
    name = clean.page_name(text)
    same = text in {"a", "x" * 60, "a.b_c-1"}
    assert (name == text) is same
    if not same:
        stem, _, piece = name.rpartition("-")
        assert len(piece) == 10
        assert stem
        assert len(stem) <= 60
        assert not clean._RESERVED.fullmatch(name)
    assert name == name.lower()


def test_labels_say_what_not_all_of_them_say() -> None:
    assert labels.apart(["a=1, b=2", "a=1, b=3"]) == {"a=1, b=2": "b=2", "a=1, b=3": "b=3"}
    assert labels.apart(["a=1, b=2"]) == {"a=1, b=2": "a=1, b=2"}
    assert labels.apart(["a=1", "a=1, b=3"]) == {"a=1": "a=1", "a=1, b=3": "b=3"}
    assert labels.apart([]) == {}


# --- comparisons ---------------------------------------------------------------------------------------------------


def shift(verdict: Any, effect: float = 1.0, **more: Any) -> Shift:
    fields: dict[str, Any] = {
        "where": "k=1", "metric": "total_ns", "unit": "ns", "a": 2e6, "b": 2e6 * effect, "n_a": 6, "n_b": 8,
        "kind": "ratio", "effect": effect, "low": None, "high": None, "verdict": verdict, **more,
    }  # fmt: skip
    return Shift(**fields)


def done(*shifts: Shift, **more: Any) -> Comparison:
    return Comparison(**{"a": "a", "b": "b", "changes": (), "only_a": (), "only_b": (), "shifts": shifts, **more})


def apart_by(effect: float, **more: Any) -> Shift:
    return shift("yes", effect, kind="shift", **more)


@pytest.mark.parametrize(
    ("shifts", "said"),
    [
        ([shift("no")], "No difference that matters: the one figure is the same within the tolerance."),
        ([shift("no")] * 2, "No difference that matters: all 2 figures are the same within the tolerance."),
        (
            [shift("no"), shift("no"), shift("inconclusive"), shift("insufficient n")],
            "No difference is shown. 0 of 4 figures differ, 2 do not, 2 are not decided.",
        ),
        ([shift("inconclusive")], "No difference is shown. 0 of 1 figures differ, 1 is not decided."),
        (
            [shift("yes", 1.5), shift("yes", 0.5), shift("no")],
            (
                "In B the time of an inference at K = 1 is 0.5 times that of A (1 ms instead of 2 ms; n = 6, 8). "
                "2 of 3 figures differ, 1 does not."
            ),
        ),
        (
            [apart_by(0.0)],
            (
                "In B the time of an inference at K = 1 is 0 ns more than in A (0 ns instead of 2 ms; n = 6, 8). "
                "1 of 1 figures differs."
            ),
        ),
        (
            [apart_by(-1.23456e6, b=765_440.0)],
            (
                "In B the time of an inference at K = 1 is 1.23 ms less than in A "
                "(765.4 µs instead of 2 ms; n = 6, 8). "
                "1 of 1 figures differs."
            ),
        ),
    ],
)
def test_a_comparison_is_told_in_one_sentence(shifts: list[Shift], said: str) -> None:
    assert plain(comparison.summary(done(*shifts))) == said


def test_outcomes_of_targets_are_counted_worst_first() -> None:
    outcomes: list[Any] = ["kept", "fixed", "kept", "regressed"]
    targets = tuple(TargetShift("w", "t", "pass", "pass", outcome) for outcome in outcomes)
    assert comparison.summary(done(targets=targets)).startswith("Of 4 targets 1 regressed, 1 fixed, 2 kept. ")
    assert comparison.summary(done(targets=targets[:1])).startswith("Of 1 target 1 kept. ")
    assert [one.outcome for one in done(targets=targets).regressed] == ["regressed"]


@pytest.mark.parametrize(
    ("one", "size", "text"),
    [
        (shift("yes", 2.0, low=1.23456, high=3.0), 2.0, "2 times [1.23, 3]"),
        (shift("yes", 0.25), 4.0, "0.25 times"),
        (shift("yes", 1.23456), 1.23456, "1.23 times"),
        (shift("yes", 0.0), 0.0, "0 times"),
        (shift("yes", -1.0), 0.0, "−1 times"),
        (apart_by(1e6, low=5e5, high=1.5e6), 1.5, "+1 ms [0.5, 1.5] ms"),
        (apart_by(-1e6), 1.5, "−1 ms"),
        (apart_by(0.0), 1.0, "+0 ns"),
        (apart_by(5.0, a=0.0), 1.0, "+5 ns"),
        (apart_by(1.0, a=-4.0), 1.25, "+1 ns"),
    ],
)
def test_a_change_has_a_size_to_be_sorted_by_and_words(one: Shift, size: float, text: str) -> None:
    assert comparison._size(one) == pytest.approx(size)
    assert plain(comparison.change_text(one)) == text


def info(name: str) -> CampaignInfo:
    return CampaignInfo.model_construct(campaign=name, experiment="e", device="d")


def test_markdown_of_a_comparison_is_what_it_was() -> None:
    rows = [shift("yes", 1 + n / 100, where=f"k={n}") for n in range(42)]
    whole = done(
        *rows, shift("no", metric="b_ns"), changes=(SimpleNamespace(what="kernel", a="1", b=""),), only_a=("x", "y"),
        targets=(TargetShift("high", "p99_ms < 5", "pass", "fail", "regressed"),), simulated=True,
    )  # fmt: skip
    lines = [plain(line) for line in comparison.markdown(whole, info("a"), info("b")).split("\n")]
    assert lines[0] == "## e on d, b against e on d, a"
    assert lines[1] == lines[3] == lines[5] == lines[7] == lines[-1] == ""
    assert lines[2].endswith("** (simulated)")
    assert lines[4] == "Not the same besides: kernel: 1 → –."
    assert lines[6] == "Only in A: x; y."
    assert lines[8:12] == [
        "| Outcome | Where | Target | A | B |", "|---|---|---|---|---|",
        "| **regressed** | high | p99\\_ms \\< 5 | pass | fail |", "",
    ]  # fmt: skip
    assert lines[12:16] == [
        "### Differs",
        "",
        "| Figure | Where | A | B | B against A \\[95 %\\] | n |".replace("\\", ""),
        lines[15],
    ]
    assert lines[16].startswith("| time of an inference | K = 41 |")
    assert lines[55].startswith("| time of an inference | K = 2 |")
    assert lines[56:60] == ["", "and 2 more", "", "<details><summary>No difference that matters (1)</summary>"]
    assert lines[-3:] == ["", "</details>", ""]
    short = comparison.markdown(done(*rows[:40]), info("a"), info("b"))
    assert "more" not in short
    assert "(simulated)" not in short
    assert "Only in" not in short
    assert "Not the same" not in short
    assert "Outcome" not in short
    assert not short.endswith("\n\n")


def test_a_matrix_has_every_figure_of_every_campaign_against_the_first() -> None:
    every = [done(shift("yes", 1.5), shift("no", metric="b_ns", where="k=2")), done(shift("no", where="k=3", a=8e6))]
    found = comparison.matrix(every)
    assert [(row.where, row.figure, plain(row.base), [one is None for one in row.others]) for row in found] == [
        ("K = 1", "time of an inference", "2 ms", [False, True]), ("K = 2", "b", "2 ms", [False, True]),
        ("K = 3", "time of an inference", "8 ms", [True, False]),
    ]  # fmt: skip
    assert [comparison._names(count) for count in (1, 2, 3)] == [["B"], ["B1", "B2"], ["B1", "B2", "B3"]]


# --- headlines -----------------------------------------------------------------------------------------------------


def answer(**more: Any) -> Finding:
    fields: dict[str, Any] = {
        "analysis": "answer",
        "claim": "Does the load change the time?",
        "verdict": "inconclusive",
    }
    return Finding.model_validate({**fields, "comparison": "a / idle", "unit": "1", "n": 6, **more})


DIFFERS = "; it differs, by enough to matter or not"


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [
        *((0.96, 1.02, "1", ", no difference larger than 4 %"), (0.98, 1.0299, "1", ", no difference larger than 3 %")),
        *((0.9, 1.0, "1", DIFFERS), (1.0, 1.2, "1", DIFFERS), (-3.0, 0.0, "points", DIFFERS)),
        *((0.5, 1.101, "1", ", no difference larger than 50 %"), (0.899, 1.1, "1", ", no difference larger than 11 %")),
        (-1.0, 2.55, "points", ", no difference larger than 2.6 points"),
        (-9.99, 1.0, "points", ", no difference larger than 10 points"),
        *((None, 2.0, "1", ""), (0.5, None, "1", "")),
    ],
)  # fmt: skip
def test_what_is_not_decided_is_told_as_far_as_it_is_known(
    low: float | None, high: float | None, unit: str, text: str
) -> None:
    assert headline._at_most(answer(low=low, high=high, unit=unit)) == text
    assert headline._at_most(answer(low=low, high=high, unit=unit, verdict="yes")) == ""


@pytest.mark.parametrize(
    ("estimate", "low", "high", "unit", "n", "needed"),
    [
        (0.0, -4.0, 4.0, "points", 6, 24),
        (1.0, -3.0, 5.0, "points", 6, 96),
        (-1.0, -5.0, 3.0, "points", 6, 96),
        (2.0, -2.0, 6.0, "points", 6, None),
        (0.0, -2.0, 2.0, "points", 6, None),
        (0.0, -2.1, 2.1, "points", 6, 7),
        (0.0, -4.0, 4.0, "points", 0, None),
        (0.0, -4.0, 4.0, "points", 1, 4),
        (1.0, 0.0, 2.0, "1", 6, None),
        (0.0, 0.5, 2.0, "1", 6, None),
        (None, 0.5, 2.0, "1", 6, None),
        (1.0, None, 2.0, "1", 6, None),
        (1.0, 0.5, None, "1", 6, None),
    ],
)
def test_an_interval_narrows_with_the_root_of_the_repetitions(
    estimate: float | None, low: float | None, high: float | None, unit: str, n: int, needed: int | None
) -> None:
    assert headline.repetitions_in_all(answer(estimate=estimate, low=low, high=high, unit=unit, n=n), 2.0) == needed


@given(st.floats(0.99, 1.01), st.floats(0.02, 0.3), st.integers(3, 60))
def test_repetitions_for_a_ratio_are_counted_by_logarithms(estimate: float, half: float, n: int) -> None:
    given_ = answer(estimate=estimate, low=estimate * math.exp(-half), high=estimate * math.exp(half), n=n)
    room = min(abs(math.log(estimate) - math.log(1 + edge)) for edge in (-0.05, 0.05))
    wanted = math.ceil(n * (half / room) ** 2)
    got = headline.repetitions_in_all(given_, 5.0)
    if n < wanted <= headline._MOST:
        assert got is not None
        assert abs(got - wanted) <= 1
    else:
        assert got is None or abs(got - wanted) <= 1


def best(label: str, estimate: float, low: float, high: float, word: str = "Best constant K") -> Finding:
    claim = f"{word} ({label})"
    return Finding(analysis="klo", claim=claim, verdict="info", estimate=estimate, low=low, high=high, unit="1", n=5)


def moves(verdict: Any) -> Finding:
    return Finding(analysis="klo", claim=headline._MOVES, verdict=verdict)


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        ([], ""),
        ([best("idle", 4, 0, 8)], ""),
        ([best("idle", 4, 4, 4)], "The best K is 4."),
        ([best("idle", 4.4, 2, 8)], "The best K is 4 (2 to 8 within noise)."),
        ([best("idle", 4, 2, 8, "Constant K"), moves("yes")], "The best K is 4 (2 to 8 within noise)."),
        (
            [best("idle", 4, 2, 8), best("A", 4, 3, 9), moves("no")],
            "The best K stays 4 (3 to 8 within noise) in both conditions.",
        ),
        ([best("idle", 4, 4, 4), best("A", 4, 3, 9), moves("yes")], "The best K is 4 in both conditions."),
        ([best(label, 4, 4, 4) for label in "abc"], "The best K is 4 in all 3 conditions."),
        (
            [best("idle", 4, 4, 4), best("A", 8, 8, 9), moves("yes")],
            "The best K is 4 when idle and 8 (8 to 9 within noise) with A; a load moves it.",
        ),
        (
            [best("idle", 4, 4, 4), best("A", 8, 8, 8), best("B", 2, 2, 2), moves("no")],
            "The best K is 2 to 8 in 3 conditions; no load moves it beyond noise.",
        ),
        ([best("idle", 4, 4, 4), best("A", 8, 8, 8)], "The best K is 4 when idle and 8 with A."),
    ],
)  # fmt: skip
def test_which_k_is_best_and_whether_a_load_moves_it(findings: list[Finding], said: str) -> None:
    assert headline.best_k(findings) == said


def test_where_a_load_may_move_it_that_is_said() -> None:
    for found in ([best("idle", 4, 4, 4)], [best("idle", 4, 4, 4), best("A", 8, 8, 8)]):
        assert headline._OPEN in headline.best_k([*found, moves("inconclusive")])
        assert headline._OPEN not in headline.best_k(found)


def results(valid: list[bool], *codes: str, simulated: bool = False) -> Any:
    flags = [(Flag(code=code, detail=""), Flag(code="remark", detail="", remark=True)) for code in codes]
    flags += [()] * (len(valid) - len(flags))
    runs = pd.DataFrame({"valid": valid, "flags": flags, "repetition": range(len(valid))})
    return SimpleNamespace(info={"simulated": simulated}, runs=lambda: runs)


def check(verdict: Any, claim: str) -> Finding:
    return Finding(analysis="checks", claim=claim, verdict=verdict)


def test_what_a_reader_has_to_know_first() -> None:
    assert headline._caveats(results([True, True]), [check("pass", "a")]) == []
    assert headline._caveats(results([]), []) == []
    found = headline._caveats(
        results([False, False, False, True], "hot", "slow", "slow", simulated=True),
        [check("fail", "a"), check("fail", "b"), check("fail", "c"), check("invalid", "d"), answer(verdict="fail")],
    )
    assert found[0].startswith("Simulated: ")
    assert found[1:] == [
        "3 of 4 runs are flagged and count nowhere, most often slow.", "Check failed: a and 2 more.",
        "Check cannot be judged: d.",
    ]  # fmt: skip
    (unnamed,) = headline._caveats(results([False, True]), [])
    assert unnamed == "1 of 2 runs are flagged and count nowhere."
    assert headline._without_answer(results([True]), [check("pass", "a"), check("fail", "b"), check("pass", "c")]) == (
        "2 of 3 checks passed."
    )
    assert headline._without_answer(results([True]), [answer()]).startswith("1 runs, and no question")


def test_words_become_sentences() -> None:
    assert [headline._sentence(words) for words in ("a b", " c. ", "d?", "")] == ["A b.", "C.", "D?", ""]
    assert [headline._repetitions(n) for n in (0, 1, 2)] == ["0 repetitions", "1 repetition", "2 repetitions"]
    assert [headline._when(label) for label in ("idle", "x")] == ["when idle", "with x"]
    asked = answer(claim="Does the load change the time, of all?", comparison="a / idle", low=0.9, high=1.1)
    assert headline._compared(asked, 1.05) == "The time with a is 1.05 times that when idle [0.9, 1.1]"
    other = answer(claim="odd", quantity="total", comparison="a / b", unit="points")
    assert [headline._compared(other, by) for by in (0.0, 2.5, -2.5)] == [
        "Total with a is 0 points more than with b", "Total with a is 2.5 points more than with b",
        "Total with a is 2.5 points less than with b",
    ]  # fmt: skip
