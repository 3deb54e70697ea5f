"""The report in a real browser: silent, without requests, readable wide and narrow, usable with a keyboard."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from devicelab.analyses.base import Chart, Figure, Line
from devicelab.compare.campaigns import compare
from devicelab.model.experiment import Finding
from devicelab.report import build_report, comparison, render
from devicelab.store import Store
from tests import hostile, labdata
from tests.browser.opened import NARROW, WIDE, contrast, outside

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    with Store.open(folder / "lab.sqlite") as store:
        campaign = labdata.fill(store, labdata.experiment(repetitions=3), invalid_every=5)
        finding = Finding(analysis="klo", claim="K moves", verdict="no", estimate=0.0, low=-1.0, high=1.0, n=3)
        store.add_findings(campaign, [finding])
        return build_report(store, campaign, folder / "report.html")


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_page_is_silent_loads_nothing_and_fits_the_screen(look: Any, report: Path, width: int) -> None:
    opened = look(report, width)
    assert opened.console == []
    assert outside(opened, report) == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_figure_is_drawn_and_named(look: Any, report: Path) -> None:
    page = look(report).page
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    figures = page.locator("figure")
    assert figures.count() >= 5
    for i in range(figures.count()):
        box = figures.nth(i).locator("svg").bounding_box()
        assert box["width"] > 300
        assert box["height"] > 80
        image = figures.nth(i).get_by_role("img").first
        assert image.evaluate("node => node.querySelector('title').textContent.length") > 5
        assert figures.nth(i).locator("svg text").count() > 3


def test_figures_and_data_can_be_saved(look: Any, report: Path, tmp_path: Path) -> None:
    page = look(report).page
    for text, start in (("SVG of this figure", b"<?xml"), ("CSV of its data", b"")):
        with page.expect_download() as download:
            page.get_by_role("link", name=text).first.click()
        target = tmp_path / download.value.suggested_filename
        download.value.save_as(target)
        assert target.stat().st_size > 50
        assert target.read_bytes().startswith(start)


def test_the_keyboard_reaches_sections_tables_and_details(look: Any, report: Path) -> None:
    page = look(report).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    box = page.locator(":focus").bounding_box()
    assert box["x"] >= 0, "the skip link shows when it has the focus"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.url.endswith("#findings")
    page.locator("summary", has_text="runs in the order").focus()
    page.keyboard.press("Enter")
    assert page.locator("#all-runs").is_visible()
    assert page.locator("#all-runs tbody tr").count() == 18


def test_tables_that_are_too_wide_scroll_by_themselves(look: Any, report: Path) -> None:
    page = look(report, NARROW).page
    region = page.locator(".scroll", has=page.locator("#conditions-table"))
    assert region.get_attribute("tabindex") == "0"
    assert region.evaluate("node => node.scrollWidth > node.clientWidth")


def test_findings_are_read_without_scrolling_sideways_on_a_phone(look: Any, report: Path) -> None:
    page = look(report, NARROW).page
    for cell in page.locator("#findings-table td, #findings-table tbody th").all():
        box = cell.bounding_box()
        assert box is None or box["x"] + box["width"] <= NARROW


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(look: Any, report: Path, scheme: str) -> None:
    page = look(report, color_scheme=scheme).page
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for selector in ("body", "figcaption", "a", "figure svg text"):
        found = page.locator(selector).first
        name = "fill" if selector.endswith("text") else "color"
        colour = found.evaluate(f"node => getComputedStyle(node).{name}")
        assert contrast([colour, paper]) >= 4.5, (selector, colour, paper)
    for verdict in page.locator(".verdict").all():
        colours = verdict.evaluate("node => [getComputedStyle(node).color, getComputedStyle(node).backgroundColor]")
        assert contrast(colours) >= 4.5


def test_a_printed_page_has_every_figure(look: Any, report: Path, tmp_path: Path) -> None:
    page = look(report).page
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.locator("figure svg").first.is_visible()
    printed = page.pdf(format="A4")
    assert len(printed) > 20_000
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) <= 4


def test_hostile_texts_do_nothing_in_a_browser(look: Any, tmp_path: Path) -> None:
    with Store.open(tmp_path / "lab.sqlite") as store:
        campaign = hostile.campaign(store)
        path = render(store.results(campaign), store.findings(campaign), hostile.figures(), tmp_path / "page.html")
    for width in (WIDE, NARROW):
        opened = look(path, width)
        assert opened.console == []
        assert outside(opened, path) == []
        assert not opened.page.title().startswith("owned")
        assert opened.page.locator("img").count() == 0
        ours = "[...document.scripts].filter(one => one.type !== 'application/json').length"
        assert opened.page.evaluate(ours) <= 3, "ours alone: the page's, the chart library, the charts"
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_figure_is_seen_whole_and_wide_tables_say_that_they_scroll(look: Any, report: Path, width: int) -> None:
    page = look(report, width).page
    for figure in page.locator("figure .still svg:visible").all():
        box = figure.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    for region in page.locator(".scroll:visible").all():
        wider = region.evaluate("node => node.scrollWidth > node.clientWidth + 1")
        assert region.evaluate("node => node.classList.contains('wider')") == wider


def test_captions_pictures_and_tables_serve_a_reader_who_writes(look: Any, report: Path, tmp_path: Path) -> None:
    opened = look(report)
    page = opened.page
    with page.expect_download() as download:
        page.locator("button[data-png]:visible").first.click()
    download.value.save_as(tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > 1500, "300 dots an inch of a figure as wide as a page"
    page.locator("summary", has_text="runs in the order").click()
    heads = page.locator("#all-runs thead button")
    heads.filter(has_text="Cell").click()
    cells = page.locator("#all-runs tbody tr td:nth-child(3)").all_text_contents()
    assert cells == sorted(cells)
    assert opened.console == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_chart_can_be_zoomed_from_a_file_under_the_page_s_policy(look: Any, tmp_path: Path, scheme: str) -> None:
    lines = (Line("measured", (1.0, 2.0, 4.0), (3.0, 2.0, 2.5), (2.5, 1.5, 2.0), (3.5, 2.5, 3.0)),)
    chart = Chart("K", "time in </script><b>ms", (("idle", lines),), log_base=2)
    figure = Figure("curves", "Curves", "c", pd.DataFrame({"a": [1]}), lambda _: None, chart=chart)
    with Store.open(tmp_path / "lab.sqlite") as store:
        campaign = labdata.begin(store)
        path = render(store.results(campaign), (), [figure], tmp_path / "page.html")
    opened = look(path, color_scheme=scheme)
    assert opened.page.locator(".uplot").count() == 0
    opened.page.get_by_role("button", name="Zoom, hover, hide series").click()
    assert opened.page.locator(".uplot canvas").count() == 1
    assert opened.page.locator(".still:visible").count() == 0
    assert "measured" in opened.page.locator(".u-legend").inner_text()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= WIDE
    assert opened.console == []
    assert outside(opened, path) == []


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_campaigns_side_by_side_fit_the_screen_and_are_sorted(look: Any, tmp_path: Path, width: int) -> None:
    with Store.open(tmp_path / "lab.sqlite") as store:
        names = [labdata.fill(store, labdata.experiment(repetitions=2)) for _ in range(3)]
        first, *others = (store.results(name) for name in names)
        every = [compare(first, other) for other in others]
        path = comparison.write_page(every, [store.campaign(name) for name in names], tmp_path / "compare.html")
    opened = look(path, width)
    assert opened.console == []
    assert outside(opened, path) == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.page.locator("#matrix-table thead button").nth(2).click()
    shown = opened.page.locator("#matrix-table tbody td:nth-child(3)").evaluate_all(
        "cells => cells.map(cell => Number(cell.dataset.value))"
    )
    assert shown == sorted(shown)
