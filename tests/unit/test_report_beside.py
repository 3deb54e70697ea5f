"""Traces beside a page: real links, bounded, gone with what they were made from, whatever names there are."""

import re
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest

from devicelab.experiment import tracing
from devicelab.model.journal import Flag, StepResult
from devicelab.report import archive, beside, build_report, served
from devicelab.report.site import update_site
from devicelab.store import Store
from tests import labdata, nightdata
from tests.traces import Parsed

pytestmark = pytest.mark.slow

_LINK = re.compile(r'<a download="([^"]*)" href="([^":]*)">')
_RECORDED = b"what perf wrote\n" * 100


def _traced_campaign(store: Store, *, kept: bytes = _RECORDED) -> str:
    """A campaign whose first cell was performed once more with perf."""
    of = labdata.experiment(repetitions=2, factors={"load": ("none",), "k": (1, 8)})
    campaign = labdata.fill(store, of)
    cell = labdata.cells(of)[0]
    run_id = tracing.run_id(campaign, cell.cell_id)
    step = StepResult(do=("sh", "-c", tracing.START), output="perf\n", held=True)
    record = labdata.record(run_id, 99).model_copy(update={"steps": (step,)})
    flags = [Flag(code="traced", detail="(perf)")]
    store.commit_run(campaign, cell, record, repetition=2, measurements={}, flags=flags)
    if kept:
        store.keep_output(campaign, run_id, tracing.OUTPUT, kept)
    return campaign


def _linked(page: Path) -> dict[str, Path]:
    """What the page's links to traces lead to, by the name under which it would be saved."""
    return {name: page.parent / unquote(href) for name, href in _LINK.findall(page.read_text()) if "-traces/" in href}


def test_each_drawn_run_and_what_the_tracer_recorded_lie_behind_links(tmp_path: Path) -> None:
    page = tmp_path / "a b#?%.html"
    with Store.open(tmp_path / "lab.sqlite") as store:
        campaign = _traced_campaign(store)
        results = store.results(campaign)
        build_report(store, campaign, page)
        linked = _linked(page)
        (system,) = (path for path in linked.values() if path.suffix == ".data")
        assert system.read_bytes() == _RECORDED
        own = [path for path in linked.values() if path.suffix == ".pftrace"]
        assert len(own) == len(labdata.cells(results.experiment))
        for path in own:
            assert len([one for one in Parsed(path).slices["agent"] if one[3] == 0]) == 1
        # The same links hold in the archive, and where the page is served.
        archive.write_archive(results, (), (), page, tmp_path / "all.zip")
        with zipfile.ZipFile(tmp_path / "all.zip") as found:
            inside = {name for name in found.namelist() if "-traces/" in name}
            assert inside == {str(path.relative_to(tmp_path)) for path in linked.values()}
        pages = served.campaign_pages(page, results)
        for name, path in linked.items():
            answer = pages(str(path.relative_to(tmp_path)))
            assert answer is not None
            assert (answer.body, answer.file) == (path.read_bytes(), name)
        assert pages(f"{page.stem}-traces/../lab.sqlite") is None


def test_what_was_pruned_or_never_recorded_is_said_and_leaves_no_file(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    folder = beside.folder_of(page)
    with Store.open(tmp_path / "lab.sqlite") as store:
        campaign = _traced_campaign(store)
        beside.write_beside(store.results(campaign), page)
        assert [path.read_bytes() for path in folder.glob("*.data")] == [_RECORDED]
        (folder / "notes of mine.txt").write_text("kept")
        store.thin_samples(campaign)
        assert store.check().ok
        *own, system = beside.write_beside(store.results(campaign), page)
        assert (system.href, system.note) == ("", "pruned with the raw samples")
        assert not any(link.href for link in own)  # their kernels were among the samples
        assert all("dropped from the database" in link.note for link in own)
        assert [path.name for path in folder.iterdir()] == ["notes of mine.txt"]
    with Store.open(tmp_path / "other.sqlite") as store:
        *own, system = beside.write_beside(store.results(_traced_campaign(store, kept=b"")), page)
        assert (system.href, system.note) == ("", "nothing was recorded")
        assert all((page.parent / link.href).is_file() for link in own)


def test_traces_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.html"
    with Store.open(tmp_path / "lab.sqlite") as store:
        results = store.results(_traced_campaign(store))
        sizes = [(page.parent / link.href).stat().st_size for link in beside.write_beside(results, page)]
        monkeypatch.setattr(beside, "MOST_BYTES", sum(sizes[:1]) + len(_RECORDED) + 1)
        links = beside.write_beside(results, page)
        files = {page.parent / link.href for link in links if link.href}
        assert len(files) == 2
        assert files == set(beside.folder_of(page).iterdir())
        assert sum(path.stat().st_size for path in files) <= beside.MOST_BYTES
        assert all("too large to lie beside a page" in link.note for link in links if not link.href)


def test_a_page_that_leaves_the_site_takes_its_traces_along(tmp_path: Path) -> None:
    site = tmp_path / "site"
    with Store.open(tmp_path / "lab.sqlite") as store:
        nights = nightdata.fill(store, nightdata.History(nights=2))
        nightdata.adopt(store, nights[-1], _traced_campaign(store))
        update_site(store, site)
        pages = [path for path in (site / "campaigns").glob("*.html") if _linked(path)]
        assert pages
        assert all(path.is_file() for page in pages for path in _linked(page).values())
        for night in nights:
            store.delete_night(night)
        update_site(store, site)
        assert list((site / "campaigns").iterdir()) == []
