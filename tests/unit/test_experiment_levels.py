"""What is no number is no level, no bound and no deadline."""

import pytest

from devicelab.errors import ConfigError
from devicelab.experiment import files


@pytest.mark.parametrize(
    "text",
    [
        "thermal.max_c=nan",
        "thermal.min_c=-inf",
        "thermal.flat_within_c=inf",
        "thermal.window_s=nan",
        "settle_s=inf",
        "sample_hz=nan",
        "k=[1, inf]",
        "k=nan",
        "measure.params.work_pct=nan",
        "measure.params.networks=[1, nan]",
    ],
)
def test_what_is_no_number_is_refused_when_the_experiment_is_read(text: str) -> None:
    with pytest.raises(ConfigError, match=r"nan|inf"):
        files.load("quick", [text])


@pytest.mark.parametrize("text", ["nan", "inf", "0"])
def test_a_deadline_is_a_time(text: str) -> None:
    with pytest.raises(ConfigError, match="deadline_ms"):
        files.load("dual_model", [f"tenants.high.deadline_ms={text}"])
