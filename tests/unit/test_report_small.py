"""What keeps a page small: samples read some runs at a time, places in figures without digits that nobody sees."""

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

from devicelab.analyses.base import Figure
from devicelab.model import results as model
from devicelab.model.results import portions, samples_of
from devicelab.report import svg
from devicelab.store import Store
from tests import labdata

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure


def test_portions_are_whole_runs_and_together_all_that_was_asked_for(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_ROWS", 250)
    with Store.open(tmp_path_factory.mktemp("store") / "lab.sqlite") as store:
        results = store.results(labdata.fill(store, labdata.experiment(repetitions=2)))
        whole = results.samples("kernels")
        wanted = results.runs()["run_id"].tolist()[1:]
        parts = list(portions(results, "kernels", wanted))
        assert len(parts) > 2
        assert max(part["run_id"].nunique() for part in parts) == 2
        joined = pd.concat([part.astype({"run_id": "str", "program": "str"}) for part in parts], ignore_index=True)
        expected = whole[whole["run_id"].isin(wanted)].reset_index(drop=True)
        pd.testing.assert_frame_equal(joined, expected)
        assert samples_of(results, "kernels", ["other"]).empty


def test_evidence_is_the_runs_own_in_any_order(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Store.open(tmp_path_factory.mktemp("store") / "lab.sqlite") as store:
        results = store.results(labdata.fill(store))
        runs = results.runs()["run_id"].tolist()
        for run in (*reversed(runs), *runs):
            assert results.evidence(run)["run_id"] == run


def test_texts_keep_their_digits_where_places_lose_them() -> None:
    def draw(canvas: "MplFigure") -> None:
        axes = canvas.subplots()
        axes.plot([0.123456, 1.234567], [2.345678, 3.456789])
        axes.set_title('x="1.23456789" -- L 1.23456 --> it')

    drawn = svg.draw(Figure("f", "F", "C", pd.DataFrame(), draw))
    root = ET.fromstring(drawn)  # noqa: S314 - drawn by ourselves just now
    assert 'x="1.23456789" -- L 1.23456 --> it' in ["".join(text.itertext()) for text in root.iter()]
    paths = [one.get("d", "") for one in root.iter() if one.tag.endswith("path")]
    assert paths
    assert max(len(word.partition(".")[2]) for path in paths for word in path.replace("L", " ").split()) <= 3
    used = {one.get(key, "#").partition("#")[2] for one in root.iter() for key in one.attrib if key.endswith("href")}
    assert used - {""} <= {one.get("id") for one in root.iter()}
