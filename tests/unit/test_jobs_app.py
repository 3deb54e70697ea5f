"""The experiment for somebody else's OpenCL program."""

from pathlib import Path

import pytest

from devicelab.errors import ConfigError
from devicelab.jobs import app


def test_the_program_its_variables_and_k_go_into_the_preset_word_for_word() -> None:
    argv = ["/bin/it's", 'a "b"', "--x=[1]", "c=d"]
    found = app.experiment("opencl_app", argv, "1,4 4 0", ["A=b c=d"], ["repetitions=9"])
    assert found.measure is not None
    assert found.measure.params["argv"] == argv
    assert found.measure.params["env"] == ["A=b c=d"]
    assert found.factors["k"] == (1, 4, 0)
    assert found.repetitions == 9


def test_a_preset_brings_its_own_program() -> None:
    found = app.experiment("app_acl_graph", (), "1,2")
    assert found.measure is not None
    assert found.measure.params["non_uniform"] is True


@pytest.mark.parametrize(
    ("preset", "argv", "k", "said"),
    [
        ("opencl_app", [], "1", "which program"),
        ("opencl_app", ["x"], "one", "--k takes numbers"),
        ("opencl_app", ["x"], "", "--k takes numbers"),
        ("opencl_app", ["x"], "-1", "--k takes numbers"),
        ("k_constant", [], "1", "does not measure with the workload opencl_app"),
        ("no_such", ["x"], "1", "no_such"),
    ],
)
def test_what_makes_no_sense_is_told_before_a_device_is_touched(
    preset: str, argv: list[str], k: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        app.experiment(preset, argv, k)


def test_files_go_with_the_experiment_and_no_two_have_one_name(tmp_path: Path) -> None:
    found = app.experiment("opencl_app", ["{dir}/bench"], "1", push=[tmp_path / "bench"])
    assert found.push == (tmp_path / "bench",)
    with pytest.raises(ConfigError, match="'a'"):
        app.experiment("opencl_app", ["x"], "1", push=[tmp_path / "a", tmp_path / "b" / "a"])
