"""Several hosts: which device is whose, what a worker takes over, and who is let in."""

from pathlib import Path

import pytest

from devicelab import __version__
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError, StoreError
from devicelab.farm import hosting
from devicelab.farm.dask_link import Tls, address_of, usable
from devicelab.farm.engine_dask import DaskHosts, answered, merged
from devicelab.farm.hosting import Host, Offer, Order, taken_over
from devicelab.farm.selectors import Known
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, JobEntry, Task
from devicelab.store import Store

FARM = Farm(name="f", jobs=(JobEntry(experiment="e", devices="a"),))
TASK = Task(task_id="1.1", job=0, experiment="e", selector="a", device="a")


def known(name: str, address: str = "", *, present: bool = True, **fields: object) -> Known:
    entry = DeviceEntry.model_validate({"name": name, "address": address or f"adb:{name}", **fields})
    return Known(entry, "note10", present)


def offers(**hosts: tuple[Known, ...]) -> dict[str, Offer]:
    return {f"tcp://{host}:1": Offer(host, __version__, devices) for host, devices in hosts.items()}


def order(task: Task = TASK) -> Order:
    return Order(FARM, "f-1", task, known("a").entry, Experiment(question="?"), None)


# --- whose device ----------------------------------------------------------------------------------------------------


def test_each_worker_offers_what_it_sees() -> None:
    pool, chosen = merged(offers(h1=(known("a"), known("b")), h2=(known("c"),)))
    assert sorted(pool) == ["a", "b", "c"]
    assert chosen == {"tcp://h1:1": ("a", "b"), "tcp://h2:1": ("c",)}


def test_a_board_that_two_hosts_reach_is_offered_by_both() -> None:
    shared = known("a", "ssh:me@board")
    assert merged(offers(h1=(shared,), h2=(shared,)))[1] == {"tcp://h1:1": ("a",), "tcp://h2:1": ("a",)}


def test_a_board_of_a_common_lab_file_is_offered_where_it_is_plugged_in() -> None:
    pool, chosen = merged(offers(h1=(known("a", present=False),), h2=(known("a"),)))
    assert chosen == {"tcp://h1:1": (), "tcp://h2:1": ("a",)}
    assert pool["a"].present


def test_a_board_that_nobody_sees_now_is_known_all_the_same() -> None:
    pool, chosen = merged(offers(h1=(known("a", present=False),)))
    assert not pool["a"].present
    assert chosen == {"tcp://h1:1": ("a",)}


@pytest.mark.parametrize("addresses", [("adb:X", "adb:Y"), ("local:", "local:"), ("ssh:me@a", "adb:X")])
def test_one_name_for_two_devices_is_refused(addresses: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="two devices are called 'a': on h1 and on h2"):
        merged(offers(h1=(known("a", addresses[0]),), h2=(known("a", addresses[1]),)))


def test_two_workers_of_one_host_share_its_own_devices() -> None:
    here = Offer("h", __version__, (known("a", "local:", dir="/x"),))
    assert merged({"tcp://h:1": here, "tcp://h:2": here})[1] == {"tcp://h:1": ("a",), "tcp://h:2": ("a",)}


def test_nobody_there_and_another_version_are_said() -> None:
    with pytest.raises(ConfigError, match="no devicelab worker"):
        merged({})
    with pytest.raises(ConfigError, match=r"the worker on h is devicelab 0\.0\.1"):
        merged({"tcp://h:1": Offer("h", "0.0.1", ())})


def test_a_worker_that_died_just_now_offers_nothing_and_a_wrong_lab_is_said() -> None:
    (offer,) = offers(h1=(known("a"),)).values()
    assert answered({"1": offer, "2": OSError("connection refused"), "3": None}) == {"1": offer}
    with pytest.raises(ConfigError, match="lab"):
        answered({"1": offer, "2": ConfigError("lab.toml is wrong")})


# --- what a worker does ----------------------------------------------------------------------------------------------


def test_an_order_is_executed_as_it_is_unless_a_dead_worker_began_it() -> None:
    assert taken_over(order(), None) is TASK
    for stored in (
        TASK,
        TASK.model_copy(update={"status": "running", "attempts": 2}),
        TASK.model_copy(update={"status": "running", "attempts": 1, "device": "b"}),
        TASK.model_copy(update={"status": "complete", "attempts": 1}),
    ):
        assert taken_over(order(), stored) is TASK


def test_what_a_dead_worker_began_goes_on_with_its_campaign_and_is_no_further_attempt() -> None:
    left = TASK.model_copy(update={"status": "running", "attempts": 1, "campaign": "c"})
    again = taken_over(order(), left)
    assert (again.status, again.attempts, again.campaign) == ("waiting", 0, "c")


def test_a_worker_with_another_database_says_so(tmp_path: Path) -> None:
    with Store.open(tmp_path / "other.sqlite") as store, pytest.raises(StoreError, match="writes to another database"):
        Host(store).execute(order(), lambda _: None)


def test_a_night_is_stopped_and_may_go_on_but_not_on_a_worker_that_ends(tmp_path: Path) -> None:
    with Store.open(tmp_path / "lab.sqlite") as store:
        host = Host(store)
        host.stop_of("n").set()
        assert host.stop_of("n").is_set()
        assert not host.stop_of("other").is_set()
        host.go_on("n")
        assert not host.stop_of("n").is_set()
        host.end()
        assert host.stop_of("n").is_set()
        assert host.stop_of("new").is_set()


def test_this_computer_is_offered_only_if_the_lab_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = tmp_path / "lab.toml"
    lab.write_text('[devices.box]\naddress = "local:"\nboard = "linux"\n', encoding="utf-8")
    monkeypatch.setenv("DEVICELAB_LAB", str(lab))
    monkeypatch.setattr(hosting, "known_devices", lambda *_: {"box": known("box", "local:"), "local": known("local")})
    with Store.open(tmp_path / "lab.sqlite") as store:
        assert [device.entry.name for device in Host(store).devices()] == ["box"]
        assert hosting.resources(Host(store).devices()) == {"device:box": 1}
        assert Host(store, ["box"]).devices()
        with pytest.raises(ConfigError, match="no device 'x' is known here"):
            Host(store, ["x"]).devices()


# --- who is let in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "tls", "address"),
    [
        ("dask://farm:9000", False, "tcp://farm:9000"),
        ("dask://farm", False, "tcp://farm:8786"),
        ("farm:9000", True, "tls://farm:9000"),
        ("[::1]:9000", False, "tcp://[::1]:9000"),
    ],
)
def test_a_scheduler_is_named_by_host_and_port(place: str, tls: bool, address: str) -> None:
    assert address_of(place, tls=tls) == address


@pytest.mark.parametrize(
    "place", ["dask://", "dask://farm:x", "dask://farm:0", "http://farm:80", ":8786", "farm:99999"]
)
def test_what_is_no_scheduler_is_refused(place: str) -> None:
    with pytest.raises(ConfigError, match="not a scheduler"):
        address_of(place, tls=False)


def test_tls_takes_all_three_files_or_none() -> None:
    assert Tls().security() is None
    assert usable(None) is usable(Tls()) is None
    with pytest.raises(ConfigError, match="all three"):
        Tls(ca="ca.pem").security()
    security = Tls("ca.pem", "cert.pem", "key.pem").security()
    assert security is not None
    assert security.require_encryption
    with pytest.raises(ConfigError, match="all three"):
        DaskHosts("dask://127.0.0.1:1", Tls(key="key.pem"))
