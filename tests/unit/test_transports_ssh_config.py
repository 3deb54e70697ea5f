"""Where ssh addresses lead: what OpenSSH says about its own configuration, and what is done without OpenSSH."""

import logging
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import paramiko
import pytest
from paramiko.ssh_exception import IncompatiblePeer, MessageOrderError, NoValidConnectionsError

from devicelab.errors import (
    ConfigError,
    DeviceRefusedError,
    DeviceUnreachableError,
    LabError,
    UnsortedError,
)
from devicelab.transports.ssh import config, hosts
from devicelab.transports.ssh.dial import failed

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH's client is not installed")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own with a ``.ssh``; no system-wide configuration."""
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(config, "_SYSTEM_CONFIG", tmp_path / "system")
    return tmp_path


def resolved(home: Path, text: str, address: str) -> config.Target:
    (home / ".ssh" / "config").write_text(text)
    return config.resolve(address, f"ssh:{address}")


@needs_ssh
@pytest.mark.parametrize(
    ("include", "file"),
    [
        ('"conf d/a b.conf" other', "conf d/a b.conf"),
        ('"~/.ssh/with space"', "with space"),
        ("=conf.d/*", "conf.d/x"),
        ("one two # three", "two"),
    ],
)
def test_files_are_included_by_any_name(home: Path, include: str, file: str) -> None:
    place = home / ".ssh" / file
    place.parent.mkdir(exist_ok=True)
    place.write_text("Host board\n  Port 77\n")
    assert resolved(home, f"Include {include}\n", "x@board").port == 77


USER_AND_PORT = """
Match user lab
  Port 2222
Host board
  HostName 192.0.2.7
  IdentityFile ~/.ssh/id_%r
  IdentityFile "%d/a b/%h-%p"
  ProxyCommand nc %h %p %r
"""


@needs_ssh
@pytest.mark.parametrize(("address", "port"), [("lab@board:2022", 2022), ("lab@board", 2222), ("lab@board:22", 22)])
def test_user_and_port_of_the_address_count_in_every_token(home: Path, address: str, port: int) -> None:
    target = resolved(home, USER_AND_PORT, address)
    assert (target.host, target.port, target.user) == ("192.0.2.7", port, "lab")
    assert target.command == f"nc 192.0.2.7 {port} lab"
    assert target.keys == (home / ".ssh/id_lab", home / f"a b/192.0.2.7-{port}")


@needs_ssh
def test_jump_hosts_get_the_user_of_the_address(home: Path) -> None:
    target = resolved(home, "Host board\n  ProxyJump %r@gate:2200,other\n", "lab@board")
    assert target.jump == ("lab@gate:2200", "other")
    assert resolved(home, "ProxyJump none\nProxyCommand none\n", "x@y").jump == ()


@needs_ssh
def test_comments_behind_values_are_none_of_them(home: Path) -> None:
    text = "Host board\n  HostName 192.0.2.7 # rack 3\n  User lab # shared\n  Port 2222 # not 22\n"
    target = resolved(home, text, "board")
    assert (target.host, target.user, target.port) == ("192.0.2.7", "lab", 2222)


@needs_ssh
def test_a_final_match_is_no_reason_to_drop_a_file(home: Path) -> None:
    text = "Host board\n  HostName 192.0.2.7\n  User lab\nMatch final all\n  ForwardX11Trusted yes\n"
    assert resolved(home, text, "board").host == "192.0.2.7"
    (home / "more").write_text("Match final all\n  GSSAPIAuthentication yes\n")
    (home / "system").write_text(f"Include {home}/more\nHost board\n  HostName 192.0.2.9\n  User admin\n")
    target = resolved(home, "Host board\n  User lab\n", "board")
    assert (target.host, target.user) == ("192.0.2.9", "lab")


@needs_ssh
def test_a_criterion_that_does_not_fit_never_counts(home: Path) -> None:
    text = "Match localnetwork 203.0.113.0/24\n  ProxyJump gate.invalid\nHost board\n  HostName 192.0.2.7\n"
    said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr
    release = re.match(r"OpenSSH_(\d+)\.(\d+)", said)
    if release and (int(release[1]), int(release[2])) < (9, 4):  # it does not know it, and refuses the file
        with pytest.raises(ConfigError, match="Bad Match condition") as caught:
            resolved(home, text, "root@board")
        assert str(home / ".ssh" / "config") in caught.value.message
        return
    target = resolved(home, text, "root@board")
    assert (target.host, target.jump) == ("192.0.2.7", ())


@needs_ssh
def test_match_exec_runs_once_for_a_command(home: Path) -> None:
    text = f'Match host board exec "echo %p >>{home}/ran"\n  HostName 192.0.2.7\n'
    (home / ".ssh" / "config").write_text(text)
    for _ in range(6):
        assert config.resolve("root@board:5152", "ssh:board").host == "192.0.2.7"
    assert (home / "ran").read_text() == "5152\n"


@needs_ssh
def test_files_of_known_hosts_are_those_that_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "k n").touch()
    text = f'UserKnownHostsFile "{home}/k n" ~/hosts-%k\nGlobalKnownHostsFile /etc/lab_hosts\nHostKeyAlias rack\n'
    target = resolved(home, text, "board:2200")
    assert target.known_hosts == (home / "k n", home / "hosts-rack", Path("/etc/lab_hosts"))
    assert target.known_as == "rack"
    monkeypatch.setenv(hosts.EXTRA_FILE_VARIABLE, "/lab/hosts")
    assert config.resolve("board:2200", "ssh:x").known_hosts[0] == Path("/lab/hosts")


@needs_ssh
def test_nobody_is_told_to_keep_a_key_in_dev_null(home: Path) -> None:
    target = resolved(home, "UserKnownHostsFile /dev/null\n", "root@board")
    assert target.known_hosts[0] == home / ".ssh" / "known_hosts"
    verifier = hosts.Verifier("ssh:board", "board", 22, "board", target.known_hosts)
    with pytest.raises(DeviceRefusedError, match="unknown host") as caught:
        verifier.check(paramiko.ECDSAKey.generate())
    assert "/dev/null" not in (caught.value.hint or "")


@needs_ssh
def test_the_agent_is_the_one_that_the_configuration_names(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/usual")
    monkeypatch.setenv("LAB_AGENT", "/run/lab")
    for said, agent in (
        ("", "/run/usual"),
        ("IdentityAgent ~/agent.sock", f"{home}/agent.sock"),
        ("IdentityAgent none", None),
        ("IdentityAgent SSH_AUTH_SOCK", "/run/usual"),
        ("IdentityAgent $LAB_AGENT", "/run/lab"),
    ):
        assert resolved(home, f"Host a\n  {said}\n", "a").agent == agent


@needs_ssh
def test_what_ssh_says_about_a_mistake_is_the_message(home: Path) -> None:
    with pytest.raises(ConfigError, match="Bad configuration option: portt") as caught:
        resolved(home, "Portt 22\n", "board")
    assert caught.value.device == "ssh:board"
    with pytest.raises(ConfigError, match="LAB_UNSET"):
        resolved(home, "IdentityFile ${LAB_UNSET}/key\n", "board")


def without_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.shutil, "which", lambda _: None)


def test_without_openssh_paramiko_reads_and_it_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_ssh(monkeypatch)
    text = "Host board\n  HostName 192.0.2.7 # rack 3\n  Port 2222\n  ProxyCommand nc %h %p %r\n  IdentityFile ~/k\n"
    with caplog.at_level(logging.WARNING):
        target = resolved(home, text, "lab@board:2022")
    assert (target.host, target.port, target.user) == ("192.0.2.7", 2022, "lab")
    assert target.command == "nc 192.0.2.7 2022 lab"
    assert target.keys == (home / "k",)
    assert "openssh-client" in caplog.text


@pytest.mark.parametrize("text", ["Match final all\n  Port 2\n", "Include other\n", "Host a\n include=b\n"])
def test_without_openssh_what_paramiko_would_get_wrong_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    without_ssh(monkeypatch)
    with pytest.raises(ConfigError, match="without OpenSSH") as caught:
        resolved(home, text, "board")
    assert "openssh-client" in (caught.value.hint or "")


def test_who_has_no_entry_in_the_list_of_users_has_to_say_as_whom(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = home / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'No user exists for uid 4711' >&2; exit 255\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("devicelab.ground.user.name", lambda: None)
    monkeypatch.setattr("devicelab.ground.user.home", lambda: None)
    with pytest.raises(ConfigError, match="as whom") as caught:
        config.resolve("board", "ssh:board")
    assert "user@host" in (caught.value.hint or "")
    target = config.resolve("me@board", "ssh:me@board")
    assert (target.user, target.host, target.port) == ("me", "board", 22)


SORTED = [
    (socket.gaierror(-2, "Name or service not known"), DeviceUnreachableError, "no address"),
    (NoValidConnectionsError({("192.0.2.7", 22): OSError("refused")}), DeviceUnreachableError, "192.0.2.7"),
    (TimeoutError("timed out"), DeviceUnreachableError, "timed out"),
    (EOFError(), DeviceUnreachableError, "EOFError"),
    (OSError(113, "No route to host"), DeviceUnreachableError, "No route"),
    (UnicodeError("label too long"), ConfigError, "label too long"),
    (IncompatiblePeer("no acceptable ciphers"), DeviceRefusedError, "encryption"),
    (MessageOrderError("KEXINIT was not the first packet!"), DeviceRefusedError, "protocol"),
    (paramiko.ChannelException(1, "Administratively prohibited"), DeviceRefusedError, "forbids"),
    (paramiko.ChannelException(2, "Connect failed"), DeviceUnreachableError, "Connect failed"),
    (paramiko.AuthenticationException("Authentication timeout."), DeviceUnreachableError, "timeout"),
    (paramiko.AuthenticationException("Authentication failed."), DeviceRefusedError, "no key of ours"),
    (paramiko.BadAuthenticationType("no", ["password"]), DeviceRefusedError, "password"),
    (paramiko.SSHException("Bad host key from server"), DeviceRefusedError, "follow the protocol"),
    (paramiko.SSHException("Error reading SSH protocol banner"), DeviceUnreachableError, "banner"),
    (paramiko.SSHException("lost ssh-agent"), DeviceRefusedError, "agent does not sign"),
    (paramiko.SSHException("key cannot be used for signing"), DeviceRefusedError, "does not sign"),
    (paramiko.SSHException("No existing session"), DeviceUnreachableError, "No existing session"),
    (paramiko.SSHException("Key-exchange timed out waiting for key negotiation"), DeviceUnreachableError, "timed out"),
    (paramiko.SSHException("Unable to open channel."), DeviceUnreachableError, "open channel"),
    (paramiko.SSHException("Mismatched MAC"), DeviceUnreachableError, "MAC"),
    (paramiko.SSHException("something new"), UnsortedError, "paramiko.ssh_exception.SSHException: something new"),
    (ConfigError("ours"), ConfigError, "ours"),
]


@pytest.mark.parametrize(("error", "kind", "said"), SORTED, ids=lambda value: repr(value)[:60])
def test_every_exception_of_a_connection_is_sorted(error: Exception, kind: type[LabError], said: str) -> None:
    found = failed("ssh:board", error, "cannot connect")
    assert type(found) is kind
    assert said in found.message
    assert found.transient is issubclass(kind, DeviceUnreachableError)
