"""Coverage-guided fuzzing of everything that reads texts from devices and files.

    python -m tests.fuzz --list
    python -m tests.fuzz klo --seconds 60
    python -m tests.fuzz --all --seconds 300 [--jobs 2] [--keep FOLDER] [--json FILE]

Needs the extra ``fuzz`` (atheris); the agent's own readers (targets ``agent-*``) need clang instead. A target starts
from valid inputs. What holds for every input: only a ``LabError`` with a message and an exit code comes out, within
10 s and 2 GiB, and nothing is written outside the folder meant for it. An input that breaks this is written to
FOLDER/TARGET/found-*, with the traceback beside it; once mended it belongs into ``tests/unit/test_fuzz.py``. The exit
code is 1 if anything was found.
"""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S, _RSS_MIB, _MAX_LEN = 10, 2048, 16_384


@dataclass
class Outcome:
    """What became of one target."""

    name: str
    what: str
    seconds: float
    runs: int = 0
    peak_mib: int = 0
    coverage: int = 0
    found: tuple[str, ...] = ()


def main() -> int:
    """Run the targets asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="inputs of interest and findings; a later run goes on from there")
    parser.add_argument("--json", type=Path, help="the table as JSON")
    parser.add_argument("--worker", metavar="TARGET", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        return _work(chosen.worker, chosen.keep, chosen.seconds)
    known = _known()
    if chosen.list or not (chosen.targets or chosen.all):
        for name, what in known.items():
            print(f"{name:16} {what}")
        return 0
    names = list(known) if chosen.all else chosen.targets
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no target {unknown[0]!r}; there are: {', '.join(known)}")
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="devicelab-fuzz-"))
    with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
        outcomes = []
        for outcome in pool.map(lambda name: _fuzz(name, known[name], folder / name, chosen.seconds), names):
            outcomes.append(outcome)
            print(f"{outcome.name:16} {outcome.runs:>10} runs, {len(outcome.found)} found", flush=True)
    _show(outcomes)
    if chosen.json:
        chosen.json.write_text(json.dumps([dataclasses.asdict(one) for one in outcomes], indent=1) + "\n")
    if any(outcome.found for outcome in outcomes):
        print(f"findings are in {folder}")
        return 1
    return 0


def _show(outcomes: list[Outcome]) -> None:
    print(f"\n{'target':16} {'seconds':>7} {'executions':>11} {'edges':>6} {'peak MiB':>8} {'found':>5}  what is read")
    for one in outcomes:
        numbers = f"{one.seconds:>7.0f} {one.runs:>11} {one.coverage:>6} {one.peak_mib:>8} {len(one.found):>5}"
        print(f"{one.name:16} {numbers}  {one.what}")
        for found in one.found:
            print(f"{'':16} {found}")


def _known() -> dict[str, str]:
    from tests.fuzz.all import TARGETS
    from tests.fuzz.native import NAMES

    return {**{name: target.what for name, target in TARGETS.items()}, **{n: what for n, (_, what) in NAMES.items()}}


def _fuzz(name: str, what: str, folder: Path, seconds: float) -> Outcome:
    from tests.fuzz import native

    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    if name in native.NAMES:
        program = native.build(name, folder)
        if program is None:
            return Outcome(f"{name} (no clang)", what, 0)
        _seed(folder, native.seeds(name), ())
        argv = [str(program), *_options(folder, seconds), str(folder / "corpus")]
    else:
        argv = [sys.executable, "-m", "tests.fuzz", "--worker", name, "--keep", str(folder), "--seconds", str(seconds)]
    with log.open("wb") as out:
        subprocess.run(argv, cwd=_ROOT, stdout=out, stderr=out, check=False)
    text = log.read_text(errors="replace")
    told = {key: int(number) for key, number in re.findall(r"stat::(\w+):\s+(\d+)", text)}
    covered = re.findall(r"cov: (\d+)", text)
    found = sorted(path.name for path in folder.glob("found-*") if path.suffix != ".txt")
    if not told.get("number_of_executed_units") and not found:
        found = ["it did not run: see its log"]
    return Outcome(
        name=name,
        what=what,
        seconds=seconds,
        runs=told.get("number_of_executed_units", 0),
        peak_mib=told.get("peak_rss_mb", 0),
        coverage=int(covered[-1]) if covered else 0,
        found=tuple(found),
    )


def _options(folder: Path, seconds: float) -> list[str]:
    return [
        f"-max_total_time={seconds:.0f}",
        f"-timeout={_TIMEOUT_S}",
        f"-rss_limit_mb={_RSS_MIB}",
        f"-max_len={_MAX_LEN}",
        f"-artifact_prefix={folder}/found-",
        "-print_final_stats=1",
        *([f"-dict={folder / 'words'}"] if (folder / "words").stat().st_size else []),
    ]


def _seed(folder: Path, seeds: object, words: tuple[bytes, ...]) -> None:
    for seed in seeds:  # type: ignore[attr-defined]
        (folder / "corpus" / f"seed-{hashlib.sha256(seed).hexdigest()[:16]}").write_bytes(seed)
        words = (*words, *re.findall(rb'"[A-Za-z_-]{2,20}"', seed[:20_000]))
    shown = ("".join(f"\\x{byte:02x}" for byte in word[:60]) for word in dict.fromkeys(words))
    (folder / "words").write_text("".join(f'"{word}"\n' for word in shown))


def _work(name: str, folder: Path, seconds: float) -> int:
    """One target in this process; libFuzzer never returns from it."""
    import atheris

    with atheris.instrument_imports(include=["devicelab", "tests.fuzz"]):
        from tests.fuzz.all import TARGETS
    from tests.fuzz.target import check

    target = TARGETS[name]
    _seed(folder, target.seeds(), target.words)
    known: set[str] = set()

    def one(data: bytes) -> None:
        try:
            check(target, data)
        except Exception as error:  # noqa: BLE001 - noted, and on to the next bug
            kind = _kind(error)
            if kind not in known:
                known.add(kind)
                (folder / f"found-{kind}").write_bytes(data)
                (folder / f"found-{kind}.txt").write_text(traceback.format_exc(), errors="replace")

    atheris.Setup([name, *_options(folder, seconds), str(folder / "corpus")], one)
    atheris.Fuzz()
    return 0


def _kind(error: BaseException) -> str:
    """Where an error came from: the innermost place in the product, and its type."""
    place = "test"
    for frame in traceback.extract_tb(error.__traceback__):
        if "/devicelab/" in frame.filename:
            place = f"{Path(frame.filename).stem}-{frame.lineno}"
    return f"{type(error).__name__}-{place}"


if __name__ == "__main__":
    sys.exit(main())
