"""The site: what its pages say, that only what changed is written, and that hostile texts stay texts."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from typer.testing import CliRunner

from devicelab.cli import app
from devicelab.errors import ConfigError
from devicelab.model.night import CellVerdict, Task
from devicelab.report import trend
from devicelab.report.clean import page_name
from devicelab.report.site import build_site, update_site
from devicelab.store import Store
from tests import nightdata
from tests.nightdata import History

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Links, anchors, headings, scripts and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        if tag == "a":
            self.links.append(found.get("href") or "")
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        assert not any(name.startswith("on") for name in found)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "lab.sqlite") as opened:
        yield opened


def pages(directory: Path) -> dict[str, Page]:
    return {str(path.relative_to(directory)): Page(path) for path in sorted(directory.rglob("*.html"))}


def check_links(directory: Path) -> None:
    """Every link leads to a page of the site and an anchor it has; every page is reached."""
    found = pages(directory)
    reached = {"index.html"}
    for name, page in found.items():
        assert len(set(page.ids)) == len(page.ids), f"{name} has an id twice"
        assert page.headings[0] == 1
        assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False)), (name, page.headings)
        if name.startswith("campaigns/"):
            continue
        for link in page.links:
            parts = urlsplit(link)
            assert not parts.scheme, link
            assert not parts.netloc, link
            target = (directory / name).parent / unquote(parts.path) if parts.path else directory / name
            place = str(target.resolve().relative_to(directory.resolve()))
            assert place in found, f"{name} links to {link}"
            reached.add(place)
            if parts.fragment:
                assert parts.fragment in found[place].ids, f"{name} links to {link}"
    assert reached == found.keys()


def test_every_link_leads_to_a_page_and_every_page_is_reached(store: Store, tmp_path: Path) -> None:
    of = nightdata.eventful(store, 5)
    index = build_site(store, tmp_path / "site")
    assert index == tmp_path / "site" / "index.html"
    check_links(index.parent)
    found = pages(index.parent)
    assert sum(name.startswith("nights/") for name in found) == of.nights
    assert sum(name.startswith("devices/") for name in found) == len(of.devices)
    assert sum(name.startswith("campaigns/") for name in found) == 1


def test_the_newest_night_is_told_on_top(store: Store, tmp_path: Path) -> None:
    of = nightdata.eventful(store, 5, report=False)
    site = build_site(store, tmp_path / "site", reports=0).parent
    index = Page(site / "index.html")
    assert "1 regression, 1 task failed, 1 task skipped, 1 device quarantined" in index.text
    night = Page(site / "nights" / f"{nightdata.night_id(of, 4)}.html")
    for said in (
        "the device went away twice",
        "no time was left before the deadline",
        "devicelab quarantine release note10-b",
        "likely cause: binary klo",
        "measured again: the same",
        "throttled",
        "the battery is at 9 %",
        "exit code: a check failed or something regressed",
    ):
        assert said in night.text
    assert night.text.index("regression") < night.text.index("improvement")
    device = Page(site / "devices" / "note10-b.html")
    assert "devicelab quarantine release note10-b" in device.text
    assert "Magisk put back" in Page(site / "devices" / "sd855-1.html").text


def test_a_trend_marks_what_was_judged_and_the_change_point(store: Store, tmp_path: Path) -> None:
    nightdata.eventful(store, 6, report=False)
    site = build_site(store, tmp_path / "site", reports=0).parent
    text = (site / "experiments" / "klo_under_load.html").read_text(encoding="utf-8")
    chart = text[text.index("load=none, k=2 on note10-a") :]
    chart = chart[: chart.index("</svg>")]
    assert chart.count('class="m bad"') == 3
    assert chart.count('class="m calm"') == 1
    assert chart.count('class="break"') == 1
    assert "2026-01-04: regression +9.1" in chart
    assert 'class="band"' in chart


def test_only_pages_whose_data_changed_are_written(store: Store, tmp_path: Path) -> None:
    of = History(nights=4, devices=("a", "b"))
    nightdata.fill(store, of)
    first = update_site(store, tmp_path / "site")
    assert len(first.written) == 4 + 2 + 1 + 1
    again = update_site(store, tmp_path / "site")
    assert not again.written
    assert sorted(again.kept) == sorted(first.written)

    nightdata.fill(store, History(nights=1, first=4, devices=("a",)))
    more = update_site(store, tmp_path / "site")
    newest = f"nights/{nightdata.night_id(of, 4)}.html"
    before = f"nights/{nightdata.night_id(of, 3)}.html"
    assert set(more.written) == {newest, before, "devices/a.html", "experiments/klo_under_load.html", "index.html"}
    check_links(tmp_path / "site")


@pytest.mark.parametrize("change", ["verdict", "task", "health", "quarantine", "release"])
def test_what_changes_in_an_old_night_reaches_its_page(store: Store, tmp_path: Path, change: str) -> None:
    of = History(nights=3)
    night = nightdata.fill(store, of)[0]
    if change == "release":
        store.quarantine("note10-a", "no root", night)
    update_site(store, tmp_path / "site")
    if change == "verdict":
        store.put_verdicts(night, [nightdata.verdict(of, 0)])
    elif change == "task":
        (task,) = store.tasks(night)
        store.put_tasks(night, [task.model_copy(update={"reason": "a word more"})])
    elif change == "health":
        store.add_health(nightdata.look(of, 0, 0, "asked", ok=False, reasons=("no root",)))
    elif change == "quarantine":
        store.quarantine("note10-a", "no root", night)
    else:
        store.release("note10-a", "rooted")
    done = update_site(store, tmp_path / "site")
    assert f"nights/{night}.html" in done.written
    # The list of nights tells neither a task's reason nor an old look at a device.
    assert ("index.html" in done.written) is (change not in {"task", "health"})
    assert f"nights/{nightdata.night_id(of, 2)}.html" not in done.written


def test_pages_of_deleted_nights_go_and_nothing_else(store: Store, tmp_path: Path) -> None:
    of = History(nights=3)
    nights = nightdata.fill(store, of)
    site = tmp_path / "site"
    update_site(store, site)
    (site / "nights" / "notes.html").write_text("mine")
    (tmp_path / "precious.html").write_text("mine")
    manifest = site / ".devicelab-site.json"
    data = json.loads(manifest.read_text(encoding="utf-8"))
    data["pages"] |= {"../precious.html": "x", "nights/../../precious.html": "x"}
    manifest.write_text(json.dumps(data), encoding="utf-8")
    store.delete_night(nights[0])
    done = update_site(store, site)
    assert done.removed == [f"nights/{nights[0]}.html"]
    assert (site / "nights" / "notes.html").exists()
    assert (tmp_path / "precious.html").exists()
    (site / "nights" / "notes.html").unlink()
    check_links(site)


def test_a_page_that_was_removed_by_hand_is_made_again(store: Store, tmp_path: Path) -> None:
    nightdata.fill(store, History(nights=2))
    update_site(store, tmp_path / "site")
    for name in ("experiments/klo_under_load.html", "devices/note10-a.html", "index.html"):
        (tmp_path / "site" / name).unlink()
    (tmp_path / "site" / "nights" / ".x.html.123.part").write_text("half")
    assert len(update_site(store, tmp_path / "site").written) == 3
    assert not list((tmp_path / "site").rglob("*.part"))


def test_a_damaged_note_of_the_site_makes_all_pages_anew(store: Store, tmp_path: Path) -> None:
    nightdata.fill(store, History(nights=1))
    update_site(store, tmp_path / "site")
    (tmp_path / "site" / ".devicelab-site.json").write_text("{", encoding="utf-8")
    done = update_site(store, tmp_path / "site")
    assert len(done.written) + len(done.kept) == 4


def test_a_folder_with_another_index_is_left_alone(store: Store, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(ConfigError, match="not a site"):
        build_site(store, tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"


def test_a_report_is_made_once_for_the_newest_night_and_stays(store: Store, tmp_path: Path) -> None:
    of = nightdata.eventful(store, 4)
    site = tmp_path / "site"
    first = update_site(store, site)
    (report,) = [name for name in first.written if name.startswith("campaigns/")]
    made = (site / report).stat().st_mtime_ns
    # The made-up campaigns hold no evidence: their reports cannot be made, which is told.
    assert len(first.problems) == 3
    nightdata.fill(store, History(nights=1, first=4, devices=of.devices))
    later = update_site(store, site)
    assert report in later.kept
    assert (site / report).stat().st_mtime_ns == made
    assert report in "".join(Page(site / "nights" / f"{nightdata.night_id(of, 3)}.html").links)


def test_one_farm_can_be_shown_alone(store: Store, tmp_path: Path) -> None:
    nightdata.fill(store, History(nights=1))
    nightdata.fill(store, History(nights=1, first=1, farm="weekly", devices=("other",), experiment="policies"))
    site = build_site(store, tmp_path / "site", farm="weekly").parent
    assert {name for name in pages(site) if "/" in name} == {
        f"nights/{nightdata.night_id(History(farm='weekly'), 1)}.html",
        "devices/other.html",
        "experiments/policies.html",
    }
    check_links(site)
    with pytest.raises(ConfigError, match="'monthly'") as error:
        build_site(store, tmp_path / "site", farm="monthly")
    assert "nightly, weekly" in str(error.value.hint)


def test_without_nights_there_is_a_page_that_says_so(store: Store, tmp_path: Path) -> None:
    site = build_site(store, tmp_path / "site").parent
    assert "No night is stored yet" in Page(site / "index.html").text
    check_links(site)


def test_an_experiment_with_many_figures_has_a_page_a_device(store: Store, tmp_path: Path) -> None:
    of = History(nights=2, devices=("a", "b"), cells=30)
    night = nightdata.fill(store, of)[-1]
    store.put_verdicts(night, [nightdata.verdict(of, 1, cell, device) for cell in range(30) for device in range(2)])
    site = build_site(store, tmp_path / "site").parent
    check_links(site)
    found = {name: page for name, page in pages(site).items() if name.startswith("experiments/")}
    assert len(found) == 3
    whole = (site / "experiments" / "klo_under_load.html").read_text(encoding="utf-8")
    assert whole.count('<svg class="trend"') == 0
    assert whole.index(">load=none, k=9<") < whole.index(">load=none, k=10<")


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_results_are_marked_on_every_page(store: Store, tmp_path: Path, simulated: bool) -> None:
    of = History(nights=2, simulated=simulated)
    nightdata.fill(store, of)
    site = build_site(store, tmp_path / "site").parent
    for name, page in pages(site).items():
        assert ("Simulated." in page.text) is simulated, name


def test_hostile_texts_stay_texts_and_names(store: Store, tmp_path: Path) -> None:
    nightdata.hostile(store)
    site = build_site(store, tmp_path / "site", reports=0).parent
    check_links(site)
    found = pages(site)
    assert not {"img", "iframe", "object"} & {tag for page in found.values() for tag in page.tags}
    for path in site.rglob("*.html"):
        whole = path.read_text(encoding="utf-8")
        run = [body for kind, body in re.findall(r"<script([^>]*)>(.*?)</script>", whole, re.DOTALL) if not kind]
        hashes = {base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in run}
        assert hashes == set(re.findall(r"'sha256-([^']+)'", whole[: whole.index("<style>")])), "ours alone"
    for path in site.rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name)
        assert path.resolve().is_relative_to(site.resolve())
        assert path.stem != "con"
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "\x00" not in text
        assert "\u202e" not in text
        assert "onerror=&#34;" in text or "onerror=" not in text


def test_names_of_pages_are_safe_and_differ() -> None:
    assert page_name("nightly-20261122-220000-3f2a") == "nightly-20261122-220000-3f2a"
    names = ["Phone", "phone", "../../x", "..", "", "a/b", "a b", "a\tb", "con", "x" * 500, "nul.txt", "été", "\ud800"]
    stems = [page_name(name) for name in names]
    assert len({stem.casefold() for stem in stems}) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_][a-z0-9._-]{0,80}", stem) for stem in stems)
    assert not {"con", "nul.txt", "..", ""} & set(stems)


def test_a_chart_holds_its_values_and_marks() -> None:
    line = trend.Line([0, 10, 20], [1e6, float("nan"), 3e6], [0.9e6, float("nan"), 2.9e6], [1.1e6, 1e6, 3.1e6])
    drawn = trend.chart([line], "ns", events=[trend.Event(20, 3e6, "regression", "moved")], breaks=[(10, "here")])
    assert drawn is not None
    assert drawn.unit == "ms"
    assert [label for _, label in drawn.y_ticks] == ["0", "1", "2", "3", "4"]
    for x, y in drawn.lines[0].dots:
        assert drawn.left <= float(x) <= drawn.right
        assert drawn.top <= float(y) <= drawn.bottom
    assert len(drawn.lines[0].dots) == 2
    assert drawn.marks[0].x == drawn.lines[0].dots[-1][0]
    assert trend.chart([trend.Line([1], [float("nan")])], "ns") is None


def test_a_flat_line_is_not_blown_up() -> None:
    drawn = trend.chart([trend.Line([0, 1], [100.0, 100.1])], "1")
    assert drawn is not None
    ticks = [float(label) for _, label in drawn.y_ticks]
    assert ticks[-1] - ticks[0] >= 4
    alone = trend.chart([trend.Line([5], [0.0])], "1")
    assert alone is not None
    assert trend.spark([1.0]) == ""
    assert trend.spark([0.0, 0.0]).startswith("M")


def test_the_command_makes_the_site_and_says_what_it_did(store: Store, tmp_path: Path) -> None:
    nightdata.fill(store, History(nights=1))
    place = ["--store", str(tmp_path / "lab.sqlite")]
    done = CliRunner().invoke(app, ["site", str(tmp_path / "site"), "--json", "--reports", "0", *place])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said == {
        "index": str(tmp_path / "site" / "index.html"),
        "written": 4,
        "kept": 0,
        "removed": 0,
        "problems": [],
    }
    again = CliRunner().invoke(app, ["site", str(tmp_path / "site"), "--reports", "0", *place])
    assert "0 pages written, 4 unchanged" in again.stdout


@pytest.mark.parametrize("absurd", [1.7976931348623157e308, -1e308, 1e-320, float("inf")])
def test_a_chart_leaves_out_what_has_no_place_on_it(absurd: float) -> None:
    times = [day * 86_400_000_000_000 for day in range(3)]
    line = trend.Line(times, [1.0, absurd, 2.0], low=[0.5, absurd, 1.5], high=[1.5, -absurd, 2.5])
    drawn = trend.chart([line], "ns", events=[trend.Event(times[1], absurd, "regression", "?")])
    assert drawn is not None
    assert len(drawn.lines[0].dots) == 2
    assert drawn.marks == ()
    assert trend.chart([trend.Line(times, [absurd] * 3)], "ns") is None
    assert trend.spark([1.0, absurd, 2.0]) == trend.spark([1.0, 2.0])


def test_small_values_have_labels_of_their_own() -> None:
    drawn = trend.chart([trend.Line([0, 1], [1e-15, 2e-15])], "x")
    assert drawn is not None
    assert len({text for _, text in drawn.y_ticks}) == len(drawn.y_ticks) > 2


def test_a_night_that_begins_while_the_pages_are_made_comes_with_the_next_ones(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightdata.fill(store, History(nights=3))
    info = store.nights(limit=1)[0]
    before, medians = store.night_counts(), store.night_medians("klo_under_load")
    assert len(medians)
    tuples = store._tuples
    begun: list[str] = []
    days = iter((9, 20))

    def between(query: Any) -> Any:
        rows = tuples(query)
        if not begun:
            begun.append("")
            begun[0] = nightdata.fill(store, History(nights=1, first=next(days), cells=5))[-1]
            store.put_tasks(begun[0], [Task(task_id="1.9", job=0, experiment="e", selector="a")])
            store.put_verdicts(begun[0], [one.model_copy(update={"night": begun[0]}) for one in _verdicts(info.night)])
        return rows

    monkeypatch.setattr(store, "_tuples", between)
    assert store.night_counts() == before
    assert begun[0] in store.night_counts()
    begun.clear()
    found = store.night_medians("klo_under_load")
    assert begun[0] not in set(found["night"])
    assert begun[0] in set(store.night_medians("klo_under_load")["night"])


def _verdicts(night: str) -> list[CellVerdict]:
    return [
        CellVerdict(
            night=night, experiment="e", cell_id="x", cell="x", device="a", program="p", metric="m", unit="ns",
            verdict="regression",
        )
    ]  # fmt: skip
