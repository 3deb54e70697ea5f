"""``devicelab klo model``."""

import json

import pytest
import typer
from typer.testing import CliRunner

from devicelab.cli import klo
from devicelab.errors import ConfigError

ARGS = [
    "klo",
    "model",
    "--n",
    "10",
    "--t-prod-us",
    "10",
    "--t-ker-us",
    "20",
    "--flush-us",
    "5",
    "--start-idle-us",
    "0",
    "--gap-us",
    "15",
]


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    klo.register(made)
    return made


def test_the_model_prints_curve_best_k_and_best_schedule_as_json(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, [*ARGS, "--json"])
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["best_constant"] == {"k": 5, "makespan_ns": 270_000.0, "overhead_ns": 70_000.0}
    assert answer["best_schedule"]["makespan_ns"] == 245_000.0
    assert [row["makespan_ns"] for row in answer["curve"]][:2] == [350_000.0, 285_000.0]
    assert answer["near_optimal"]["k"] == [4, 5]


def test_the_model_prints_a_table_for_people(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ARGS)
    assert result.exit_code == 0
    assert "5: 270.0 µs" in result.stdout
    assert "1, 3, 6: 245.0 µs" in result.stdout


def test_a_long_curve_is_shown_thinned_with_its_ends_and_the_best(app: typer.Typer) -> None:
    args = ["klo", "model", "--n", "5000", *ARGS[4:]]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0
    first = [line.split()[0] for line in result.stdout.splitlines() if line.strip()]
    assert {"1", "5000"} <= set(first)
    assert len(first) < 60


@pytest.mark.parametrize("wrong", [["--n", "0"], ["--gap-us", "-1"]])
def test_numbers_out_of_range_are_usage_errors(app: typer.Typer, wrong: list[str]) -> None:
    assert CliRunner().invoke(app, [*ARGS, *wrong]).exit_code == 2


def test_an_infinite_cost_is_a_configuration_error(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, [*ARGS, "--gap-us", "inf"])
    assert isinstance(result.exception, ConfigError)
