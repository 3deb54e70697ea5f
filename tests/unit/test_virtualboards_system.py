"""Properties, services and small programs of a virtual board, asked directly."""

from typing import Any

import pytest

from virtualboards.adbd.shell import exit_byte, parse_arguments
from virtualboards.system import Answer, System
from virtualboards.users import SHELL_UID, Su


class PlainBoard:
    """As much of a board as the system asks for."""

    def __init__(self) -> None:
        self.loop: Any = self
        self.kernel: Any = self
        self.told: list[tuple[str, bool]] = []
        self.states: dict[str, bool] = {"respawning": True}

    def service(self, name: str, running: bool) -> None:
        self.told.append((name, running))

    def services(self) -> dict[str, bool]:
        return self.states

    def controllers(self) -> dict[str, str]:
        return {"cpuset": "/dev/cpuset", "cpu": "/dev/cpuctl"}

    def battery(self) -> dict[str, int | bool | str]:
        return {"level": 42, "present": True, "temperature": 311}

    def thermal(self) -> dict[str, object]:
        return {"status": 1, "temperatures": [{"name": "BIG", "value": 71.5, "type": 0, "status": 1}]}

    def run_as_root(self, *_args: object, **_options: object) -> Any:
        raise AssertionError

    def call_later(self, _delay_s: float, _callback: object) -> None:
        return None

    def reboot(self) -> None:
        return None


def system(board: PlainBoard, su: Su = "magisk", sdk: str = "29") -> System:
    props = {"ro.build.version.sdk": sdk, "ro.product.model": "M"}
    return System(board, props, {"thermald": True}, su)


@pytest.fixture
def board() -> PlainBoard:
    return PlainBoard()


def test_services_show_as_properties_in_their_present_state(board: PlainBoard) -> None:
    it = system(board)
    assert it.answer("getprop", ["init.svc.thermald"], SHELL_UID).text == "running\n"
    assert it.answer("stop", ["thermald"], 0).code == 0
    assert it.answer("getprop", ["init.svc.thermald"], SHELL_UID).text == "stopped\n"
    assert board.told == [("thermald", False)]
    board.states["respawning"] = False
    assert it.answer("getprop", ["init.svc.respawning"], SHELL_UID).text == "stopped\n"


def test_stopping_an_unknown_service_is_silent_before_android_10(board: PlainBoard) -> None:
    assert system(board, sdk="28").answer("stop", ["none"], 0).code == 0
    complaint = system(board, sdk="29").answer("stop", ["none"], 0)
    assert complaint.code == 1
    assert "Unable to stop service 'none'" in complaint.text


def test_persistent_properties_and_settings_outlive_a_boot(board: PlainBoard) -> None:
    it = system(board)
    it.answer("setprop", ["persist.x", "1"], 0)
    it.answer("setprop", ["debug.x", "1"], 0)
    it.answer("settings", ["put", "global", "airplane_mode_on", "1"], SHELL_UID)
    it.boot()
    assert it.answer("getprop", ["persist.x"], 0).text == "1\n"
    assert it.answer("getprop", ["debug.x"], 0).text == "\n"
    assert it.answer("settings", ["get", "global", "airplane_mode_on"], 0).text == "1\n"


def test_settings_that_are_not_set_read_null(board: PlainBoard) -> None:
    assert system(board).answer("settings", ["get", "system", "x"], 0).text == "null\n"
    assert system(board).answer("settings", ["delete", "system", "x"], 0).text == "Deleted 0 rows\n"


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        (["-d", "-v", "brief"], ["I/one     (   42): a word", "E/two     (   43): another word"]),
        (["-d", "-vbrief", "*:W"], ["E/two     (   43): another word"]),
        (["-d", "-v", "brief", "-s", "one"], ["I/one     (   42): a word"]),
        (["-d", "-v", "raw", "-e", "^another"], ["another word"]),
        (["-t", "1", "-v", "tag"], ["E/two     : another word"]),
    ],
)
def test_the_log_is_shown_as_asked_for(board: PlainBoard, args: list[str], lines: list[str]) -> None:
    it = system(board)
    it.answer("logcat", ["-c"], 0)
    it.answer("log", ["-t", "one", "a", "word"], SHELL_UID, 42)
    it.answer("log", ["-p", "e", "-t", "two", "another word"], SHELL_UID, 43)
    shown = it.answer("logcat", args, SHELL_UID)
    assert shown.follow is None
    assert str(shown.text).splitlines()[1:] == lines


def test_who_follows_the_log_is_told_what_comes_and_no_more_when_gone(board: PlainBoard) -> None:
    it = system(board)
    told: list[str] = []
    answer = it.answer("logcat", ["-v", "raw"], SHELL_UID)
    assert answer.follow is not None
    answer.follow(told.append)
    it.answer("log", ["first"], 0)
    it.unfollow(told.append)
    it.answer("log", ["second"], 0)
    assert told == ["first\n"]


@pytest.mark.parametrize(
    ("command", "uid", "made"),
    [
        ("-t cgroup -o cpuset mine /data/x", 0, ("/dev/cpuset", "/data/x")),
        ("-o cpu,noprefix -t cgroup mine /data/x", 0, ("/dev/cpuctl", "/data/x")),
        ("-t cpuset none /data/x", 0, ("/dev/cpuset", "/data/x")),
        ("-t cgroup -o cpuset mine /data/x", SHELL_UID, "Operation not permitted"),
        ("-t cgroup -o cpuset,cpu mine /data/x", 0, "Device or resource busy"),
        ("-t cgroup -o memory mine /data/x", 0, "Invalid argument"),
        ("-t ext4 /dev/block/x /data/x", 0, "Invalid argument"),
    ],
)
def test_control_groups_may_be_mounted_once_more(
    board: PlainBoard, command: str, uid: int, made: tuple[str, str] | str
) -> None:
    mounts = system(board).mounts
    if isinstance(made, str):
        with pytest.raises(Answer) as refused:
            mounts.mount(command.split(), uid)
        assert refused.value.code == 1
        assert made in str(refused.value.text)
        assert "/data/x" not in mounts.listing()
        return
    assert mounts.mount(command.split(), uid) == made
    assert f" on {made[1]} type cgroup (" in mounts.listing()
    assert mounts.unmount([made[1]], 0) == made[1]
    assert "/data/x" not in mounts.listing()


def test_dumpsys_prints_what_the_kernel_measures(board: PlainBoard) -> None:
    it = system(board)
    battery = it.answer("dumpsys", ["battery"], SHELL_UID).text
    assert "  level: 42\n" in battery
    assert "  present: true\n" in battery
    thermal = it.answer("dumpsys", ["thermalservice"], SHELL_UID).text
    assert "Thermal Status: 1\n" in thermal
    assert "\tTemperature{mValue=71.5, mType=0, mName=BIG, mStatus=1}\n" in thermal


@pytest.mark.parametrize(
    ("args", "argv"),
    [
        (["-c", "id -u"], ["/system/bin/sh", "sh", "-c", "id -u"]),
        (["0", "-c", "id", "-u"], ["/system/bin/sh", "sh", "-c", "id -u"]),
        (["-mm", "-c", "x"], ["/system/bin/sh", "sh", "-c", "x"]),
        ([], ["/system/bin/sh", "sh"]),
    ],
)
def test_magisks_command_line_is_everything_after_c(board: PlainBoard, args: list[str], argv: list[str]) -> None:
    assert system(board).su_command(args) == argv


def test_magisk_tells_its_version_and_refuses_other_users(board: PlainBoard) -> None:
    with pytest.raises(Answer) as version:
        system(board).su_command(["-v"])
    assert (version.value.code, version.value.text) == (0, "27.0:MAGISKSU\n")
    with pytest.raises(Answer) as refused:
        system(board).su_command(["nobody"])
    assert refused.value.code != 0


def test_aosp_su_runs_an_argv_and_takes_no_c(board: PlainBoard) -> None:
    it = system(board, su="su-0")
    assert it.su_command(["0", "cat", "a b"]) == ["/system/bin/cat", "cat", "a b"]
    assert it.su_command(["root"]) == ["/system/bin/sh", "sh"]
    with pytest.raises(Answer):
        it.su_command(["-c", "id"])


def test_shell_words_nobody_knows_are_ignored_and_the_default_depends_on_the_command() -> None:
    assert parse_arguments("", "").pty
    assert not parse_arguments("", "ls").pty
    words = parse_arguments("v2,TERM=xterm-256color,raw,future=1", "")
    assert (words.v2, words.pty, words.term) == (True, False, "xterm-256color")


def test_the_exit_byte_of_a_signal_is_128_plus_its_number() -> None:
    assert exit_byte(7 << 8) == 7
    assert exit_byte(9) == 137
