"""Any layout of cores is found again: clusters by speed, their names, which of them are big, what they are called."""

import itertools
from typing import Any

import pytest
from board_trees import CPU, facts
from hypothesis import given
from hypothesis import strategies as st

from devicelab import knobs
from devicelab.errors import ConfigError
from devicelab.knobs import _clusters, known, resolve_cores
from devicelab.model.device import Cluster, Facts
from devicelab.model.tree import Tree

Nodes = dict[str, str | None]


def device(sizes: list[int], khz: list[int], **more: str) -> Facts:
    """Policies of so many CPUs with so high clocks, in the order of their numbers."""
    count = sum(sizes)
    nodes: Nodes = {f"{CPU}/present": f"0-{count - 1}\n", f"{CPU}/online": f"0-{count - 1}\n", f"{CPU}/offline": "\n"}
    for first, size, top in zip(itertools.accumulate([0, *sizes]), sizes, khz, strict=False):
        folder = f"{CPU}/cpufreq/policy{first}"
        nodes |= {
            f"{folder}/related_cpus": " ".join(str(first + n) for n in range(size)),
            f"{folder}/cpuinfo_max_freq": f"{top}\n",
        }
    return facts("empty", change={**nodes, **{f"{CPU}/{path}": text for path, text in more.items()}})


NAMES = {
    1: ["cpu"],
    2: ["little", "big"],
    3: ["little", "mid", "big"],
    4: ["little", "mid", "mid2", "big"],
    5: ["little", "mid", "mid2", "mid3", "big"],
}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_any_layout_is_found_by_speed(sizes: list[int], chance: Any) -> None:
    order = list(range(len(sizes)))
    chance.shuffle(order)
    tops = [1_000_000 + 500_000 * rank for rank in order]
    firsts = list(itertools.accumulate([0, *sizes]))
    sets = [tuple(range(firsts[n], firsts[n] + size)) for n, size in enumerate(sizes)]
    by_speed = [sets[order.index(rank)] for rank in range(len(sizes))]
    names = [*NAMES[len(sizes)]]
    if len(sizes) > 2 and len(by_speed[-1]) == 1:
        names = ["little", "big", "prime"] if len(sizes) == 3 else [*names[:-1], "prime"]
    found = known(board := device(sizes, tops))
    assert [(one.name, one.cpus) for one in found.clusters] == list(zip(names, by_speed, strict=True))
    assert [one.big for one in found.clusters] == [n > 0 for n in range(len(sizes))]
    assert found.doubts == ()
    # What people call the fast ones, the slow ones and the fastest is there whatever the clusters are named.
    fast = sorted(cpu for one in by_speed[1:] for cpu in one)
    whole = {"big": tuple(fast) or by_speed[0], "little": by_speed[0], "prime": by_speed[-1]}
    for word, cpus in whole.items():
        assert resolve_cores(word, board) == (by_speed[names.index(word)] if word in names else cpus)


@pytest.mark.parametrize(("fast", "clusters"), [(1_050_000, 1), (1_050_001, 2), (1_000_000, 1)])
def test_cores_within_five_percent_are_equal(fast: int, clusters: int) -> None:
    assert len(known(device([2, 2], [1_000_000, fast])).clusters) == clusters
    assert len(known(device([2, 2], [fast, 1_000_000])).clusters) == clusters


@pytest.mark.parametrize(
    ("midr", "clusters"),
    [
        ("0x00000000410fd030", 1),
        ("0x00000000410fd03f", 1),  # another revision
        ("0x00000000412fd030", 1),  # another variant
        ("0x00000000410fd040", 2),  # another part
        ("0x00000000510fd030", 2),  # another maker
    ],
)
def test_revisions_of_a_core_are_the_same_core(midr: str, clusters: int) -> None:
    told = {f"cpu{cpu}/regs/identification/midr_el1": "0x00000000410fd030" for cpu in (0, 1)}
    told |= {f"cpu{cpu}/regs/identification/midr_el1": midr for cpu in (2, 3)}
    assert len(known(device([2, 2], [1_000_000, 1_000_000], **told)).clusters) == clusters


@pytest.mark.parametrize(
    ("told", "top"),
    [
        ({"cpuinfo_max_freq": "5\n", "scaling_available_frequencies": "1 9\n"}, 5),
        ({"cpuinfo_max_freq": "0\n", "scaling_available_frequencies": "1 9\n"}, 9),
        ({"cpuinfo_max_freq": None, "scaling_available_frequencies": "", "stats/time_in_state": "7 1\n8 1\n"}, 8),
        ({"cpuinfo_max_freq": None}, None),
    ],
)
def test_the_highest_clock_is_what_the_first_node_that_has_one_says(told: Nodes, top: int | None) -> None:
    board = device([1], [5])
    change = {f"{CPU}/cpufreq/policy0/{name}": text for name, text in told.items()}
    whole = {path: node.text for path, node in board.tree.items()} | change
    (domain,) = _clusters._domains.domains(board := facts("empty", change=whole))
    assert _clusters._top_khz(board, domain) == top


@pytest.mark.parametrize("single", [2, 3])
def test_cpus_that_nothing_is_known_of_are_a_cluster_between_their_neighbours(single: int) -> None:
    """An old kernel has no folder for what is offline: taken for the faster one if its numbers are higher."""
    board = device([single], [1_000_000])
    nodes = {path: node.text for path, node in board.tree.items()}
    more: Nodes = {f"{CPU}/present": "0-3\n", f"{CPU}/online": f"0-{single - 1}\n", f"{CPU}/offline": f"{single}-3\n"}
    found = known(facts("empty", change={**nodes, **more}))
    rest = tuple(range(single, 4))
    assert [(one.name, one.cpus, one.big) for one in found.clusters] == [
        ("little", tuple(range(single)), False),
        ("big", rest, True),
    ]
    assert found.doubts == (
        f"CPUs {knobs.show(rest)} are offline and tell neither capacity nor clock; how fast they are is a guess",
    )


def test_a_device_that_was_not_asked_takes_numbers_and_no_names() -> None:
    """A bundle's machine: it used to have CPU 0 alone, and ``all`` meant that one."""
    unseen = facts("empty").model_copy(update={"tree": Tree()})
    assert resolve_cores("2-5+0x41", unseen) == (0, 2, 3, 4, 5, 6)
    for name in ("all", "big", "cpu", "0-", "0x0"):
        with pytest.raises(ConfigError, match="not asked"):
            resolve_cores(name, unseen)


@pytest.mark.parametrize("told", [(), (0,), (1,), (0, 1)])
def test_cores_that_do_not_say_what_they_are_are_no_other_ones(told: tuple[int, ...]) -> None:
    midr = {
        f"cpu{cpu}/regs/identification/midr_el1": "0x00000000410fd030" for at in told for cpu in (2 * at, 2 * at + 1)
    }
    assert len(known(device([2, 2], [1_000_000, 1_000_000], **midr)).clusters) == 1


@pytest.mark.parametrize(
    ("named", "fits"),
    [
        ([(0, 1), (2, 3)], True),  # each policy is a whole cluster
        ([(0, 1, 2, 3)], True),
        ([(0,), (1, 2, 3)], False),  # a policy across two of them
        ([(0, 1)], False),  # not all CPUs
        ([(0, 1), (2, 3), (4,)], False),  # a CPU that is not there
    ],
)
def test_a_board_file_counts_if_it_speaks_of_these_cpus(named: list[tuple[int, ...]], fits: bool) -> None:
    board = device([2, 2], [1_000_000, 2_000_000])
    clusters = tuple(Cluster(name=f"c{n}", cpus=cpus) for n, cpus in enumerate(named))
    known_as = known(board.model_copy(update={"board": board.board.model_copy(update={"clusters": clusters})}))
    assert (known_as.clusters == clusters) is fits


def test_an_offline_core_of_a_package_is_like_the_cores_beside_it() -> None:
    """Kernels before 5.x tell a cluster as a package; each of these CPUs has a clock of its own."""
    board = device([1, 1, 1, 1], [1_000_000, 1_000_000, 2_000_000, 2_000_000])
    nodes = {path: node.text for path, node in board.tree.items()}
    nodes |= {
        f"{CPU}/cpu{cpu}/topology/core_siblings_list": text
        for cpu, text in enumerate(("0-1,4", "0-1,4", "2-3,5", "2-3,5"))
    }
    away = {f"{CPU}/present": "0-5\n", f"{CPU}/online": "0-3\n", f"{CPU}/offline": "4-5\n"}
    found = known(facts("empty", change={**nodes, **away}))
    assert [(one.name, one.cpus) for one in found.clusters] == [("little", (0, 1, 4)), ("big", (2, 3, 5))]
