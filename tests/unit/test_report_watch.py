"""What goes on, from the store: runs done, the last flag, silence, and nothing written."""

from pathlib import Path

import pytest

from devicelab.cli.watch import lines
from devicelab.model.journal import Flag
from devicelab.report import watch
from devicelab.store import Store
from tests import labdata

pytestmark = pytest.mark.slow


def test_a_running_campaign_is_shown_with_its_last_flag_and_when_it_falls_silent(tmp_path: Path) -> None:
    with Store.open(tmp_path / "lab.sqlite") as store:
        done = labdata.fill(store, labdata.experiment(repetitions=1), name="phone-2")
        of = labdata.experiment(repetitions=2)
        campaign = labdata.begin(store, of)
        cell = labdata.cells(of)[0]
        flag = Flag(code="affinity-changed", detail="CPU 3 went <offline>")
        record = labdata.record(labdata.run_id(campaign, cell, 0))
        store.commit_run(campaign, cell, record, repetition=0, measurements={}, flags=[flag])
        last = record.t_unix_ns + record.t_end_ns - record.t_start_ns
        now = watch.look(store, last + 60_000_000_000)
        (board,) = now.boards
        assert (board.device, board.done, board.planned, board.invalid) == ("phone-1", 1, 12, 1)
        assert board.flag.startswith("affinity-changed: CPU 3 went <offline>")
        assert board.silent == ""
        assert [info.campaign for info in now.ended] == [done]
        assert watch.look(store, last + 3_600_000_000_000).boards[0].silent
        text = watch.page(store).decode()
        assert "CPU 3 went &lt;offline&gt;" in text
        assert 'http-equiv="refresh"' in text
        assert "<script" not in text
    told = "\n".join(lines(now))
    assert "1 of 12 runs, 1 flagged" in told
    assert "phone-2: klo_under_load complete" in told


def test_nothing_is_said_to_run_where_nothing_does(tmp_path: Path) -> None:
    with Store.open(tmp_path / "lab.sqlite") as store:
        assert lines(watch.look(store))[0].endswith("nothing running")
        assert b"Nothing is running" in watch.page(store)
