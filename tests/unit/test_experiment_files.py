"""Experiments are read, overridden and refused with a place and a reason."""

from pathlib import Path
from typing import Any

import pytest

from devicelab.errors import ConfigError
from devicelab.experiment import files


def data() -> dict[str, Any]:
    return {
        "question": "q",
        "repetitions": 3,
        "factors": {"k": [1, 2], "load": ["none"]},
        "set": {"cpu": "max"},
        "measure": {"workload": "klo", "params": {"network": "squeezenet"}},
        "tenants": [{"name": "high", "arrivals": "fixed:10"}],
    }


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("repetitions=7", ("repetitions",), 7),
        ("k=4", ("factors", "k"), [4]),
        ("k=[1, 8]", ("factors", "k"), [1, 8]),
        ("cpu=min", ("set", "cpu"), "min"),
        ("gpu=max", ("set", "gpu"), "max"),
        ('gpu=["max", "min"]', ("factors", "gpu"), ["max", "min"]),
        ("measure.params.network=resnet50", ("measure", "params", "network"), "resnet50"),
        ("load=1000 5000 20", ("factors", "load"), ["1000 5000 20"]),
    ],
)
def test_set_puts_a_value_where_it_belongs(text: str, path: tuple[str, ...], value: object) -> None:
    changed = data()
    files.override(changed, text)
    place: Any = changed
    for part in path:
        place = place[part]
    assert place == value


def test_set_of_several_levels_turns_a_held_word_into_a_factor() -> None:
    changed = data()
    files.override(changed, 'cpu=["max", "min"]')
    assert changed["factors"]["cpu"] == ["max", "min"]
    assert "cpu" not in changed["set"]


def test_set_finds_a_tenant_by_its_name() -> None:
    changed = data()
    files.override(changed, "tenants.high.arrivals=poisson:50")
    assert changed["tenants"][0]["arrivals"] == "poisson:50"


@pytest.mark.parametrize("text", ["novalue", "=3", "tenants.low.arrivals=x", "repetitions.deep.er=1"])
def test_a_set_that_leads_nowhere_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        files.override(data(), text)


@pytest.mark.parametrize("changed", [{"factors": 3}, {"set": [1]}, {"factors": {"k": [1]}, "set": 3}])
def test_set_refuses_an_experiment_whose_tables_are_none(changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="are tables of words"):
        files.override(changed, "k=2")


def test_an_unknown_experiment_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="klo_under_loat") as caught:
        files.load("klo_under_loat")
    assert "klo_under_load" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("question = 3\n", "question"),
        ("question = 'x'\nrepetition = 3\n", "repetition"),
        ("question = 'x'\nrepetitions = 0\n", "repetitions"),
        ("question = 'x'\n[factors]\nk = []\n", "no levels"),
        ("question = 'x\n", "not valid TOML"),
        ("question = 'x'\n[factors]\nk = [1]\n[set]\nk = 2\n", "both a factor and set"),
    ],
)
def test_a_mistake_in_an_experiment_is_told_with_file_and_place(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason) as caught:
        files.load(str(path))
    assert "mine.toml" in str(caught.value)


@pytest.mark.parametrize("name", files.known())
def test_every_experiment_that_comes_with_devicelab_is_valid(name: str) -> None:
    experiment = files.load(name)
    assert experiment.name == name
    assert experiment.question


@pytest.mark.parametrize("name", files.own())
def test_a_scenario_promises_its_important_tenant_a_median_and_a_tail(name: str) -> None:
    of = files.load(name)
    together = [level for level in of.factors.get("scheduler", ()) if not str(level).startswith("standalone")]
    if not of.tenants or not together:
        return
    promised = set(max(of.tenants, key=lambda tenant: tenant.priority).targets)
    assert promised & {"p50_ms", "p50_ratio"}
    assert promised & {"p99_ms", "p99_ratio"}


def test_a_round_of_a_search_is_not_made_by_a_file(tmp_path: Path) -> None:
    path = tmp_path / "round.toml"
    path.write_text('question = "?"\n[tuning]\naim = "low.share_pct"\nchosen = "mps"\n')
    with pytest.raises(ConfigError, match="devicelab tune"):
        files.load(str(path))
