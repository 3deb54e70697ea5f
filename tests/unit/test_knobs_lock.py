"""One word for all that a board can be held still by, and the knobs that it brings along."""

import board_trees
import pytest

from devicelab import knobs
from devicelab.errors import ConfigError
from devicelab.experiment.judge import judge
from devicelab.jobs.pin import settings_for
from devicelab.model.device import Facts, RootMethod
from devicelab.model.experiment import Cell, Experiment
from devicelab.model.journal import RunRecord, Samples, StepResult
from tests import labdata

CPU = "/sys/devices/system/cpu"
PPM = "/proc/ppm/enabled"


def phone(*, root: RootMethod = "su-c", sdk: int = 33, changes: dict[str, str] | None = None, **props: str) -> Facts:
    services = {"init.svc.thermal-engine": "running", "init.svc.surfaceflinger": "running"}
    told = {"ro.build.version.sdk": str(sdk), **services, **{k.replace("__", "."): v for k, v in props.items()}}
    return board_trees.facts("sm8150", change=dict(changes or {}), root=root, props=told)


def test_lock_stands_for_everything_that_helps_in_the_order_in_which_it_is_done() -> None:
    found = settings_for({"lock": "on"}, phone())
    assert [word for word in found if word != "lock"] == [
        *("daemons", "perf_manager", "cores", "isolation", "cpu", "membus", "gpu")
    ]
    assert [step.do for step in found["daemons"].steps if step.kind == "command"] == [("stop", "thermal-engine")]
    assert found["cpu"].steps
    assert found["gpu"].steps
    for setting in found.values():
        for step in setting.steps:
            assert step.kind == "write" or step.undo


def test_what_is_said_besides_counts_before_the_profile() -> None:
    found = settings_for({"lock": "on", "cpu": "min", "daemons": "keep"}, phone())
    floors = {step.value for step in found["cpu"].steps if step.kind == "write" and "scaling_max" in step.path}
    assert floors == {"300000", "710400", "825600"}
    assert found["daemons"].steps == ()
    assert list(settings_for({"lock": "off"}, phone())) == ["lock"]
    with pytest.raises(ConfigError, match="lock = 'perhaps'"):
        settings_for({"lock": "perhaps"}, phone())


def test_what_cannot_be_locked_is_named() -> None:
    unmet = {word: one.unmet for word, one in settings_for({"lock": "on"}, phone(root="none")).items() if one.unmet}
    assert {"daemons", "cpu", "gpu"} <= unmet.keys()
    assert all("no root" in unmet[word][0] for word in ("daemons", "cpu"))


def test_managers_of_mediatek_and_the_power_hal_are_put_to_rest_and_given_back() -> None:
    there = phone(
        changes={PPM: "ppm is enabled\n", "/sys/kernel/fpsgo/common/fpsgo_enable": "1\n"}, vendor__powerhal__init="1"
    )
    found = settings_for({"lock": "on"}, there)
    writes = {step.path: (step.value, step.restore) for step in found["perf_manager"].steps if step.kind == "write"}
    assert writes == {PPM: ("0", "1"), "/sys/kernel/fpsgo/common/fpsgo_enable": ("0", "1")}
    (command,) = [step for step in found["perf_manager"].steps if step.kind == "command"]
    assert command.do == ("setprop", "vendor.powerhal.init", "0")
    assert command.undo == ("setprop", "vendor.powerhal.init", "1")
    assert list(found).index("perf_manager") < list(found).index("cpu")
    record = labdata.record("r", 0).model_copy(update={"before": {PPM: "ppm is enabled\n"}, "after": {}})
    assert [flag.code for flag in knobs.prove("perf_manager", "off", there, record)] == ["perf-manager-on"]
    record = record.model_copy(update={"before": {PPM: "ppm is disabled\n"}})
    assert knobs.prove("perf_manager", "off", there, record) == ()


def test_without_root_android_s_own_mode_is_used() -> None:
    found = settings_for({"lock": "on"}, phone(root="none"))["performance_mode"]
    (step,) = found.steps
    assert step.kind == "command"
    assert step.do == ("cmd", "power", "set-fixed-performance-mode-enabled", "true")
    assert step.undo == ("cmd", "power", "set-fixed-performance-mode-enabled", "false")
    assert f"{CPU}/cpufreq/policy4/scaling_cur_freq" in found.sample
    assert "performance_mode" not in settings_for({"lock": "on"}, phone(root="none", sdk=29))
    assert knobs.setting("performance_mode", "fixed", phone(sdk=29)).unmet


def record(clocks: list[int], *, exit_code: int = 0) -> RunRecord:
    samples = Samples(nodes={f"{CPU}/cpufreq/policy4/scaling_cur_freq": tuple(str(khz) for khz in clocks)})
    do = ("cmd", "power", "set-fixed-performance-mode-enabled", "true")
    step = StepResult(do=do, exit_code=exit_code, held=exit_code == 0)
    return labdata.record("r", 0).model_copy(update={"samples": samples, "steps": (step,)})


@pytest.mark.parametrize(
    ("clocks", "exit_code", "codes"),
    [
        ([2000000] * 20, 0, []),
        ([300000, 2000000] * 10, 0, []),
        ([2000000] * 10 + [1700000] * 10, 0, ["clock-not-sustained"]),
        ([2000000] * 3, 0, ["clock-not-proven"]),
        ([2000000] * 20, 255, ["performance-mode-refused"]),
    ],
)
def test_that_mode_is_proved_by_clocks_that_last(clocks: list[int], exit_code: int, codes: list[str]) -> None:
    flags = knobs.prove("performance_mode", "fixed", phone(root="none"), record(clocks, exit_code=exit_code))
    assert [flag.code for flag in flags] == codes


def test_an_experiment_locks_with_one_line_and_each_part_is_proved() -> None:
    told = {"question": "q", "lock": True, "set": {"cpu": "min"}}
    experiment = Experiment.model_validate(told)
    assert experiment.set == {"lock": "on", "cpu": "min"}
    assert Experiment.model_validate(experiment.model_dump()).set == experiment.set
    assert Experiment.model_validate({**told, "lock": False}).set == {"cpu": "min"}
    there = phone()
    cell = Cell(levels={"lock": "on"}, measured="x")
    path = f"{CPU}/cpufreq/policy0/scaling_max_freq"
    for khz, codes in (("1785600", set()), ("300000", {"limits-changed"})):
        told = labdata.record("r", 0).model_copy(update={"before": {path: f"{khz}\n"}})
        flags = judge(told, cell, experiment, there)[1]
        assert {flag.code for flag in flags} & {"limits-changed"} == codes
    # A GPU that sleeps proves nothing, and nobody asked for it by name.
    assert {flag.remark for flag in flags if flag.code == "gpu-frequency-not-proven"} == {True}
    named = judge(told, Cell(levels={"lock": "on", "gpu": "max"}, measured="x"), experiment, there)[1]
    assert {flag.remark for flag in named if flag.code == "gpu-frequency-not-proven"} == {False}
