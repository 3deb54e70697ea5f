"""The site in a real browser, opened from a folder: silent, without requests, for wide and narrow screens."""

from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from devicelab.report.site import build_site
from devicelab.store import Store
from tests import nightdata
from tests.browser.opened import NARROW, WIDE, contrast, outside

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("farm")
    with Store.open(folder / "lab.sqlite") as store:
        nightdata.eventful(store, 8)
        return build_site(store, folder / "site").parent


@pytest.fixture(scope="module")
def hostile_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    with Store.open(folder / "lab.sqlite") as store:
        nightdata.hostile(store)
        return build_site(store, folder / "site", reports=0).parent


def newest(site: Path) -> Path:
    return max((site / "nights").glob("*.html"))


def kinds(site: Path) -> list[Path]:
    """A page of each kind; of nights the newest and the oldest."""
    nights = sorted((site / "nights").glob("*.html"))
    # The device with most to say about it.
    device = max((site / "devices").glob("*.html"), key=lambda path: path.stat().st_size)
    return [site / "index.html", nights[0], nights[-1], device, *(site / "experiments").glob("*.html")]


@pytest.mark.parametrize(("width", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_every_page_is_silent_fits_the_screen_and_can_be_read(look: Any, site: Path, width: int, scheme: str) -> None:
    for path in kinds(site):
        opened = look(path, width, color_scheme=scheme)
        page = opened.page
        assert opened.console == [], path
        assert outside(opened, path) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(node => +node.tagName[1])")
        assert levels[0] == 1
        assert all(b - a <= 1 for a, b in pairwise(levels))
        readable(page)
        # Folded tables fit, too.
        page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def readable(page: Any) -> None:
    """Enough contrast of texts, verdicts and lines, by WCAG 2.2."""
    found = page.evaluate(
        """() => [...document.querySelectorAll('body, a, caption, .quiet, .none, .verdict, .trend text, .trend .line')]
        .map(node => {
            const style = getComputedStyle(node);
            const drawn = node.matches('.line') ? style.stroke : node.matches('text') ? style.fill : style.color;
            let back = node;
            while (back && ['rgba(0, 0, 0, 0)', ''].includes(getComputedStyle(back).backgroundColor)) {
                back = back.parentElement;
            }
            return [drawn, getComputedStyle(back).backgroundColor, node.getAttribute('class') || node.tagName];
        })"""
    )
    assert found
    for colour, paper, what in {tuple(one) for one in found}:
        assert contrast([colour, paper]) >= (3 if what == "line" else 4.5), (what, colour, paper)


def test_links_lead_from_the_list_to_a_report_and_back(look: Any, site: Path) -> None:
    page = look(site / "index.html").page
    page.locator("#newest ~ ul a, section:has(#newest) a").first.click()
    assert page.url == newest(site).as_uri()
    page.locator("#verdicts ~ .scroll a, section:has(#verdicts) tbody th a").first.click()
    assert "/experiments/" in page.url
    target = page.locator(":target")
    assert target.locator("svg.trend").is_visible()
    assert "k=2" in target.inner_text()
    page.get_by_role("link", name="note10-a").first.click()
    assert page.url.endswith("/devices/note10-a.html")
    page.locator("#campaigns-table a[href*='campaigns/']").first.click()
    assert page.locator("h1").inner_text().startswith("klo_under_load")
    page.go_back()
    page.get_by_role("link", name="All nights").click()
    assert page.url == (site / "index.html").as_uri()


def test_every_link_of_every_page_resolves(look: Any, site: Path) -> None:
    page = look(site / "index.html").page
    seen: set[str] = set()
    waiting = [page.url]
    while waiting:
        url = waiting.pop()
        seen.add(url)
        page.goto(url)
        links = page.evaluate("[...document.links].map(link => link.href)")
        for link in links:
            if link.startswith("data:"):
                continue
            assert link.startswith(site.as_uri()), link
            path = link.partition("#")[0]
            if not path.endswith(".html"):  # a trace, which a browser would download
                assert Path(unquote(urlsplit(path).path)).is_file(), path
            elif path not in seen and path not in waiting:
                waiting.append(path)
        missing = page.evaluate(
            "[...document.links].filter(link => link.pathname === location.pathname && link.hash"
            " && !document.getElementById(decodeURIComponent(link.hash.slice(1)))).length"
        )
        assert missing == 0, url
    assert len(seen) == len(list(site.rglob("*.html")))


def test_charts_are_drawn_named_and_large_enough(look: Any, site: Path) -> None:
    for width, least in ((WIDE, 350), (NARROW, 300)):
        page = look(site / "experiments" / "klo_under_load.html", width).page
        assert page.locator("svg.trend").count() == 12 + 6
        charts = page.locator("svg.trend:has(path.line)")
        assert charts.count() == 12
        for i in range(2):
            chart = charts.nth(i)
            box = chart.bounding_box()
            assert box["width"] >= least
            assert box["height"] >= 130
            assert chart.evaluate("node => node.querySelector('title').textContent.length") > 5
            shown = chart.locator("path.line").bounding_box()
            assert box["x"] <= shown["x"]
            assert shown["x"] + shown["width"] <= box["x"] + box["width"]
        assert page.locator("svg.trend .m.bad").count() == 3


def test_the_keyboard_reaches_everything_with_a_visible_focus(look: Any, site: Path) -> None:
    for path in (site / "index.html", site / "experiments" / "klo_under_load.html"):
        page = look(path).page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert page.locator(":focus").bounding_box()["x"] >= 0
        for _ in range(12):
            page.keyboard.press("Tab")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", page.evaluate("document.activeElement.outerHTML")
    folded = look(newest(site)).page
    summary = folded.locator("summary").first
    summary.focus()
    folded.keyboard.press("Enter")
    assert folded.locator("details table").first.is_visible()


def test_verdicts_and_tasks_are_read_without_scrolling_sideways_on_a_phone(look: Any, site: Path) -> None:
    page = look(newest(site), NARROW).page
    for cell in page.locator("#tasks-table td, #tasks-table tbody th, #health-table td").all():
        box = cell.bounding_box()
        assert box is None or box["x"] + box["width"] <= NARROW


def test_a_printed_page_has_its_charts(look: Any, site: Path) -> None:
    page = look(site / "experiments" / "klo_under_load.html").page
    page.emulate_media(media="print")
    assert page.locator(".crumbs").is_hidden()
    assert page.locator("svg.trend").first.is_visible()
    assert len(page.pdf(format="A4")) > 20_000


def test_hostile_texts_do_nothing_in_a_browser(look: Any, hostile_site: Path) -> None:
    for path in kinds(hostile_site):
        opened = look(path, NARROW)
        assert opened.console == [], path
        assert outside(opened, path) == [], path
        assert not opened.page.title().startswith("owned")
        assert opened.page.evaluate("document.images.length") == 0
        ours = "[...document.scripts].filter(one => one.type !== 'application/json').length"
        assert opened.page.evaluate(ours) in {0, 3}, "none, or the page's, the chart library and the charts"
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= NARROW, path
