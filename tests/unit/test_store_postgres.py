"""The same store on a real PostgreSQL server, started for these tests."""

import os
import pwd
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from devicelab.errors import StoreError
from devicelab.store import Store
from tests import labdata


def _tools() -> Path | None:
    """Folder of the server's programs; Debian keeps them out of the PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


TOOLS = _tools()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(TOOLS is None, reason="no PostgreSQL server is installed")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an empty server; PostgreSQL refuses to run as root, so root lends it another user."""
    folder = tmp_path_factory.mktemp("postgres")
    identity: dict[str, object] = {}
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
        for parent in folder.parents[:2]:
            parent.chmod(0o755)
    port = _free_port()
    data = folder / "data"
    initdb = [f"{TOOLS}/initdb", "-D", str(data), "-U", "lab", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **identity)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [f"{TOOLS}/pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log")]
    subprocess.run([*control, "-o", options, "start"], check=True, cwd=folder, stdout=subprocess.DEVNULL, **identity)
    try:
        yield f"postgresql://lab@127.0.0.1:{port}/postgres"
    finally:
        stop = [*control, "-m", "immediate", "stop"]
        subprocess.run(stop, check=True, cwd=folder, stdout=subprocess.DEVNULL, **identity)


def test_a_campaign_comes_back_as_from_sqlite(server: str, tmp_path: Path) -> None:
    with Store.open(server) as there, Store.open(tmp_path / "lab.sqlite") as here:
        frames = []
        for store in (there, here):
            campaign = labdata.fill(store, labdata.experiment(repetitions=2), invalid_every=5)
            results = store.results(campaign)
            assert store.check().problems == ()
            assert store.vacuum() >= 0
            assert len(store.done_runs(campaign)) == 12
            assert store.facts(campaign).cpus_online == (0, 1, 2, 3)
            frames.append((results.runs(), results.metrics(), results.samples("kernels")))
        for from_there, from_here in zip(*frames, strict=True):
            drop = [name for name in ("run_id",) if name in from_there]
            assert from_there.drop(columns=drop).equals(from_here.drop(columns=drop))


def test_hostile_text_is_stored_as_text(server: str) -> None:
    with Store.open(server) as store:
        campaign = labdata.begin(store, name="a\0b", kernel="'; DROP TABLE runs; --")
        assert store.campaign(campaign).device == "a\ufffdb"


def test_workers_open_and_store_every_run_exactly_once(server: str) -> None:
    with Store.open(server) as store:
        campaign = labdata.begin(store)
        cell = store.cells(campaign)[0]
    stored: list[str] = []
    errors: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            with Store.open(server) as own:
                for i in range(20):
                    name = f"run-{(i + offset) % 20}"
                    made = own.commit_run(
                        campaign,
                        cell,
                        labdata.record(name),
                        repetition=i,
                        measurements={"measure": labdata.measurement(i)},
                        flags=(),
                    )
                    if made:
                        stored.append(name)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(5 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(stored) == sorted(f"run-{i}" for i in range(20))


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    with pytest.raises(StoreError, match="does not answer") as caught:
        Store.open(f"postgresql://lab:secret@127.0.0.1:{_free_port()}/lab")
    assert "secret" not in str(caught.value)
