"""How many planted mistakes the fast tests notice.

    python -m tests.mutation knobs analyses/_stats.py        # rooms and files of the product, 60 mutants each
    python -m tests.mutation --changed [--base main]         # files changed since
    python -m tests.mutation knobs --sample 0                # every mutant
    python -m tests.mutation knobs --seed 7 --survivors      # another sample; what was not noticed, as differences
    python -m tests.mutation knobs --own                     # by the tests that are called after it alone: quick
    python -m tests.mutation --table                         # what has been judged so far

Needs the extra ``mutation`` (mutmut). A mutant is one operator, bound, number or condition changed (see
``operators.py``); it is judged by those fast tests that call the function, and killed when one fails or none ends in
time. Mutants in ``equivalent.toml`` do not count. The exit code is 1 if a place's score is below ``--at-least``.

Work stands in ``build/mutation``, one folder for each set of places. The run of all fast tests that says which of them
call which function is made again only when the product or what the tests share has changed; of new or changed test
files only their own tests run. A run that was cut off goes on where it was; what survived is judged again each time.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

from tests.mutation.judged import Score, survivors, table
from tests.mutation.memory import forget, known_by

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mutation"
_NEEDED = (
    "devicelab",
    "virtualboards",
    "native",
    "toolchains",
    "experiments",
    "reports",
    "tests",
    "docs",
    "benchmarks",
)
_FILES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "constraints.txt")
# They look at the source itself, which is another one here, or at what another process does.
_NOT_JUDGES = (
    "tests/unit/test_docs.py",
    "tests/unit/test_ground_extras.py::test_what_is_imported_is_a_dependency_or_has_an_extra",
    "tests/unit/test_wheel.py",
)
# Alembic loads migrations by their path, under names of its own, so that no test can be told that calls them; what they
# make is compared with ``store/schema.py`` column by column. The same goes for scripts that run under another Python.
_CONFIG = """
[tool.mutmut]
source_paths = ["devicelab"]
only_mutate = [{only}]
do_not_mutate = ["devicelab/store/migrations/*", "devicelab/workloads/scripts/*"]
also_copy = [{copied}]
pytest_add_cli_args = [
    "-m", "not slow and not sim and not sshd", "-n0", "--timeout=0", "-p", "no:cacheprovider", {ignored}
]
pytest_add_cli_args_test_selection = [{tests}]
timeout_multiplier = 10.0
timeout_constant = 5.0
use_setproctitle = false
use_git_change_detection = false
"""


def main() -> int:
    """Judge what was asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", metavar="PLACE", help="a room or a file below devicelab/")
    parser.add_argument("--changed", action="store_true", help="files that differ from --base")
    parser.add_argument("--base", default="main")
    parser.add_argument("--sample", type=int, default=60, help="mutants of each place; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--own", action="store_true", help="only the tests that are called after the room")
    parser.add_argument("--survivors", action="store_true", help="show what was not noticed")
    parser.add_argument("--table", action="store_true", help="only what has been judged so far")
    parser.add_argument("--at-least", type=float, default=0, metavar="PCT")
    parser.add_argument("--verbose", action="store_true", help="mutmut's own output")
    chosen = parser.parse_args()
    places = [*chosen.places, *(_changed(chosen.base) if chosen.changed else [])]
    if wrong := [place for place in places if not (ROOT / "devicelab" / place).exists()]:
        parser.error(f"there is no devicelab/{wrong[0]}")
    if not chosen.table:
        if not places:
            parser.error("name a room (knobs), a file (analyses/_stats.py) or --changed")
        print(f"{', '.join(places)}: making and judging mutants", file=sys.stderr, flush=True)
        _judge(places, chosen)
    samples = sorted((_folder(places, own=chosen.own) if places else BUILD).rglob("*.sample"))
    scores = [Score.of(sample) for sample in samples]
    print(table(scores))
    if chosen.survivors:
        for sample in samples:
            print(survivors(sample))
    return 1 if any(score.pct < chosen.at_least for score in scores) else 0


def _folder(places: list[str], *, own: bool) -> Path:
    """The scratch folder of a set of places; a long name ends in its checksum."""
    name = "+".join(sorted(_name(place) for place in places)) + ("~own" if own else "")
    return BUILD / (name if len(name) < 80 else f"{name[:70]}-{zlib.crc32(name.encode()):08x}")


def _name(place: str) -> str:
    return place.strip("/").replace("/", ".").removesuffix(".py")


def _changed(base: str) -> list[str]:
    names = subprocess.run(
        ["git", "diff", "--name-only", "--diff-filter=d", base, "--", "devicelab"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    return [name.removeprefix("devicelab/") for name in names if name.endswith(".py")]


def _tests(places: list[str], *, own: bool) -> list[str]:
    """What judges: every fast test, or the files that are called after the rooms."""
    if not own:
        return ["tests/unit", "tests/contracts"]
    rooms = {_name(place).partition(".")[0] for place in places}
    return sorted(str(path.relative_to(ROOT)) for room in rooms for path in ROOT.glob(f"tests/unit/test_{room}*.py"))


def _judge(places: list[str], chosen: argparse.Namespace) -> None:
    """Make the scratch folder of these places as the code is now, and let mutmut work in it.

    Raises:
        SystemExit: mutmut could not work (the fast tests fail without any mutant, for instance).
    """
    folder = _folder(places, own=chosen.own)
    (folder / "mutants").mkdir(parents=True, exist_ok=True)
    for old in (*(folder / name for name in _NEEDED), *(folder / "mutants" / name for name in _NEEDED[1:])):
        shutil.rmtree(old, ignore_errors=True)
    for name in _NEEDED:
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for old in (folder / "mutants" / "devicelab").rglob("*"):
        source = folder / old.relative_to(folder / "mutants")
        if old.is_file() and not (source if old.suffix != ".meta" else source.with_suffix("")).exists():
            old.unlink()  # a module that is no more would be found by its name
    for name in _FILES:
        shutil.copy2(ROOT / name, folder / name)
    only = [f"devicelab/{place}" if place.endswith(".py") else f"devicelab/{place.strip('/')}/*" for place in places]
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8") + _CONFIG.format(
        only=", ".join(f'"{one}"' for one in only),
        tests=", ".join(f'"{one}"' for one in _tests(places, own=chosen.own)),
        copied=", ".join(f'"{name}"' for name in (*_NEEDED[1:], *_FILES)),
        ignored=", ".join(f'"--deselect={name}"' for name in _NOT_JUDGES),
    )
    tomllib.loads(text)
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    forget(folder, known_by(ROOT))
    for old in folder.glob("*.sample"):
        old.unlink()
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'mutants'}:{folder}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation.driver", str(chosen.seed), str(chosen.sample), *map(_name, places)],
        cwd=folder, env=environment, check=False, text=True,
        stdout=None if chosen.verbose else subprocess.PIPE, stderr=None if chosen.verbose else subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{(done.stdout or '')[-3000:]}\nmutmut ended with {done.returncode}")


if __name__ == "__main__":
    raise SystemExit(main())
