"""Cores as users name them, clusters, levels, and which family answers to a word."""

import pytest
from board_trees import CPU, Texts, facts
from hypothesis import given
from hypothesis import strategies as st

from devicelab import knobs
from devicelab.errors import ConfigError
from devicelab.knobs import _clusters, _levels

PHONE = facts("sm8150")
UNKNOWN = facts("sm8150", board="generic-android")


@pytest.mark.parametrize(
    ("spec", "cpus"),
    [
        ("all", tuple(range(8))),
        ("little", (0, 1, 2, 3)),
        ("big", (4, 5, 6)),
        ("Prime", (7,)),
        ("big+prime", (4, 5, 6, 7)),
        ("4-7", (4, 5, 6, 7)),
        ("6,4", (4, 6)),
        ("0-1, 7", (0, 1, 7)),
        ("0x10", (4,)),
        ("0x81", (0, 7)),
        ("5", (5,)),
    ],
)
def test_cores_have_many_names(spec: str, cpus: tuple[int, ...]) -> None:
    assert knobs.resolve_cores(spec, PHONE) == cpus


@pytest.mark.parametrize("spec", ["", "medium", "4-", "7-4", "0x", "0x0", "0xg", "-1", "4;6", "8", "0x100", "9" * 30])
def test_cores_that_are_none_list_the_clusters(spec: str) -> None:
    with pytest.raises(ConfigError) as caught:
        knobs.resolve_cores(spec, PHONE)
    assert "little = 0-3, big = 4-6, prime = 7" in str(caught.value)


@given(st.text(max_size=12))
def test_any_text_names_cores_or_is_refused(spec: str) -> None:
    try:
        cpus = knobs.resolve_cores(spec, PHONE)
    except ConfigError:
        return
    assert set(cpus) <= set(range(8))


def test_all_means_the_cores_that_will_be_online() -> None:
    away = facts("sm8150", change={f"{CPU}/online": "0-6\n", f"{CPU}/cpu7/online": "0\n"})
    assert knobs.resolve_cores("all", away) == tuple(range(7))
    assert knobs.resolve_cores("all", knobs.assume({"cores": "all-online"}, away)) == tuple(range(8))
    assert knobs.resolve_cores("all", knobs.assume({"cores": "0-3"}, PHONE)) == (0, 1, 2, 3)
    assert knobs.assume({"cpu": "min"}, PHONE) is PHONE


def test_clusters_stay_as_they_are_when_cores_leave() -> None:
    for board in ("qualcomm", "generic-android"):
        device = facts("sm8150", board=board)
        assert knobs.clusters(knobs.assume({"cores": "0-3"}, device)) == knobs.clusters(device)


def test_cores_that_leave_on_purpose_are_not_asked_back() -> None:
    held = knobs.settings({"cores": "0-4", "isolation": "hold"}, PHONE)["isolation"]
    assert held.unmet == ()
    assert [probe.cpus for probe in held.probes] == [(4,)]
    assert [step.path for step in held.steps if step.kind == "write"] == [f"{CPU}/cpu4/core_ctl/min_cpus"]


def test_clusters_of_an_unknown_phone_are_its_policies() -> None:
    assert [(c.name, c.cpus, c.big) for c in knobs.clusters(UNKNOWN)] == [
        ("little", (0, 1, 2, 3), False),
        ("big", (4, 5, 6), True),
        ("prime", (7,), True),
    ]
    exynos = facts("exynos9825", board="generic-android")
    assert [c.name for c in knobs.clusters(exynos)] == ["little", "mid", "big"]


def test_a_board_file_for_other_cpus_does_not_count() -> None:
    assert [c.name for c in knobs.clusters(facts("exynos9825", board="qualcomm"))] == ["little", "mid", "big"]


def test_an_offline_cluster_that_tells_nothing_is_found_by_its_number() -> None:
    names = ("related_cpus", "affected_cpus", "cpuinfo_max_freq")
    silent: Texts = {f"{CPU}/cpufreq/policy7/{name}": None for name in names}
    found = knobs.clusters(facts("sm8150", change=silent, board="generic-android"))
    assert [c.cpus for c in found] == [(0, 1, 2, 3), (4, 5, 6), (7,)]
    assert found[-1].name == "prime"


def test_one_policy_a_cpu_is_one_cluster_by_speed() -> None:
    assert [(c.name, c.cpus) for c in knobs.clusters(facts("server"))] == [("cpu", (0, 1, 2, 3))]
    hybrid = facts("server", change={f"{CPU}/cpufreq/policy3/cpuinfo_max_freq": "2400000\n"})
    assert [(c.name, c.cpus) for c in knobs.clusters(hybrid)] == [("little", (3,)), ("big", (0, 1, 2))]
    assert knobs.resolve_cores("big", facts("server")) == (0, 1, 2, 3)


def test_without_policies_capacity_tells_clusters_apart() -> None:
    texts: Texts = {f"{CPU}/present": "0-3\n", f"{CPU}/online": "0-3\n"}
    texts |= {f"{CPU}/cpu{cpu}/cpu_capacity": "1024\n" if cpu > 1 else "400\n" for cpu in range(4)}
    found = knobs.clusters(facts("empty", change=texts))
    assert [(c.name, c.cpus, c.big) for c in found] == [("little", (0, 1), False), ("big", (2, 3), True)]


@given(st.sets(st.integers(0, 200), min_size=1))
def test_cpus_are_listed_as_the_kernel_does(cpus: set[int]) -> None:
    from devicelab.model.tree import cpu_list

    assert cpu_list(_clusters.show(tuple(sorted(cpus)))) == tuple(sorted(cpus))


@pytest.mark.parametrize(
    ("want", "unit", "table", "found"),
    [
        ("max", "kHz", (3, 1, 2), 3),
        ("MIN", "kHz", (3, 1, 2), 1),
        (377000.0, "kHz", (377000, 433000), 377000),
        ("433 MHz", "kHz", (377000, 433000), 433000),
        ("0.433ghz", "kHz", (377000, 433000), 433000),
        ("499200kHz", "Hz", (499200000, 585000000), 499200000),
        ("585", "Hz", (499200000, 585000000), 585000000),
        ("nearest:400MHz", "kHz", (377000, 433000), 377000),
        ("nearest:405000", "kHz", (377000, 433000), 377000),
        ("nearest:1", "kHz", (377000, 433000), 377000),
        ("9155", "MB/s", (2288, 9155), 9155),
    ],
)
def test_a_level_means_a_table_entry(want: str | float, unit: str, table: tuple[int, ...], found: int) -> None:
    assert _levels.pick("gpu", want, table, where="here", unit=unit) == found


@pytest.mark.parametrize(
    "want", ["", "fast", "-5", "1e6", "nearest:", "nearest:max", "farthest:5", True, "5 THz", "5;6"]
)
def test_a_level_that_is_none_names_those_that_are(want: str | bool) -> None:
    with pytest.raises(ConfigError) as caught:
        _levels.pick("gpu", want, (377000, 433000), where="here", unit="kHz")
    assert "377000 433000" in str(caught.value)


def test_words_come_in_the_order_of_their_steps() -> None:
    first = "charging daemons lock perf_manager performance_mode screen airplane"
    order = f"{first} cores isolation idle_states governor cpu membus gpu cpuset uclamp thermal"
    assert list(knobs.words()) == order.split()


def test_an_unknown_word_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError) as caught:
        knobs.setting("cpuu", "min", PHONE)
    assert "did you mean 'cpu'" in str(caught.value)


@pytest.mark.parametrize(
    ("tree", "board", "family"),
    [
        ("sm8150", "qualcomm", "gpu_kgsl"),
        ("sm8150", "generic-android", "gpu_kgsl"),
        ("exynos9825", "note10", "gpu_mali_exynos"),
        ("exynos9825", "generic-android", "gpu_mali_exynos"),
        ("sm8150", "note10", "gpu_kgsl"),
    ],
)
def test_the_gpu_family_is_the_one_the_device_has(tree: str, board: str, family: str) -> None:
    assert knobs.families("gpu", facts(tree, board=board))[0] == family


def test_an_error_names_the_device() -> None:
    with pytest.raises(ConfigError) as caught:
        knobs.setting("cpu", "fast", PHONE)
    assert caught.value.device == "board"
