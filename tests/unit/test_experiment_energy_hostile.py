"""Whatever a device says of its energy, there is a number or a reason, and never an exception."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devicelab.experiment import energy
from devicelab.experiment.timeline import pins_lost, series
from devicelab.model.journal import RunRecord, Samples

_PATHS = (
    "/sys/class/power_supply/battery/current_now",
    "/sys/class/power_supply/battery/voltage_now",
    "/sys/class/power_supply/battery/status",
    "/sys/class/power_supply/battery/charge_counter",
    "/sys/class/power_supply/usb/online",
    "/sys/bus/iio/devices/iio:device0/energy_value",
    "/sys/class/powercap/intel-rapl:0/energy_uj",
    "/sys/class/hwmon/hwmon0/power1_input",
    "/sys/class/hwmon/hwmon0/curr2_input",
    "/sys/class/hwmon/hwmon0/in2_input",
    "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq",
)
_NAMES = ("/sys/class/powercap/intel-rapl:0/max_energy_range_uj", "/sys/class/hwmon/hwmon0/name")
_TEXT = st.one_of(
    st.none(),
    st.sampled_from(
        ["Discharging\n", "Charging", "1", "0", "", "-0", "+5", "1e9", "nan", "9" * 30, "-212000\n", "4123000"]
    ),
    st.integers(-(2**63), 2**63).map(str),
    st.builds("CH0(T={})[A], {}\nCH1(T=7)[B], 9".format, st.integers(0, 10**15), st.integers(0, 10**19)),
    st.text(max_size=20),
)
_TIMES = st.lists(st.integers(-(2**62), 2**62), max_size=12).map(tuple) | st.integers(0, 2**60).flatmap(
    lambda start: st.integers(2, 12).map(lambda n: tuple(start + 100_000_000 * i for i in range(n)))
)


@st.composite
def _records(draw: st.DrawFn) -> RunRecord:
    def samples() -> Samples:
        times = draw(_TIMES)
        length = draw(st.sampled_from([len(times), len(times), max(0, len(times) - 1)]))
        paths = draw(st.lists(st.sampled_from(_PATHS), unique=True, max_size=6))
        return Samples(
            t_ns=times, nodes={p: tuple(draw(st.lists(_TEXT, min_size=length, max_size=length))) for p in paths}
        )

    window = samples()
    inside = sorted(window.t_ns) or [0]
    return RunRecord(
        event="run",
        run_id="r",
        seq=0,
        status="done",
        t_start_ns=draw(st.sampled_from([inside[0], 0])),
        t_end_ns=draw(st.sampled_from([inside[-1], 2**62])),
        t_unix_ns=0,
        window_start_ns=draw(st.sampled_from([inside[0], 0, -5])),
        window_end_ns=draw(st.sampled_from([inside[-1], 2**62])),
        samples=window,
        idle=samples(),
        before={name: draw(_TEXT) for name in _NAMES},
    )


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    _records(),
    st.booleans(),
    st.none() | st.lists(st.tuples(st.integers(-(2**62), 2**62), st.floats(-1e9, 1e9)), max_size=8),
)
def test_a_number_or_a_reason(record: RunRecord, required: bool, meter: list[tuple[int, float]] | None) -> None:
    found, flags = energy.measure(record, {}, required=required, meter=meter)
    if found is not None and not found.metrics:
        assert "missing" in found.info
    if required and found is not None and not found.metrics:
        assert flags
    data = record.model_dump(mode="json")
    series(data)
    pins_lost(data)
