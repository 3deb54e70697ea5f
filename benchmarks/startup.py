"""How long `devicelab --help` takes, as a ratio to the smallest Typer program that shows its help.

    python benchmarks/startup.py [--rounds 20]

Both start a fresh interpreter; rounds alternate, and medians of user + system CPU time are compared, so that other
work on the machine matters little. At most 1.5 is the goal: what is above 1 is the import of the commands' modules.
"""

import argparse
import os
import statistics
import subprocess
import sys

BARE = "import typer\napp = typer.Typer()\n@app.command()\ndef main() -> None: ...\napp(['--help'])"
OURS = "import sys\nfrom devicelab.cli import main\nsys.argv = ['devicelab', '--help']\nmain()"


def cpu_s(code: str) -> float:
    """CPU seconds of a fresh interpreter that runs the code."""
    before = os.times()
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[float]] = {BARE: [], OURS: []}
    for _ in range(rounds):
        for code, times in taken.items():
            times.append(cpu_s(code))
    bare, ours = (statistics.median(times) for times in taken.values())
    print(f"{'program':<28}{'CPU ms':>8}{'ratio':>8}")
    print(f"{'smallest Typer program':<28}{bare * 1000:>8.0f}{1:>8.2f}")
    print(f"{'devicelab --help':<28}{ours * 1000:>8.0f}{ours / bare:>8.2f}")


if __name__ == "__main__":
    main()
