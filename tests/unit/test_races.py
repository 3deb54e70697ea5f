"""What is done twice at the same moment is done once, or one after the other."""

import fcntl
import multiprocessing
import os
import secrets
from pathlib import Path

import pytest

from devicelab.errors import ConfigError, DeviceBusyError
from devicelab.farm import night as conducting
from devicelab.jobs.import_ import import_result
from devicelab.report import site, site_files
from devicelab.store import Store
from tests import nightdata
from tests.postgres import TOOLS, new_database
from tests.unit.test_jobs_import import CAMPAIGN, result

_FORK = multiprocessing.get_context("fork")


def _import(path: Path, place: str, go: object) -> None:
    go.wait()  # type: ignore[attr-defined]
    with Store.open(place) as store:
        import_result(path, store)


@pytest.mark.slow
def test_the_same_result_imported_twice_at_once_comes_in_once(tmp_path: Path) -> None:
    path = result(tmp_path / "result.tar")
    for number in range(5):
        place = str(tmp_path / f"{number}.sqlite")
        Store.open(place).close()
        go = _FORK.Barrier(3)
        both = [_FORK.Process(target=_import, args=(path, place, go)) for _ in range(3)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        assert [one.exitcode for one in both] == [0, 0, 0]
        with Store.open(place) as store:
            assert store.campaign(CAMPAIGN).runs_done == 4
            assert store.campaign(CAMPAIGN).status == "complete"


def test_two_builds_of_one_site_come_one_after_the_other(tmp_path: Path) -> None:
    with (
        site_files.in_turn(tmp_path),
        (tmp_path / ".devicelab-site.lock").open() as file,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / ".devicelab-site.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_first_site_that_ends_early_does_not_wedge_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "lab.sqlite") as store:
        nightdata.fill(store)

        def full(*_: object) -> None:
            raise ConfigError("No space left on device")

        with monkeypatch.context() as context:
            context.setattr(site_files.SiteFiles, "finish", full)
            with pytest.raises(ConfigError, match="No space"):
                site.update_site(store, tmp_path / "site", reports=0)
        assert (tmp_path / "site" / "index.html").exists()
        assert site.update_site(store, tmp_path / "site", reports=0).index.exists()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / ".devicelab-site.lock").symlink_to(victim)
    with pytest.raises(ConfigError, match="cannot write"), site_files.in_turn(tmp_path / "site"):
        pass
    assert not os.path.lexists(victim)


@pytest.mark.slow
@pytest.mark.skipif(TOOLS is None, reason="no PostgreSQL server is installed")
def test_a_second_conductor_with_the_same_database_is_refused(postgres_server: str) -> None:
    url = new_database(postgres_server, f"lab-{secrets.token_hex(4)}")
    with Store.open(url) as here, Store.open(url) as there:
        with conducting.alone_in(here, "f"):
            with pytest.raises(DeviceBusyError, match="is going on"), conducting.alone_in(there, "f"):
                pass
            with conducting.alone_in(there, "another"):
                pass
        with conducting.alone_in(there, "f"):
            pass
