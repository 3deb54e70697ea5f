"""The answer in one sentence: read aloud, it says what the verdict says, and what to do where there is none yet."""

import shlex
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from devicelab.model.experiment import Finding, Verdict
from devicelab.model.journal import Flag
from devicelab.model.search import Search
from devicelab.model.stop import Stop
from devicelab.report.headline import best_k, headline, repetitions_in_all, sentence

LOAD = {
    "quantity": "t_prod_median_ns",
    "comparison": "load 1000 5000 20 / idle",
    "unit": "times that when idle",
    "n": 6,
}


def finding(verdict: Verdict, **more: Any) -> Finding:
    return Finding(analysis="answer", claim="Does the load change T_prod?", verdict=verdict, answer=True, **more)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            finding("yes", estimate=1.8123, low=1.62, high=2.071, **LOAD),
            "Yes: T_prod with load 1000 5000 20 is 1.812 times that when idle [1.62, 2.071]",
        ),
        (
            finding("no", estimate=1.0, low=0.99, high=1.01, **LOAD),
            "No: T_prod with load 1000 5000 20 is 1 times that when idle [0.99, 1.01], no change that matters",
        ),
        (
            finding("inconclusive", estimate=1.03, low=0.97, high=1.1, **LOAD),
            (
                "Not decided: T_prod with load 1000 5000 20 is 1.03 times that when idle [0.97, 1.1]"
                ", no difference larger than 10 %"
            ),
        ),
        (
            finding("inconclusive", estimate=1.004, low=0.991, high=1.0231, **LOAD),
            (
                "Not decided: T_prod with load 1000 5000 20 is 1.004 times that when idle [0.991, 1.023]"
                ", no difference larger than 2.4 %"
            ),
        ),
        (
            finding("inconclusive", estimate=1.03, low=1.01, high=1.05, **LOAD),
            (
                "Not decided: T_prod with load 1000 5000 20 is 1.03 times that when idle [1.01, 1.05]"
                "; it differs, by enough to matter or not"
            ),
        ),
        (
            finding("insufficient n", estimate=1.4, reasons=("3 repetitions; six are the least",), **{**LOAD, "n": 3}),
            "No answer yet: Does the load change T_prod? 3 repetitions; six are the least.",
        ),
        (
            Finding(
                analysis="answer", claim="Does the load change the CPU use of the whole device?", verdict="yes",
                estimate=-12.5, low=-13.0, high=-12.0, unit="points", n=1, quantity="cpu_use_pct",
                comparison="load 1 1 1 / load 9 9 9",
            ),
            "Yes: The CPU use of the whole device with load 1 1 1 is 12.5 points less than with load 9 9 9 [−13, −12]",
        ),
        (
            Finding(
                analysis="answer", claim="Is the K found idle within 5% of the best?", verdict="yes", n=8,
                estimate=1.5, low=0.2, high=3.0, unit="pct", quantity="k_carried",
            ),
            "Is the K found idle within 5% of the best? Yes: 1.5\N{NO-BREAK SPACE}% [0.2, 3]\N{NO-BREAK SPACE}%",
        ),
        (
            Finding(
                analysis="searching", claim="Best setting for total_ns: k = 2", verdict="info", n=6,
                estimate=12.5e6, low=12e6, high=13e6, unit="ns", quantity="total_ns",
            ),
            "Best setting for total_ns: k = 2, 12.5\N{NO-BREAK SPACE}ms [12, 13]\N{NO-BREAK SPACE}ms",
        ),
    ],
)  # fmt: skip
def test_an_answer_is_said_as_a_person_would(answer: Finding, said: str) -> None:
    counted = f" ({answer.n} repetition{'s' * (answer.n > 1)})." if answer.verdict != "insufficient n" else ""
    assert sentence(answer) == said + counted


def results(valid: Sequence[bool] = (True,) * 4, **info: Any) -> Any:
    flags = [() if good else (Flag(code="affinity-refused", detail="CPU 7"),) for good in valid]
    runs = pd.DataFrame({"valid": list(valid), "flags": flags, "repetition": range(len(flags))})
    experiment = SimpleNamespace(
        name="my load; rm -rf",
        repetitions=2,
        answer=SimpleNamespace(within_pct=5.0, by="load"),
        tuning=None,
        rule=info.pop("rule", None),
        search=info.pop("search", None),
    )
    return SimpleNamespace(info={"device": "note10", **info}, experiment=experiment, runs=lambda: runs)


def test_what_is_not_answered_comes_with_the_command_that_would_decide_it() -> None:
    head = headline(results(), [finding("insufficient n", n=2)])
    assert shlex.split(head.command)[:4] == ["devicelab", "sweep", "my load; rm -rf", "--board"]
    assert head.command.endswith("--until decided")
    assert headline(results(), [finding("inconclusive", estimate=1.0, n=6)]).command == head.command
    assert headline(results(), [finding("yes", estimate=2.0, n=6)]).command == ""


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("no", "No: mps breaks a target; mps at pressure batch:8: high p99_ms < 30 is at 41 ms [38, 45]"),
        ("yes", "Yes: mps keeps every target; mps at pressure batch:8: high p99_ms < 30 is at 41 ms [38, 45]"),
    ],
)  # fmt: skip
def test_a_target_is_told_by_its_own_figure_not_as_a_ratio(verdict: Verdict, said: str) -> None:
    answer = Finding(
        analysis="answer", claim="Does a scheduler keep every target?", verdict=verdict, estimate=41.0, low=38.0, n=6,
        high=45.0, unit="ms", quantity="targets", comparison="scheduler mps / standalone", answer=True,
        reasons=("mps at pressure batch:8: no", "the figure is mps at pressure batch:8: high p99_ms < 30"),
    )  # fmt: skip
    assert sentence(answer).replace("\N{NO-BREAK SPACE}", " ").startswith(said)


def k_of(label: str, k: int, low: int | None = None, high: int | None = None) -> Finding:
    bounds = {"low": low or k, "high": high or k}
    return Finding(
        analysis="klo", claim=f"Best constant K ({label})", verdict="info", estimate=k, unit="kernels", **bounds
    )


@pytest.mark.parametrize(
    ("verdict", "ks", "said"),
    [
        (
            "no",
            (k_of("idle", 4, 2, 6), k_of("load 1 1 1", 4, 3, 8)),
            "The best K stays 4 (3 to 6 within noise) in both conditions.",
        ),
        (
            "yes",
            (k_of("idle", 4, 4, 4), k_of("load 1 1 1", 2, 1, 2)),
            "The best K is 4 when idle and 2 (1 to 2 within noise) with load 1 1 1; a load moves it.",
        ),
        (
            "inconclusive",
            (k_of("idle", 4), k_of("load 1 1 1", 2)),
            "The best K is 4 when idle and 2 with load 1 1 1; whether a load moves it is not decided.",
        ),
        (
            "insufficient n",
            (k_of("a", 4), k_of("b", 4), k_of("c", 4)),
            "The best K is 4 in all 3 conditions; whether a load moves it is not decided.",
        ),
        ("no", (k_of("a", 4), k_of("b", 8), k_of("c", 4)),
         "The best K is 4 to 8 in 3 conditions; no load moves it beyond noise."),
        ("", (k_of("all runs", 8),), "The best K is 8."),
        ("yes", (), ""),
        ("no", (k_of("idle", 4).model_copy(update={"low": None, "high": None}),), ""),
    ],
)  # fmt: skip
def test_which_k_is_said_behind_the_answer(verdict: Any, ks: tuple[Finding, ...], said: str) -> None:
    claim = "1. Does the constant K under load differ from the constant K when idle?"
    moves = [Finding(analysis="klo", claim=claim, verdict=verdict)] if verdict else []
    assert best_k([*moves, *ks]) == said
    yes = finding("yes", estimate=2.0, low=1.5, high=2.5, **LOAD)
    assert headline(results(), [yes, *moves, *ks]).sentence == f"{sentence(yes)} {said}".strip()


def test_what_no_stop_rule_can_decide_is_repeated_a_fixed_number_of_times() -> None:
    whole = results()
    whole.experiment.answer.by = ""
    head = headline(whole, [finding("inconclusive", estimate=1.0, n=8)])
    assert head.todo == "Twice as many repetitions:"
    assert head.command.endswith("--set repetitions=16")


def test_what_is_missing_is_counted_where_the_scatter_tells_it() -> None:
    assert headline(results(), [finding("insufficient n", n=0)]).todo.startswith("More repetitions")
    few = headline(results(), [finding("insufficient n", n=2)])
    assert few.todo.startswith("At least 6 repetitions are needed, there are 2")
    wide = finding("inconclusive", estimate=1.0, low=0.9, high=1.12, **LOAD)
    assert headline(results(), [wide]).todo.startswith("By this scatter it takes about 31 repetitions, there are 6")
    assert repetitions_in_all(wide.model_copy(update={"estimate": 1.05}), 5.0) is None, "on the edge nothing tells"
    assert headline(results(), [finding("inconclusive", estimate=1.0, n=6)]).todo.startswith("More repetitions")


@pytest.mark.parametrize(
    ("rule", "status", "command"),
    [
        (Stop(budget="75 s"), "complete", "--budget 150s"),
        (Stop(budget="75 s", max_repetitions=6), "complete", "--set stop.max_repetitions=12"),
        (Stop(max_repetitions=6), "unreliable", "--set stop.max_repetitions=12"),
        (Stop(), "interrupted", "--resume"),
    ],
)
def test_what_ended_a_sweep_with_a_rule_too_early_decides_what_is_next(rule: Stop, status: str, command: str) -> None:
    head = headline(results((True,) * 6, rule=rule, status=status), [finding("inconclusive", estimate=1.0, n=6)])
    assert head.command.endswith(command)


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("devicelab sweep zoo --board h200 --bundle z.tar", "devicelab import result.tar"),
        ("devicelab sweep zoo --board h200", "devicelab sweep zoo --board h200 --resume"),
    ],
)
def test_runs_that_are_missing_come_before_more_repetitions(typed: str, command: str) -> None:
    head = headline(results(command=typed, status="interrupted"), [finding("insufficient n", n=1)])
    assert head.command == command


def test_a_search_of_schedulers_is_repeated_with_what_was_set() -> None:
    typed = """devicelab tune mix.toml --board h200 --set 'pressure=["copies:4"]' --aim a.b --set x=1 --budget 9m"""
    tuned = results(command=typed, device="h200")
    tuned.experiment.tuning = SimpleNamespace(
        aim="low.throughput_per_s", keep=("high.p99_ratio < 1.1",), candidates=("mps",)
    )
    words = shlex.split(headline(tuned, [finding("inconclusive", estimate=1.0, n=6)]).command)
    assert words[:5] == ["devicelab", "tune", "mix.toml", "--board", "h200"]
    assert [words[at + 1] for at, word in enumerate(words) if word == "--set"] == ['pressure=["copies:4"]', "x=1"]
    assert words.count("--budget") == 1


def test_a_search_without_a_setting_that_will_do_asks_for_no_more_repetitions() -> None:
    none = Finding(
        analysis="searching", claim="Best setting for total_ns", verdict="insufficient n", answer=True,
        reasons=("no setting that was tried keeps the constraints",),
    )  # fmt: skip
    search = Search(minimise=("total_ns",), constraints={"energy_mj": "< 1"})
    head = headline(results(rule=Stop(), search=search, status="complete"), [none])
    assert head.sentence.endswith("Best setting for total_ns. No setting that was tried keeps the constraints.")
    assert (head.command, head.todo.partition(":")[0]) == ("", "Other constraints or other levels")
    free = search.model_copy(update={"constraints": {}})
    assert "constraints" not in headline(results(rule=Stop(), search=free, status="complete"), [none]).todo


def test_no_difference_is_said_with_its_size() -> None:
    reason = "load 1000 5000 20 / idle: 1 [0.99, 1.01], no difference larger than 5 %, decided after 6 repetitions"
    said = sentence(finding("no", estimate=1.0, low=0.99, high=1.01, reasons=(reason,), **LOAD))
    assert said.endswith("[0.99, 1.01], no difference larger than 5 % (6 repetitions).")


def test_flagged_runs_a_simulated_device_and_failed_checks_stand_beside_the_answer() -> None:
    failed = Finding(analysis="checks", claim="load costs less than 20 %", verdict="fail")
    other = Finding(analysis="klo", claim="something else", verdict="fail")
    head = headline(results((True, False, False, True), simulated=True), [failed, other, finding("yes", n=6)])
    assert head.caveats[0].startswith("Simulated")
    assert head.caveats[1] == "2 of 4 runs are flagged and count nowhere, most often affinity-refused."
    assert head.caveats[2] == "Check failed: load costs less than 20 %."
    assert len(head.caveats) == 3


def test_an_experiment_without_a_question_of_its_own_says_what_became_of_its_checks() -> None:
    checks = [Finding(analysis="checks", claim=f"c{n}", verdict=verdict) for n, verdict in enumerate(("pass", "fail"))]
    assert headline(results(), checks).sentence == "1 of 2 checks passed."
    assert headline(results(), []).verdict == ""
