"""How long the command line takes to start: `--help` beside the smallest Typer program, `devices`, the import alone.

    python benchmarks/startup.py [--rounds 20] [--no-board]

Each starts a fresh interpreter whose modules are compiled already, as pip leaves them. `--help` and the smallest Typer
program that shows its help take turns; medians of user + system CPU time are compared, so that other work on the
machine matters little. At most 1.15 is the goal: what is above 1 is the import of the commands' modules and the lines
of forty commands.
`devicelab devices` is CPU time with one virtual board attached (0.6 s is the goal; an empty lab.toml, the adb server
is up; other boards that are attached are asked as well), `import devicelab` CPU time beyond an empty program's (0.1 s
is the goal).
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EMPTY = "pass"
BARE = "import typer\napp = typer.Typer()\n@app.command()\ndef main() -> None: ...\napp(['--help'])"
OURS = "import sys\nfrom devicelab.cli import main\nsys.argv = ['devicelab', '--help']\nmain()"
DEVICES = OURS.replace("--help", "devices")
IMPORT = "import devicelab"


def cpu_s(code: str, compiled: Path, cwd: Path) -> float:
    """CPU seconds of a fresh interpreter that runs the code."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(compiled), "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, env=environment, cwd=cwd, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians(rounds: int, *codes: str) -> list[float]:
    """Median CPU seconds of each; they take turns."""
    taken: dict[str, list[float]] = {code: [] for code in codes}
    with tempfile.TemporaryDirectory() as place:
        for code in codes:
            cpu_s(code, Path(place) / "compiled", Path(place))
        for _ in range(rounds):
            for code, times in taken.items():
                times.append(cpu_s(code, Path(place) / "compiled", Path(place)))
    return [statistics.median(times) for times in taken.values()]


def with_a_board(rounds: int) -> float:
    """Median CPU seconds of `devicelab devices` with a virtual board."""
    sys.path.insert(0, str(ROOT))
    from virtualboards import lifecycle

    board = lifecycle.up("note10", abi="x86_64")[0]
    try:
        return medians(rounds, DEVICES)[0]
    finally:
        lifecycle.down([board.name])


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-board", action="store_true", help="without `devicelab devices`")
    args = parser.parse_args()
    bare, ours, empty, alone = medians(args.rounds, BARE, OURS, EMPTY, IMPORT)
    print(f"{'program':<28}{'CPU ms':>8}{'ratio':>8}")
    print(f"{'smallest Typer program':<28}{bare * 1000:>8.0f}{1:>8.2f}")
    print(f"{'devicelab --help':<28}{ours * 1000:>8.0f}{ours / bare:>8.2f}")
    print(f"import devicelab: {(alone - empty) * 1000:.1f} ms of CPU beyond an empty program's {empty * 1000:.1f} ms")
    if not args.no_board:
        print(f"devicelab devices, one board: {with_a_board(max(3, args.rounds // 4)):.2f} s")


if __name__ == "__main__":
    main()
