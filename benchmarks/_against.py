"""Two commits on one machine: the same scripts, taking turns, and how far their figures lie apart.

The other commit is unpacked beside this checkout, with this checkout's ``benchmarks/`` and under this Python: what
differs is the product. A round runs each script once on both, in turn who is first. Of each figure the ratio (this
checkout by the other) is formed within a round, and its interval over the rounds is that of paired data (Hodges-Lehmann
with the interval of Wilcoxon's test); below ``MIN_REPETITIONS`` rounds there is none, and nothing is said to differ.
"""

import math
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from benchmarks._table import Benchmark
from devicelab.analyses import _stats

_ROOT = Path(__file__).resolve().parent.parent
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Apart:
    """One figure of both: medians over the rounds, and the ratio with its interval."""

    what: str
    here: float
    there: float
    ratio: _stats.Interval

    @property
    def words(self) -> str:
        """What the interval says of this checkout's figure."""
        low, high = self.ratio.low, self.ratio.high
        if low is None or high is None:
            return f"too few rounds ({self.ratio.n}; {_stats.MIN_REPETITIONS} are the least)"
        if low > 1:
            return "more"
        return "less" if high < 1 else "not told apart"


def apart(rounds: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> tuple[Apart, ...]:
    """Each figure that both had in every round, in the order of the first; one that was 0 or below has no ratio."""
    if not rounds:
        return ()
    shared = [what for what in rounds[0][0] if all(what in here and what in there for here, there in rounds)]
    found = []
    for what in shared:
        pairs = [(here[what], there[what]) for here, there in rounds]
        if any(one <= 0 or other <= 0 for one, other in pairs):
            continue
        ratio = _stats.location([math.log(one / other) for one, other in pairs]).map(math.exp)
        middle = [sorted(column)[len(pairs) // 2] for column in zip(*pairs, strict=True)]
        found.append(Apart(what, middle[0], middle[1], ratio))
    return tuple(found)


def compare(revision: str, chosen: Sequence[Benchmark], *, quick: bool, rounds: int) -> int:
    """Run and print; exit code 1 if a script failed on one of the two."""
    with tempfile.TemporaryDirectory(prefix="devicelab-") as name:
        other = Path(name)
        _unpack(revision, other)
        failed = False
        for one in chosen:
            words = tuple(os.path.expandvars(word) for word in (one.quick if quick else one.full))
            print(f"{one.name} {' '.join(words)}, {rounds} rounds, load average {os.getloadavg()[0]:.1f}", flush=True)
            seen = []
            for number in range(rounds):
                trees = [_ROOT, other] if number % 2 == 0 else [other, _ROOT]
                got = {tree: _figures(one, tree, words) for tree in trees}
                seen.append((got[_ROOT], got[other]))
            failed |= not all(here and there for here, there in seen)
            for row in apart(seen):
                low, high = row.ratio.low, row.ratio.high
                span = f"[{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
                print(f"  {row.what}: {row.here:g} / {row.there:g}: {row.ratio.estimate:.3f} {span} {row.words}")
    return int(failed)


def _unpack(revision: str, to: Path) -> None:
    done = subprocess.run(["git", "archive", "--format=tar", revision], cwd=_ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"no commit {revision!r}: {done.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(to, filter="data")
    for path in (to / "benchmarks").iterdir():
        path.unlink()
    for path in (_ROOT / "benchmarks").iterdir():
        if path.is_file():
            (to / "benchmarks" / path.name).write_bytes(path.read_bytes())


def _figures(one: Benchmark, tree: Path, words: Sequence[str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(tree / "benchmarks" / f"{one.name}.py"), *words],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    figures = one.read(done.stdout) if done.stdout.strip() else []
    if not figures:
        print(f"  {one.name} failed in {tree} (exit code {done.returncode}): {done.stderr[-500:]}", flush=True)
    return {row.what: float(found[0]) for row in figures if (found := _NUMBER.search(row.ours))}
