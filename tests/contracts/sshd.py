"""An OpenSSH server of our own on a loopback port, with its own keys, and a home whose ~/.ssh knows it."""

import getpass
import os
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.contracts.transport_bench import free_port, listens, read_all

SSHD = shutil.which("sshd", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


@dataclass
class SshServer:
    """A running server.

    Attributes:
        port: where it listens on 127.0.0.1.
        user: who may come in.
        home: a home directory with a key that opens it (its known_hosts is empty).
        host_key: ``ssh-ed25519 AAAA…`` of the server.
    """

    port: int
    user: str
    home: Path
    host_key: str
    config: Path
    process: "subprocess.Popen[bytes]"

    def know(self, *names: str) -> None:
        """Vouch for the server under the given names of known_hosts."""
        with (self.home / ".ssh" / "known_hosts").open("a") as file:
            file.writelines(f"{name} {self.host_key}\n" for name in names)

    def processes(self) -> list[psutil.Process]:
        """The server and what serves its sessions, without the commands that run in them."""
        if self.process.poll() is not None:
            return []
        server = psutil.Process(self.process.pid)
        found = [server]
        for child in server.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if child.name().startswith("sshd"):  # sshd-session since OpenSSH 9.8
                    found.append(child)
        return found

    def cut(self) -> None:
        """End it and its sessions abruptly; nobody listens until ``listen``."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def listen(self) -> None:
        """Take connections again, on the same port, if it does not."""
        if self.process.poll() is not None:
            self.process = _listening(self.config, self.port)

    def stop(self) -> None:
        """End it and all its sessions."""
        self.process.terminate()
        self.process.wait()


def keygen(path: Path, kind: str = "ed25519") -> str:
    """Make a key pair; the public part as ``TYPE BASE64``."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])


def start(folder: Path, *around: str) -> SshServer:
    """Start a server whose files lie in ``folder``, by a command line ``around`` its own."""
    assert SSHD is not None, "Debian's package openssh-server is not installed"
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    host_key = keygen(folder / "host_key")
    (folder / "authorized").write_text(keygen(home / ".ssh" / "id_ed25519") + "\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        # bash, run by sshd at level 1, would read the rc file of whoever runs the tests.
        "SetEnv SHLVL=2\nPermitRootLogin prohibit-password\nMaxStartups 100\nPrintMotd no\n"
    )
    process = _listening(folder / "config", port, *around)
    return SshServer(port, getpass.getuser(), home, host_key, folder / "config", process)


def _listening(config: Path, port: int, *around: str) -> "subprocess.Popen[bytes]":
    log = config.with_name("log")
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [*around, str(SSHD), "-D", "-e", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    deadline = time.monotonic() + 30
    while not listens(port):
        assert process.poll() is None, read_all(log)
        assert time.monotonic() < deadline, read_all(log)
        time.sleep(0.02)
    return process
