"""Do the intervals that devicelab prints hold the truth, and how often is a "yes" or "no" wrong?

    python benchmarks/verdict_truth.py [--campaigns 500] [--power 500] [--repetitions 6 8 12] [--only PART ...]
                                       [--keep FILE] [--to docs/method/verdict-truth.md]

Plants campaigns of known truth (``_planted``: noise with a tail, inferences and requests that depend on the one before,
runs and blocks that differ, runs that are far too slow), has the product analyse each, and reads the findings that it
would print. A row is a quantity or a claim, a column a number of repetitions, each from so many campaigns.

"held" is the share of the intervals that hold the truth: 95% are asked for. Above 97% an interval is conservative, and
by how much stands in the column. "wrong" is the share of campaigns with a "yes" where nothing was planted (or a "no"
where twice of what matters was, a "pass" or "fail" where the figure lies a tenth on the other side of the bound); the
power is the share with the right answer at 2, 5 and 10%. Counts are kept in ``--keep`` every few campaigns, so that it
goes on where it was stopped; ``--to`` writes the page from all that were kept.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._verdict_parts import PARTS, TURNS, Said

_ROOT = Path(__file__).resolve().parent.parent
_KEEP = _ROOT / "build" / "verdict_truth.json"
_PIECE = 25


Counts = dict[str, dict[str, int]]
"""Row → how many intervals were asked for, printed and held the truth; or verdicts, wrong and right ones."""


def run(part: str, repetitions: int, numbers: Iterable[int], counts: Counts | None = None, seed: int = 1) -> Counts:
    """Counts of the campaigns with these numbers, added to those there are."""
    counts = {} if counts is None else counts
    for number in numbers:
        rng = np.random.default_rng([seed, repetitions, number])
        for one in PARTS[part](number, repetitions, rng):
            row = counts.setdefault(one.row, {})
            if isinstance(one, Said):
                marks = {"verdicts": 1, "wrong": one.verdict in one.wrong, "right": one.verdict in one.right}
            else:
                printed = one.low is not None and one.high is not None
                inside = printed and (one.low or 0) * (1 - 1e-9) <= one.truth <= (one.high or 0) * (1 + 1e-9)
                marks = {"asked": 1, "printed": printed, "held": inside}
            for name, mark in marks.items():
                row[name] = row.get(name, 0) + int(mark)
    return counts


def numbers_of(part: str, campaigns: int, power: int) -> list[int]:
    """Numbers of the campaigns of a part: ``campaigns`` without an effect, ``power`` with each of the others."""
    turns = TURNS[part]
    return [
        turns * number + turn
        for number in range(max(campaigns, power))
        for turn in range(turns)
        if number < (campaigns if turn == 0 else power)
    ]


# --- the page ----------------------------------------------------------------------------------------------------


def page(kept: dict[str, Counts]) -> str:
    """The tables, from what was kept: part and repetitions → counts."""
    columns = sorted({int(name.rpartition(" ")[2]) for name in kept})
    rows: dict[str, dict[int, dict[str, int]]] = defaultdict(dict)
    for name in sorted(kept, key=lambda name: list(PARTS).index(name.rpartition(" ")[0])):
        for row, counts in kept[name].items():
            sums = rows[row].setdefault(int(name.rpartition(" ")[2]), {})  # two parts may ask the same
            sums.update({mark: sums.get(mark, 0) + count for mark, count in counts.items()})
    rule = "|---" * (len(columns) + 2) + "|"
    lines = [_HEAD, f"| Interval of | {' | '.join(f'R = {r}' for r in columns)} | campaigns |", rule]
    lines += [_line(row, by_r, columns, _held) for row, by_r in rows.items() if "asked" in next(iter(by_r.values()))]
    lines += ["", _VERDICTS, "", f"| Planted | {' | '.join(f'R = {r}: wrong, right' for r in columns)} | campaigns |"]
    lines.append(rule)
    lines += [_line(row, by_r, columns, _said) for row, by_r in rows.items() if "wrong" in next(iter(by_r.values()))]
    return "\n".join(lines) + "\n"


def _line(row: str, by_r: dict[int, dict[str, int]], columns: list[int], cell: Callable[[dict[str, int]], str]) -> str:
    cells = [cell(by_r[r]) if r in by_r else "" for r in columns]
    least = min(counts.get("printed", counts.get("verdicts", 0)) for counts in by_r.values())
    return f"| {row} | {' | '.join(cells)} | {least:,} |"


def _held(counts: dict[str, int]) -> str:
    if not counts["printed"]:
        return "none"
    share = 100 * counts["held"] / counts["printed"]
    return f"{share:.1f}" + (f" (+{share - 95:.1f})" if share > 97 else "")


def _said(counts: dict[str, int]) -> str:
    return f"{100 * counts['wrong'] / counts['verdicts']:.1f}, {100 * counts['right'] / counts['verdicts']:.0f}"


_HEAD = """# Do the intervals hold the truth?

Written by `python benchmarks/verdict_truth.py --to docs/method/verdict-truth.md`. Campaigns of known truth are analysed
by the product, and the findings that it would print are compared with what was planted; how they are made stands at
the top of `benchmarks/_planted.py` (noise with a tail, samples that depend on the one before, runs and blocks that
differ by 2%, 4% of the runs far too slow).

Percent of the intervals that hold the truth, by the number of repetitions R. 95 are asked for; what is above 97 is
conservative, by the points in brackets. Below six repetitions there is no interval and no verdict.
"""
_VERDICTS = """Percent of the campaigns with a wrong "yes", "no", "pass" or "fail", and with the right one (the rest is
"inconclusive"). Wrong is "yes" where nothing was planted, "no" where it was twice of what matters, and a verdict on the
wrong side of a bound that is a tenth away."""


def main() -> int:
    """Run what was asked for, keep it, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=500, help="of every row without an effect")
    parser.add_argument("--power", type=int, help="of every row with an effect; the same by default")
    parser.add_argument("--repetitions", type=int, nargs="+", default=[6, 8, 12])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="these parts alone")
    parser.add_argument("--keep", type=Path, default=_KEEP, help="figures of all parts")
    parser.add_argument("--to", type=Path, help="the page to write")
    args = parser.parse_args()
    args.keep.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(args.keep.read_text(encoding="utf-8")) if args.keep.is_file() else {}
    wanted = {
        (part, repetitions): numbers_of(part, args.campaigns, args.campaigns if args.power is None else args.power)
        for part in args.only
        for repetitions in args.repetitions
    }
    for first in range(0, max(map(len, wanted.values()), default=0), _PIECE):
        for (part, repetitions), numbers in wanted.items():
            one = kept.setdefault(f"{part} {repetitions}", {"done": [], "rows": {}})
            left = [number for number in numbers[first : first + _PIECE] if number not in set(one["done"])]
            if left:
                run(part, repetitions, left, one["rows"])
                one["done"] += left
                args.keep.write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")
                print(f"{part}, {repetitions} repetitions: {len(one['done'])} of {len(numbers)}", flush=True)
    if args.to is not None:
        args.to.write_text(page({name: one["rows"] for name, one in kept.items()}), encoding="utf-8")
        print(f"{args.to} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
