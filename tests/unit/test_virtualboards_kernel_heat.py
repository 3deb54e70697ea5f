"""Heat, throttling, batteries and vendor daemons of virtual boards, and the kinds themselves."""

import pytest
from sim_kernel_board import Bench

from devicelab.errors import ConfigError
from virtualboards.kernel import kind_names, load_spec
from virtualboards.kernel.faults import check, inject
from virtualboards.kernel.spec import PolicySpec, build

THERMAL = "/sys/class/thermal"
LOAD = 2001


def zone(bench: Bench, kind: str) -> str:
    """The directory of the zone of that type."""
    return next(
        f"{THERMAL}/{name}"
        for name in bench.kernel.listdir(THERMAL)
        if name.startswith("thermal_zone") and bench.r(f"{THERMAL}/{name}/type") == kind
    )


def busy(kind: str = "note10", cpu: int = 6) -> Bench:
    bench = Bench(kind)
    bench.tasks.parents = {LOAD: 0}
    bench.taskset(LOAD, {cpu})
    return bench


def test_silicon_warms_up_under_load_and_cools_down_again() -> None:
    bench = busy()
    node = zone(bench, "BIG") + "/temp"
    cold = int(bench.r(node))
    bench.wait(20, {LOAD: 1.0})
    warm = int(bench.r(node))
    bench.wait(2)
    cooler = int(bench.r(node))
    bench.wait(600)
    assert cold + 15000 < warm
    assert cold < cooler < warm
    assert int(bench.r(node)) == pytest.approx(cold, abs=300)


def test_past_the_trip_the_maximum_falls_step_by_step_and_recovers() -> None:
    bench = busy()
    inject(bench.kernel, "thermal", celsius=90, seconds=5, where="BIG")
    bench.wait(0.3)
    first = int(bench.r("cpufreq/policy6/scaling_max_freq"))
    bench.wait(1)
    second = int(bench.r("cpufreq/policy6/scaling_max_freq"))
    device = f"{THERMAL}/cooling_device2"
    assert bench.r(f"{device}/type") == "thermal-cpufreq-2"
    assert second < first < 2730000
    assert int(bench.r(f"{device}/cur_state")) >= 2
    assert bench.r("cpufreq/policy0/scaling_max_freq") == "1950000"
    bench.wait(120)
    assert bench.r("cpufreq/policy6/scaling_max_freq") == "2730000"
    assert bench.r(f"{device}/cur_state") == "0"


def test_throttling_slows_the_emulated_work() -> None:
    bench = busy()
    inject(bench.kernel, "thermal", celsius=95, seconds=60)
    bench.wait(3)
    words = next(line for line in bench.r("/sys/devicelab/emulation").splitlines() if "cpu_time" in line).split()
    assert int(words[7]) > 100


def test_a_zone_turned_off_does_not_throttle() -> None:
    bench = busy()
    assert bench.w(zone(bench, "BIG") + "/mode", "disabled") == "ok"
    assert bench.w(zone(bench, "BIG") + "/mode", "off") == "EINVAL"
    inject(bench.kernel, "thermal", celsius=90, seconds=5, where="BIG")
    bench.wait(3)
    assert bench.r("cpufreq/policy6/scaling_max_freq") == "2730000"


def test_great_heat_takes_the_big_cluster_offline_until_it_is_cool() -> None:
    bench = busy()
    inject(bench.kernel, "thermal", celsius=112, seconds=5, where="BIG")
    bench.wait(1)
    assert bench.r("online") == "0-5"
    bench.wait(60)
    assert bench.r("online") == "0-7"


def test_a_snapdragon_855_has_79_zones_some_of_them_empty() -> None:
    bench = Bench("qualcomm")
    temps = [bench.r(f"{THERMAL}/thermal_zone{number}/temp") for number in range(79)]
    assert bench.r(f"{THERMAL}/thermal_zone79/temp") == "ENOENT"
    assert temps.count("") == 4
    assert all(20000 < int(text) < 60000 for text in temps if text and int(text) > 20000)


def test_zones_are_not_all_in_the_same_units() -> None:
    bench = Bench("note10")
    assert 20000 < int(bench.r(zone(bench, "BIG") + "/temp")) < 60000
    assert 200 < int(bench.r("/sys/class/power_supply/battery/temp")) < 600
    assert bench.kernel.battery()["temperature"] == int(bench.r("/sys/class/power_supply/battery/temp"))


def test_the_thermal_service_names_its_sensors() -> None:
    bench = busy("qualcomm", 7)
    assert bench.kernel.thermal()["status"] == 0
    inject(bench.kernel, "thermal", celsius=97, seconds=30)
    bench.wait(2)
    report = bench.kernel.thermal()
    rows = report["temperatures"]
    assert report["status"] == 2
    assert isinstance(rows, list)
    assert {row["type"] for row in rows} == {0, 1, 2, 3}


def test_a_daemon_rewrites_a_limit_while_it_runs_and_not_after() -> None:
    bench = Bench("note10")
    node = "cpufreq/policy6/scaling_max_freq"
    inject(bench.kernel, "daemon", name="perfd", path=f"/sys/devices/system/cpu/{node}", value="1456000")
    bench.wait(1)
    assert bench.r(node) == "1456000"
    bench.w(node, 2080000)
    assert bench.r(node) == "2080000"
    bench.wait(2.5)
    assert bench.r(node) == "1456000"
    bench.kernel.service("perfd", running=False)
    bench.w(node, 2080000)
    bench.wait(10)
    assert bench.r(node) == "2080000"
    assert bench.kernel.services()["perfd"] is False


def test_a_daemon_is_stopped_by_a_node_nobody_may_write() -> None:
    bench = Bench("note10")
    node = "/sys/devices/system/cpu/cpufreq/policy6/scaling_max_freq"
    bench.kernel.tree.resolve(node).mode = 0o444
    inject(bench.kernel, "daemon", name="perfd", path=node, value="1456000")
    bench.wait(5)
    assert bench.r(node) == "2730000"


def test_the_boards_own_daemon_limits_a_hot_board_and_lets_go_when_it_is_cool() -> None:
    bench = Bench("qualcomm")
    node = "cpufreq/policy7/scaling_max_freq"
    inject(bench.kernel, "thermal", celsius=60, seconds=10, where="board")
    bench.wait(5)
    assert bench.r(node) == "2419200"
    bench.wait(900)
    assert bench.r(node) == "2841600"


@pytest.mark.parametrize(("fault", "args"), [("flood", {}), ("thermal", {"degrees": 3}), ("offline", {"cpu": 0})])
def test_a_fault_that_makes_no_sense_is_named(fault: str, args: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"fault|CPU"):
        inject(Bench("note10").kernel, fault, **args)


@pytest.mark.parametrize(
    ("fault", "args"),
    [
        ("thermal", {"seconds": float("inf")}),
        ("thermal", {"celsius": float("nan")}),
        ("thermal", {"where": "nowhere"}),
        ("daemon", {"period_s": float("inf")}),
        ("daemon", {"period_s": "often"}),
        ("offline", {"cpu": 99.0}),
        ("isolate", {"cpu": 1e300}),
    ],
)
def test_what_a_fault_cannot_do_is_told_before_its_time_comes(fault: str, args: dict[str, float | str]) -> None:
    bench = Bench("note10")
    with pytest.raises(ValueError, match=r"cannot|convert|named"):
        check(bench.kernel, fault, **args)
    bench.wait(5)


def test_a_number_that_a_daemon_writes_reaches_the_node_as_it_was_given() -> None:
    bench = Bench("note10")
    node = "cpufreq/policy6/scaling_max_freq"
    inject(bench.kernel, "daemon", path=f"/sys/devices/system/cpu/{node}", value=1456000.0)
    bench.wait(1)
    assert bench.r(node) == "1456000"


def test_a_core_can_be_taken_or_isolated_on_demand() -> None:
    bench = busy("qualcomm", 6)
    for cpu in (0, 4, 7):
        bench.w(f"cpu{cpu}/core_ctl/enable", 0)
    inject(bench.kernel, "isolate", cpu=6)
    assert bench.r("cpu6/isolate") == "1"
    assert bench.granted(LOAD) == {0, 1, 2, 3, 4, 5, 7}
    inject(bench.kernel, "isolate", cpu=6, on=0)
    inject(bench.kernel, "offline", cpu=5)
    assert bench.r("online") == "0-4,6-7"


@pytest.mark.parametrize("kind", kind_names())
def test_every_kind_loads_and_every_node_can_be_read(kind: str) -> None:
    bench = Bench(kind)
    bench.wait(3)
    answers = {node.path: bench.r(node.path) for node in bench.kernel.tree}
    unreadable = {path for path, text in answers.items() if text in {"EACCES", "ENODEV", "EINVAL"}}
    assert all(path.endswith("stats/reset") for path in unreadable)
    assert bench.spec.props["ro.product.cpu.abi"] == bench.spec.abi
    assert len(bench.spec.truth.policies) == len(bench.kernel.policies)


def test_the_kinds_are_those_promised() -> None:
    assert {"note10", "note10-sd855", "qualcomm", "qualcomm-865", "pixel", "oddball"} <= set(kind_names())
    with pytest.raises(ConfigError, match="note1"):
        load_spec("note1")


def test_a_mistake_in_a_kinds_file_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"policies\.cpus\[0\]"):
        build(PolicySpec, {"cpus": ["zero"], "table_khz": [1]}, "policies")
    with pytest.raises(ConfigError, match="'table_khz' is missing"):
        build(PolicySpec, {"cpus": [0]}, "policies")
    with pytest.raises(ConfigError, match="tabel_khz"):
        build(PolicySpec, {"cpus": [0], "tabel_khz": [1]}, "policies")


def test_the_labelled_half_speed_points_of_a_snapdragon_855_take_twice_the_time() -> None:
    truth = load_spec("qualcomm").truth
    honest, mislabelled = truth.cpu_time_pct(4, 825600), truth.cpu_time_pct(4, 710400)
    assert mislabelled / honest == pytest.approx(2 * 825600 / 710400)
