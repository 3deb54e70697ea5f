"""From tenants and legs to the programs of a run."""

from typing import Any

import pytest

from devicelab.errors import ConfigError
from devicelab.experiment import gauge, plan, programs, tenancy
from devicelab.experiment.check import check
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, Samples
from devicelab.model.plan import Program
from devicelab.model.tree import Node
from devicelab.schedulers.base import Treatment
from tests.tenantdata import cell, experiment, place, record, tenants


@pytest.mark.parametrize(
    ("level", "leg"),
    [
        ("native", tenancy.Leg("native", "", alone=False)),
        ("xsched:HPF", tenancy.Leg("xsched", "HPF", alone=False)),
        ("standalone", tenancy.Leg("native", "", alone=True)),
        ("standalone+mps", tenancy.Leg("mps", "", alone=True)),
        ("standalone+xsched:LAX", tenancy.Leg("xsched", "LAX", alone=True)),
        ("mig:MIG-1,MIG-2", tenancy.Leg("mig", "MIG-1,MIG-2", alone=False)),
    ],
)
def test_a_level_of_scheduler_is_a_leg(level: str, leg: tenancy.Leg) -> None:
    assert tenancy.parse_leg(level) == leg


@pytest.mark.parametrize("level", ["xshed", "standalone+mpss", "base", "_shared", "3", "standalonely"])
def test_an_unknown_scheduler_is_named_with_those_that_exist(level: str) -> None:
    with pytest.raises(ConfigError, match="no scheduler named") as caught:
        tenancy.parse_leg(level)
    assert "xsched" in str(caught.value)


def levels_of(found: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [dict(one.levels) for one in found]


def test_standalone_is_a_cell_for_each_tenant_and_only_the_pressed_one_keeps_the_pressure() -> None:
    of = experiment(factors={"scheduler": ("standalone", "native"), "pressure": ("copies:2", "copies:4")})
    assert levels_of(plan.cells(of)) == [
        {"scheduler": "standalone", "tenant": "high"},
        {"scheduler": "standalone", "pressure": "copies:2", "tenant": "low"},
        {"scheduler": "standalone", "pressure": "copies:4", "tenant": "low"},
        {"scheduler": "native", "pressure": "copies:2"},
        {"scheduler": "native", "pressure": "copies:4"},
    ]


def test_without_a_scheduler_tenants_share_natively() -> None:
    assert levels_of(plan.cells(experiment(factors={"pressure": ("copies:2",)}))) == [
        {"scheduler": "native", "pressure": "copies:2"}
    ]


def test_the_least_important_tenant_is_pressed() -> None:
    assert tenancy.pressed(tenants()).name == "low"
    equal = (Tenant(name="a", workload="cpu_tenant"), Tenant(name="b", workload="cpu_tenant"))
    assert tenancy.pressed(equal).name == "b"


@pytest.mark.parametrize(
    ("pressure", "copies", "params"),
    [("copies:3", 3, {}), ("4", 4, {}), (5, 5, {}), ("batch:64", 1, {"batch": 64}), (None, 1, {})],
)
def test_pressure_is_copies_or_batch_of_the_pressed_tenant(pressure: Any, copies: int, params: dict[str, Any]) -> None:
    levels = {} if pressure is None else {"pressure": pressure}
    high, low = tenancy.everyone(cell(**levels), experiment())
    assert (low.copies, low.params) == (copies, params)
    assert (high.copies, high.params) == (1, {})


@pytest.mark.parametrize(
    "pressure", ["copies:0", "copies:9999", "batch:x", "batch:99999999999", "speed:2", "", "-1", "1.5"]
)
def test_pressure_that_makes_no_sense_is_refused(pressure: str) -> None:
    with pytest.raises(ConfigError, match="pressure"):
        tenancy.everyone(cell(pressure=pressure), experiment())


def treated(kind: str = "linux", **levels: Any) -> programs.Measured:
    return programs.measured(cell(**levels), experiment(), place(kind))


def crowd(of: Any = None, repetition: int = 0, **levels: Any) -> tuple[Program, ...]:
    return programs.measured(cell(**levels), of or experiment(), place()).programs(repetition)


def test_copies_are_programs_of_their_own() -> None:
    found = crowd(scheduler="native", pressure="copies:3")
    assert [program.name for program in found] == ["high", "low", "low#2", "low#3"]
    assert len({program.argv for program in found}) == 4  # each has arrivals of its own


def test_who_runs_and_how_is_asked_once_for_all_repetitions_of_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(tenancy, "treatment", lambda cell, *_: asked.append(cell.cell_id) or Treatment())
    planned = plan.make(experiment(), place(), campaign="c", holder="h")
    assert planned.runs == 6 * len(asked)
    assert sorted(asked) == sorted(planned.cells)


def seeds(found: tuple[Program, ...]) -> dict[str, str]:
    return {program.name: program.argv[program.argv.index("--seed") + 1] for program in found}


def test_arrivals_are_the_same_in_every_leg_of_a_repetition_and_new_in_the_next() -> None:
    native = seeds(crowd(scheduler="native", pressure="copies:2"))
    assert seeds(crowd(scheduler="nice", pressure="copies:2")) == native
    assert seeds(crowd(scheduler="nice:5", pressure="copies:4"))["high"] == native["high"]
    alone = seeds(crowd(scheduler="standalone", tenant="high"))
    assert alone == {"high": native["high"]}
    later = seeds(crowd(scheduler="native", pressure="copies:2", repetition=1))
    assert not set(later.values()) & set(native.values())
    assert len(set(native.values())) == 3
    other = experiment(seed=2)
    assert seeds(crowd(other, scheduler="native", pressure="copies:2")) != native


def test_a_tenant_alone_is_treated_as_it_is_beside_the_others() -> None:
    beside = {p.name: p.nice for p in crowd(scheduler="nice", pressure="copies:2")}
    alone = {p.name: p.nice for p in crowd(scheduler="standalone+nice", pressure="copies:2", tenant="low")}
    assert beside == {"high": 0, "low": 19, "low#2": 19}
    assert alone == {"low": 19, "low#2": 19}


def test_witnesses_of_tenants_that_do_not_run_are_left_out() -> None:
    found = treated(scheduler="standalone", tenant="high")
    assert [witness.name for witness in found.witnesses] == ["maps high"]
    together = treated(scheduler="native", pressure="copies:2")
    assert [witness.name for witness in together.witnesses] == ["maps high", "maps low", "maps low#2"]


def test_tenants_wait_at_the_barrier_with_patience_and_on_their_cores() -> None:
    of = experiment(tenants=tenants(cores="2-3"))
    high, low = crowd(of, scheduler="native")
    assert high.cpus == (2, 3)
    assert low.cpus is None
    assert high.barrier
    assert high.ready_timeout_ms >= 120_000
    assert high.timeout_ms > of.duration_s * 1000


def test_what_would_switch_a_scheduler_on_is_scrubbed_in_every_leg() -> None:
    for leg in ("native", "nice"):
        for program in crowd(scheduler=leg):
            assert {"LD_PRELOAD", "XSCHED_*", "CUDA_MPS_*"} <= set(program.env_scrub)


@pytest.mark.parametrize(
    ("params", "place_of_mistake"),
    [
        ({"work_us": -1}, "work_us"),
        ({"speed": 3}, "speed"),
        ({"work_us": "fast"}, "work_us"),
        ({"queue": 1.5}, "queue"),
    ],
)
def test_a_wrong_parameter_is_told_with_the_tenants_name(params: dict[str, Any], place_of_mistake: str) -> None:
    with pytest.raises(ConfigError, match=f"tenant high: {place_of_mistake}"):
        crowd(experiment(tenants=tenants(params=params)), scheduler="native")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "low"},
        {"name": "a#2"},
        {"name": "a b"},
        {"name": ""},
        {"name": "../x"},
        {"arrivals": "often"},
        {"arrivals": "fixed:0"},
        {"arrivals": "fixed:-3"},
        {"arrivals": "poisson:1e99"},
        {"arrivals": "every:99999999999999999999"},
        {"copies": 0},
        {"copies": 5000},
        {"targets": {"p98_ms": "< 5"}},
        {"targets": {"p99_ms": "about 5"}},
        {"targets": {"p99_ms": "< 5 ms"}},
    ],
)
def test_mistakes_in_tenants_are_told_before_a_device_is_touched(change: dict[str, Any]) -> None:
    of = experiment(tenants=tenants(**change))
    with pytest.raises(ConfigError):
        plan.make(of, place(), campaign="c", holder="h")


def test_a_good_experiment_is_planned() -> None:
    planned = plan.make(experiment(), place(), campaign="c", holder="h")
    assert planned.runs == 4 * 6
    assert set(planned.needs.native) == {"agent", "cpu_tenant"}
    assert planned.needs.scripts == ()


GOOD = (
    '{"tool":"cpu_tenant","duration_s":4.0}\n{"requests":{"scheduled_ns":[0],"start_ns":[1],"end_ns":[9]}}\n'
    '{"end":true,"requests":1,"dropped_scheduled_ns":[]}\n'
)


def test_a_tenant_whose_output_is_unusable_flags_the_run_with_its_last_words() -> None:
    seen = record({"high": 5, "low": 6}, {"maps high": "looked\n", "maps low": "looked\n"}, stdout={"low": GOOD})
    said = (
        seen.programs[0].model_copy(update={"stderr_tail": "Traceback\nOutOfMemoryError: 80 GiB\n"}),
        seen.programs[1],
    )
    measured, flags = programs.read(
        seen.model_copy(update={"programs": said}), cell(scheduler="native"), experiment(), place().facts
    )
    assert set(measured) == {"low"}
    assert [flag.code for flag in flags] == ["output-unusable"]
    assert "high" in flags[0].detail
    assert "OutOfMemoryError: 80 GiB" in flags[0].detail


def test_of_a_run_that_could_not_be_performed_the_tenants_last_words_are_kept() -> None:
    seen = record({"high": 5, "low": 6}).model_copy(update={"status": "failed"})
    said = (seen.programs[0], seen.programs[1].model_copy(update={"stderr_tail": "ImportError: no torch\n"}))
    got = programs.read(
        seen.model_copy(update={"programs": said}), cell(scheduler="native"), experiment(), place().facts
    )
    assert got == ({}, (Flag(code="output-unusable", detail="low said: ImportError: no torch"),))


def test_a_model_left_to_choose_that_took_the_cpu_of_a_gpu_server_is_flagged() -> None:
    said = GOOD.replace("cpu_tenant", "torch_tenant").replace('"duration_s"', '"device":"cpu","duration_s"')
    seen = record({"m": 5}, {"maps m": "looked\n"}, stdout={"m": said})
    flags = {}
    for device in ("auto", "cpu"):
        params = {"model": "resnet18", "device": device}
        of = experiment(tenants=(Tenant(name="m", workload="torch_model", params=params),))
        for board in ("linux", "nvidia-server"):
            flags[device, board] = programs.read(seen, cell(scheduler="native"), of, place(board).facts)[1]
    (flag,) = flags.pop(("auto", "nvidia-server"))
    assert (flag.code, flag.detail.partition(";")[0]) == ("not-on-gpu", "m ran on the CPU")
    assert set(flags.values()) == {()}


def test_copies_are_measured_each_and_say_only_once_what_they_are() -> None:
    names = ("high", "low", "low#2")
    seen = record(dict.fromkeys(names, 7), {f"maps {n}": "looked\n" for n in names}, stdout=dict.fromkeys(names, GOOD))
    measured, flags = programs.read(seen, cell(scheduler="native", pressure="copies:2"), experiment(), place().facts)
    assert flags == ()
    assert set(measured) == set(names)
    assert measured["low"].info
    assert not measured["low#2"].info


def test_nvidia_servers_are_gauged_within_the_window_and_others_by_their_nodes() -> None:
    *which, witness = gauge.witnesses(place("nvidia-server").facts, 60)
    assert [one.name for one in which] == [gauge.CARDS, gauge.HOLDERS]
    assert witness.argv[:2] == ("sh", "-c")
    assert witness.argv[4:7] == ("56", "58", "python3")
    assert "nvidia-smi" in witness.argv
    found = treated(scheduler="native", kind="nvidia-server")
    assert found.witnesses[-1].name == gauge.PROGRAM
    node = Node(path="/sys/class/drm/card1/device/gpu_busy_percent", text="3\n")
    amd = programs.measured(cell(scheduler="native"), experiment(), place("amd-server", nodes=(node,)))
    assert amd.sample == (node.path,)
    assert gauge.PROGRAM not in [witness.name for witness in amd.witnesses]


USE = "0, {}, 345, 30, 70.1\n1, 90, 1980, 60, 400.5\n0, 0, 345, 30, 70\n1, 100, 1980, 62, [N/A]\nnoise\n1, 5\n"


def test_of_several_cards_the_one_that_works_is_the_one_the_tenants_share() -> None:
    got = gauge.parse(USE.format(0))
    assert got is not None
    assert got.info == {"gpu_index": 1}
    assert got.metrics["gpu_use_pct"].value == 95
    assert got.metrics["gpu_power_w"].value == 400.5


def test_a_card_that_works_for_somebody_else_is_not_the_tenants() -> None:
    cards = "0, GPU-a\n1, GPU-b\n"
    said = {gauge.PROGRAM: USE.format(40), gauge.CARDS: cards}
    held = {"ours": "77, GPU-b\n5, GPU-a\n", "mps": "9, GPU-a\n", "a container's": "4711, GPU-b\n", "none": None}
    more = {"mps": {"mps clients": "server 9\nclient 5\n"}}
    got = {
        name: gauge.read(record({"high": 5}, {**said, gauge.HOLDERS: text, **more.get(name, {})}))
        for name, text in held.items()
    }
    assert got["a container's"] is None  # whose card it is cannot be told
    assert got["none"] is None
    for name in ("ours", "mps"):
        found = got[name]
        assert found is not None
        assert found.info == {"gpu_index": 0}
        assert found.metrics["gpu_use_pct"].value == 20


@pytest.mark.parametrize("text", ["", "No devices were found\n", "0, [N/A], [N/A], [N/A], [N/A]\n", ",,,,\n" * 3])
def test_a_gauge_that_says_nothing_gives_no_figure(text: str) -> None:
    assert gauge.parse(text) is None


def test_sampled_gauges_are_read_from_the_evidence() -> None:
    seen = record({"high": 5})
    nodes = {
        "/sys/class/drm/card0/device/gpu_busy_percent": ("1", "3"),
        "/sys/class/drm/card1/device/gpu_busy_percent": ("80 %", None),
        "/sys/class/drm/card1/device/other": ("100", "100"),
    }
    got = gauge.read(seen.model_copy(update={"samples": Samples(nodes=nodes)}))
    assert got is not None
    assert got.metrics["gpu_use_pct"].value == 80
    assert gauge.read(seen) is None


def test_what_the_tenants_need_on_the_device() -> None:
    assert programs.needs(experiment(), ()).native == ("agent", "cpu_tenant")
    assert programs.needs(experiment(), ()).scripts == ()
    torch = experiment(tenants=(Tenant(name="m", workload="torch_model", params={"model": "resnet18"}),))
    assert programs.needs(torch, ()).scripts == ("torch_tenant.py", "green_context.py")


def test_windows_reach_every_tenant_and_nothing_changes_without_them() -> None:
    def argv(**changes: float) -> tuple[str, ...]:
        of = experiment(factors={"scheduler": ("native",)}, duration_s=2.0, **changes)
        (one,) = plan.cells(of)
        return programs.measured(one, of, place()).programs(0)[0].argv

    assert argv()[-2:] == ("--queue", "0")
    assert argv(windows=3, pause_s=0.5)[-4:] == ("--windows", "3", "--pause-s", "0.5")
    ids = [plan.cells(experiment(**c))[0].cell_id for c in ({}, {"pause_s": 9.0}, {"windows": 2})]
    assert ids[0] == ids[1] != ids[2]  # of an experiment without windows they stay what they were


def test_a_program_of_several_windows_has_time_for_all_of_them() -> None:
    of = experiment(factors={"scheduler": ("native",)}, duration_s=100.0, windows=4, pause_s=1.0)
    (one,) = plan.cells(of)
    assert of.span_s == 403.0
    assert programs.measured(one, of, place()).programs(0)[0].timeout_ms > 403_000


def test_settings_of_a_scheduler_are_factors() -> None:
    factors = {"scheduler": ("native", "xsched:HPF", "xsched:(level=1)"), "xsched_threshold": (8, 32)}
    of = experiment(factors={**factors, "xsched_batch": (4,)})
    legs = [one.levels["scheduler"] for one in plan.cells(of)]
    assert legs == [
        "native",
        "xsched:HPF(threshold=8,batch=4)",
        "xsched:HPF(threshold=32,batch=4)",
        "xsched:(level=1,threshold=8,batch=4)",
        "xsched:(level=1,threshold=32,batch=4)",
    ]
    assert all(set(one.levels) == {"scheduler"} for one in plan.cells(of))
    check(of)
    alone = experiment(factors={"scheduler": ("standalone+xsched",), "xsched_level": (1,)})
    assert {one.levels["scheduler"] for one in plan.cells(alone)} == {"standalone+xsched:(level=1)"}


def test_a_setting_that_is_given_twice_is_refused() -> None:
    of = experiment(factors={"scheduler": ("xsched:HPF(threshold=8)",), "xsched_threshold": (8, 32)})
    with pytest.raises(ConfigError, match="has threshold already"):
        plan.cells(of)


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        (
            "Traceback (most recent call last):\ntorch.AcceleratorError: CUDA error: MPS client failed\nCompile …\n",
            "torch.AcceleratorError: CUDA error: MPS client failed",
        ),
        ("Error: a warning\nthe server ended while tenants ran\n", "the server ended while tenants ran"),
        ("", ""),
    ],
)
def test_the_error_is_told_and_not_the_advice_behind_it(stderr: str, words: str) -> None:
    result = record({"high": 5}).programs[0].model_copy(update={"stderr_tail": stderr})
    assert programs._last_words(result) == words
