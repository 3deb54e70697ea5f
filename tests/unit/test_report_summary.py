"""JUnit for machines, Markdown for a chat."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from devicelab.errors import ConfigError
from devicelab.model.experiment import Finding
from devicelab.report import write_junit, write_markdown
from devicelab.report.summary import junit, markdown
from devicelab.store import Store
from tests import hostile, labdata

FINDINGS = (
    Finding(analysis="klo", claim="K moves", verdict="no", estimate=0.2, low=-1, high=1.4, n=5, reasons=("overlap",)),
    Finding(analysis="klo", claim="speed-up drops", verdict="insufficient n", n=2),
    Finding(analysis="checks", claim="below 1 ms", verdict="fail", estimate=3.1e6, low=2.9e6, high=3.3e6, unit="ns"),
    Finding(analysis="gone", claim="Analysis 'gone'", verdict="invalid", reasons=("no such analysis",)),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store.open(tmp_path / "lab.sqlite") as opened:
        yield opened


def suite_of(data: bytes) -> ET.Element:
    suite = ET.fromstring(data).find("testsuite")  # noqa: S314
    assert suite is not None
    return suite


def test_findings_and_cells_are_test_cases(store: Store) -> None:
    suite = suite_of(junit(store.results(labdata.fill(store, labdata.experiment(repetitions=1))), FINDINGS))
    assert suite.attrib["tests"] == "10"
    assert (suite.attrib["failures"], suite.attrib["errors"], suite.attrib["skipped"]) == ("1", "1", "1")
    outcome = {case.attrib["name"]: case[0].tag for case in suite.iter("testcase") if len(case)}
    assert outcome == {
        "K moves": "system-out",
        "speed-up drops": "skipped",
        "below 1 ms": "failure",
        "Analysis 'gone'": "error",
    }
    assert "[2.9, 3.3]" in "".join(suite.itertext())


def test_a_cell_without_a_valid_run_fails_with_the_reasons(store: Store) -> None:
    campaign = labdata.fill(store, labdata.experiment(repetitions=1), invalid_every=2)
    suite = suite_of(junit(store.results(campaign), ()))
    assert suite.attrib["failures"] == "3"
    assert "CPU 3 went offline" in "".join(suite.itertext())


def test_a_summary_for_a_chat_is_short_and_says_what_is_simulated(store: Store) -> None:
    campaign = labdata.fill(store, labdata.experiment(repetitions=1))
    text = markdown(store.results(campaign), FINDINGS)
    assert text.startswith("## klo\\_under\\_load on phone-1 **(simulated)**")
    assert "| **fail** | below 1 ms | 3.1\xa0ms | \\[2.9, 3.3\\]\xa0ms | 0 |".replace("\xa0", " ") in text.replace(
        "\xa0", " "
    )
    assert "6 runs, 0 invalid" in text


def test_hostile_texts_break_neither(store: Store, tmp_path: Path) -> None:
    campaign = hostile.campaign(store)
    results, findings = store.results(campaign), store.findings(campaign)
    suite_of(write_junit(results, findings, tmp_path / "deep" / "junit.xml").read_bytes())
    text = write_markdown(results, findings, tmp_path / "summary.md").read_text()
    assert "<script>" not in text.replace("\\<", "")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert "**interrupted**" in text


def test_a_place_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    results = store.results(labdata.begin(store))
    with pytest.raises(ConfigError, match="cannot write"):
        write_junit(results, (), tmp_path)
