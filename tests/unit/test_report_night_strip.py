"""What a night asks for comes first, and its strips lie within the night."""

from pathlib import Path

from devicelab.model.experiment import Finding
from devicelab.report.night_strip import WIDTH, strips, todo
from devicelab.report.night_view import counted, read_night
from devicelab.store import Store
from tests import nightdata


def test_failed_checks_and_regressions_come_with_commands_and_strips_stay_within_the_night(tmp_path: Path) -> None:
    with Store.open(tmp_path / "lab.sqlite") as store:
        nightdata.eventful(store)
        first = store.night_campaigns(store.night(None).night)[0]
        store.add_findings(first.campaign, [Finding(analysis="checks", claim="costs < 20 %", verdict="fail")])
        view = read_night(store, None)
    asked = todo(view)
    assert asked[0].command.split()[:2] == ["devicelab", "report"]
    assert "costs < 20 %" in asked[0].text
    assert any("regressed" in one.text for one in asked)
    assert all(one.command for one in asked)
    drawn = strips(view)
    assert {strip.device for strip in drawn} <= set(view.devices)
    assert drawn
    for piece in (piece for strip in drawn for piece in strip.pieces):
        assert 0 <= piece.x <= WIDTH
        assert 0 < piece.width <= WIDTH


def test_one_and_many_are_said_as_one_says_them() -> None:
    assert [counted("regression", n) for n in (0, 1, 2)] == ["regressions", "regression", "regressions"]
    assert counted("not comparable", 3) == "not comparable"
