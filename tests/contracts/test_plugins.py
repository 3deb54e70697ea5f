"""What every plug-in owes, checked for all that are found: a new file in a folder is checked without a new test."""

import contextlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from devicelab.device import build
from devicelab.errors import MeasurementError
from devicelab.ground import registry
from devicelab.model.measurement import Measurement
from devicelab.workloads.base import CommandLine, Context

# Values for parameters without a default, by name; a new workload may need one here.
NEEDED: dict[str, Any] = {
    "argv": ["/data/local/tmp/bench"],
    "binary": "/data/local/tmp/bench",
    "model": "resnet18",
    "sleep_us": 1000,
    "inner_iter": 5000,
}


def params_of(name: str) -> Any:
    model = registry.module("workloads", name).Params
    return model(**{key: NEEDED[key] for key, field in model.model_fields.items() if field.is_required()})


@pytest.mark.parametrize("name", registry.names("workloads"))
def test_a_workload_says_what_it_needs_and_gives_a_command_line(name: str) -> None:
    module = registry.module("workloads", name)
    assert module.__doc__
    assert set(module.NATIVE) <= {*build.programs(), *build.libraries()}
    assert all(registry.script(file).is_file() for file in module.FILES)
    line = module.command(params_of(name), Context())
    assert isinstance(line, CommandLine)
    assert line.argv
    assert all(isinstance(word, str) for word in line.argv)


@pytest.mark.parametrize("name", registry.names("workloads"))
def test_a_workload_refuses_parameters_it_does_not_know_and_explains_those_it_does(name: str) -> None:
    model = registry.module("workloads", name).Params
    with pytest.raises(ValidationError):
        model(**{**params_of(name).model_dump(), "no_such_parameter": 1})
    explained = "".join(inspect.getdoc(one) or "" for one in model.__mro__ if one.__module__.startswith("devicelab."))
    missing = [key for key in model.model_fields if key not in explained]
    assert not missing, f"no line under Attributes: for {missing}"


@pytest.mark.parametrize("name", registry.names("workloads"))
@given(output=st.binary(max_size=400))
@settings(max_examples=20, deadline=None)
def test_a_workload_reads_any_output_or_says_what_is_wrong_with_it(name: str, output: bytes) -> None:
    module = registry.module("workloads", name)
    with contextlib.suppress(MeasurementError):
        assert isinstance(module.parse(output, params_of(name)), Measurement)


@pytest.mark.parametrize("name", registry.names("knobs"))
def test_a_knob_family_names_its_words_and_the_nodes_it_reads(name: str) -> None:
    module = registry.module("knobs", name)
    assert module.__doc__
    assert module.WORDS
    assert all(Path(glob).is_absolute() for glob in module.GLOBS)
    assert all(callable(getattr(module, part)) for part in ("applies", "plan", "prove"))


@pytest.mark.parametrize(
    ("folder", "parts"),
    [
        ("schedulers", ("treat", "verify")),
        ("analyses", ("analyse",)),
        ("transports", ("connect", "discover", "listed_as")),
    ],
)
def test_schedulers_analyses_and_transports_have_what_is_asked_of_them(folder: str, parts: tuple[str, ...]) -> None:
    for name in registry.names(folder):
        module = registry.module(folder, name)
        assert module.__doc__, name
        assert all(callable(getattr(module, part, None)) for part in parts), name
