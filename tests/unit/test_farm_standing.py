"""How a farm is, in five lines, and the units that start its nights."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from devicelab.cli import farm as command
from devicelab.errors import ConfigError
from devicelab.farm import closing
from devicelab.farm.standing import cron_line, logrotate, morning, standing, units
from devicelab.model.night import Farm, JobEntry, Notify, Share, Task
from devicelab.store import Store

FARM = Farm(name="lab", jobs=(JobEntry(experiment="e", devices="a"),))
ODD = ["/opt/my lab/devicelab", "nightly", '/srv/100%/"farm" $HOME\\x.toml']


def test_a_farm_is_told_in_five_lines_with_what_to_do(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        with pytest.raises(ConfigError, match="no night of farm"):
            standing(store, "lab", str(tmp_path / "s.sqlite"), 0.0)
        night = store.begin_night(FARM)
        tasks = [Task(task_id=f"1.{n}", job=0, experiment="e", selector="a", status="complete") for n in (1, 2)]
        store.put_tasks(night, [*tasks, tasks[0].model_copy(update={"task_id": "1.3", "status": "failed"})])
        store.quarantine("a", "no root", night)
        began = store.nights()[0].started_unix_ns / 1e9
        lines = {line.what: line for line in standing(store, "lab", str(tmp_path / "s.sqlite"), began + 7200)}
        assert len(lines) == 5
        assert "running" in lines["night"].found
        assert "began 2.0 h ago" in lines["night"].found
        assert "--resume" in lines["night"].todo
        assert lines["tasks"].found == "2 complete, 1 failed"
        assert lines["devices out"].found == "a: no root"
        store.finish_night(night, "complete", 3)
        store.release("a")
        (first, *_) = standing(store, "lab", str(tmp_path / "s.sqlite"), began - 5)
        assert "exit code 3" in first.found
        assert "was the clock set" in first.found
        assert first.todo == ""


@pytest.mark.parametrize(
    ("statuses", "wrong"),
    [
        ([], False),
        (["complete", "waiting"], False),
        (["complete", "failed"], True),
        (["skipped", "complete"], True),
        (["failed"], True),
        (["at rest", "complete"], False),
        (["at rest", "failed"], True),
    ],
)
def test_one_task_that_was_not_done_is_one_to_look_at(tmp_path: Path, statuses: list[str], wrong: bool) -> None:
    rests = {"status": "skipped", "shares": (Share(times=0, cells=("x",), why="calm"),)}
    with Store.open(tmp_path / "s.sqlite") as store:
        night = store.begin_night(FARM)
        task = Task(task_id="1", job=0, experiment="e", selector="a")
        changes = [rests if status == "at rest" else {"status": status} for status in statuses]
        store.put_tasks(night, [task.model_copy(update={"task_id": f"1.{n}", **c}) for n, c in enumerate(changes)])
        lines = {line.what: line for line in standing(store, "lab", str(tmp_path / "s.sqlite"), 0.0)}
    assert lines["tasks"].todo == (f"`devicelab nights {night}`" if wrong else "")


def test_words_of_a_command_arrive_as_they_are_in_a_crontab(tmp_path: Path) -> None:
    line = cron_line(ODD, tmp_path, "07:05", tmp_path / "x.log")
    assert line.startswith("5 7 * * * cd ")
    shell = line.partition("* * * ")[2].replace(r"\%", "%")
    assert shlex.split(shell.partition(" && ")[2].partition(" >>")[0]) == ODD
    assert line.replace(r"\%", "").count("%") == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for name, text in units("lab", ["/bin/true", *ODD[1:]], tmp_path, "22:00").items():
        (tmp_path / name).write_text(text)
    files = [str(path) for path in sorted(tmp_path.glob("devicelab-*"))]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    words = ["systemd-analyze", "verify", "--user", *files]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if "initialize manager" in done.stderr:
        pytest.skip("systemd does not run here")
    assert [line for line in done.stderr.splitlines() if "devicelab-lab" in line] == []


def test_units_quote_what_systemd_would_read(tmp_path: Path) -> None:
    service = units("lab", ODD, tmp_path, "22:00")["devicelab-lab.service"]
    assert 'ExecStart="/opt/my lab/devicelab" "nightly" "/srv/100%%/\\"farm\\" $$HOME\\\\x.toml"' in service


@pytest.mark.parametrize("at", ["24:00", "7:05", "x", "22:00\nOnCalendar=minutely"])
def test_what_is_no_time_of_the_day_is_refused(tmp_path: Path, at: str) -> None:
    with pytest.raises(ConfigError, match="not a time"):
        units("lab", ODD, tmp_path, at)


def test_install_writes_both_units_and_says_what_is_next(tmp_path: Path) -> None:
    app = typer.Typer()
    command.register(app)
    (tmp_path / "lab.toml").write_text('[[jobs]]\nexperiment = "load_calibration"\ndevices = "a"\n')
    words = ["farm", "install", str(tmp_path / "lab.toml"), "--to", str(tmp_path / "units"), "--at", "21:30"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "units").iterdir()) == [
        "devicelab-lab.service",
        "devicelab-lab.timer",
    ]
    assert "OnCalendar=*-*-* 21:30:00" in (tmp_path / "units" / "devicelab-lab.timer").read_text()
    with pytest.raises(ConfigError, match="password"):
        CliRunner().invoke(app, [*words, "--store", "postgresql://a:b@h/d"], catch_exceptions=False)


def test_the_message_in_the_morning_is_a_timer_of_its_own(tmp_path: Path) -> None:
    made = units("lab", ODD, tmp_path, "22:00", [*ODD, "morning"], "08:00")
    assert "OnCalendar=*-*-* 08:00:00" in made["devicelab-lab-morning.timer"]
    assert "SuccessExitStatus=7" in made["devicelab-lab-morning.service"]
    with pytest.raises(ConfigError, match="not a time"):
        units("lab", ODD, tmp_path, "22:00", ODD, "8")


def test_the_morning_says_what_needs_a_person_and_checks_the_store(tmp_path: Path) -> None:
    farm = Farm(name="f", jobs=(JobEntry(experiment="e", devices="a"),))
    with Store.open(tmp_path / "s.sqlite") as store:
        night = store.begin_night(farm)
        store.finish_night(night, "complete", 0)
        begun_s = store.nights()[0].started_unix_ns / 1e9
        well = morning(store, "f", str(tmp_path / "s.sqlite"), begun_s + 3600)
        assert "runs, 0 blobs checked" in well.body
        store.quarantine("a", "screen broken", night)
        hurt = morning(store, "f", str(tmp_path / "s.sqlite"), begun_s + 3 * 86_400)
    assert hurt.exit_code == 7
    assert "screen broken" in hurt.body
    assert "none began since yesterday" in hurt.body


@pytest.mark.parametrize(
    ("when", "code", "told"), [("morning", 7, 0), ("failure", 7, 1), ("failure", 0, 0), ("always", 0, 1)]
)
def test_a_farm_that_tells_in_the_morning_is_silent_at_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, code: int, told: int
) -> None:
    sent: list[str] = []
    monkeypatch.setattr("devicelab.farm.notify.notify", lambda _where, title, _body: sent.append(title) or ())
    farm = Farm(name="f", jobs=(JobEntry(experiment="e", devices="a"),), notify=Notify(when=when))
    with Store.open(tmp_path / "s.sqlite") as store:
        night = store.begin_night(farm)
        store.finish_night(night, "complete", code)
        closing.tell(store, farm, night, code, sent.append)
    assert len(sent) == told


def test_a_log_is_rotated_where_it_lies(tmp_path: Path) -> None:
    assert logrotate(tmp_path / "my farm.log").startswith(f"'{tmp_path}/my farm.log' {{")
