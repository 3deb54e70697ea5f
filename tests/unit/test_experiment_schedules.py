"""A static schedule under the condition that it was made for, and elsewhere."""

from typing import Any

import labdata
import pytest
from pydantic import ValidationError

from devicelab.experiment import files, schedules
from devicelab.model.experiment import Cell
from devicelab.model.journal import Flag, Samples
from devicelab.model.measurement import Measurement
from devicelab.model.schedule import MadeFor
from devicelab.workloads import klo, opencl_app

CPU = "/sys/devices/system/cpu/cpufreq/policy{}/scaling_cur_freq"
MADE = MadeFor(
    unit="phone-1",
    board="note10",
    device="Mali-G76",
    driver='3.0 "r26"',
    network="mobilenet_v1",
    levels={"load": "none", "cpu": "max"},
    clocks={CPU.format(0): 1_000_000, CPU.format(4): 2_000_000},
    campaign="20261101-101500-k",
)
INFO = {"device": "Mali-G76", "driver": '3.0 "r26"', "network": "mobilenet_v1"}
LEVELS = {"load": "none", "cpu": "max", "policy": "static", "k": 4}


def _flags(
    *,
    levels: dict[str, Any] | None = None,
    info: dict[str, str] | None = None,
    unit: str = "phone-1",
    khz: tuple[int, int] = (300_000, 2_000_000),
    **params: Any,
) -> tuple[Flag, ...]:
    chosen = klo.Params(**{"policy": "static", "schedule": (1, 2), "made_for": MADE, **params})
    nodes = {CPU.format(policy): (str(clock), None) for policy, clock in zip((0, 4), khz, strict=True)}
    record = labdata.record("r").model_copy(update={"samples": Samples(nodes=nodes)})
    cell = Cell(levels={**LEVELS, **(levels or {})}, measured="x")
    measured = Measurement(info={**INFO, **(info or {})})
    return schedules.flags(chosen, measured, cell, labdata.facts(name=unit), record)


def test_where_it_was_made_a_schedule_counts() -> None:
    assert _flags() == ()
    assert _flags(khz=(1_000_000, 1_800_000)) == (), "an idle cluster wanders, and the optimum is flat"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"unit": "phone-2"}, "device 'phone-2' instead of 'phone-1'"),
        ({"info": {"device": "Mali-G77"}}, "GPU 'Mali-G77'"),
        ({"info": {"driver": "3.0 r38"}}, "driver '3.0 r38'"),
        ({"info": {"network": "resnet50"}}, "network 'resnet50'"),
        ({"levels": {"load": "1000 5000 20"}}, "load '1000 5000 20' instead of 'none'"),
        ({"levels": {"cpu": 1_612_800}}, "cpu '1612800' instead of 'max'"),
        ({"levels": {"gpu": "min"}}, "gpu 'min' instead of '-'"),
        ({"khz": (300_000, 1_400_000)}, "CPU clock 1400000 instead of 2000000"),
    ],
)
def test_elsewhere_the_run_is_invalid_and_says_what_differs(change: dict[str, Any], says: str) -> None:
    (flag,) = _flags(**change)
    assert (flag.code, flag.remark) == ("schedule-elsewhere", False)
    assert says in flag.detail
    (told,) = _flags(**change, foreign_schedule=True)
    assert told.remark
    assert says in told.detail


def test_without_an_origin_it_is_said_and_other_policies_have_none() -> None:
    (flag,) = _flags(made_for=None)
    assert (flag.code, flag.remark) == ("schedule-of-unknown-origin", True)
    assert _flags(policy="constant", unit="phone-2") == ()


def test_what_the_schedule_was_made_for_goes_through_set_as_it_is_printed() -> None:
    odd = MADE.model_copy(update={"driver": 'tab\t"quote" \\ \x7f Ω', "levels": {"a.b": "1,2", "load": "none"}})
    for made in (MADE, odd):
        experiment = files.load("k_policies", [f"measure.params.made_for={made.as_text()}"])
        assert experiment.measure is not None
        assert klo.Params.model_validate(experiment.measure.params).made_for == made
    params = {"argv": ["x"], "policy": "static", "schedule": "1,2", "made_for": MADE.as_text()}
    assert opencl_app.Params.model_validate(params).made_for == MADE
    for wrong in ("{", '{"unti": "x"}', "note10"):
        with pytest.raises(ValidationError):
            klo.Params(made_for=wrong)
