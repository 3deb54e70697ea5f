"""Campaigns that stop when they are decided, on this computer, and hosts that die in the middle of them.

    python -m tests.integration.test_sequential --trials 50 --seed 1

kills the host of as many adaptive campaigns at random moments, up to three times each, and looks after each whether
every run is there once, whether the campaign ended where its own data say, and whether the device was given back.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from devicelab.analyses import sequential
from devicelab.experiment.blocks import End
from devicelab.store import Store
from tests import forks

pytestmark = pytest.mark.slow

# Noise of 0.65 %, and 10 % more time for each step of K.
EXPERIMENT = """
question = "Does K change the time?"
answer = { quantity = "total_ns", by = "k", against = { k = 0 }, within_pct = 5 }
analyses = ["load"]
settle_s = 0
sample_hz = 0

[factors]
k = KS

[stop]
until = "decided"
max_repetitions = 20

[measure]
workload = "command"

[measure.params]
argv = ["/bin/sh", "-c", "n=$(od -An -N2 -tu2 /dev/urandom); echo total_ns=$((10000000 + {k} * 1000000 + n))"]
output = "regex"
pattern = 'total_ns=(?P<total_ns>\\d+)'
"""


class Lab:
    """A folder with a lab.toml, the experiment and a store."""

    def __init__(self, folder: Path, ks: str = "[0, 1, 2]") -> None:
        self.folder = folder
        (folder / "lab.toml").write_text(f'[devices.local]\naddress = "local:"\ndir = "{folder}/device"\n')
        (folder / "adaptive.toml").write_text(EXPERIMENT.replace("KS", ks))

    def start(self, *words: str) -> "subprocess.Popen[str]":
        places = {"DEVICELAB_LAB": f"{self.folder}/lab.toml", "DEVICELAB_STORE": f"{self.folder}/s.sqlite"}
        words = ("sweep", "adaptive.toml", *words, "--board", "local")
        return forks.start(*words, cwd=self.folder, environment=places)

    def run(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=240)
        return process.returncode, out, err


def complaints(lab: Lab) -> list[str]:
    """What is wrong with the one campaign that is stored; it is complete."""
    found = []
    with Store.open(lab.folder / "s.sqlite") as store:
        (info,) = store.campaigns()
        results = store.results(info.campaign)
        runs = results.runs()
        cells = {cell.cell_id: cell.levels for cell in store.cells(info.campaign)}
        if info.status != "complete":
            found.append(f"the campaign is {info.status}: {info.reason}")
        if runs.duplicated(["cell_id", "repetition"]).any():
            found.append("a run is there twice")
        for cell, part in runs.groupby("cell_id"):
            if sorted(part["repetition"]) != list(range(len(part))):
                found.append(f"{cell} has the repetitions {sorted(part['repetition'])}")
        step = sequential.ask(results, cells)
        if not isinstance(step, End) or step.reason != info.reason:
            found.append(f"it ended with {info.reason!r}, its data say {step}")
        if not (info.runs_done == info.runs_planned == len(runs)):
            found.append(f"{info.runs_done} of {info.runs_planned} runs, {len(runs)} stored")
        answers = [one.verdict for one in store.findings(info.campaign) if one.answer]
        if answers not in (["yes"], []):  # none: killed after the last run, before anything was concluded
            found.append(f"the answer is {answers}")
    return found


def one_trial(lab: Lab, rng: random.Random) -> int:
    """A campaign whose host is killed up to three times after a random number of runs; how often it was."""
    killed = 0
    words: tuple[str, ...] = ()
    for _ in range(3):
        process = lab.start(*words)
        assert process.stderr is not None
        lines = rng.randint(0, 25)
        for _ in range(lines):
            if not process.stderr.readline():
                break
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        if process.returncode == 0:
            return killed
        killed += 1
        with Store.open(lab.folder / "s.sqlite") as store:
            known = store.campaigns()
        if known and known[0].status == "complete":
            break
        words = ("--resume",) if known else ()
    code, out, err = lab.run(*words) if not known or known[0].status != "complete" else (0, "", "")
    assert code == 0, (code, out, err)
    return killed


def said(lab: Lab, *words: str) -> dict[str, Any]:
    code, out, err = lab.run(*words, "--json")
    assert code == 0, err
    data: dict[str, Any] = json.loads(out)
    return data


def test_a_sweep_ends_when_it_is_decided_and_says_so(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    got = said(lab)
    assert complaints(lab) == []
    assert got["ended"].startswith("every claim is decided")
    assert got["undecided"] == []
    assert 6 * 3 <= got["runs"] == got["planned"] < 20 * 3
    answer = got["findings"][0]
    assert (answer["answer"], answer["verdict"], answer["interval"]) == (True, "yes", "anytime")
    assert answer["low"] < 1.2 < answer["high"] + 0.01
    assert "until decided" in Path(tmp_path, got["report"]).read_text()


def test_the_same_twice_is_no_difference(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    text = (tmp_path / "adaptive.toml").read_text().replace("{k} * 1000000", "{k} * 0")
    (tmp_path / "adaptive.toml").write_text(text)
    got = said(lab)
    assert got["findings"][0]["verdict"] == "no"


def test_a_budget_ends_it_with_what_is_open(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    got = said(lab, "--until", "± 0.01 %", "--budget", "1 s")
    assert got["ended"] == "the budget of 1 s is spent"
    assert len(got["undecided"]) == 2
    assert got["runs"] < 6 * 3  # not even the least number of repetitions was begun blindly
    assert got["runs"] % 3 == 0


def test_a_search_finds_the_planted_best_and_measures_it_afresh(tmp_path: Path) -> None:
    lab = Lab(tmp_path, f"{list(range(30))}")
    text = (tmp_path / "adaptive.toml").read_text()
    text = text.replace("{k} * 1000000", "({k} - 12) * ({k} - 12) * 100000").replace("answer =", "# answer =")
    text = text.replace('until = "decided"', "").replace("[measure]", '[search]\nminimise = "total_ns"\n\n[measure]')
    (tmp_path / "adaptive.toml").write_text(text)
    got = said(lab)
    found = got["findings"][0]
    assert found["claim"] in {f"Best setting for total_ns: k = {k}" for k in (11, 12, 13)}
    assert found["n"] == 6
    assert got["runs"] == got["planned"] < 30 * 6
    assert got["invalid_cells"] == []


def test_a_campaign_whose_host_dies_goes_on_where_it_was(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    one_trial(lab, random.Random(1))
    assert complaints(lab) == []


def test_output_that_is_never_readable_ends_the_sweep_early(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    text = (tmp_path / "adaptive.toml").read_text().replace("echo total_ns=", "sleep 0.3; echo nothing=")
    (tmp_path / "adaptive.toml").write_text(text)
    code, _, err = lab.run()
    assert code == 6, err
    assert "runs in a row are flagged output-unusable" in err
    with Store.open(tmp_path / "s.sqlite") as store:
        (info,) = store.campaigns()
    assert info.runs_done < 18
    assert info.status == "interrupted"


def main(argv: Sequence[str] | None = None) -> int:
    """As many trials as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    wrong, killed = 0, 0
    for trial in range(args.trials):
        with tempfile.TemporaryDirectory(prefix="devicelab-sequential-") as folder:
            lab = Lab(Path(folder))
            killed += (times := one_trial(lab, random.Random(f"{args.seed}/{trial}")))
            found = complaints(lab)
            wrong += bool(found)
            print(f"trial {trial}: killed {times} times; {'; '.join(found) or 'well'}", flush=True)
    print(f"{args.trials} trials, host killed {killed} times, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
