"""How many planted mistakes in the agent's undo, journal and gates its tests notice.

    python -m tests.mutation.native undo gates --sample 20 --seed 1
    python -m tests.mutation.native --table

A mutant is one line of a header with one operator, number or condition changed (``changes``); what the compiler refuses
is none. It is judged by the tests that run the agent, and killed when one fails or none ends in time. To be quick the
agent is built without optimisation and sanitizers, so that a mistake only those notice survives here. Verdicts stand in
``build/mutation/native``; a run that was cut off goes on where it was.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mutation" / "native"
PARTS = {
    "undo": ("agent/undo.h", "agent/replay.h"),
    "journal": ("agent/journal.h",),
    "gates": ("agent/gates.h",),
}
_JUDGES = ("undo", "disk", "plans", "runs", "lease", "commands", "on_board_nodes", "others")
_NEEDED = ("devicelab", "native", "toolchains", "virtualboards", "tests")
_TIMEOUT_S = 240
_SWAPS = (
    (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "), (r" != ", " == "),
    (r" && ", " || "), (r" \|\| ", " && "), (r" \+ ", " - "), (r" - ", " + "), (r" \+= ", " -= "), (r" -= ", " += "),
    (r"\+\+(?=\w)", "--"), (r"\btrue\b", "false"), (r"\bfalse\b", "true"), (r"(?<=[( ])!(?=[\w(])", ""),
    (r"\bbreak;", ";"), (r"\bcontinue;", ";"), (r"\bSEEK_SET\b", "SEEK_CUR"),
)  # fmt: skip
_NUMBER = re.compile(r"(?<![\w.\"'])\d+(?![\w.\"'])")

Verdict = Literal["killed", "survived", "no mutant"]


@dataclass(frozen=True)
class Mutant:
    """A line of a header below ``native/`` and what it becomes."""

    path: str
    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """For the notes."""
        return f"{self.path}:{self.line}: {self.after.strip()}"


def changes(text: str) -> Iterator[str]:
    """What may become of a line of C++: each operator, number and condition changed once. Texts are left alone."""
    code, mark, comment = text.partition("  // ")
    if not code.strip() or code.lstrip().startswith(("//", "#", "template", "constexpr const char")):
        return
    quoted = [match.span() for match in re.finditer(r'"(?:[^"\\]|\\.)*"', code)]

    def outside(at: int) -> bool:
        return not any(start <= at < end for start, end in quoted)

    for pattern, instead in _SWAPS:
        for match in re.finditer(pattern, code):
            if outside(match.start()):
                yield code[: match.start()] + instead + code[match.end() :] + mark + comment
    for match in _NUMBER.finditer(code):
        if outside(match.start()):
            yield code[: match.start()] + str(int(match[0]) + 1) + code[match.end() :] + mark + comment


def mutants(part: str) -> list[Mutant]:
    """Every mutant of a part, in a fixed order."""
    found = []
    for path in PARTS[part]:
        lines = (ROOT / "native" / path).read_text(encoding="utf-8").splitlines()
        found += [Mutant(path, n, line, after) for n, line in enumerate(lines, 1) for after in changes(line)]
    return found


def main() -> int:
    """Judge what was asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; none: all")
    parser.add_argument("--sample", type=int, default=20, help="mutants of each part; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="only what has been judged so far")
    chosen = parser.parse_args()
    notes = BUILD / "verdicts.json"
    known: dict[str, Verdict] = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    lines = ["| part | mutants | judged | killed | survived | score |", "|---|---|---|---|---|---|"]
    for part in chosen.parts or PARTS:
        every = mutants(part)
        order = random.Random(chosen.seed).sample(every, len(every))
        judged: list[Mutant] = []
        for mutant in order:
            if chosen.sample and len(judged) == chosen.sample:
                break
            if mutant.name not in known and not chosen.table:
                known[mutant.name] = _judge(mutant)
                notes.parent.mkdir(parents=True, exist_ok=True)
                notes.write_text(json.dumps(known, indent=1), encoding="utf-8")
                print(f"{known[mutant.name]}: {mutant.name}", file=sys.stderr, flush=True)
            if known.get(mutant.name) in {"killed", "survived"}:
                judged.append(mutant)
        killed = sum(known[one.name] == "killed" for one in judged)
        share = "-"
        if judged:
            span = binomtest(killed, len(judged)).proportion_ci(method="wilson")
            share = f"{100 * killed / len(judged):.0f} % [{100 * span.low:.0f}, {100 * span.high:.0f}]"
        lines.append(f"| {part} | {len(every)} | {len(judged)} | {killed} | {len(judged) - killed} | {share} |")
    print("\n".join(lines))
    return 0


def _judge(mutant: Mutant) -> Verdict:
    """Build the agent with the mistake in a copy of the tree, and let its tests run."""
    tree = BUILD / "tree"
    for name in _NEEDED:
        shutil.copytree(ROOT / name, tree / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", tree / "pyproject.toml")
    for toolchain in ("host", "host-sanitize"):
        file = tree / "toolchains" / f"{toolchain}.toml"
        plain = re.sub(r"(?m)^(link_flags|flags) = .*$", r"\1 = []", file.read_text(encoding="utf-8"))
        file.write_text(plain, encoding="utf-8")
    header = tree / "native" / mutant.path
    lines = header.read_text(encoding="utf-8").splitlines()
    lines[mutant.line - 1] = mutant.after
    header.write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tree), "DEVICELAB_CACHE": str(BUILD / "cache")}
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider"]
    words += [f"tests/native/test_agent_{name}.py" for name in _JUDGES]
    try:
        done = subprocess.run(
            words, cwd=tree, env=environment, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return "killed"
    if "BuildError" in done.stdout:
        return "no mutant"
    return "survived" if done.returncode == 0 else "killed"


if __name__ == "__main__":
    raise SystemExit(main())
