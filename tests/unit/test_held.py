"""What held in an attack from outside, and has to: pages, migrations, killed commands, a stranger's load."""

import base64
import gzip
import hashlib
import html
import multiprocessing
import re
import shutil
import subprocess
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from devicelab.device.lab import DeviceEntry
from devicelab.jobs.sweep import sweep
from devicelab.report.site import update_site
from devicelab.store import Store
from tests import labdata, nightdata

_FORK = multiprocessing.get_context("fork")
_OLD = Path(__file__).parents[1] / "data" / "version-0.1.0" / "complete.sqlite.gz"
_POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]*)"')
_SCRIPT = re.compile(r"<script([^>]*)>(.*?)</script>", re.DOTALL)
# What a page could run beside its own scripts, or fetch from elsewhere.
_ACTIVE = re.compile(r"<iframe|javascript:|<[^>]+\son\w+\s*=|(?:src|href)\s*=\s*[\"'](?:https?:)?//", re.IGNORECASE)


def test_every_page_of_a_site_runs_its_own_scripts_alone_and_loads_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        nightdata.fill(store, nightdata.History(nights=2))
        update_site(store, tmp_path / "site", reports=1)
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert {page.parent.name for page in pages} >= {"site", "nights", "devices", "experiments"}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        (policy,) = _POLICY.findall(text)
        policy = html.unescape(policy)
        assert policy.startswith("default-src 'none';"), page
        assert "unsafe" not in policy.partition("script-src")[2].partition(";")[0], page
        assert _ACTIVE.findall(_SCRIPT.sub("", text)) == [], page
        for attributes, body in _SCRIPT.findall(text):
            digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
            assert 'type="application/json"' in attributes or f"'sha256-{digest}'" in policy, page


def _open_at_once(path: Path, together: Barrier) -> None:
    together.wait()
    Store.open(path).close()


@pytest.mark.slow
def test_four_that_migrate_a_database_at_once_all_find_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    path.write_bytes(gzip.decompress(_OLD.read_bytes()))
    together = _FORK.Barrier(4)
    openers = [_FORK.Process(target=_open_at_once, args=(path, together)) for _ in range(4)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join(120)
    assert [opener.exitcode for opener in openers] == [0, 0, 0, 0]
    with Store.open(path) as store:
        assert store.check().problems == ()
        assert len(store.campaigns()) == 1


@pytest.mark.slow
def test_a_strangers_program_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    stranger = tmp_path / "elsewhere" / "overhead"
    stranger.parent.mkdir()
    shutil.copy(shutil.which("sleep") or "/bin/sleep", stranger)
    with subprocess.Popen([stranger, "600"]) as running, Store.open(tmp_path / "s.sqlite") as store:
        try:
            experiment = labdata.Experiment(
                name="beside", question="Is a stranger left alone?", factors={"load": ("1000 5000 20",)},
                repetitions=1, settle_s=0.0, hold_s=0.05, analyses=(),
            )  # fmt: skip
            entry = DeviceEntry(name="here", address="local:", dir=str(tmp_path / "dir"))
            assert sweep(experiment, entry, store, report_to=tmp_path / "r.html").runs == 1
            assert running.poll() is None
        finally:
            running.kill()
