"""A database that we may only read, while its owner writes: what is there is read, and nobody is called damaged.

Root may write everything, so the mode is pretended.
"""

import os
import threading
from pathlib import Path

import pytest

from devicelab.store import Store
from devicelab.store import engine as places
from tests import labdata


@pytest.fixture
def readers_only(monkeypatch: pytest.MonkeyPatch) -> threading.local:
    """Threads that set ``reader`` may not write."""
    this, real = threading.local(), os.access
    monkeypatch.setattr(
        places.os,
        "access",
        lambda path, mode: real(path, mode) and not (getattr(this, "reader", False) and mode & os.W_OK),
    )
    return this


def test_what_the_owner_adds_is_read_and_not_called_damaged(tmp_path: Path, readers_only: threading.local) -> None:
    path = tmp_path / "lab.sqlite"
    of = labdata.experiment(repetitions=3)
    with Store.open(path) as owner:
        first = labdata.fill(owner, of)
    readers_only.reader = True
    over, seen, failed = threading.Event(), 1, []

    def write() -> None:
        try:
            for number in range(12):
                with Store.open(path) as owner:  # opened and closed: the log is folded into the file each time
                    labdata.fill(owner, of, name=f"phone-{number}")
        except BaseException as error:  # noqa: BLE001
            failed.append(error)
        finally:
            over.set()

    with Store.open(path) as reader:
        assert [info.campaign for info in reader.campaigns()] == [first]
        writer = threading.Thread(target=write)
        writer.start()
        while not over.is_set():
            found = len(reader.campaigns())
            assert found >= seen, "rows that had been there are gone"
            seen = found
            assert len(reader.results(first).runs()) == 18
        writer.join()
        assert failed == []
        assert len(reader.campaigns()) == 13
        assert reader.check().problems == ()
