"""What was chosen from some repetitions is judged on others: the earlier half chooses a leg, the later judges it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from devicelab.analyses.priority.data import Leg, load
from devicelab.analyses.priority.verdicts import Judged, judged
from devicelab.model.experiment import Experiment
from devicelab.model.results import Results


@dataclass
class _Part:
    """The runs of some repetitions of a campaign."""

    whole: Results
    campaign: str
    info: dict[str, Any]
    experiment: Experiment
    kept: pd.DataFrame

    def runs(self) -> pd.DataFrame:
        return self.kept.copy()

    def metrics(self) -> pd.DataFrame:
        return self._own(self.whole.metrics())

    def samples(self, table: str) -> pd.DataFrame:
        return self._own(self.whole.samples(table))

    def evidence(self, run_id: str) -> dict[str, Any]:
        return self.whole.evidence(run_id)

    def _own(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["run_id"].isin(set(self.kept["run_id"]))].reset_index(drop=True)


def halves(results: Results) -> tuple[Results, Results]:
    """The earlier and the later half of a campaign's repetitions; of an odd number the later one has one more."""
    runs = results.runs()
    numbers = sorted(set(runs["repetition"]))
    early = set(numbers[: len(numbers) // 2])
    parts = [runs[runs["repetition"].isin(early)], runs[~runs["repetition"].isin(early)]]
    first, second = (
        _Part(results, results.campaign, results.info, results.experiment, part.reset_index(drop=True))
        for part in parts
    )
    return first, second


def judged_afresh(results: Results, among: Mapping[Leg, object]) -> tuple[Leg, list[Judged]] | None:
    """The leg that keeps most targets in the earlier repetitions, as the later ones judge it.

    ``None`` where there is one repetition, so that nothing is left to judge by.
    """
    first, second = halves(results)
    kept: dict[Leg, int] = {}
    for one in judged(first, load(first)):
        if one.leg in among:
            kept[one.leg] = kept.get(one.leg, 0) + (one.got.n > 0 and one.target.keeps(one.got.estimate))
    if not kept:
        return None
    chosen = max(kept, key=lambda leg: kept[leg])
    every = [one for one in judged(second, load(second)) if one.leg == chosen]
    return (chosen, every) if every else None
