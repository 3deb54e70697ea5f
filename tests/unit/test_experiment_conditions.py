"""CPU use, clocks and temperatures from samples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.experiment.conditions import cpu_use_pct, run_conditions
from devicelab.model.journal import ProgramResult, Samples
from tests import labdata


def test_use_is_busy_over_total_per_cpu_and_together() -> None:
    samples = Samples(
        t_ns=(0, 1, 2), busy={"0": (5, 10, 15), "1": (0, 0, 0)}, total={"0": (0, 10, 20), "1": (0, 10, 20)}
    )
    assert cpu_use_pct(samples) == {"0": 50.0, "1": 0.0, "all": 25.0}


def test_a_cpu_that_was_offline_counts_only_while_it_was_online() -> None:
    samples = Samples(
        busy={"0": (0, 10, 20, 30), "1": (100, None, 500, 505)},
        total={"0": (0, 10, 20, 30), "1": (200, None, 900, 910)},
    )
    assert cpu_use_pct(samples) == {"0": 100.0, "1": 50.0, "all": 87.5}


def test_counters_that_step_back_never_give_nonsense() -> None:
    samples = Samples(busy={"0": (10, 5, 30)}, total={"0": (10, 20, 30)})
    assert cpu_use_pct(samples) == {"0": 50.0, "all": 50.0}


@pytest.mark.parametrize("samples", [Samples(), Samples(busy={"0": (1,)}, total={"0": (1,)})])
def test_without_two_samples_there_is_no_use(samples: Samples) -> None:
    assert cpu_use_pct(samples) == {}


def test_cpus_come_in_the_order_of_their_numbers() -> None:
    names = [str(cpu) for cpu in range(12)]
    samples = Samples(busy=dict.fromkeys(sorted(names), (0, 1)), total=dict.fromkeys(names, (0, 2)))
    assert list(cpu_use_pct(samples)) == [*names, "all"]


COUNTERS = st.lists(st.none() | st.integers(-(10**12), 10**12), max_size=6).map(tuple)


@given(busy=COUNTERS, total=COUNTERS)
def test_use_lies_between_0_and_100_whatever_a_device_says(
    busy: tuple[int | None, ...], total: tuple[int | None, ...]
) -> None:
    use = cpu_use_pct(Samples(busy={"0": busy}, total={"0": total}))
    assert all(0.0 <= value <= 100.0 for value in use.values())


def test_conditions_of_a_run() -> None:
    record = labdata.record("r", use=0.5).model_dump(mode="json")
    conditions = run_conditions(record)
    assert conditions.clocks_khz == {"policy0": (1612800.0, 1612800.0)}
    assert 39 < conditions.temps_c["thermal_zone0"][0] <= conditions.temps_c["thermal_zone0"][1] < 43
    assert conditions.granted == {"measure": (3,)}
    assert conditions.agent_pct == pytest.approx(0.08)
    assert set(conditions.cpu_pct) == {"0", "1", "2", "3", "all"}


def test_an_affinity_that_widened_shows() -> None:
    program = ProgramResult(name="m", role="measure", pid=1, granted=(4,), granted_end=(0, 1, 4))
    record = labdata.record("r").model_copy(update={"programs": (program,)})
    assert run_conditions(record.model_dump(mode="json")).granted == {"m": (0, 1, 4)}


@pytest.mark.parametrize(
    ("path", "text", "khz"),
    [
        ("/sys/class/kgsl/kgsl-3d0/gpuclk", "585000000", 585_000),
        ("/sys/kernel/gpu/gpu_clock", "702000", 702_000),
        ("/sys/devices/platform/18500000.mali/clock", "702", 702_000),
    ],
)
def test_gpu_clocks_in_hz_khz_and_mhz(path: str, text: str, khz: float) -> None:
    record = labdata.record("r").model_copy(update={"samples": Samples(nodes={path: (text, None, "garbage", "")})})
    assert run_conditions(record.model_dump(mode="json")).clocks_khz == {"gpu": (khz, khz)}


def test_zones_in_degrees_and_absurd_texts() -> None:
    nodes = {
        "/sys/class/thermal/thermal_zone0/temp": ("41", "43"),
        "/sys/class/thermal/thermal_zone1/temp": ("9" * 400,),
        "/sys/class/thermal/thermal_zone2/temp": ("-5000\n", "<b>", "--5", "٣"),
    }
    record = labdata.record("r").model_copy(update={"samples": Samples(nodes=nodes)})
    temps = run_conditions(record.model_dump(mode="json")).temps_c
    assert temps == {"thermal_zone0": (41.0, 43.0), "thermal_zone2": (-5.0, -5.0)}
