"""The shell scripts in the shells they meet, where things are not as one thinks."""

import os
import pty
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from devicelab.transports import _scripts as scripts

SHELLS = [["dash"], ["mksh"], ["bash", "--posix"], ["bash"], ["busybox", "sh"]]


@pytest.mark.skipif(os.path.isdir("/data/local/tmp"), reason="this is an Android")  # noqa: PTH112
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("missing", [False, True])
def test_without_androids_folder_an_old_board_uses_another(shell: list[str], missing: bool, tmp_path: Path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    token = scripts.new_token()
    script = scripts.LEGACY.replace("/tmp", "/nowhere") if missing else scripts.LEGACY
    done = subprocess.run(
        [*shell, "-c", script, "sh", token[:16], token[16:], "/dev/null", "sh", "-c", "echo out; echo err >&2; exit 4"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": "/nowhere" if missing else str(tmp_path)},
        check=False,
    )
    said = done.stdout.decode()
    assert said.count(token) == 3
    assert (f"{token} 73\nno folder" in said) if missing else (f"out\n{token} 4\nerr\n" in said)


def test_what_is_started_outlives_the_terminal_it_was_started_on(tmp_path: Path) -> None:
    count = 60
    for number in range(count):
        pid, fd = pty.fork()
        if pid == 0:
            script = f"echo >{tmp_path}/{number}"
            os.execvp("sh", ["sh", "-c", scripts.START, "sh", f"{tmp_path}/log", "sh", "-c", script])  # noqa: S606
        os.waitpid(pid, 0)
        with suppress(OSError):
            while os.read(fd, 4096):
                pass
        os.close(fd)
    deadline = time.monotonic() + 30
    while len(os.listdir(tmp_path)) <= count and time.monotonic() < deadline:  # noqa: PTH208
        time.sleep(0.02)
    assert len(os.listdir(tmp_path)) == count + 1  # noqa: PTH208
