"""A night for machines and for a chat: what becomes of tasks and verdicts, what hostile texts do not."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from devicelab.errors import StoreError
from devicelab.model.experiment import Finding
from devicelab.report.night import headline, junit, markdown
from devicelab.store import Store
from tests import labdata, nightdata
from tests.nightdata import History

# What Jenkins' xUnit plugin and GitLab read: element → attributes it may have (those it must have first), children.
JUNIT = {
    "testsuites": ((), ("name", "time", "tests", "failures", "errors"), {"testsuite"}),
    "testsuite": (
        ("name", "tests", "failures", "errors"),
        ("skipped", "time", "timestamp", "hostname", "id", "package", "file", "log", "url", "group"),
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": ((), (), {"property"}),
    "property": (("name", "value"), (), set()),
    "testcase": (
        ("name",),
        ("time", "classname", "group"),
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "skipped": ((), ("type", "message"), set()),
    "error": ((), ("type", "message"), set()),
    "failure": ((), ("type", "message"), set()),
    "system-out": ((), (), set()),
    "system-err": ((), (), set()),
}


def valid(text: str) -> ET.Element:
    """The document, if it is what servers read."""
    root = ET.fromstring(text)  # noqa: S314 - our own
    assert root.tag == "testsuites"
    for element in root.iter():
        must, may, children = JUNIT[element.tag]
        assert set(must) <= element.attrib.keys()
        assert element.attrib.keys() <= {*must, *may}
        assert {child.tag for child in element} <= children
        if element.get("time") is not None:
            assert re.fullmatch(r"[0-9]+\.[0-9]{3}", element.get("time", ""))
    for element in root.iter("testsuite"):
        cases = element.findall("testcase")
        for attribute, tag in (("tests", None), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            counted = [case for case in cases if tag is None or case.find(tag) is not None]
            assert element.get(attribute) == str(len(counted))
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names)
    return root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "lab.sqlite") as opened:
        yield opened


def parts(root: ET.Element) -> dict[str, str]:
    """What became of each case."""
    return {f"{case.get('classname')}: {case.get('name')}": case[0].tag for case in root.iter("testcase")}


def test_each_task_and_each_judged_figure_is_a_case(store: Store) -> None:
    nightdata.eventful(store, 5, report=False)
    found = parts(valid(junit(store)))
    assert found["tasks.klo_under_load: job 1 on note10-a"] == "system-out"
    assert found["tasks.klo_under_load: job 2 on note10-b"] == "error"
    assert found["tasks.policies: job 4 on any 1 of tag=sd855"] == "skipped"
    assert found["klo_under_load.note10-a: load=none, k=2: measure total_ns"] == "failure"
    assert found["klo_under_load.note10-b: load=none, k=3: measure total_ns"] == "system-out"
    assert len(found) == 4 + 12


def test_what_could_not_be_judged_is_skipped(store: Store) -> None:
    of = nightdata.eventful(store, 6, report=False)
    root = valid(junit(store, nightdata.night_id(of, 5)))
    assert parts(root)["klo_under_load.sd855-1: load=none, k=4: measure total_ns"] == "skipped"
    first = valid(junit(store, nightdata.night_id(of, 0)))
    judged = [tag for name, tag in parts(first).items() if not name.startswith("tasks")]
    assert set(judged) == {"skipped"}


def test_names_of_cases_are_the_same_every_night(store: Store) -> None:
    of = nightdata.eventful(store, 6, report=False)
    two = [set(parts(valid(junit(store, nightdata.night_id(of, night))))) for night in (2, 4)]
    assert two[0] == two[1]


def test_the_failure_says_what_moved_since_when_and_why(store: Store) -> None:
    of = nightdata.eventful(store, 6, report=False)
    failure = valid(junit(store)).find(".//failure")
    assert failure is not None
    assert failure.get("message") == "regression +9.1 % [+8.02, +10.3] %"
    assert failure.get("type") == "regression"
    for said in ("since " + nightdata.night_id(of, 3), "likely cause: binary klo", "measured again"):
        assert said in (failure.text or "")


def test_a_failed_check_fails_its_task_and_is_told(store: Store) -> None:
    of = History(nights=1)
    nightdata.fill(store, of)
    campaign = nightdata.campaign_id(0, 0)
    claim = Finding(analysis="checks", claim="total below 3 ms", verdict="fail", reasons=("it is 3.1 ms",))
    store.add_findings(campaign, [claim])
    (failure,) = valid(junit(store)).iter("failure")
    assert failure.get("message") == "failed: total below 3 ms"
    assert "**check failed** klo\\_under\\_load on note10-a, total below 3 ms: it is 3.1 ms" in markdown(store)
    assert headline(store).endswith(": 1 check failed")


def test_a_task_that_measured_unreliably_is_a_failure(store: Store) -> None:
    nightdata.fill(store, History(nights=1))
    night = store.night().night
    (task,) = store.tasks(night)
    store.put_tasks(night, [task.model_copy(update={"exit_code": 6, "reason": "no valid run of k=2"})])
    (failure,) = valid(junit(store)).iter("failure")
    assert failure.get("type") == "exit-code-6"
    assert failure.get("message") == "no valid run of k=2"


@pytest.mark.parametrize(("status", "tag"), [("running", "skipped"), ("interrupted", "error")])
def test_a_task_that_was_not_done_is_an_error_once_the_night_is_over(store: Store, status: Any, tag: str) -> None:
    of = History(nights=1)
    night = nightdata.put_night(store, of, 0, status=status)
    (task,) = store.tasks(night)
    store.put_tasks(night, [task.model_copy(update={"status": "waiting", "campaign": None})])
    assert set(parts(valid(junit(store))).values()) == {tag}


def test_the_summary_is_short_with_the_worst_first(store: Store) -> None:
    of = History(nights=1, devices=("note10-a", "note10-b"), cells=60)
    night = nightdata.put_night(store, of, 0, exit_code=7)
    kinds = {0: "regression", 1: "improvement", 2: "too noisy"}
    verdicts = [
        nightdata.verdict(of, 0, cell, cell % 2, verdict=kinds.get(cell % 4, "unchanged"), shift_pct=float(cell))
        for cell in range(60)
    ]
    store.put_verdicts(night, verdicts)
    tasks = [task.model_copy(update={"status": "failed", "reason": "no\nroot"}) for task in store.tasks(night)]
    store.put_tasks(night, tasks)
    text = markdown(store)
    lines = text.splitlines()
    assert len(lines) <= 25
    words = [match[1] for line in lines if (match := re.match(r"- \*\*([a-z ]+)\*\*", line))]
    assert words == sorted(words, key=["regression", "failed", "improvement"].index)
    assert "k=57" in next(line for line in lines if "**regression**" in line)
    assert "- … and 7 more regressions" in lines
    assert "15 regressions, 15 improvements, 15 too noisy, 15 unchanged" in text


def test_a_night_in_which_nothing_happened_says_so(store: Store) -> None:
    of = History(nights=2)
    night = nightdata.fill(store, of)[-1]
    assert headline(store) == f"{night}: nothing was judged"
    store.put_verdicts(night, [nightdata.verdict(of, 1)])
    assert headline(store, night) == f"{night}: no regression"
    assert "- **" not in markdown(store)


@pytest.mark.parametrize("simulated", [True, False])
def test_a_simulated_night_says_so_everywhere(store: Store, simulated: bool) -> None:
    nightdata.eventful(store, 4, simulated=simulated, report=False)
    assert ("simulated" in markdown(store)) is simulated
    assert ("(simulated)" in headline(store)) is simulated
    properties = {(p.get("name"), p.get("value")) for p in valid(junit(store)).iter("property")}
    assert ("simulated", str(simulated).lower()) in properties


def test_a_campaign_with_an_emulated_part_is_simulated(store: Store) -> None:
    night = nightdata.fill(store, History(nights=1))[0]
    assert store.simulated_campaigns(night) == frozenset()
    campaign = labdata.fill(store, labdata.experiment(repetitions=1))
    nightdata.adopt(store, night, campaign)
    assert store.simulated_campaigns(night) == {campaign}


def test_hostile_texts_stay_texts(store: Store) -> None:
    of = nightdata.hostile(store)
    root = valid(junit(store))
    assert root.find(".//script") is None
    text = markdown(store)
    assert len(text.splitlines()) <= 25
    assert not re.search(r"(?<!\\)[<`]", text)
    assert "@everyone" not in text
    assert "\x00" not in text + junit(store)
    assert "\u202e" not in text + junit(store)
    assert of.devices[0] not in text


def test_an_unknown_night_is_said_to_be(store: Store) -> None:
    with pytest.raises(StoreError, match="no night is stored"):
        junit(store)
    nightdata.fill(store, History(nights=1))
    with pytest.raises(StoreError, match="'other'"):
        markdown(store, "other")
