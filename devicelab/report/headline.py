"""The answer in one sentence a person would say, what stands against it, and what to do next.

The same sentence heads the page and the Markdown, ends a sweep in the terminal and is ``answer`` in ``--json``.
"""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from devicelab.ground.typed import again, words_of
from devicelab.model.campaign import ENDED
from devicelab.model.experiment import Finding
from devicelab.model.results import Results
from devicelab.report.units import interval, number, quantity

_WORDS = {
    "yes": "Yes",
    "no": "No",
    "pass": "Yes",
    "fail": "No",
    "inconclusive": "Not decided",
    "insufficient n": "No answer yet",
    "cannot tell here": "Cannot be told here",
    "invalid": "No answer",
    "info": "",
}


_MOVES = "1. Does the constant K under load differ from the constant K when idle?"
_OPEN = "; whether a load moves it is not decided"
_ABOUT = "the figure is "
_PROMISES = {"targets": "target", "certificate": "bound, on fresh arrivals"}
"""What a scheduler was to keep, by the quantity of the answer."""
_LEAST = 6  # of a 95 % interval
_GO_ON = "It was ended early; go on with it:"
_MOST = 500  # beyond, an estimate is no help
_NONE = re.compile(r"no difference larger than [\d.e+-]+ (?:%|points)")


@dataclass(frozen=True)
class Headline:
    """What is read first.

    Attributes:
        verdict: of the answer; empty if the experiment's question has none.
        sentence: the answer with its figure, interval and repetitions.
        caveats: what was flagged, what is simulated, which checks failed.
        todo: what to do next, one sentence; empty if there is nothing.
        command: what to type for that; empty if there is nothing.
    """

    verdict: str
    sentence: str
    caveats: tuple[str, ...] = ()
    todo: str = ""
    command: str = ""


def headline(results: Results, findings: Sequence[Finding]) -> Headline:
    """The head of a campaign from its findings."""
    answer = next((one for one in findings if one.answer), None)
    caveats = tuple(_caveats(results, findings))
    if answer is None:
        return Headline("", _without_answer(results, findings), caveats)
    todo, command = _next(answer, results)
    told = " ".join(filter(None, (sentence(answer), best_k(findings))))
    return Headline(answer.verdict, told, caveats, todo, command)


def sentence(answer: Finding) -> str:
    """The finding as one says it: ``Yes: T_prod with load 9 9 9 is 1.812 times that when idle [1.62, 2.071]``."""
    word = _WORDS[answer.verdict]
    if answer.verdict in {"insufficient n", "invalid", "cannot tell here"}:
        why = answer.reasons[-1] if answer.reasons else "too few repetitions"
        return f"{word}: {_sentence(answer.claim)} {_sentence(why)}"
    counted = f" ({_repetitions(answer.n)})" if answer.n else ""
    if answer.quantity in _PROMISES:
        return f"{word}: {_targets(answer)}{counted}."
    if answer.comparison and answer.estimate is not None:
        said = _compared(answer, answer.estimate)
        said += f", {_none(answer)}" if answer.verdict == "no" else _at_most(answer)
        return f"{word}: {said}{counted}." if word else f"{said}{counted}."
    figure = quantity(answer.estimate, answer.unit) if answer.estimate is not None else ""
    span = interval(answer.low, answer.high, answer.unit)
    told = " ".join(part for part in (figure, span) if part)
    said = ": ".join(part for part in (word, told) if part)
    return f"{answer.claim}{' ' if word or answer.claim.endswith('?') else ', '}{said}{counted}."


def _targets(answer: Finding) -> str:
    """What a scheduler does to the targets, and the one that decided with its figure."""
    scheduler = answer.comparison.partition(" / ")[0].removeprefix("scheduler ") or "a scheduler"
    what = _PROMISES[answer.quantity]
    said = {"yes": f"keeps every {what}", "no": f"breaks a {what}"}.get(answer.verdict, f"may keep every {what}")
    about = next((one for one in answer.reasons if one.startswith(_ABOUT)), "")
    told = f"{quantity(answer.estimate, answer.unit)} {interval(answer.low, answer.high, answer.unit)}".strip()
    return f"{scheduler} {said}" + (f"; {about.removeprefix(_ABOUT)} is at {told}" if about else "")


def best_k(findings: Sequence[Finding]) -> str:
    """Which K, and whether a load moves it; empty where it was not measured, or too seldom to bound it."""
    found = {
        one.claim.partition(" (")[2].removesuffix(")"): one
        for one in findings
        if one.analysis == "klo"
        and one.claim.startswith(("Best constant K (", "Constant K ("))
        and one.low
        and one.high
    }
    if not found:
        return ""
    moved = next((one.verdict for one in findings if one.claim == _MOVES), "")
    ks = [round(one.estimate or 0) for one in found.values()]
    open_ = "" if moved in {"", "yes", "no"} else _OPEN
    if len(found) == 1:
        return f"The best K is {ks[0]}{_noise(*found.values())}{open_}."
    if len(set(ks)) == 1:
        every = "both" if len(ks) == 2 else f"all {len(ks)}"
        stays = "stays" if moved == "no" else "is"
        return f"The best K {stays} {ks[0]}{_noise(*found.values())} in {every} conditions{open_}."
    doubt = {"yes": "; a load moves it", "no": "; no load moves it beyond noise"}.get(moved, open_)
    if len(found) > 2:
        return f"The best K is {min(ks)} to {max(ks)} in {len(ks)} conditions{doubt}."
    each = zip(ks, found.items(), strict=True)
    return f"The best K is {' and '.join(f'{k}{_noise(one)} {_when(label)}' for k, (label, one) in each)}{doubt}."


def _noise(*every: Finding) -> str:
    """The K that are within noise of the best in each."""
    low, high = max(one.low or 0 for one in every), min(one.high or 0 for one in every)
    return f" ({round(low)} to {round(high)} within noise)" if low < high else ""


def _when(label: str) -> str:
    return "when idle" if label == "idle" else f"with {label}"


def _compared(answer: Finding, estimate: float) -> str:
    here, _, there = answer.comparison.partition(" / ")
    base = "when idle" if there == "idle" else f"with {there}"
    asked = answer.claim.removeprefix("Does the ").rstrip("?")
    subject = asked.partition(" change ")[2].partition(",")[0] or answer.quantity
    subject = subject[0].upper() + subject[1:]
    span = interval(answer.low, answer.high, "1")
    if answer.unit == "points":
        size = f"{number(abs(estimate))} points {'more' if estimate >= 0 else 'less'} than {base}"
    else:
        size = f"{number(estimate)} times that {base}"
    return f"{subject} with {here} is {size} {span}".rstrip()


def _at_most(answer: Finding) -> str:
    """What is known where the answer is not: that there is a difference, or how large one may be at most."""
    none = 0 if answer.unit == "points" else 1
    if answer.verdict != "inconclusive" or answer.low is None or answer.high is None:
        return ""
    if not answer.low < none < answer.high:
        return "; it differs, by enough to matter or not"
    unit, scale = ("points", 1) if answer.unit == "points" else ("%", 100)
    most = round(scale * max(answer.high - none, none - answer.low), 6)
    most = math.ceil(10 * most) / 10 if most < 10 else math.ceil(most)
    return f", no difference larger than {most:g} {unit}"


def _none(answer: Finding) -> str:
    found = (_NONE.search(reason) for reason in answer.reasons)
    return next((one[0] for one in found if one), "no change that matters")


def _sentence(words: str) -> str:
    words = words.strip()
    return f"{words[0].upper()}{words[1:]}{'' if words.endswith(('.', '?')) else '.'}" if words else ""


def _repetitions(n: int) -> str:
    return f"{n} repetition{'' if n == 1 else 's'}"


def _without_answer(results: Results, findings: Sequence[Finding]) -> str:
    checks = [one for one in findings if one.analysis == "checks"]
    if checks:
        kept = sum(one.verdict == "pass" for one in checks)
        return f"{kept} of {len(checks)} checks passed."
    return f"{len(results.runs())} runs, and no question that they answer by themselves: the findings are below."


def _caveats(results: Results, findings: Sequence[Finding]) -> list[str]:
    runs = results.runs()
    found = []
    if results.info.get("simulated"):
        found.append("Simulated: the figures test the method and say nothing about real silicon.")
    invalid = runs[~runs["valid"].astype(bool)] if len(runs) else runs
    if len(invalid):
        codes = [flag.code for flags in invalid["flags"] for flag in flags if not flag.remark]
        most = max(dict.fromkeys(codes), key=codes.count, default="")
        why = f", most often {most}" if most else ""
        found.append(f"{len(invalid)} of {len(runs)} runs are flagged and count nowhere{why}.")
    for verdict, what in (("fail", "failed"), ("invalid", "cannot be judged")):
        broken = [one.claim for one in findings if one.verdict == verdict and one.analysis == "checks"]
        if broken:
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            found.append(f"Check {what}: {broken[0]}{more}.")
    return found


def repetitions_in_all(answer: Finding, within_pct: float) -> int | None:
    """How many repetitions would likely decide the answer: an interval narrows with the root of their number.

    ``None`` where nothing tells: no interval, or an estimate that lies on the edge of what matters.
    """
    if answer.estimate is None or answer.low is None or answer.high is None or answer.n < 1:
        return None
    if answer.unit == "points":
        width, edges, middle = answer.high - answer.low, (-within_pct, within_pct), answer.estimate
    elif answer.low > 0 and answer.estimate > 0:
        width, middle = math.log(answer.high / answer.low), math.log(answer.estimate)
        edges = (math.log(1 - within_pct / 100), math.log(1 + within_pct / 100))
    else:
        return None
    room = min(abs(middle - edge) for edge in edges)
    needed = math.ceil(answer.n * (width / 2 / room) ** 2) if room > 0 else 0
    return needed if answer.n < needed <= _MOST else None


def _more(answer: Finding, results: Results) -> str:
    """How many repetitions are missing, as far as it can be told."""
    if answer.verdict == "insufficient n" and 0 < answer.n < _LEAST:
        return f"At least {_LEAST} repetitions are needed, there are {answer.n};"
    asked = results.experiment.answer
    needed = repetitions_in_all(answer, asked.within_pct) if asked is not None and answer.comparison else None
    if needed is None:
        return "More repetitions, as many as it takes,"
    return f"By this scatter it takes about {needed} repetitions, there are {answer.n};"


def _next(answer: Finding, results: Results) -> tuple[str, str]:
    """What would decide it, and the command for that."""
    if answer.verdict in {"insufficient n", "inconclusive"}:
        board = str(results.info.get("device") or "local")
        typed = words_of(str(results.info.get("command") or ""), ("sweep",), ("klo", "app"))
        words = typed or ["devicelab", "sweep", results.experiment.name, "--board", board]
        experiment = results.experiment
        if experiment.tuning is not None:
            return "Search again with a budget for more repetitions, or with less strict bounds:", _tune(results, board)
        if results.info.get("status") == "interrupted":
            if "--bundle" in words:
                return "Runs are missing: `sh run.sh` there does them, then here:", "devicelab import result.tar"
            return _GO_ON, again(words, "--resume")
        if experiment.rule is not None:
            todo, longer = _longer(results)
            return todo, again(words, *longer) if longer else ""
        if experiment.answer is not None and experiment.answer.by:
            return f"{_more(answer, results)} until it is decided:", again(words, "--until", "decided")
        # What is concluded from all runs together has no stop rule: a fixed number, twice as many as there are.
        many = max(2 * max(experiment.repetitions, answer.n), _LEAST)
        return "Twice as many repetitions:", again(words, "--set", f"repetitions={many}")
    if answer.verdict == "invalid":
        return "The reasons are under the flagged runs.", ""
    return "", ""


def _tune(results: Results, board: str) -> str:
    """The search of this campaign once more, as it is typed."""
    what = results.experiment.tuning
    if what is None:
        return ""
    typed = words_of(str(results.info.get("command") or ""), ("tune",))
    words = [*typed[:3]] or ["devicelab", "tune", results.experiment.name]
    words += ["--board", board, "--aim", what.aim, "--budget", "2h"]
    for before, value in pairwise(typed):  # what was set makes it the same experiment
        words += [before, value] if before == "--set" else []
    for option, values in (("--keep", what.keep), ("--try", what.candidates)):
        for value in values:
            words += [option, value]
    return shlex.join(words)


def _longer(results: Results) -> tuple[str, list[str]]:
    """More of what ended a sweep with a rule too early."""
    if results.info.get("status") not in ENDED:
        return _GO_ON, ["--resume"]
    stop = results.experiment.rule
    if results.experiment.search is not None and results.experiment.search.constraints:
        return "Other constraints or other levels: no setting that was tried will do.", []
    if stop is None or results.experiment.search is not None:
        return "The reasons are under the flagged runs.", []
    runs = results.runs()
    reached = len(runs) > 0 and int(runs["repetition"].max()) + 1 >= stop.max_repetitions
    if stop.budget_s is not None and not reached:
        return "A longer budget:", ["--budget", f"{2 * stop.budget_s:g}s"]
    return "More repetitions:", ["--set", f"stop.max_repetitions={min(100_000, 2 * stop.max_repetitions)}"]
