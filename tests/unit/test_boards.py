"""Board files: every one loads, and devices are recognised as what they are."""

import pytest

from devicelab import boards
from devicelab.errors import ConfigError
from devicelab.model.tree import Node, Tree

PHONE = {"ro.build.version.sdk": "29", "ro.product.model": "Some Phone"}


@pytest.mark.parametrize("kind", boards.kinds())
def test_every_board_file_loads_and_its_clusters_do_not_overlap(kind: str) -> None:
    board = boards.load(kind)
    cpus = [cpu for cluster in board.clusters for cpu in cluster.cpus]
    assert board.kind == kind
    assert len(cpus) == len(set(cpus))
    assert not board.clusters or any(cluster.big for cluster in board.clusters)


def test_the_boards_of_the_labs_are_there() -> None:
    assert {
        "qualcomm",
        "qualcomm-865",
        "note10",
        "note10-sd855",
        "generic-android",
        "linux",
        "nvidia-server",
        "amd-server",
    } <= set(boards.kinds())


@pytest.mark.parametrize(
    ("props", "kind"),
    [
        ({**PHONE, "ro.board.platform": "msmnile"}, "qualcomm"),
        ({**PHONE, "ro.board.platform": "kona"}, "qualcomm-865"),
        ({**PHONE, "ro.product.model": "SM-N970F", "ro.hardware": "exynos9825"}, "note10"),
        ({**PHONE, "ro.product.model": "SM-N975F/DS"}, "note10"),
        ({**PHONE, "ro.product.model": "SM-N976B"}, "note10"),
        ({**PHONE, "ro.product.model": "SM-N971N"}, "note10"),
        ({**PHONE, "ro.product.model": "SM-N970U1", "ro.board.platform": "msmnile"}, "note10-sd855"),
        ({**PHONE, "ro.product.model": "SM-N9750", "ro.board.platform": "msmnile"}, "note10-sd855"),
        ({**PHONE, "ro.product.model": "SC-01M"}, "note10-sd855"),
        ({**PHONE, "ro.product.model": "SM-N981B"}, "generic-android"),
        ({**PHONE, "ro.board.platform": "mt6789"}, "generic-android"),
        ({"ro.product.model": "no sdk property"}, "generic-android"),
        ({"os.id": "debian"}, "linux"),
        ({}, "linux"),
    ],
)
def test_a_device_is_recognised_by_its_properties(props: dict[str, str], kind: str) -> None:
    assert boards.recognise(props, Tree()).kind == kind


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/sys/module/nvidia/version", "nvidia-server"),
        ("/sys/class/kfd/kfd/topology/generation_id", "amd-server"),
    ],
)
def test_a_server_is_recognised_by_its_gpu_driver(path: str, kind: str) -> None:
    assert path in boards.globs()
    assert boards.recognise({"os.id": "ubuntu"}, Tree([Node(path=path, text="1\n")])).kind == kind


def test_the_name_in_the_lab_file_decides() -> None:
    assert boards.recognise({**PHONE, "ro.board.platform": "kona"}, Tree(), named="note10").kind == "note10"


def test_an_unknown_kind_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError) as caught:
        boards.load("note-10")
    assert "did you mean 'note10'" in str(caught.value)
    with pytest.raises(ConfigError):
        boards.recognise({}, Tree(), named="nonsense")


def test_a_board_file_with_a_wrong_key_names_file_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "kinds", lambda: ("linux",))
    monkeypatch.setattr(boards.registry, "read_toml", lambda _: {"title": "x", "clusterz": []})
    boards.load.cache_clear()
    try:
        with pytest.raises(ConfigError) as caught:
            boards.load("linux")
    finally:
        boards.load.cache_clear()
    assert "linux.toml" in str(caught.value)
    assert "clusterz" in str(caught.value)


def test_the_lab_figures_of_the_load_are_kept_for_comparison() -> None:
    assert boards.load("qualcomm").reference["load_cpu_pct"]["1000 5000 20"] == 23
    assert boards.load("note10").reference["load_cpu_pct"]["1000 5000 20"] == 43
