"""Campaigns side by side for people: the answer in one sentence, grouped rows, units one reads; Markdown and a page."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devicelab import __version__
from devicelab.compare.campaigns import Comparison, Shift
from devicelab.model.campaign import CampaignInfo
from devicelab.model.glossary import TERMS, VERDICTS, figure_words
from devicelab.report.clean import markdown_text
from devicelab.report.labels import apart, cell_words
from devicelab.report.page import environment, scripts_for, written
from devicelab.report.units import interval, number, quantity

GROUPS = (
    ("yes", "Differs"),
    ("inconclusive", "Not decided: the interval holds both answers"),
    ("insufficient n", "Too few repetitions to say"),
    ("no", "No difference that matters"),
)
"""Verdict → heading, in the order in which one reads."""

_MOST_ROWS = 40


@dataclass(frozen=True)
class Row:
    """A figure in two campaigns, as text."""

    verdict: str
    where: str
    figure: str
    a: str
    b: str
    change: str
    n: str
    size: float


@dataclass(frozen=True)
class Group:
    """Rows of one verdict, those of one figure together and the largest change first."""

    verdict: str
    title: str
    rows: tuple[Row, ...]


def summary(done: Comparison, name: str = "B") -> str:
    """One sentence a person would say: what became of the targets, then the largest change, then how many moved.

    ``name`` is what the campaign that is compared with A is called.
    """
    said = []
    if done.targets:
        outcomes: Counter[str] = Counter(one.outcome for one in done.targets)
        order = ("regressed", "fixed", "still fails", "undecided", "kept")
        told = ", ".join(f"{outcomes[name]} {name}" for name in order if outcomes[name])
        said.append(f"Of {len(done.targets)} target{'s' * (len(done.targets) != 1)} {told}.")
    counts = Counter(shift.verdict for shift in done.shifts)
    if not done.shifts:
        return " ".join([*said, "The campaigns have no figure in common."])
    moved = [shift for shift in done.shifts if shift.verdict == "yes"]
    if moved:
        said.append(f"{_told(max(moved, key=_size), name)}.")
    elif counts["no"] == len(done.shifts):
        many = f"all {len(done.shifts)} figures are" if len(done.shifts) > 1 else "the one figure is"
        said.append(f"No difference that matters: {many} the same within the tolerance.")
        return " ".join(said)
    else:
        said.append("No difference is shown.")
    open_ones = counts["inconclusive"] + counts["insufficient n"]
    tally = [f"{counts['yes']} of {len(done.shifts)} figures differ{'s' * (counts['yes'] == 1)}"]
    tally += [f"{counts['no']} {'does' if counts['no'] == 1 else 'do'} not"] if counts["no"] else []
    tally += [f"{open_ones} {'is' if open_ones == 1 else 'are'} not decided"] if open_ones else []
    return " ".join([*said, f"{', '.join(tally)}."])


def groups(done: Comparison) -> tuple[Group, ...]:
    """The figures by verdict; groups without one are left out."""
    short = _short([shift.where for shift in done.shifts])
    found = []
    for verdict, title in GROUPS:
        shifts = [shift for shift in done.shifts if shift.verdict == verdict]
        first = {name: place for place, name in enumerate(dict.fromkeys(shift.metric for shift in shifts))}
        shifts.sort(key=lambda shift: (first[shift.metric], -_size(shift)))
        if shifts:
            found.append(Group(verdict, title, tuple(_row(shift, short[shift.where]) for shift in shifts)))
    return tuple(found)


def _short(labels: Sequence[str]) -> dict[str, str]:
    return {label: cell_words(part) for label, part in apart(labels).items()}


def markdown(done: Comparison, a: CampaignInfo, b: CampaignInfo) -> str:
    """For a pull request: the sentence first, what is not the same, the figures by verdict; texts are escaped."""
    title = f"## {markdown_text(_named(b))} against {markdown_text(_named(a))}"
    lines = [title, "", f"**{markdown_text(summary(done))}**" + (" (simulated)" if done.simulated else ""), ""]
    if done.changes:
        differing = [
            f"{markdown_text(one.what)}: {markdown_text(one.a or '–')} → {markdown_text(one.b or '–')}"
            for one in done.changes
        ]
        lines += ["Not the same besides: " + "; ".join(differing) + ".", ""]
    for side, only in (("A", done.only_a), ("B", done.only_b)):
        lines += [f"Only in {side}: {markdown_text('; '.join(only))}.", ""] if only else []
    if done.targets:
        lines += ["| Outcome | Where | Target | A | B |", "|---|---|---|---|---|"]
        lines += [
            f"| **{one.outcome}** | {markdown_text(one.where)} | {markdown_text(one.target)} | {one.a} | {one.b} |"
            for one in done.targets
        ]
        lines.append("")
    for group in groups(done):
        folded = group.verdict == "no"
        lines += (
            [f"<details><summary>{group.title} ({len(group.rows)})</summary>", ""]
            if folded
            else [f"### {group.title}", ""]
        )
        lines += ["| Figure | Where | A | B | B against A [95 %] | n |", "|---|---|---:|---:|---:|---:|"]
        for row in group.rows[:_MOST_ROWS]:
            cells = map(markdown_text, (row.figure, row.where, row.a, row.b, row.change, row.n))
            lines.append(f"| {' | '.join(cells)} |")
        if len(group.rows) > _MOST_ROWS:
            lines += ["", f"and {len(group.rows) - _MOST_ROWS} more"]
        lines += ["", "</details>", ""] if folded else [""]
    return "\n".join(lines).rstrip() + "\n"


def write_page(every: Sequence[Comparison], campaigns: Sequence[CampaignInfo], to: Path) -> Path:
    """The comparisons of all campaigns with the first one as a page; with more than one a sortable matrix heads it.

    Raises:
        ConfigError: the file cannot be written.
    """
    context = {
        "version": __version__,
        "made": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "scripts": scripts_for(),
        "base": _named(campaigns[0]),
        "names": [_named(one) for one in campaigns],
        "ids": [one.campaign for one in campaigns],
        "parts": [
            {"name": _named(info), "done": done, "summary": summary(done, name), "groups": groups(done)}
            for name, done, info in zip(_names(len(every)), every, campaigns[1:], strict=True)
        ],
        "matrix": matrix(every) if len(every) > 1 else (),
        "simulated": any(done.simulated for done in every),
        "terms": TERMS,
        "verdicts": VERDICTS,
    }
    text = environment().get_template("comparison.html.j2").render(context)
    with written(to) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return to


def _names(count: int) -> list[str]:
    """What the campaigns besides A are called: B, or B1, B2 and so on."""
    return ["B"] if count == 1 else [f"B{number}" for number in range(1, count + 1)]


@dataclass(frozen=True)
class MatrixRow:
    """One figure in every campaign: the baseline's value, then how each of the others compares (``None``: it lacks)."""

    where: str
    figure: str
    base: str
    others: tuple[Row | None, ...]
    value: float


def matrix(every: Sequence[Comparison]) -> tuple[MatrixRow, ...]:
    """Every figure over all campaigns, each against the first."""
    by_key = [{(one.where, one.metric, one.unit): one for one in done.shifts} for done in every]
    keys = list(dict.fromkeys(key for found in by_key for key in found))
    short = _short([where for where, *_ in keys])
    rows = []
    for key in keys:
        shifts = [found.get(key) for found in by_key]
        known = next(one for one in shifts if one is not None)
        others = tuple(None if one is None else _row(one, short[key[0]]) for one in shifts)
        figure = figure_words(known.metric, known.unit)
        rows.append(MatrixRow(short[key[0]], figure, quantity(known.a, known.unit), others, known.a))
    return tuple(rows)


def change_text(shift: Shift) -> str:
    """``1.12 times [1.05, 1.2]``, or the difference in the figure's own unit."""
    if shift.kind == "ratio":
        return f"{number(shift.effect, 3)} times {interval(shift.low, shift.high, '1', 3)}".rstrip()
    sign = "+" if shift.effect >= 0 else ""
    ends = interval(shift.low, shift.high, shift.unit, 3)
    return f"{sign}{quantity(shift.effect, shift.unit, 3)} {ends}".rstrip()


def _row(shift: Shift, where: str) -> Row:
    return Row(
        verdict=shift.verdict,
        where=where,
        figure=figure_words(shift.metric, shift.unit),
        a=quantity(shift.a, shift.unit),
        b=quantity(shift.b, shift.unit),
        change=change_text(shift),
        n=f"{shift.n_a}, {shift.n_b}",
        size=shift.effect,
    )


def _size(shift: Shift) -> float:
    """How large a change is, for sorting: ratios up and down alike, differences as a share of the baseline."""
    if shift.kind == "ratio":
        return max(shift.effect, 1 / shift.effect) if shift.effect > 0 else 0.0
    return 1 + (abs(shift.effect) / abs(shift.a) if shift.a else 0.0)


def _told(shift: Shift, name: str) -> str:
    figure, bounds = figure_words(shift.metric, shift.unit), interval(shift.low, shift.high, "1", 3)
    values = f"{quantity(shift.b, shift.unit)} instead of {quantity(shift.a, shift.unit)}"
    if shift.kind == "ratio":
        size = f"is {number(shift.effect, 3)} times that of A {bounds}".rstrip()
    else:
        word = "more" if shift.effect >= 0 else "less"
        size = f"is {quantity(abs(shift.effect), shift.unit, 3)} {word} than in A"
    where = cell_words(shift.where)
    where = f"when {where}" if where.startswith("idle") else f"at {where}"
    return f"In {name} the {figure} {where} {size} ({values}; n = {shift.n_a}, {shift.n_b})"


def _named(info: CampaignInfo) -> str:
    return f"{info.experiment} on {info.device}, {info.campaign}"
