"""Figures out of what each benchmark printed."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the table; ``peer`` and ``ratio`` are empty where there is nothing to divide by."""

    what: str
    ours: str
    peer: str = ""
    ratio: str = ""


def columns(label: str, what: str, unit: str = "") -> Callable[[str], list[Figure]]:
    """A line "LABEL ours peer [ratio]"."""

    def read(text: str) -> list[Figure]:
        found = re.search(
            rf"^{re.escape(label)}\s+(-?[\d.]+)(?: ms)?\s+(-?[\d.]+)(?: ms)?(?:\s+([\d.]+))?\s*$", text, re.MULTILINE
        )
        return [Figure(what, found[1] + unit, found[2] + unit, found[3] or "")] if found else []

    return read


def every(*readers: Callable[[str], list[Figure]]) -> Callable[[str], list[Figure]]:
    """The figures of several readers."""
    return lambda text: [figure for reader in readers for figure in reader(text)]


def startup(text: str) -> list[Figure]:
    found = re.findall(r"^(smallest Typer program|devicelab --help)\s+(\d+)\s+([\d.]+)$", text, re.MULTILINE)
    alone = re.search(r"^import devicelab: ([\d.]+) ms", text, re.MULTILINE)
    board = re.search(r"^devicelab devices, one board: ([\d.]+) s", text, re.MULTILINE)
    if len(found) != 2 or not (alone and board):
        return []
    return [
        Figure("`devicelab --help`, CPU time", f"{found[1][1]} ms", f"{found[0][1]} ms", found[1][2]),
        Figure("`import devicelab`, CPU time", f"{alone[1]} ms", "100 ms (goal)", f"{float(alone[1]) / 100:.2f}"),
        Figure(
            "`devicelab devices`, one board, CPU time", f"{board[1]} s", "0.6 s (goal)", f"{float(board[1]) / 0.6:.2f}"
        ),
    ]


def first_result(text: str) -> list[Figure]:
    whole = columns("first run, s", "`devicelab sweep` to the first run, beside connect and set-up", " s")(text)
    parts = re.findall(r"^  (\S.*?)\s+([\d.]+)$", text, re.MULTILINE)
    return [*whole, *(Figure(f"of that: {part}", f"{seconds} s", "") for part, seconds in parts)]


def disturbance(text: str) -> list[Figure]:
    used = columns("agent, % of a core", "the agent's CPU time at 10 Hz, of a core", " %")(text)
    ratios = re.findall(r"^(sampled / not|not / not)\s+([\d.]+)\s+(\[[\d., ]+\])$", text, re.MULTILINE)
    names = {"sampled / not": "inferences with samples, by those without", "not / not": "without samples, twice"}
    return [*used, *(Figure(names[name], f"{ratio} {span}", "1 ± 0.005 (goal)", ratio) for name, ratio, span in ratios)]


def load(text: str) -> list[Figure]:
    number = r"\s+([\d.]+)"
    rows = re.findall(
        rf"^\s+(\d+){number}\s+[\d.]+{number}\s+[\d.]+{number}\s+([\d.]+|inf)\s+\d+\s", text, re.MULTILINE
    )
    return [
        Figure(f"{wanted} % wanted of {cores} core(s): off by", f"{ours} points", f"{peer} points", ratio)
        for cores, wanted, ours, peer, ratio in rows
    ]


def dispatch(text: str) -> list[Figure]:
    late = json.loads(text)["lateness"]
    limit = late["bare sleep and spin"]["p99_us"]
    return [
        Figure(f"`{name}`, P99 of lateness", f"{us:.0f} µs", f"{limit:.0f} µs", f"{us / limit:.2f}")
        for name in ("cpu_tenant", "torch_tenant")
        for us in [late[name]["p99_us"]]
    ]


def report(text: str) -> list[Figure]:
    done = re.search(r"^analysis \+ page\s+([\d.]+) s\s+goal \d+ s, ([\d.]+) times reading", text, re.MULTILINE)
    read = re.search(r"^read only\s+([\d.]+) s", text, re.MULTILINE)
    peak = re.search(r"^peak memory\s+(\d+) MiB", text, re.MULTILINE)
    page = re.search(r"\(([\d.]+) MB\)$", text, re.MULTILINE)
    if not (done and read and peak and page):
        return []
    return [
        Figure("samples to findings and page, CPU time", f"{done[1]} s", f"{read[1]} s", done[2]),
        Figure("peak memory", f"{peak[1]} MiB", "300 MiB (goal)", f"{int(peak[1]) / 300:.2f}"),
        Figure("the page", f"{page[1]} MB", "2 MB (goal)", f"{float(page[1]) / 2:.2f}"),
    ]


def store(text: str) -> list[Figure]:
    found = re.findall(r"^([a-z][\w :]*?)\s+([\d.]+) ms\s+([\d.]+) ms\s+([\d.]+)$", text, re.MULTILINE)
    kept = (
        "list 20 campaigns",
        "report of a campaign",
        "compare two campaigns",
        "export a campaign",
        "history of a figure",
    )
    rows = [Figure(what, f"{large} ms", f"{small} ms", ratio) for what, small, large, ratio in found if what in kept]
    times = {what: float(large) for what, _, large, _ in found}
    if "commit a run" in times and times.get("fsync of as many bytes"):
        commit, limit = times["commit a run"], times["fsync of as many bytes"]
        rows.append(
            Figure(
                "commit a run, to an fsync of as many bytes",
                f"{commit:.2f} ms",
                f"{limit:.2f} ms",
                f"{commit / limit:.1f}",
            )
        )
    return rows


def makespan(text: str) -> list[Figure]:
    boards = re.search(r"^(\d+) boards", text, re.MULTILINE)
    found = re.search(r"^ideal ([\d.]+) s, makespan ([\d.]+) s: ([\d.]+)", text, re.MULTILINE)
    if not (boards and found):
        return []
    return [Figure(f"a night on {boards[1]} boards", f"{found[2]} s", f"{found[1]} s", found[3])]


def scale(text: str) -> list[Figure]:
    boards = re.search(r"^(\d+) boards, (\d+) tasks", text, re.MULTILINE)
    found = re.search(r"^makespan ([\d.]+) s simulated, ideal ([\d.]+) s: ([\d.]+)", text, re.MULTILINE)
    cpu = re.search(r"^conductor ([\d.]+) s of processor time.* ([\d.]+) ms a task; (\d+) MiB", text, re.MULTILINE)
    rows = re.search(r"committed (\d+) runs/s, (\d+) rows/s", text)
    if not (boards and found and cpu and rows):
        return []
    return [
        Figure(f"a night on {boards[1]} simulated boards", f"{found[1]} s", f"{found[2]} s", found[3]),
        Figure(f"the conductor's processor time for {boards[2]} tasks", f"{cpu[1]} s"),
        Figure("the conductor's memory", f"{cpu[3]} MiB"),
        Figure("rows a second into PostgreSQL from all hosts", rows[2]),
    ]


def nights(text: str) -> list[Figure]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    head = next((row for row in rows if row[:2] == ["noise", "rule"]), None)
    if head is None:
        return []
    by_noise: dict[str, list[list[str]]] = {}
    for row in rows[rows.index(head) + 2 :]:
        if len(row) == len(head) and row[0] != "noise":
            by_noise.setdefault(row[0], []).append(row)
    return [
        Figure(
            f"{noise} noise: false alarms a cell-night, {mine[1]} beside {other[1]}",
            mine[-1],
            other[-1],
            f"{float(mine[-1].rstrip(' %')) / float(other[-1].rstrip(' %')):.2f}",
        )
        for noise, (mine, *others) in by_noise.items()
        for other in others[-1:]
    ]


def sequential(text: str) -> list[Figure]:
    noises = "normal|heavy|outliers|skewed"
    rows = [
        Figure(f"{noise} noise: held the truth at every look, beside a fixed-n interval", ours, theirs)
        for noise, ours, theirs in re.findall(
            rf"^\| ({noises}) \| ([\d.]+%) \| ([\d.]+%) \| [\d.]+%", text, re.MULTILINE
        )
    ]
    alarms = re.findall(rf"^\| (?:{noises}) \| [\d.]+% \| [\d.]+% \| ([\d.]+%) \|", text, re.MULTILINE)
    rows += [Figure("A/A campaigns that alarm, worst noise", max(alarms, key=_share), "1% (goal)")] if alarms else []
    for noise, runs, fixed in re.findall(
        rf"^\| ({noises}) \| [\d.]+% \| ([\d.]+) \| (?:≥ )?\d+ \| (\d+) \|", text, re.MULTILINE
    ):
        ratio = f"{float(runs) / float(fixed):.2f}"
        rows.append(Figure(f"{noise} noise: runs of a campaign, beside a fixed n as often right", runs, fixed, ratio))
    for what, words in (("racing", "races for the best K"), ("search", "searches of 270 settings")):
        near = re.search(rf"^{what}: ([\d.]+%) within", text, re.MULTILINE)
        runs_of = re.search(rf"^{what}: ([\d.]+) runs, of (\d+)", text, re.MULTILINE)
        if near and runs_of:
            ratio = f"{float(runs_of[1]) / float(runs_of[2]):.2f}"
            rows.append(Figure(f"{words}, {near[1]} within 1 % of the best: runs", runs_of[1], runs_of[2], ratio))
    return rows


def search_truth(text: str) -> list[Figure]:
    where = {
        "emulated": "11 K on the emulated GPU",
        "rusticl": "11 K on Rusticl",
        "note10": "108 settings of four factors on a virtual Note10",
    }
    shape = (
        r"^(\w+): (\d+) of (\d+) searches within 1 % of the best, (\d+) with it .*; ([\d.]+) runs of (\d+): ([\d.]+)$"
    )
    return [
        Figure(
            f"{where.get(case, case)}: {near} of {count} searches within 1 % of the best, {inside} with it in their "
            "interval: runs",
            runs,
            full,
            f"{float(ratio):.2f}",
        )
        for case, near, count, inside, runs, full, ratio in re.findall(shape, text, re.MULTILINE)
    ]


def growth(text: str) -> list[Figure]:
    found = re.findall(r"^(\w+)\s+exponent ([\d.-]+|nan) of ([\d.]+): (.+)$", text, re.MULTILINE)
    sizes = re.findall(r"^(\w+)\s+(\d+) (\w+)\s+([\d.]+) s", text, re.MULTILINE)
    largest = {name: (int(size), unit, cpu) for name, size, unit, cpu in sizes}
    return [
        Figure(
            f"{name}, {largest[name][0]:,} {largest[name][1]} in {largest[name][2]} s: exponent",
            slope if slope != "nan" else verdict,
            f"{most} (n log n)",
        )
        for name, slope, most, verdict in found
    ]


def adb_commands(text: str) -> list[Figure]:
    shape = r"^([\w-]+): lost (\d+) of (\d+), slower than 1 s (\d+), median ([\d.]+) ms, slowest ([\d.]+) ms$"
    rows = []
    for manner, lost, count, slow, median, slowest in re.findall(shape, text, re.MULTILINE):
        where = f"a daemon that is `{manner}`"
        rows.append(Figure(f"{where}: lost, of {count} commands", lost, "0 (goal)"))
        rows.append(Figure(f"{where}: slower than 1 s", slow, "0 (goal)"))
        rows.append(Figure(f"{where}: median; slowest", f"{median} ms; {slowest} ms", "1000 ms (limit)"))
    return rows


def _share(text: str) -> float:
    return float(text.rstrip("%"))


def tenant_windows(text: str) -> list[Figure]:
    counts = [int(count) for count in re.findall(r"^\S+: windows (\d+), runs \d+: ", text, re.MULTILINE)]
    if len(counts) < 2:
        return []
    return columns("a window, s", f"beyond a window, {max(counts)} windows a start (peer: {min(counts)})", " s")(text)
