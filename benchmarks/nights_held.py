"""How long do established changes hold, how soon is one found, and what does a maintenance dose save?

    python benchmarks/nights_held.py [--cells 1000] [--looked 40] [--nights 365] [--farms 4] [--seed 1]

Planted truth, judged every night. The unit of noise is the standard deviation of a cell's level from night to night, s,
as in ``nights_accuracy.py``, whose four kinds of noise these are: ``white``, ``lasting`` (correlated with the night
before, 0.5), ``heavy`` (Student's t with 4 degrees of freedom), ``bad nights`` (one in a hundred is off by 4 s).

- A/A: cells in which nothing changes, looked at every night of a year. The share that is ever called changed by a
  night's look, and the share in which a change is ever established.
- Found: nights until a step is established, after 21, 60 and 180 nights of history.
- Dose: farms of 24 cells in groups of 4 that are compared, five repetitions of 1 %, night effects of 0.8 %, for 150
  nights. At night 90 the cells of one group become 6 s slower. With the dose of ``farm.dose``, beside all cells every
  night: runs, nights until a look calls the step and until it is established, false calls in other groups.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.compare.nights.assess import One, Panel, assess
from devicelab.compare.nights.held import held
from devicelab.compare.nights.words import NOISY
from devicelab.farm import dose
from devicelab.model.night import CellVerdict, DoseRules, NightVerdict

Floats = NDArray[np.float64]

NOISES = ("white", "lasting", "heavy", "bad nights")
SIZES, PASTS = (3.0, 4.0, 5.0, 6.0, 8.0), (21, 60, 180)
AFTER = 25
BASELINE, REPETITIONS = 7, 5
FARM, GROUP, LENGTH, STEP, SHIFT = 24, 4, 150, 90, 6.0


def nights(rng: np.random.Generator, noise: str, cells: int, length: int) -> Floats:
    """Levels in s without any change."""
    if noise == "heavy":
        return rng.standard_t(4, (cells, length)) / np.sqrt(2)
    x = rng.normal(size=(cells, length))
    if noise == "lasting":
        for night in range(1, length):
            x[:, night] = 0.5 * x[:, night - 1] + np.sqrt(0.75) * x[:, night]
    if noise == "bad nights":
        x += 4 * (rng.random((cells, length)) < 0.01)
    return x


def established(x: Floats) -> NDArray[np.int64]:
    """Column in which the newest change was established, -1 for none."""
    return held(x, np.full(len(x), x.shape[1] - 1), np.ones(x.shape, bool)).alarm


def called_ever(x: Floats) -> float:
    """Share of cells that a look at any night calls changed; levels are those of five repetitions, s = 1 %."""
    values = 0.01 * x[..., None] + np.zeros(REPETITIONS)
    panel, ever = Panel.of(values, BASELINE), np.zeros(len(x), bool)
    for night in range(BASELINE + 3, x.shape[1]):
        ever |= assess(panel, np.full(len(x), night)).moved
    return float(ever.mean())


def found(rng: np.random.Generator, noise: str, past: int, size: float, cells: int) -> tuple[float, float]:
    """Median and 90 % of the nights until a step is established; infinite: not within ``AFTER``."""
    x = nights(rng, noise, cells, past + AFTER)
    x[:, past:] += size
    alarm = established(x)
    after = np.where(alarm >= past, alarm - past + 1.0, np.inf)
    return tuple(np.quantile(after, [0.5, 0.9], method="higher").tolist())  # type: ignore[return-value]


class Farm:
    """Twenty-four cells on a device, measured as a policy says."""

    def __init__(self, rng: np.random.Generator, noise: str, rules: DoseRules | None) -> None:
        scatter = 0.01 / np.sqrt(REPETITIONS)
        self.levels = 0.008 * nights(rng, noise, FARM, LENGTH)
        self.levels[:GROUP, STEP:] += SHIFT * np.hypot(0.008, scatter)
        self.runs = 0.01 * rng.normal(size=(FARM, LENGTH, 2 * REPETITIONS))
        self.rules, self.ids = rules, [f"c{i:02}" for i in range(FARM)]
        self.groups = [self.ids[i : i + GROUP] for i in range(0, FARM, GROUP)]
        self.values: list[list[Floats]] = [[] for _ in self.ids]
        self.judged: list[dict[str, dose.Seen]] = []
        self.taken, self.called, self.held, self.false = 0, LENGTH, LENGTH, 0

    def measure(self, night: int) -> list[int]:
        """A night's runs; the cells that had any."""
        times = dict.fromkeys(self.ids, 1)
        if self.rules is not None:
            past: dict[str, list[dose.Seen]] = {}
            for ago, of in enumerate(reversed(self.judged), 1):
                for cell, seen in of.items():
                    past.setdefault(cell, []).append(dose.Seen(ago, seen.sign, seen.moved, seen.undecided))
            shares = dose.doses(self.groups, past, self.rules, night)
            times = {cell: share.times for share in shares for cell in share.cells}
        for i, cell in enumerate(self.ids):
            runs = self.levels[i, night] + self.runs[i, night, : times[cell] * REPETITIONS]
            self.taken += runs.size
            if runs.size:
                self.values[i].append(np.pad(runs, (0, 2 * REPETITIONS - runs.size), constant_values=np.nan))
        return [i for i, cell in enumerate(self.ids) if times[cell]]

    def judge(self, night: int, measured: list[int]) -> None:
        """What the night's comparison says of the cells that were measured."""
        most = max((len(self.values[i]) for i in measured), default=0)
        if most <= BASELINE:
            self.judged.append({self.ids[i]: dose.Seen(1, "few nights") for i in measured})
            return
        values = np.full((len(measured), most, 2 * REPETITIONS), np.nan)
        for row, i in enumerate(measured):
            values[row, : len(self.values[i])] = self.values[i]
        last = np.array([len(self.values[i]) - 1 for i in measured])
        got = assess(Panel.of(values, BASELINE), last)
        verdicts = []
        for row, i in enumerate(measured):
            one = got.at(row)
            quiet: NightVerdict = "too noisy" if one.threshold > NOISY else "unchanged"
            said: NightVerdict = "regression" if one.moved else quiet
            verdicts.append(self.verdict(self.ids[i], said, one))
            if one.moved and i < GROUP and night >= STEP and one.shift > 0:
                self.called = min(self.called, night)
                self.held = min(self.held, night) if one.established else self.held
            self.false += one.moved and (i >= GROUP or night < STEP)
        self.judged.append({cell: seen for (_, _, cell), seen in dose.seen_of(verdicts, 1).items()})

    def verdict(self, cell: str, said: NightVerdict, one: One) -> CellVerdict:
        """As far as the policy reads it."""
        names = {"night": "n", "experiment": "e", "device": "d", "program": "p", "metric": "t", "unit": "ns"}
        of = {"cell_id": cell, "cell": cell, "verdict": said}
        return CellVerdict(**names, **of, evidence=one.evidence, established=one.established)

    def perform(self) -> "Farm":
        """All nights."""
        for night in range(LENGTH):
            self.judge(night, self.measure(night))
        return self


def main() -> int:
    """The tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--looked", type=int, default=40, help="cells that every night is looked at in full")
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--farms", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(f"| noise | ever called by a look, {args.nights} nights without a change | ever established |")
    print("|---|---|---|")
    for number, noise in enumerate(NOISES):
        x = nights(np.random.default_rng([args.seed, number]), noise, args.cells, args.nights)
        looked = called_ever(x[: args.looked])
        print(
            f"| {noise} | {looked:.0%} of {args.looked} | {(established(x) >= 0).mean():.2%} of {args.cells} |",
            flush=True,
        )
    print(f"\n| noise | nights before | {' | '.join(f'{size:g} s' for size in SIZES)} |")
    print("|---|---|" + "---|" * len(SIZES))
    for number, noise in enumerate(NOISES):
        for past in PASTS:
            rng = np.random.default_rng([args.seed, 10 + number, past])
            cells = [found(rng, noise, past, size, max(20, args.cells // 5)) for size in SIZES]
            row = " | ".join("/".join(f"{x:.0f}" if np.isfinite(x) else "–" for x in one) for one in cells)
            print(f"| {noise} | {past} | {row} |", flush=True)
    print("\n| noise | dose | runs | called after nights | established after | false calls |")
    print("|---|---|---|---|---|---|")
    for number, noise in enumerate(NOISES):
        for name, rules in (("all, every night", None), ("by what is undecided", DoseRules())):
            rngs = [np.random.default_rng([args.seed, 20 + number, farm]) for farm in range(args.farms)]
            farms = [Farm(rng, noise, rules).perform() for rng in rngs]
            after = [[one.called - STEP + 1 for one in farms], [one.held - STEP + 1 for one in farms]]
            said = " | ".join(f"{np.median(x):g} (at most {max(x)})" for x in after)
            runs = sum(one.taken for one in farms) / (args.farms * FARM * LENGTH * REPETITIONS)
            print(f"| {noise} | {name} | {runs:.0%} | {said} | {sum(one.false for one in farms)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
