"""The page: complete, self-contained, escaped, and honest about what is missing."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as MplFigure

from devicelab.analyses._production import t_prod
from devicelab.analyses.base import Figure
from devicelab.errors import ConfigError
from devicelab.model.experiment import Cell, Finding
from devicelab.model.journal import Flag
from devicelab.model.measurement import Measurement, Metric
from devicelab.report import build_report, render
from devicelab.report.frames import group_labels
from devicelab.report.svg import draw, inline
from devicelab.report.tables import cpu_text, facts
from devicelab.store import Store
from tests import hostile, klodata, labdata

pytestmark = pytest.mark.slow

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Reads a page strictly: every element is closed in order, ids are unique; collects what tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.source = text
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in {"style", "script"}:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store.open(tmp_path / "lab.sqlite") as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a complete campaign with some invalid runs and a finding."""
    folder = tmp_path_factory.mktemp("whole")
    finding = Finding(
        analysis="klo", claim="K moves", verdict="no", estimate=0.2, low=-1.0, high=1.4, n=5, reasons=("sets overlap",)
    )
    with Store.open(folder / "lab.sqlite") as opened:
        campaign = labdata.fill(opened, invalid_every=7)
        opened.add_findings(campaign, [finding])
        return page_of(opened, campaign, folder)


def page_of(store: Store, campaign: str, tmp_path: Path) -> Page:
    return Page(build_report(store, campaign, tmp_path / "page.html").read_text(encoding="utf-8"))


def data_of(uri: str | None) -> bytes:
    assert uri is not None
    head, _, data = uri.partition(",")
    return base64.b64decode(data) if head.endswith(";base64") else unquote_to_bytes(data)


def test_a_report_holds_everything_a_reader_needs(whole: Page) -> None:
    for words in (
        "klo_under_load", "on phone-1", "Does the best K move", "Simulated.", "4 of 30 runs are invalid",
        "K moves", "sets overlap", "[−1, 1.4]", "Galaxy Note10 (note10)", "samsung/d1/d1:12/SP1A", "4.14.113",
        "b" * 64, "seed 1", "devicelab sweep --board phone-1", "policy 0: 1.613 GHz", "load 1000 5000 20",
        "affinity-changed: CPU 3 went offline", "What the words mean", "No process was left behind",
    ):  # fmt: skip
        assert words in whole.words, words
    assert whole.all("html")[0]["lang"] == "en"
    names = {attributes.get("id") for attributes in whole.all("figure")}
    assert {"figure-latency-by-cell", "figure-t-prod-by-cell", "figure-t-prod", "figure-cpu-use-per-core"} <= names


def test_a_page_is_one_file_that_loads_nothing_and_runs_nothing(whole: Page) -> None:
    for tag, attributes in whole.tags:
        assert not any(name.startswith("on") for name in attributes)
        # A trace lies beside the page: nothing is loaded from there before somebody asks for it.
        led = ("page-traces/",) if tag == "a" and "download" in attributes else ()
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            target = attributes.get(name) or ""
            assert target.startswith(("#", "data:", *led)) or not target, target
    policy = next(m["content"] for m in whole.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    allowed = re.search(r"script-src ([^;]*);", policy)
    assert allowed is not None
    assert set(allowed[1].split()) == {f"'sha256-{_sha256(text)}'" for text in _run_scripts(whole.source)}


def _run_scripts(text: str) -> list[str]:
    """Scripts that a browser would run: every other one is a block of data."""
    return [body for kind, body in re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL) if "json" not in kind]


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_ids_are_unique_and_links_inside_the_page_lead_somewhere(whole: Page) -> None:
    ids = [attributes["id"] for _, attributes in whole.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in whole.tags:
        for name in ("href", "xlink:href"):
            target = attributes.get(name) or ""
            if target.startswith("#"):
                assert target[1:] in ids, target
        for name in ("aria-labelledby",):
            assert set((attributes.get(name) or "").split()) <= set(ids)


def test_every_figure_has_a_title_a_caption_and_its_data(whole: Page) -> None:
    figures = whole.all("figure")
    downloads = [a for a in whole.all("a") if "download" in a and str(a["href"]).startswith("data:")]
    # One timeline a cell: many of a kind, whose data `devicelab export` and `trace` have.
    own = [one for one in figures if not str(one["id"]).startswith("figure-run-")]
    assert 6 <= len(own) < len(figures)
    assert len([a for a in downloads if str(a["download"]).endswith(".svg")]) == len(own)
    assert len([a for a in downloads if str(a["download"]).endswith(".csv")]) == len(own) + 1
    for link in downloads:
        data = data_of(link["href"])
        if str(link["download"]).endswith(".svg"):
            assert ET.fromstring(data).tag.endswith("svg")  # noqa: S314
        else:
            assert len(pd.read_csv(io.BytesIO(data))) > 0
    assert [svg["role"] for svg in whole.all("svg")] == ["img"] * len(figures)
    assert len(whole.all("figcaption")) == len(figures)


def test_every_table_has_a_caption_and_headers(whole: Page) -> None:
    assert len(whole.all("caption")) == len(whole.all("table")) >= 7
    assert all("scope" in header for header in whole.all("th"))


def test_hostile_texts_stay_texts(store: Store, tmp_path: Path) -> None:
    campaign = hostile.campaign(store)
    to = render(store.results(campaign), store.findings(campaign), hostile.figures(), tmp_path / "page.html")
    text = to.read_text(encoding="utf-8")
    page = Page(text)
    assert {_sha256(one) for one in _run_scripts(text)} <= set(re.findall(r"'sha256-([^']+)'", text))
    assert page.all("img") == []
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "{{ 7 * 7 }}" in page.words
    assert "could not be drawn: RuntimeError" in page.words
    assert "<script>document" not in text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", "".join(draw(f) for f in hostile.figures()[:1]))


def test_a_campaign_without_runs_has_a_page(store: Store, tmp_path: Path) -> None:
    page = page_of(store, labdata.begin(store), tmp_path)
    assert "The campaign is running" in page.words
    assert "No run has been stored" in page.words
    assert page.all("figure") == []


def test_a_campaign_whose_runs_are_all_invalid_says_so(store: Store, tmp_path: Path) -> None:
    campaign = labdata.fill(store, labdata.experiment(repetitions=1), invalid_every=1)
    page = page_of(store, campaign, tmp_path)
    assert "6 of 6 runs are invalid" in page.words
    assert "no valid run has been stored" in page.words
    assert "affinity-changed" in page.words


def test_runs_without_samples_show_their_figures(store: Store, tmp_path: Path) -> None:
    of = labdata.experiment(repetitions=1)
    campaign = labdata.begin(store, of)
    for seq, cell in enumerate(labdata.cells(of)):
        measured = Measurement(metrics={"total_ns": Metric(1e6 * (seq + 1), "ns"), "empty": Metric(np.nan, "1")})
        record = labdata.record(f"run-{seq}", seq)
        store.commit_run(campaign, cell, record, repetition=0, measurements={"m": measured}, flags=())
    page = page_of(store, campaign, tmp_path)
    assert "time of an inference, by cell" in page.words
    assert "simulated" not in page.words.lower().replace("simulated: a virtual", "")


def test_runs_that_only_load_and_sample_nothing_have_a_page(store: Store, tmp_path: Path) -> None:
    of = labdata.experiment(factors={}, set={}, measure=None, repetitions=1)
    campaign = labdata.begin(store, of)
    cell = Cell(levels={}, measured="")
    bare = labdata.record("run").model_copy(update={"samples": type(labdata.record("x").samples)(), "programs": ()})
    store.commit_run(campaign, cell, bare, repetition=0, measurements={}, flags=())
    page = page_of(store, campaign, tmp_path)
    assert "not sampled" in page.words


def test_a_given_figure_replaces_the_built_in_one_of_its_name(store: Store, tmp_path: Path) -> None:
    campaign = labdata.fill(store, labdata.experiment(repetitions=1))
    own = Figure("latency-by-cell", "Mine", "mine", pd.DataFrame({"a": [1]}), lambda canvas: canvas.subplots())
    page = Page(render(store.results(campaign), (), (own,), tmp_path / "page.html").read_text())
    assert [figure["id"] for figure in page.all("figure")].count("figure-latency-by-cell") == 1
    assert "Mine" in page.words


def test_data_too_large_for_a_page_is_left_to_the_export(store: Store, tmp_path: Path) -> None:
    campaign = labdata.begin(store)
    frame = pd.DataFrame({"value": np.arange(700_000)})
    own = Figure("big", "Big", "big", frame, lambda canvas: canvas.subplots())
    page = Page(render(store.results(campaign), (), (own,), tmp_path / "page.html").read_text())
    assert "too large for a page" in page.words


def test_a_figure_gives_the_same_bytes_again() -> None:
    own = Figure("a", "A", "a", pd.DataFrame(), lambda canvas: canvas.subplots().plot([1, 2], label="$x_$"))
    assert draw(own) == draw(own)
    assert inline(draw(own), "a", "A", "a") == inline(draw(own), "a", "A", "a")


def test_an_inlined_figure_follows_the_pages_colours_and_the_file_does_not() -> None:
    own = Figure("a", "A", "a", pd.DataFrame(), lambda canvas: canvas.subplots().set_xlabel("x"))
    assert "var(--ink)" in inline(draw(own), "a", "A", "a")
    assert "var(" not in draw(own)


def test_a_place_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    campaign = labdata.begin(store)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        build_report(store, campaign, tmp_path / "file" / "page.html")


def test_an_analysis_of_another_version_is_named_and_the_page_made(store: Store, tmp_path: Path) -> None:
    campaign = labdata.begin(store, labdata.experiment(analyses=("gone",)))
    assert "Analysis 'gone'" in page_of(store, campaign, tmp_path).words


def test_reports_go_to_a_folder_of_their_own(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    campaign = labdata.begin(store)
    path = build_report(store, campaign[:-1])
    assert path == Path("devicelab-report") / f"{campaign}.html"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_first_production_time_of_an_inference_is_left_out() -> None:
    kernels = pd.DataFrame(
        {
            "run_id": ["a"] * 4 + ["b"] * 2,
            "program": "m",
            "inference": [0, 0, 1, 1, 1, 1],
            "kernel": [0, 1, 0, 1, 1, 0],
            "queued_ns": [100, 110, 1000, 1030, 50, 20],
        }
    )
    found = t_prod(kernels)
    assert {key: times.tolist() for key, times in found.items()} == {("m", "a"): [10, 30], ("m", "b"): [30]}
    assert not t_prod(kernels.head(0))


def test_a_run_without_a_placement_stands_in_every_panel(store: Store, tmp_path: Path) -> None:
    of = labdata.experiment(factors={"load": ("none", "10 1000 20"), "placement": ("free", "one-big")}, set={})
    campaign = labdata.begin(store, of)
    for seq, levels in enumerate(
        ({"load": "none"}, {"load": "10 1000 20", "placement": "free"}, {"load": "10 1000 20", "placement": "one-big"})
    ):
        store.commit_run(
            campaign,
            Cell(levels=levels, measured="klo"),
            labdata.record(f"run-{seq}", seq),
            repetition=0,
            measurements={"m": labdata.measurement(seq)},
            flags=(),
        )
    page = page_of(store, campaign, tmp_path)
    link = next(a for a in page.all("a") if str(a.get("download", "")).endswith("-t-prod.csv"))
    curves = pd.read_csv(io.BytesIO(data_of(link["href"]))).groupby("panel")["curve"].unique()
    assert {panel: sorted(names) for panel, names in curves.items()} == {
        "placement free": ["idle", "load 10 1000 20"],
        "placement one-big": ["idle", "load 10 1000 20"],
    }


@pytest.mark.parametrize(
    ("cpus", "text"), [((), ""), ((3,), "3"), ((0, 1, 2, 3, 7), "0-3,7"), ((4, 6, 5), "4-6"), ((0, 2), "0,2")]
)
def test_cpu_lists_are_written_as_the_kernel_does(cpus: tuple[int, ...], text: str) -> None:
    assert cpu_text(cpus) == text


def test_the_page_calls_a_cell_what_its_findings_call_it() -> None:
    runs = pd.DataFrame(
        {"load": ["none", "util 45", None], "placement": [None, "one-big", float("nan")], "k": [4, 4.0, float("nan")]}
    )
    assert group_labels(runs, ["load", "placement", "k"]).tolist() == [
        "idle, K = 4",
        "load util 45 one-big, K = 4",
        "idle",
    ]
    assert group_labels(runs[2:], ["placement"]).tolist() == ["all runs"]


def test_a_run_with_many_flags_lists_all_reasons(store: Store, tmp_path: Path) -> None:
    campaign = labdata.begin(store, labdata.experiment(repetitions=1))
    flags = [Flag(code=f"code-{i}", detail=f"detail {i}") for i in range(3)]
    cell = store.cells(campaign)[0]
    store.commit_run(campaign, cell, labdata.record("r"), repetition=0, measurements={}, flags=flags)
    assert "code-0: detail 0; code-1: detail 1; code-2: detail 2" in page_of(store, campaign, tmp_path).words


def test_what_a_program_said_of_itself_leaves_out_what_varied_and_what_is_empty() -> None:
    results = klodata.campaign(klodata.random_truth(np.random.default_rng(1), 4), {"k": (1, 2)}, repetitions=1)
    results.info["programs"] = {"measure": {"driver": "3.1", "k": 2, "emulation": "", "kernels": 4}}
    assert dict(facts(results))["Program measure"] == "driver: 3.1, kernels: 4"


@pytest.mark.parametrize(("low", "high", "named"), [(30, 600, {"50", "100", "200", "500"}), (1, 1e6, {"10", "1000"})])
def test_a_logarithmic_axis_names_plain_numbers_that_do_not_crowd(low: float, high: float, named: set[str]) -> None:
    def plot(canvas: MplFigure) -> None:
        axes = canvas.subplots()
        axes.plot([low, high], [0, 1])
        axes.set_xscale("log")
        axes.set_yticks([])

    texts = re.findall(r"<text[^>]*>([^<]*)</text>", draw(Figure("x", "x", "x", pd.DataFrame(), plot)))
    assert named <= {*texts}
    assert len(texts) < 12
    assert all(float(text) > 0 for text in texts)
