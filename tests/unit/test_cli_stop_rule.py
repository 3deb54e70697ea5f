"""What --until and --budget may say, and what is said of anything else: the option, and what is expected."""

import pytest

from devicelab.cli._out import stop_rule
from devicelab.errors import ConfigError
from devicelab.model.stop import Stop


@pytest.mark.parametrize("budget", ["20", "-3m", "0s", "40 d", "1000 h", "soon", "1e3 s", "nan s"])
def test_what_is_no_time_is_no_budget(budget: str) -> None:
    with pytest.raises(ConfigError, match=r"--budget: a time such as .* is expected"):
        stop_rule(budget=budget)


@pytest.mark.parametrize("until", ["", "soon", "2", "± 0 %", "± 200 %", "100 %", "-2 %", "Decided"])
def test_what_is_no_end_is_named(until: str) -> None:
    with pytest.raises(ConfigError, match=r'--until: "decided" or a precision such as .* is expected'):
        stop_rule(until=until)


@pytest.mark.parametrize("until", ["± 2 %", "±2%", "2%", "+-2.0 %", "+/- 2 %"])
def test_a_precision_is_said_in_one_way(until: str) -> None:
    rule = stop_rule(until=until)
    assert (rule.until, rule.precision) == ("± 2 %", 0.02)
    assert Stop.model_validate(rule.model_dump()) == rule


def test_a_bare_number_is_no_time_in_a_file_either() -> None:
    with pytest.raises(ValueError, match="a time such as"):
        Stop.model_validate({"budget": 20})
