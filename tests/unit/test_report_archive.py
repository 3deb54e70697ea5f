"""Everything of a campaign in one archive, ready for a paper."""

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from devicelab.report import archive, build_report
from devicelab.report.build import drawn
from devicelab.report.page import every_figure
from devicelab.store import Store
from tests import labdata

pytestmark = pytest.mark.slow


def test_the_archive_has_every_figure_at_300_dpi_with_data_and_caption(tmp_path: Path) -> None:
    with Store.open(tmp_path / "lab.sqlite") as store:
        campaign = labdata.fill(store, labdata.experiment(repetitions=2))
        page = build_report(store, campaign, tmp_path / "page.html")
        results = store.results(campaign)
        figures = every_figure(results, drawn(results))[:2]
        to = archive.write_archive(results, store.findings(campaign), figures, page, tmp_path / "all.zip")
    with zipfile.ZipFile(to) as found:
        names = set(found.namelist())
        assert {"README.txt", "page.html", "method.txt", "findings.json", "data/runs.csv"} <= names
        for figure in figures:
            stem = f"figures/{figure.name}"
            assert {f"{stem}.svg", f"{stem}.png", f"{stem}.csv", f"{stem}.txt"} <= names
            picture = Image.open(io.BytesIO(found.read(f"{stem}.png")))
            assert round(picture.info["dpi"][0]) == 300
            assert figure.caption in found.read(f"{stem}.txt").decode()
        said = found.read("method.txt").decode()
        assert campaign in said
        assert "2 times each" in said
