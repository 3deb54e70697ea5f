"""Board files: every one loads, and devices are recognised as what they are."""

from pathlib import Path

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
    monkeypatch.setattr(boards.toml, "read", lambda _: {"title": "x", "clusterz": []})
    boards.read.cache_clear()
    try:
        with pytest.raises(ConfigError) as caught:
            boards.load("linux")
    finally:
        boards.read.cache_clear()
    assert "linux.toml" in str(caught.value)
    assert "clusterz" in str(caught.value)


def test_the_lab_figures_of_the_load_are_kept_for_comparison() -> None:
    assert boards.load("qualcomm").reference["load_cpu_pct"]["1000 5000 20"] == 23
    assert boards.load("note10").reference["load_cpu_pct"]["1000 5000 20"] == 43


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = Pixel", "not valid TOML"),
        ('titel = "Pixel"', "titel: no such key, did you mean 'title'?"),
        ('title = "P"\n[recognise]\nprops."ro.product.model" = ["Pixel (8"]', "is no regular expression"),
        ('title = "P"\n[recognise]\nprority = 30', "recognise.prority: no such key, did you mean 'priority'?"),
        ('title = "P"\ngpu = "gpu_mali"', "no GPU knob family named 'gpu_mali'"),
        (
            'title = "P"\n[[clusters]]\nname = "a"\ncpus = [0, 1]\n[[clusters]]\nname = "b"\ncpus = [1]',
            "CPU 1 is in 'a' and in 'b'",
        ),
    ],
)
def test_a_board_file_with_a_mistake_names_the_file_and_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    (tmp_path / "my-phone.toml").write_text(text)
    monkeypatch.setattr(boards, "FOLDER", tmp_path)
    with pytest.raises(ConfigError) as caught:
        boards.load("my-phone")
    assert words in str(caught.value)
    assert "my-phone.toml" in str(caught.value)
