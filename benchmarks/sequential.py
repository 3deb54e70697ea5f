"""How soon and how surely does a campaign that stops when it is decided come to its answer?

    python benchmarks/sequential.py [--campaigns 400] [--races 400] [--searches 20] [--seed 1]

Planted truth, looked at after every block. A campaign has a base cell and four others, claims are "does it differ from
the base by more than 2 %?". All cells of a block share its drift (5 %, a random walk of blocks); runs scatter by a
level drawn for each campaign (0.3 % to 3 % of the figure, log-uniform, as campaigns differ in that). Noise: normal;
``heavy``, Student's t with 3 degrees of freedom; ``outliers``, every twentieth run 10 % to 60 % slower; ``skewed``,
exponential.

- coverage: how often a sequence holds the truth at *every* look up to 60 repetitions, beside the fixed-n interval
  (Hodges-Lehmann, as an experiment with a fixed number of repetitions has it) looked at in the same way.
- A/A: campaigns without any difference that say "yes" at all, beside the rule "stop when the fixed-n interval is
  decided".
- power: effects of 0, 0, 4, 8 and 16 % with random sign. Runs until all are decided (60 repetitions at most), beside
  the fixed number of repetitions that decides as many of the claims correctly.
- search: 270 settings of four factors with a planted optimum, 40 tried as Optuna proposes; brute force is 6
  repetitions of each.
- racing: curves of the launch model for random networks and costs, 11 constant K, scatter 0.3 to 2 %; the model that
  the race starts from has costs that are wrong by about 15 %. Brute force is 8 repetitions of each K.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.analyses import _stats
from devicelab.analyses.klo.model import LaunchCosts, constant_curve
from devicelab.experiment import proposing, racing, sequences, stopping
from devicelab.experiment.blocks import Block
from devicelab.experiment.claims import Claim
from devicelab.model.experiment import Level
from devicelab.model.stop import Stop

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

NOISES: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy": lambda rng, n: rng.standard_t(3, n) / np.sqrt(3),
    "outliers": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.exponential(size=n) - 1,
}
WITHIN, MOST = 0.02, 60
EFFECTS = (0.0, 0.0, 0.04, 0.08, 0.16)
KS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 29)
FULL = 8
_PARTS = ("looks", "power", "races", "searches")


class World:
    """One campaign's truth: what a run of a cell in a block gives."""

    def __init__(self, rng: np.random.Generator, noise: str, logs: Sequence[float]) -> None:
        scatter = np.exp(rng.uniform(np.log(0.003), np.log(0.03)))
        drift = np.cumsum(rng.normal(size=MOST)) * 0.05 / np.sqrt(MOST)
        runs = np.stack([NOISES[noise](rng, MOST) for _ in logs]) * scatter
        if noise == "outliers":
            wild = rng.random(runs.shape) < 0.05
            runs += np.where(wild, np.log1p(rng.uniform(0.1, 0.6, runs.shape)), 0.0)
        self.logs: Floats = np.asarray(logs)[:, None] + drift + runs

    def figures(self) -> dict[str, dict[int, float]]:
        """Every run that could be made."""
        return {f"c{i}": {n: float(np.exp(x)) for n, x in enumerate(row)} for i, row in enumerate(self.logs)}


def claims_of(count: int) -> tuple[Claim, ...]:
    """One claim a cell, over the base ``c0``."""
    return tuple(
        Claim(f"c{i}", "t", (f"c{i}",), ("c0",), "ratio", 1 - WITHIN, 1 + WITHIN, "no", "yes", family=count)
        for i in range(1, count + 1)
    )


def conducted(world: World, stop: Stop) -> tuple[list[stopping.Decision], int]:
    """The decisions of a campaign, and how many runs it took."""
    cells = [f"c{i}" for i in range(len(world.logs))]
    claims, figures, stored = claims_of(len(cells) - 1), world.figures(), set[tuple[str, int]]()
    while isinstance(step := stopping.ask(stop, claims, cells, lambda _: figures, stored), Block):
        stored |= {(cell, n) for cell in step.cells for n in step.repetitions}
    kept = {cell: {n: x for n, x in row.items() if (cell, n) in stored} for cell, row in figures.items()}
    return [stopping.decide(claim, kept, step.done, stop, len(claims)) for claim in claims], len(stored)


def fixed(world: World, n: int) -> list[str]:
    """Verdicts of as many repetitions of every cell."""
    share = 1 - 0.05 / (len(world.logs) - 1)
    rows = [_stats.location(row[:n] - world.logs[0, :n], share).map(np.exp) for row in world.logs[1:]]
    return [_stats.differs(row, WITHIN) for row in rows]


def coverage(rng: np.random.Generator, noise: str, campaigns: int) -> tuple[float, float]:
    """Share of claims whose interval holds the truth at every look: ours, and the fixed-n interval looked at."""
    kept, peeked = 0, 0
    for _ in range(campaigns):
        effect = rng.choice(EFFECTS)
        world = World(rng, noise, (0.0, effect))
        x = world.logs[1] - world.logs[0]
        kept += sequences.wealth(x, effect).max() < 1 / sequences.ALPHA
        looks = [_stats.location(x[:n]) for n in range(6, MOST + 1)]
        peeked += all(one.low is None or one.high is None or one.low <= effect <= one.high for one in looks)
    return kept / campaigns, peeked / campaigns


def alarms(rng: np.random.Generator, noise: str, campaigns: int) -> tuple[float, float, float]:
    """A/A: share of campaigns with a "yes" (ours, fixed-n peeked at), and of ours that are decided "no" throughout."""
    ours, theirs, settled = 0, 0, 0
    for _ in range(campaigns):
        world = World(rng, noise, (0.0,) * 5)
        verdicts = [one.verdict for one in conducted(world, Stop(max_repetitions=MOST))[0]]
        ours += "yes" in verdicts
        settled += all(verdict == "no" for verdict in verdicts)
        theirs += _peeked_says_yes(world)
    return ours / campaigns, theirs / campaigns, settled / campaigns


def _peeked_says_yes(world: World) -> bool:
    """Whether "stop each claim when its plain 95 % interval is decided" says yes anywhere."""
    for row in world.logs[1:]:
        for n in range(6, MOST + 1):
            verdict = _stats.differs(_stats.location(row[:n] - world.logs[0, :n]).map(np.exp), WITHIN)
            if verdict in {"yes", "no"}:
                if verdict == "yes":
                    return True
                break
    return False


def power(rng: np.random.Generator, noise: str, campaigns: int) -> tuple[float, float, float, int]:
    """Share decided correctly and runs a campaign; the same share with a fixed n, and that n."""
    right, runs, claims = 0, 0, 0
    worlds: list[tuple[World, list[str]]] = []
    for _ in range(campaigns):
        effects = [float(e) * float(rng.choice([-1, 1])) for e in rng.permutation(EFFECTS[1:])]
        truth = ["yes" if abs(np.expm1(e)) > WITHIN else "no" for e in effects]
        world = World(rng, noise, (0.0, *effects))
        worlds.append((world, truth))
        decisions, taken = conducted(world, Stop(max_repetitions=MOST))
        right += sum(one.verdict == want for one, want in zip(decisions, truth, strict=True))
        runs += taken
        claims += len(truth)
    ours = right / claims

    def share(n: int) -> float:
        return sum(a == b for world, truth in worlds for a, b in zip(fixed(world, n), truth, strict=True)) / claims

    needed = next((n for n in range(8, MOST + 1) if share(n) >= ours), MOST)
    return ours, runs / campaigns, share(needed), needed


def race(rng: np.random.Generator) -> tuple[float, int]:
    """How far (share) the K that a race finds is behind the best, and the runs it took with its fresh ones."""
    kernels = KS[-1]
    p = rng.lognormal(np.log(30e3), 0.4, kernels)
    g = rng.lognormal(np.log(rng.choice([20e3, 60e3, 150e3])), 0.8, kernels)
    costs = np.array([rng.uniform(5e3, 40e3), rng.uniform(20e3, 200e3), rng.uniform(1e3, 30e3)])
    cells = [f"k{k}" for k in KS]
    truth = dict(zip(cells, constant_curve(p, g, LaunchCosts(*costs))[np.array(KS) - 1], strict=True))
    wrong = LaunchCosts(*(costs * rng.lognormal(0, 0.15, 3)))
    predicted = dict(zip(cells, constant_curve(p * rng.lognormal(0, 0.03), g, wrong)[np.array(KS) - 1], strict=True))
    scatter = np.exp(rng.uniform(np.log(0.003), np.log(0.02)))
    values: dict[str, dict[int, float]] = {}
    stored: set[tuple[str, int]] = set()

    def predict(seen: racing.Values) -> racing.Predicted | None:
        return racing.trusted(predicted, cells, seen)

    propose = racing.from_prediction(cells, predict, ("k1", "k6", "k29"))
    while isinstance(
        step := racing.ask(Stop(max_repetitions=MOST), propose, cells, values, stored, predict=predict), Block
    ):
        for n in step.repetitions:
            drift = 0.03 * rng.normal()
            for cell in step.cells:
                values.setdefault(cell, {})[n] = truth[cell] * np.exp(drift + scatter * rng.normal())
                stored.add((cell, n))
    if not isinstance(step, racing.Won):
        raise SystemExit(f"the race ended without a winner: {step}")
    return truth[step.cell] / min(truth.values()) - 1, len(stored)


def search(rng: np.random.Generator) -> tuple[float, int]:
    """How far (share) the setting that a search finds is behind the best of 270, and the runs it took."""
    best = rng.integers(1, 5)
    clocks, places = rng.permutation(3) * 0.08, rng.permutation(3) * 0.05
    factors = {"k": (1, 2, 4, 8, 16, 32), "cpu": (500, 1000, 1500, 2000, 2500), "gpu": (0, 1, 2), "at": (0, 1, 2)}
    cells: dict[str, dict[str, Level]] = {}
    truth = {}
    for number, levels in enumerate(itertools.product(*factors.values())):
        k, cpu, gpu, at = levels
        cells[f"s{number:03}"] = {"k": k, "cpu": cpu, "gpu": "abc"[gpu], "placement": "abc"[at]}
        slow = 0.06 * (np.log2(k) - best) ** 2 + 0.15 * (2500 / cpu - 1) + clocks[gpu] + places[at]
        truth[f"s{number:03}"] = float(np.exp(slow))
    values: dict[str, dict[int, float]] = {}
    stored: set[tuple[str, int]] = set()
    propose = proposing.from_optuna(cells, 40, 1)
    while isinstance(step := racing.ask(Stop(max_repetitions=MOST), propose, tuple(cells), values, stored), Block):
        for n in step.repetitions:
            drift = 0.05 * rng.normal()
            for cell in step.cells:
                values.setdefault(cell, {})[n] = truth[cell] * np.exp(drift + 0.01 * rng.normal())
                stored.add((cell, n))
    if not isinstance(step, racing.Won):
        raise SystemExit(f"the search ended without a winner: {step}")
    return truth[step.cell] / min(truth.values()) - 1, len(stored)


def main() -> int:
    """The tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=400)
    parser.add_argument("--races", type=int, default=400)
    parser.add_argument("--searches", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--parts", nargs="+", choices=_PARTS, default=_PARTS, help="these alone; whole takes 12 minutes"
    )
    args = parser.parse_args()
    if "looks" in args.parts:
        _looks(args.seed, args.campaigns)
    if "power" in args.parts:
        _power(args.seed, args.campaigns // 2)
    if "races" in args.parts:
        _races(args.seed, args.races)
    if "searches" in args.parts:
        _searches(args.seed, args.searches)
    return 0


def _looks(seed: int, campaigns: int) -> None:
    print("| noise | covered, looked at | fixed-n, looked at | A/A alarms | fixed-n, looked at | A/A decided |")
    print("|---|---|---|---|---|---|")
    for number, noise in enumerate(NOISES):
        rng = np.random.default_rng([seed, number])
        ours, peeked = coverage(rng, noise, 2 * campaigns)
        alarm, naive, settled = alarms(rng, noise, campaigns)
        print(f"| {noise} | {ours:.1%} | {peeked:.1%} | {alarm:.2%} | {naive:.2%} | {settled:.1%} |", flush=True)


def _power(seed: int, campaigns: int) -> None:
    print("\n| noise | decided correctly | runs | fixed n | runs | decided correctly | saved |")
    print("|---|---|---|---|---|---|---|")
    for number, noise in enumerate(NOISES):
        ours, runs, same, n = power(np.random.default_rng([seed, 10 + number]), noise, campaigns)
        cells = len(EFFECTS)
        most = "≥ " if same < ours else ""
        saved = f"{1 - runs / n / cells:.0%}"
        row = (noise, f"{ours:.1%}", f"{runs:.1f}", f"{most}{n}", n * cells, f"{same:.1%}", saved)
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def _races(seed: int, races: int) -> None:
    rng = np.random.default_rng([seed, 99])
    behind, taken = np.array([race(rng) for _ in range(races)]).T
    share = taken.mean() / (len(KS) * FULL)
    print(f"\nracing: {np.mean(behind <= 0.01):.1%} within 1 % of the best K, worst {behind.max():.1%} behind")
    print(f"racing: {taken.mean():.1f} runs, of {len(KS) * FULL} of brute force: {share:.1%}", flush=True)


def _searches(seed: int, searches: int) -> None:
    rng = np.random.default_rng([seed, 98])
    behind, taken = np.array([search(rng) for _ in range(searches)]).T
    print(f"search: {np.mean(behind <= 0.01):.1%} within 1 % of the best setting, worst {behind.max():.1%} behind")
    print(f"search: {taken.mean():.1f} runs, of {270 * 6} of brute force: {taken.mean() / 270 / 6:.1%}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
