"""Accounts whose login shell is not what one thinks: sshd gives every command to it."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sshd

from devicelab.device.facts import probe
from devicelab.device.lab import DeviceEntry
from devicelab.errors import DeviceRefusedError
from devicelab.transports import connect

pytestmark = pytest.mark.sshd

StartAs = Callable[[str], str]


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartAs]:
    """Starts a server that sees this user with the login shell given; gives its address."""
    bwrap = shutil.which("bwrap")
    if bwrap is None or subprocess.run([bwrap, "--dev-bind", "/", "/", "true"], check=False).returncode:
        pytest.skip("bubblewrap does not work here")
    servers = []

    def start(shell: str) -> str:
        lines = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
        users = [[*line[:-1], shell] if line[2] == str(os.getuid()) else line for line in lines]
        (tmp_path / "passwd").write_text("".join(":".join(line) + "\n" for line in users))
        around = (
            bwrap,
            "--dev-bind",
            "/",
            "/",
            "--ro-bind",
            str(tmp_path / "passwd"),
            "/etc/passwd",
            "--die-with-parent",
        )
        server = sshd.start(tmp_path, *around)
        servers.append(server)
        monkeypatch.setenv("HOME", str(server.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        server.know(f"[127.0.0.1]:{server.port}")
        return f"ssh:{getpass.getuser()}@127.0.0.1:{server.port}"

    yield start
    for server in servers:
        server.stop()


@pytest.mark.parametrize("shell", ["tcsh", "bsd-csh", "fish", "zsh", "mksh", "dash", "rc", "yash", "elvish"])
def test_commands_arrive_as_written_through_any_login_shell(account: StartAs, tmp_path: Path, shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    transport = connect(account(path))
    words = ["a b", "a\n!b", "it's", 'c"d', "$HOME `id`", "\\e", "", "é", "x" * 3000, "*"]
    done = transport.run(["sh", "-c", 'for w; do printf "%s|" "$w"; done; echo err >&2; exit 3', "sh", *words])
    assert done.exit_code == 3
    assert done.stdout.decode() == "".join(f"{word}|" for word in words)
    assert done.stderr == b"err\n"
    data = bytes(range(256)) * 100
    (tmp_path / "data").write_bytes(data)
    transport.push(tmp_path / "data", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == data
    transport.close()


def test_an_account_that_runs_no_commands_is_a_refusal_with_its_words(account: StartAs) -> None:
    nologin = shutil.which("nologin", path="/usr/sbin:/sbin") or pytest.skip("there is no nologin")
    address = account(nologin)
    transport = connect(address)
    with pytest.raises(DeviceRefusedError, match="currently not available") as caught:
        probe(DeviceEntry(name="board", address=address), transport)
    assert "chsh" in (caught.value.hint or "")
    transport.close()
