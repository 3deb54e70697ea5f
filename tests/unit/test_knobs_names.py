"""Words that users give are resolved against what the device has; devices are known by what they can do."""

import pytest

from devicelab.errors import ConfigError
from devicelab.knobs import setting
from devicelab.model.device import Board, Facts
from devicelab.model.tree import Node

DEVFREQ = "/sys/class/devfreq"


def facts(texts: dict[str, str] | None = None, *, os: str = "android", **props: str) -> Facts:
    board = Board(kind="x", title="x", daemons=("thermal-engine", "perfd"))
    nodes = tuple(Node(path=path, text=text, mode=0o644, writable=True) for path, text in (texts or {}).items())
    return Facts.model_validate(
        {
            "name": "board", "address": "adb:x", "board": board, "abi": "arm64-v8a", "os": os, "kernel": "4.9",
            "boot_id": "b", "root": "self", "dir": "/d", "nodes": nodes,
            "props": {name.replace("__", ".").replace("_", "-"): value for name, value in props.items()},
        }
    )  # fmt: skip


PHONE = facts(init__svc__thermal_engine="running", init__svc__perfd="stopped", init__svc__mi_thermald="restarting")


def stopped(level: str, phone: Facts = PHONE) -> list[str]:
    return [step.do[-1] for step in setting("daemons", level, phone).steps if step.kind == "command"]


@pytest.mark.parametrize(
    ("level", "names"),
    [
        ("stop", ["thermal-engine"]),
        ("keep", []),
        ("perfd", []),
        ("thermal-engine mi_thermald", ["mi-thermald", "thermal-engine"]),
        ("*therm*", ["mi-thermald", "thermal-engine"]),
    ],
)
def test_daemons_that_are_there_are_stopped_if_they_run(level: str, names: list[str]) -> None:
    assert stopped(level.replace("mi_", "mi-")) == names


@pytest.mark.parametrize(
    "level", ["stopped", "thermal-engin", "off", "perfd made-up", "*no-such*", "thermal-engine stop"]
)
def test_a_word_that_no_service_has_is_a_mistake_that_names_those_there_are(level: str) -> None:
    with pytest.raises(ConfigError, match="no service named") as caught:
        setting("daemons", level, PHONE)
    assert "thermal-engine" in (caught.value.hint or "")
    assert caught.value.device == "board"


def test_the_nearest_word_is_offered() -> None:
    with pytest.raises(ConfigError) as caught:
        setting("daemons", "stopped", PHONE)
    assert "did you mean 'stop'?" in (caught.value.hint or "")


def test_services_of_linux_are_those_that_run() -> None:
    there = facts({"/sys/fs/cgroup/system.slice/irqbalance.service/cgroup.procs": "1\n"}, os="linux")
    assert stopped("irqbalance", there) == ["irqbalance"]
    with pytest.raises(ConfigError, match="no service named 'irqbalancer'"):
        setting("daemons", "irqbalancer", there)


def devfreq(name: str, **texts: str) -> dict[str, str]:
    own = {"governor": "simple_ondemand", "min_freq": "100000000", "max_freq": "900000000",
           "cur_freq": "100000000", "available_frequencies": "100000000 900000000", **texts}  # fmt: skip
    return {f"{DEVFREQ}/{name}/{node.replace('__', '/')}": text for node, text in own.items()}


@pytest.mark.parametrize(
    ("name", "texts", "role"),
    [
        ("17000000.ga10b", {}, "gpu"),
        ("17000000.gv11b", {}, "gpu"),
        ("17000000.gp10b", {}, "gpu"),
        ("57000000.gpu", {}, "gpu"),
        ("gpu-gpc-0", {}, "gpu"),
        ("gpu-nvd-0", {}, None),
        ("15340000.vic", {"device__uevent": "DRIVER=tegra-vic\nOF_COMPATIBLE_0=nvidia,tegra234-vic\n"}, None),
        ("fde60000.x", {"device__uevent": "DRIVER=panfrost\nOF_NAME=x\n"}, "gpu"),
        ("12345678.x", {"device__uevent": "DRIVER=foo\nOF_NAME=gpu\n"}, "gpu"),
        ("17000000.x", {"device__uevent": "DRIVER=bar\nOF_COMPATIBLE_0=nvidia,ga10b\nOF_COMPATIBLE_N=1\n"}, "gpu"),
        ("13000000.x", {"device__uevent": "DRIVER=foo\nOF_COMPATIBLE_0=arm,mali-valhall\n"}, "gpu"),
        ("3d00000.x", {"governor": "msm-adreno-tz"}, "gpu"),
        ("soc:qcom,gpubw", {}, "membus"),
        ("soc:qcom,x", {"governor": "bw_hwmon"}, "membus"),
        ("17000010.devfreq_mif", {}, "membus"),
        ("31b00000.x", {}, None),
    ],
)
def test_devfreq_devices_are_known_by_what_they_are(name: str, texts: dict[str, str], role: str | None) -> None:
    board = facts(devfreq(name, **texts))
    for word in ("gpu", "membus"):
        found = setting(word, "max", board)
        assert bool(found.steps) is (word == role), (word, found.unmet)


@pytest.mark.parametrize("word", ["performance_mode", "perf_manager", "charging"])
def test_a_made_up_level_is_a_mistake_also_where_the_device_has_nothing_to_set(word: str) -> None:
    bare = facts({"/sys/devices/system/cpu/present": "0-3\n"}, os="linux")
    with pytest.raises(ConfigError, match=f"{word} = 'stopped'"):
        setting(word, "stopped", bare)
    good = {"performance_mode": "fixed", "perf_manager": "off", "charging": "off"}[word]
    assert setting(word, good, bare).unmet
