"""All benchmarks with one command, and their table.

    python -m benchmarks [--quick] [--only NAME ...] [--to docs/benchmarks.md]
    python -m benchmarks --list
    python -m benchmarks --read NAME FILE
    python -m benchmarks --against HEAD~N [--quick] [--only NAME ...] [--rounds 6]

Every benchmark is a script of its own in this folder and runs in a process of its own, one after the other. Its
figures are merged into a JSON file beside the table (``docs/benchmarks.json``), so that one row can be measured again
when the machine is quiet, and the table is written anew from that. The load average at the start stands in every row;
where it is above half of the CPUs, figures of benchmarks that need a quiet machine are marked. Exit code 1 if a
benchmark failed or could not be read (its row stays as it was); missing a goal is no failure here. ``--read`` takes the
figures from what a script printed when it was started by hand on this machine. ``--against`` writes no table: it
compares this checkout with another commit on this machine (see ``_against.py``).

``orchestration`` needs the Python of an environment with devlib==1.3.4 in ``DEVICELAB_DEVLIB``; ``layer_overhead`` has
a peer where ``DEVICELAB_INTERCEPT`` names the libOpenCL.so of a build of intel/opencl-intercept-layer; ``k_on_drivers``
needs Mesa's Rusticl (see ``_opencl_drivers.py``).
"""

import argparse
import dataclasses
import datetime as dt
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import _against
from benchmarks._table import BENCHMARKS, Benchmark

_ROOT = Path(__file__).resolve().parent.parent
_HEAD = """# Benchmarks

Written by `python -m benchmarks`; `--only NAME` measures one row again, `--quick` the short form of each. Every figure
stands beside a peer's, or beside the physical limit, measured in the same run. How each is measured stands at the top
of its script in `benchmarks/`. `--against HEAD~N` compares this checkout with another commit on one machine, taking
turns, with intervals.
"""


def main() -> int:
    """Run what was asked for, merge, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the short form of each")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="these alone")
    parser.add_argument("--to", type=Path, default=_ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--read", nargs=2, metavar=("NAME", "FILE"), help="what its script printed, instead of running")
    parser.add_argument("--against", metavar="REVISION", help="compare with another commit instead, taking turns")
    parser.add_argument("--rounds", type=int, default=6, help="of --against")
    args = parser.parse_args()
    known = {one.name: one for one in BENCHMARKS}
    if args.list:
        print("\n".join(f"{name:18} {one.title}" for name, one in known.items()))
        return 0
    if args.read:
        args.only = args.read[:1]
    if unknown := [name for name in args.only if name not in known]:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(known)}")
    if args.against:
        chosen = [known[name] for name in args.only or known]
        return _against.compare(
            args.against, [one for one in chosen if not one.missing()], quick=args.quick, rounds=args.rounds
        )
    place = args.to.with_suffix(".json")
    rows: dict[str, Any] = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
    failed = False
    for name in args.only or known:
        one = known[name]
        missing = None if args.read else one.missing()
        if missing:
            print(f"{name}: not run: {missing}", flush=True)
            continue
        row = _row(one, Path(args.read[1]).read_text(), quick=args.quick) if args.read else _run(one, quick=args.quick)
        if row is None:
            failed = True
            continue
        rows[name] = row
        place.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        args.to.write_text(table(rows), encoding="utf-8")
    print(f"{args.to} has {len(rows)} of {len(known)} benchmarks")
    return int(failed)


def _run(one: Benchmark, *, quick: bool) -> dict[str, Any] | None:
    arguments = [os.path.expandvars(word) for word in (one.quick if quick else one.full)]
    load = os.getloadavg()[0]
    print(f"{one.name} {' '.join(arguments)} ...", flush=True)
    script = Path(__file__).with_name(f"{one.name}.py")
    done = subprocess.run(
        [sys.executable, str(script), *arguments], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    row = _row(one, done.stdout, quick=quick, load=load)
    if row is None:
        print(f"{one.name} failed (exit code {done.returncode}):\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return row


def _row(one: Benchmark, printed: str, *, quick: bool, load: float | None = None) -> dict[str, Any] | None:
    figures = one.read(printed) if printed.strip() else []
    if not figures:
        return None
    for figure in figures:
        print(f"  {figure.what}: {figure.ours} / {figure.peer} = {figure.ratio}", flush=True)
    said = re.search(r"load average (?:before )?([0-9.]+)", printed)
    load = load if load is not None else float(said[1]) if said else os.getloadavg()[0]
    return {
        "figures": [dataclasses.asdict(figure) for figure in figures],
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "load": round(load, 1),
        "cpus": os.cpu_count(),
        "machine": f"{os.cpu_count()} CPUs ({platform.machine()}), {platform.system()}, "
        f"Python {platform.python_version()}",
        "quick": quick,
    }


def table(rows: dict[str, Any]) -> str:
    """The page: one line a figure, then how to read each benchmark."""
    lines = [_HEAD, "| Benchmark | What | devicelab | Peer or limit | Ratio | Date | Load at the start |"]
    lines.append("|---|---|---|---|---|---|---|")
    noted = False
    for one in BENCHMARKS:
        row = rows.get(one.name)
        if row is None:
            lines.append(f"| {one.title} | not measured yet | | | | | |")
            continue
        busy = one.quiet and row["load"] > row["cpus"] / 2
        noted |= busy
        for number, figure in enumerate(row["figures"]):
            title = f"[{one.title}](#{one.name.replace('_', '-')})" if number == 0 else ""
            marks = f"{row['load']:g}{' (busy)' if busy else ''}{', quick' if row['quick'] else ''}"
            cells = (title, figure["what"], figure["ours"], figure["peer"], figure["ratio"], row["date"], marks)
            lines.append(f"| {' | '.join(cells)} |")
    if noted:
        lines.append('\n"Busy": the machine had other work, these figures are to be measured again on a quiet one.')
    machines = sorted({row["machine"] for row in rows.values()})
    lines.append(f"\nMeasured on: {'; '.join(machines)}. Boards are virtual (simulated).")
    lines.append("\n## How to read them")
    lines += [
        f"\n### {one.name.replace('_', '-')}\n\nBeside {one.peer}. {one.how[0].upper()}{one.how[1:]}."
        for one in BENCHMARKS
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
