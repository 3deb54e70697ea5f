"""The report in a real browser: silent, without requests, readable wide and narrow, usable with a keyboard."""

from pathlib import Path
from typing import Any

import pytest

from devicelab.model.experiment import Finding
from devicelab.report import build_report, render
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
    assert len(page.pdf(format="A4")) > 20_000


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
