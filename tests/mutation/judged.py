"""Reads what mutmut has judged in a scratch folder: scores, survivors, and which mutants are equivalent."""

import ast
import difflib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest

# mutmut's verdicts are the exit codes of its tests; any other one (a failure, the end of the time) is a kill.
_SURVIVED, _NO_TEST = {0}, {5, 33}
NOT_KILLED = {None} | _SURVIVED | _NO_TEST


@dataclass(frozen=True)
class Score:
    """What became of a place's mutants. A mutant that no test reaches counts as not noticed."""

    place: str
    mutants: int
    judged: int
    killed: int
    survived: int
    unreached: int
    equivalent: int

    @classmethod
    def of(cls, sample: Path) -> "Score":
        """The score of a sample in a scratch folder."""
        verdicts, taken = _verdicts(sample), _taken(sample)
        known = _equivalent()
        same = {name for name in _unnoticed(sample) if _is_same(_change(sample.parent, name), known)}
        judged = {name: verdicts[name] for name in taken if verdicts.get(name) is not None and name not in same}
        return cls(
            sample.stem,
            len(verdicts),
            len(judged),
            sum(code not in _SURVIVED | _NO_TEST for code in judged.values()),
            sum(code in _SURVIVED for code in judged.values()),
            sum(code in _NO_TEST for code in judged.values()),
            len(same),
        )

    @property
    def pct(self) -> float:
        """Share of the judged mutants that a test noticed, in percent."""
        return 100 * self.killed / self.judged if self.judged else 0.0


def table(scores: list[Score]) -> str:
    """One row a place, with the Wilson interval of 95 % where the mutants were a sample."""
    lines = [
        "| place | mutants | judged | killed | survived | no test | equivalent | score |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in scores:
        shown = f"{one.pct:.0f} %"
        if 0 < one.judged < one.mutants - one.equivalent:
            span = binomtest(one.killed, one.judged).proportion_ci(method="wilson")
            shown += f" [{100 * span.low:.0f}, {100 * span.high:.0f}]"
        lines.append(
            f"| {one.place} | {one.mutants} | {one.judged} | {one.killed} | {one.survived} | {one.unreached} "
            f"| {one.equivalent} | {shown} |"
        )
    return "\n".join(lines)


def survivors(sample: Path) -> str:
    """Each mutant of the sample that was not noticed, as the line it changes."""
    known, verdicts, lines = _equivalent(), _verdicts(sample), []
    for name in _unnoticed(sample):
        if not _is_same(change := _change(sample.parent, name), known):
            path, before, after = change
            reached = "" if verdicts[name] in _SURVIVED else "  (no test)"
            lines.append(f"{path} {name.rsplit('.', 1)[-1]}{reached}\n  - {before}\n  + {after}")
    return "\n".join(lines)


def _is_same(change: tuple[str, str, str], known: set[tuple[str, str, str]]) -> bool:
    """Listed, or the ``strict`` of a ``zip``: an assertion that holds by construction and that nobody can see."""
    return change in known or change[1].replace("strict=True", "strict=False") == change[2]


def _taken(sample: Path) -> list[str]:
    return sample.read_text(encoding="utf-8").split()


def _verdicts(sample: Path) -> dict[str, int | None]:
    """What was judged of every mutant of the sample's place."""
    found: dict[str, int | None] = {}
    for path in sorted((sample.parent / "mutants").rglob("*.py.meta")):
        found |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return {name: code for name, code in found.items() if name.startswith(f"devicelab.{sample.stem}.")}


def _unnoticed(sample: Path) -> list[str]:
    verdicts = _verdicts(sample)
    return [name for name in _taken(sample) if verdicts.get(name) in _SURVIVED | _NO_TEST]


def _equivalent() -> set[tuple[str, str, str]]:
    listed = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text(encoding="utf-8"))
    return {(one["path"], one["line"], one["mutant"]) for one in listed.get("mutants", [])}


def _change(folder: Path, name: str) -> tuple[str, str, str]:
    """Path below devicelab/, the line, and what the mutant made of it."""
    module, function = name.rsplit(".", 1)
    path = Path(*module.split(".")).with_suffix(".py")
    if not (folder / "mutants" / path).exists():
        path = Path(*module.split("."), "__init__.py")
    tree = _functions(folder / "mutants" / path)
    mangled, _, number = function.rpartition("__mutmut_")
    before, after = tree[f"{mangled}__mutmut_orig"], tree[f"{mangled}__mutmut_{number}"]
    changed = [line for line in difflib.ndiff(before, after) if line[:2] in ("- ", "+ ")]
    texts = {
        sign: " ".join(line[2:].strip() for line in changed if line[0] == sign and "__mutmut_" not in line)
        for sign in "-+"
    }
    return str(path.relative_to("devicelab")), texts["-"], texts["+"]


def _functions(path: Path) -> dict[str, list[str]]:
    """Lines of each function or method of a mutated module, by mangled name."""
    if path not in _READ:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        _READ[path] = {
            node.name: lines[node.lineno - 1 : node.end_lineno]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "__mutmut_" in node.name
        }
    return _READ[path]


_READ: dict[Path, dict[str, list[str]]] = {}
