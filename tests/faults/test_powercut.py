"""A disk that loses what was not synced is one, and a sweep on it loses nothing that was stored."""

import os
from pathlib import Path

import pytest

from devicelab.ground.files import replacing
from tests.faults import powercut
from tests.faults.losing import LosingDisk, merciless, possible

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(possible()), reason=possible())]

# Of seed 2: power of the host, of the device, of both, while runs are stored.
_CUTS = (1, 11, 30)


def test_what_was_not_synced_is_lost_and_what_was_is_there(tmp_path: Path) -> None:
    disk = LosingDisk(tmp_path / "disk", tmp_path / "state")
    try:
        where = disk.where
        (where / "page").write_text("old", encoding="utf-8")
        with (where / "page").open("rb") as file:
            os.fsync(file.fileno())
        folder = os.open(where, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        (where / "page").write_text("new, but only in memory", encoding="utf-8")
        with replacing(where / "whole") as part:
            part.write_text("whole", encoding="utf-8")
        (where / "loose").write_text("x", encoding="utf-8")
        seed = next(seed for seed in range(100) if merciless(seed))
        disk.cut(seed)
        assert disk.everything() == {"page": b"old", "whole": b"whole"}
    finally:
        disk.close()


@pytest.mark.parametrize("number", _CUTS)
def test_no_stored_run_is_lost_and_no_torn_line_believed_when_the_power_goes(tmp_path: Path, number: int) -> None:
    outcome = powercut.cut(2, number, tmp_path)
    assert outcome.violations == [], str(outcome)
