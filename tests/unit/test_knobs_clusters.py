"""Which cores are big: by capacity, then clocks with a tolerance, then topology, in either layout of cpufreq."""

import pytest

from devicelab.knobs import _domains, cpufreq, known, resolve_cores
from devicelab.model.device import Board, Facts
from devicelab.model.tree import Node

CPU = "/sys/devices/system/cpu"


def facts(texts: dict[str, str | None]) -> Facts:
    nodes = tuple(Node(path=f"{CPU}/{path}", text=text, writable=True) for path, text in texts.items())
    return Facts(
        name="board", address="adb:x", board=Board(kind="x", title="x"), abi="arm64-v8a", os="android", kernel="4.9",
        boot_id="b", root="self", dir="/d", nodes=nodes,
    )  # fmt: skip


def machine(count: int, *, online: str = "", **texts: str | None) -> dict[str, str | None]:
    every = f"0-{count - 1}"
    away = sorted(set(range(count)) - set(_listed(online or every)))
    return {"present": every, "online": online or every, "offline": ",".join(map(str, away)), **texts}


def _listed(text: str) -> list[int]:
    return [cpu for part in text.split(",") for cpu in range(int(part.split("-")[0]), int(part.split("-")[-1]) + 1)]


def policy(cpus: str, khz: int | None, *, folder: str | None = None) -> dict[str, str | None]:
    listed = _listed(cpus)
    where = folder or f"cpufreq/policy{listed[0]}"
    top = {} if khz is None else {f"{where}/cpuinfo_max_freq": str(khz), f"{where}/cpuinfo_min_freq": "300000"}
    return {f"{where}/related_cpus": " ".join(map(str, listed)), f"{where}/scaling_max_freq": str(khz), **top}


def old(cpus: str, khz: int | None, online: str) -> dict[str, str | None]:
    """As before Linux 4.3: one folder for each CPU that is online."""
    here = set(_listed(cpus)) & set(_listed(online))
    return {path: t for cpu in here for path, t in policy(cpus, khz, folder=f"cpu{cpu}/cpufreq").items()}


def found(texts: dict[str, str | None]) -> list[tuple[str, tuple[int, ...]]]:
    return [(cluster.name, cluster.cpus) for cluster in known(facts(texts)).clusters]


BINS = "3438000 3447000 3438000 3456000 3447000 3438000 3456000 3447000"


@pytest.mark.parametrize(("texts", "clusters"), [
    pytest.param(
        machine(8) | {p: t for i, khz in enumerate(BINS.split()) for p, t in policy(str(i), int(khz)).items()},
        [("cpu", tuple(range(8)))],
        id="speed bins of equal cores",
    ),
    pytest.param(
        machine(8) | policy("0-3", 2016000) | policy("4-5", 2016000) | policy("6-7", 2016000),
        [("cpu", tuple(range(8)))],
        id="three policies of equal cores",
    ),
    pytest.param(
        machine(8) | policy("0-3", 1805000) | policy("4-5", 1901000) | policy("6-7", 2600000),
        [("little", (0, 1, 2, 3)), ("mid", (4, 5)), ("big", (6, 7))],
        id="different cores with near clocks",
    ),
    pytest.param(
        machine(8) | policy("0-3", 1800000) | policy("4-7", 1800000)
        | {f"cpu{cpu}/regs/identification/midr_el1": f"0x00000000518f80{1 - cpu // 4}4" for cpu in range(8)},
        [("little", (0, 1, 2, 3)), ("big", (4, 5, 6, 7))],
        id="different cores with one clock that say so",
    ),
    pytest.param(
        machine(8) | policy("0-3", 2000000) | policy("4-7", 1900000)
        | {f"cpu{cpu}/cpu_capacity": str(300 if cpu < 4 else 1024) for cpu in range(8)},
        [("little", (0, 1, 2, 3)), ("big", (4, 5, 6, 7))],
        id="capacity counts before the clock",
    ),
    pytest.param(
        machine(8) | policy("0-3", 1800000) | policy("4-7", 2400000)
        | {f"cpu{cpu}/cpu_capacity": "1024" for cpu in range(8)},
        [("little", (0, 1, 2, 3)), ("big", (4, 5, 6, 7))],
        id="a capacity that is the same for all tells nothing",
    ),
    pytest.param(
        machine(6) | {f"cpu{cpu}/cpu_capacity": str(1020 + cpu) for cpu in range(6)}
        | {p: t for i in range(6) for p, t in policy(str(i), 3000000).items()},
        [("cpu", tuple(range(6)))],
        id="capacities of speed bins",
    ),
    pytest.param(
        machine(8) | old("0-3", 1593600, "0-7") | old("4-7", 2150400, "0-7"),
        [("little", (0, 1, 2, 3)), ("big", (4, 5, 6, 7))],
        id="old layout",
    ),
    pytest.param(
        machine(8) | old("0-3", 1516800, "0-7") | old("4-7", 1209600, "0-7"),
        [("little", (4, 5, 6, 7)), ("big", (0, 1, 2, 3))],
        id="old layout, the big ones first",
    ),
    pytest.param(
        machine(8, online="0-5,7") | old("0-3", 1401600, "0-5,7") | old("4-7", 1958400, "5,7"),
        [("little", (0, 1, 2, 3)), ("big", (4, 5, 6, 7))],
        id="old layout, the first of a cluster offline",
    ),
    pytest.param(
        machine(8, online="0-3") | old("0-3", 1555200, "0-3"),
        [("little", (0, 1, 2, 3)), ("big", (4, 5, 6, 7))],
        id="old layout, a whole cluster offline",
    ),
    pytest.param(
        machine(10, online="4,8") | old("4-7", 2002000, "4") | old("8-9", 2522000, "8"),
        [("little", (0, 1, 2, 3)), ("mid", (4, 5, 6, 7)), ("big", (8, 9))],
        id="old layout, the little ones offline",
    ),
    pytest.param(
        machine(4, online="0-1") | old("0", 1512000, "0-1") | old("1", 1512000, "0-1"),
        [("cpu", (0, 1, 2, 3))],
        id="old layout, each CPU its own clock, half of them offline",
    ),
    pytest.param(
        machine(4, online="0") | old("0,2-3", 1320000, "0"),
        [("cpu", (0, 1, 2, 3))],
        id="a CPU among those of one clock",
    ),
    pytest.param(
        machine(8) | policy("0-3", None) | policy("4-7", None)
        | {"cpufreq/policy0/stats/time_in_state": "300000 1\n1800000 1\n",
           "cpufreq/policy4/stats/time_in_state": "300000 1\n2400000 1\n"},
        [("little", (0, 1, 2, 3)), ("big", (4, 5, 6, 7))],
        id="clocks told by the residency alone",
    ),
    pytest.param(machine(4), [("cpu", (0, 1, 2, 3))], id="nothing is told"),
])  # fmt: skip
def test_clusters(texts: dict[str, str | None], clusters: list[tuple[str, tuple[int, ...]]]) -> None:
    assert found(texts) == clusters
    assert resolve_cores("big", facts(texts)) == clusters[-1][1] or len(clusters) == 3


def test_what_could_not_be_known_is_said() -> None:
    assert known(facts(machine(8) | policy("0-7", 2000000))).doubts == ()
    away = known(facts(machine(8, online="0-3") | old("0-3", 1555200, "0-3"))).doubts
    assert away == ("CPUs 4-7 are offline and tell neither capacity nor clock; how fast they are is a guess",)
    here = known(facts(machine(8) | old("0-3", 1200000, "0-3"))).doubts
    assert here == ("CPUs 4-7 have no clock that is told; how fast they are is a guess",)
    assert known(facts(machine(4))).doubts == ("neither capacity nor clock is told, so all CPUs count as equal",)


def test_cpus_that_no_policy_has_are_named_by_a_pin() -> None:
    away = cpufreq.plan("cpu", "max", facts(machine(8, online="0-3") | old("0-3", 1555200, "0-3"))).unmet
    assert [one for one in away if "CPUs 4-7 are offline" in one]
    here = cpufreq.plan("cpu", "max", facts(machine(8) | old("0-3", 1200000, "0-3"))).unmet
    assert "CPUs 4-7 have no cpufreq policy, so their clock cannot be set" in here
    every = cpufreq.plan("cpu", "max", facts(machine(8) | policy("0-7", 2000000))).unmet
    assert not [one for one in every if "CPUs" in one]


def test_folders_of_one_policy_that_were_read_at_different_moments_are_one() -> None:
    texts = machine(8, online="5,7") | {
        "cpu4/cpufreq/related_cpus": "4 5 6 7",
        "cpu5/cpufreq/related_cpus": None,
        "cpu5/cpufreq/affected_cpus": "5 7",
        "cpu7/cpufreq/related_cpus": "4 5 6 7",
        "cpu7/cpufreq/cpuinfo_max_freq": "1958400",
        "cpu0/cpufreq/related_cpus": "4 5 6 7",
    }
    (domain,) = _domains.domains(facts(texts))
    assert domain.cpus == (4, 5, 6, 7)
    assert domain.name == "cpu7"
    assert _domains.uncovered(facts(texts)) == (0, 1, 2, 3)


@pytest.mark.parametrize("odd", ["", "-1", "9999999999", "x y", "0-3-5", None])
def test_nonsense_in_a_list_of_cpus_is_passed_over(odd: str | None) -> None:
    texts = machine(4) | {"cpufreq/policy0/related_cpus": odd, "cpufreq/policy0/cpuinfo_max_freq": odd,
                          "cpu0/topology/core_siblings_list": odd, "cpu0/cpu_capacity": odd}  # fmt: skip
    assert {cpu for _, cpus in found(texts) for cpu in cpus} == {0, 1, 2, 3}
