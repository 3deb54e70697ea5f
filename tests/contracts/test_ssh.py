"""What ssh alone has to do: trust nobody unknown, and use OpenSSH's own files."""

import socket
import subprocess
import threading
from pathlib import Path

import psutil
import pytest
from sshd import SshServer, keygen

from devicelab.errors import ConfigError, DeviceRefusedError, DeviceUnreachableError
from devicelab.transports import connect
from devicelab.transports.base import Transport
from devicelab.transports.ssh import config as ssh_config
from tests.processes import standing_still

pytestmark = pytest.mark.sshd


def address(server: SshServer, host: str = "127.0.0.1") -> str:
    return f"ssh:{server.user}@{host}:{server.port}"


def works(transport: Transport) -> bool:
    try:
        return transport.run(["echo", "hello"]).stdout == b"hello\n"
    finally:
        transport.close()


def config(server: SshServer, text: str) -> None:
    (server.home / ".ssh" / "config").write_text(text)


def test_an_unknown_host_is_refused_with_the_command_that_adds_it(ssh_home: SshServer) -> None:
    with pytest.raises(DeviceRefusedError, match=r"unknown host.*SHA256:") as caught:
        connect(address(ssh_home))
    assert caught.value.device == address(ssh_home)
    command = (caught.value.hint or "").partition("then: ")[2]
    assert command.startswith(f"ssh-keyscan -p {ssh_home.port} 127.0.0.1 >> ")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert works(connect(address(ssh_home)))


def test_the_command_that_adds_a_host_works_where_there_is_no_folder_yet(
    ssh_home: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEVICELAB_SSH_KNOWN_HOSTS", str(tmp_path / "new folder" / "hosts"))
    with pytest.raises(DeviceRefusedError) as caught:
        connect(address(ssh_home))
    subprocess.run(["sh", "-c", (caught.value.hint or "").partition("then: ")[2]], check=True, capture_output=True)
    assert works(connect(address(ssh_home)))


def test_a_changed_key_is_refused_loudly_and_the_hint_mends_it(ssh_home: SshServer, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other")
    hosts = ssh_home.home / ".ssh" / "known_hosts"
    hosts.write_text(f"[127.0.0.1]:{ssh_home.port} {other}\n")
    with pytest.raises(DeviceRefusedError, match="THE HOST KEY HAS CHANGED") as caught:
        connect(address(ssh_home))
    commands = (caught.value.hint or "").partition("anew: ")[2].split(", then ")
    for command in commands:
        subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert works(connect(address(ssh_home)))


def test_a_known_key_of_another_kind_does_not_vouch(ssh_home: SshServer, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other", "ecdsa")
    (ssh_home.home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{ssh_home.port} {other}\n")
    with pytest.raises(DeviceRefusedError, match="CHANGED"):
        connect(address(ssh_home))


def test_of_several_known_keys_one_that_fits_is_enough(ssh_home: SshServer, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other")
    (ssh_home.home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{ssh_home.port} {other}\n")
    ssh_home.know(f"[127.0.0.1]:{ssh_home.port}")
    assert works(connect(address(ssh_home)))


def test_a_revoked_key_is_refused_though_it_is_known(ssh_home: SshServer) -> None:
    ssh_home.know(f"[127.0.0.1]:{ssh_home.port}")
    with (ssh_home.home / ".ssh" / "known_hosts").open("a") as file:
        file.write(f"@revoked * {ssh_home.host_key}\n@cert-authority *.lab {ssh_home.host_key}\n")
    with pytest.raises(DeviceRefusedError, match="revoked"):
        connect(address(ssh_home))


def test_hashed_names_and_patterns_are_understood(ssh_home: SshServer) -> None:
    hosts = ssh_home.home / ".ssh" / "known_hosts"
    ssh_home.know(f"[127.0.0.1]:{ssh_home.port}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(hosts)], check=True, capture_output=True)
    assert "127.0.0.1" not in hosts.read_text()
    assert works(connect(address(ssh_home)))
    hosts.write_text("")
    ssh_home.know("[127.0.0.*]:*")
    assert works(connect(address(ssh_home)))
    hosts.write_text("")
    ssh_home.know(f"[127.0.0.*]:*,![127.0.0.1]:{ssh_home.port}")
    with pytest.raises(DeviceRefusedError, match="unknown host"):
        connect(address(ssh_home))


def test_another_known_hosts_file_can_be_named(
    ssh_home: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hosts").write_text(
        f"# the lab's\n\ngarbage\n[127.0.0.1]:{ssh_home.port} {ssh_home.host_key} board 1\n"
    )
    monkeypatch.setenv("DEVICELAB_SSH_KNOWN_HOSTS", str(tmp_path / "hosts"))
    assert works(connect(address(ssh_home)))


def test_no_accepted_key_is_a_refusal_that_says_what_to_do(ssh_home: SshServer) -> None:
    ssh_home.know(f"[127.0.0.1]:{ssh_home.port}")
    key = ssh_home.home / ".ssh" / "id_ed25519"
    key.rename(key.with_name("elsewhere"))
    try:
        with pytest.raises(DeviceRefusedError, match="no key") as caught:
            connect(address(ssh_home))
        assert "ssh-copy-id" in (caught.value.hint or "")
        config(ssh_home, f"Host 127.0.0.1\n  IdentityFile {key.with_name('elsewhere')}\n  IdentitiesOnly yes\n")
        assert works(connect(address(ssh_home)))
        config(ssh_home, "Host 127.0.0.1\n  IdentityFile ~/.ssh/none\n  IdentitiesOnly yes\n")
        with pytest.raises(DeviceRefusedError, match="no key"):
            connect(address(ssh_home))
    finally:
        key.with_name("elsewhere").rename(key)


def test_an_agent_s_key_opens_the_door(ssh_home: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ssh_home.know(f"[127.0.0.1]:{ssh_home.port}")
    key = ssh_home.home / ".ssh" / "id_ed25519"
    path = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL) as agent:
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
            subprocess.run(
                ["sh", "-c", 'until [ -S "$1" ]; do sleep 0.05; done; ssh-add -q "$2"', "sh", str(path), str(key)],
                check=True,
            )
            key.rename(key.with_name("elsewhere"))
            assert works(connect(address(ssh_home)))
        finally:
            agent.terminate()
            key.with_name("elsewhere").rename(key)


def test_of_an_agent_s_keys_those_that_are_meant_open_the_door_with_identities_only(
    ssh_home: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ssh_home.know(f"[127.0.0.1]:{ssh_home.port}")
    key = ssh_home.home / ".ssh" / "id_ed25519"
    locked = tmp_path / "locked"
    for name in ("", ".pub"):
        locked.with_name(f"locked{name}").write_bytes(key.with_name(f"{key.name}{name}").read_bytes())
    locked.chmod(0o600)
    path = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL) as agent:
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
            add = 'until [ -S "$1" ]; do sleep 0.05; done; ssh-add -q "$2"'
            subprocess.run(["sh", "-c", add, "sh", str(path), str(locked)], check=True)
            subprocess.run(["ssh-keygen", "-q", "-p", "-N", "s3cret", "-f", str(locked)], check=True)
            config(ssh_home, f"Host 127.0.0.1\n  IdentityFile {locked}\n  IdentitiesOnly yes\n")
            assert works(connect(address(ssh_home)))
            config(ssh_home, f"Host 127.0.0.1\n  IdentityFile {locked}.pub\n  IdentitiesOnly yes\n")
            assert works(connect(address(ssh_home)))
            config(ssh_home, f"Host 127.0.0.1\n  IdentityFile {tmp_path}/other\n  IdentitiesOnly yes\n")
            with pytest.raises(DeviceRefusedError, match="no key"):
                connect(address(ssh_home))
        finally:
            agent.terminate()


def test_with_identities_only_and_none_named_the_usual_keys_are_meant(ssh_home: SshServer) -> None:
    ssh_home.know(f"[127.0.0.1]:{ssh_home.port}")
    config(ssh_home, "IdentitiesOnly yes\n")
    assert works(connect(address(ssh_home)))


def test_included_configurations_count_where_they_are_included(
    ssh_home: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ssh_home.know("the-board")
    folder = ssh_home.home / ".ssh" / "conf.d"
    folder.mkdir(exist_ok=True)
    (folder / "a.conf").write_text(f"Port {ssh_home.port}\nHost board\n  HostName 127.0.0.1\n")
    (folder / "b.conf").write_text(f"Host board other\n  User {ssh_home.user}\n")
    (tmp_path / "system").write_text("Host *\n  HostKeyAlias the-board\n  User nobody-else\n")
    monkeypatch.setattr("devicelab.transports.ssh.config._SYSTEM_CONFIG", tmp_path / "system")
    config(ssh_home, f"Host elsewhere\n  Include {tmp_path}/none\nHost board\n  Include conf.d/*.conf ~/none\n")
    assert works(connect("ssh:board"))
    other = ssh_config.resolve("other", "ssh:other")
    assert (other.host, other.port, other.user) == ("other", 22, "nobody-else")


def test_a_circle_of_includes_is_a_mistake_in_the_configuration(ssh_home: SshServer) -> None:
    config(ssh_home, "Include config\n")
    with pytest.raises(ConfigError, match="ssh configuration"):
        connect("ssh:board")


def test_a_configuration_of_the_system_that_ssh_cannot_use_is_named(
    ssh_home: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "system").write_text("Host\n")
    monkeypatch.setattr("devicelab.transports.ssh.config._SYSTEM_CONFIG", tmp_path / "system")
    config(ssh_home, "Host board\n  Port 2222\n")
    with pytest.raises(ConfigError, match="system"):
        ssh_config.resolve("board", "ssh:board")


def test_what_an_rc_file_prints_is_no_output_of_a_command(ssh_home: SshServer, tmp_path: Path) -> None:
    ssh_home.know(f"[127.0.0.1]:{ssh_home.port}")
    noisy = keygen(tmp_path / "noisy")
    allowed = ssh_home.config.with_name("authorized")
    before = allowed.read_text()
    rc = "echo welcome; printf no-newline; echo more >&2"
    allowed.write_text(f'{before}command="{rc}; eval \\"$SSH_ORIGINAL_COMMAND\\"" {noisy}\n')
    config(ssh_home, f"Host 127.0.0.1\n  IdentityFile {tmp_path}/noisy\n  IdentitiesOnly yes\n")
    try:
        transport = connect(address(ssh_home))
        data = bytes(range(256)) * 5000
        done = transport.run(["sh", "-c", "echo err >&2; cat"], stdin=data)
        assert (done.exit_code, done.stdout, done.stderr) == (0, data, b"err\n")
        assert transport.run(["true"]).stdout == b""
        transport.close()
        allowed.write_text(f'{before}command="echo this account is closed; exit 3" {noisy}\n')
        transport = connect(address(ssh_home))
        done = transport.run(["true"])
        assert (done.exit_code, done.stdout, done.stderr) == (3, b"", b"this account is closed\n")
        transport.close()
    finally:
        allowed.write_text(before)


def test_a_connection_that_hangs_is_replaced(ssh_home: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicelab.transports.ssh.session.CONNECT_TIMEOUT_S", 1.0)
    ssh_home.know(f"[127.0.0.1]:{ssh_home.port}")
    transport = connect(address(ssh_home))
    with standing_still(psutil.Process(ssh_home.process.pid).children(recursive=True)) as sessions:
        assert sessions
        assert works(transport)


def test_the_users_ssh_config_is_respected(ssh_home: SshServer) -> None:
    ssh_home.know("the-board")
    config(
        ssh_home,
        f"Host board\n  HostName 127.0.0.1\n  Port {ssh_home.port}\n  User {ssh_home.user}\n  HostKeyAlias the-board\n",
    )
    assert works(connect("ssh:board"))


def test_jump_hosts_lead_to_the_board_and_are_verified_too(ssh_home: SshServer) -> None:
    ssh_home.know(f"[localhost]:{ssh_home.port}")
    gates = f"{ssh_home.user}@127.0.0.1:{ssh_home.port},gate2"
    config(
        ssh_home,
        f"Host gate2\n  HostName 127.0.0.1\n  Port {ssh_home.port}\n  User {ssh_home.user}\n\n"
        f"Host localhost\n  ProxyJump {gates}\n",
    )
    with pytest.raises(DeviceRefusedError, match="unknown host"):
        connect(address(ssh_home, "localhost"))
    ssh_home.know(f"[127.0.0.1]:{ssh_home.port}")
    assert works(connect(address(ssh_home, "localhost")))


def test_a_circle_of_jump_hosts_is_a_mistake_in_the_configuration(ssh_home: SshServer) -> None:
    config(ssh_home, "Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(ConfigError, match="circle"):
        connect("ssh:a")


def test_a_proxy_command_carries_the_connection(ssh_home: SshServer) -> None:
    ssh_home.know("board")
    relay = (
        "import socket,sys,threading,os\ns=socket.create_connection(('127.0.0.1',int(sys.argv[1])))\n"
        "def up():\n while d:=os.read(0,65536): s.sendall(d)\n"
        "threading.Thread(target=up,daemon=True).start()\n"
        "while d:=s.recv(65536): os.write(1,d)\n"
    )
    script = ssh_home.home / "relay.py"
    script.write_text(relay)
    config(ssh_home, f"Host board\n  User {ssh_home.user}\n  ProxyCommand python3 {script} {ssh_home.port}\n")
    assert works(connect("ssh:board"))


def test_a_configuration_that_cannot_be_read_is_named(ssh_home: SshServer) -> None:
    config(ssh_home, "Host\n")
    with pytest.raises(ConfigError, match="config"):
        connect("ssh:board")


@pytest.mark.parametrize(
    "text", ["ssh:", "ssh:a b", "ssh:@host", "ssh:host:", "ssh:host:0", "ssh:host:70000", "ssh:a@b@c"]
)
def test_what_is_no_address_is_refused(ssh_home: SshServer, text: str) -> None:
    with pytest.raises(ConfigError, match="not an ssh address"):
        connect(text)


def test_nobody_there_is_unreachable_with_a_hint(ssh_home: SshServer) -> None:
    for text in (f"ssh:x@127.0.0.1:{1}", "ssh:x@devicelab-no-such-host.invalid"):
        with pytest.raises(DeviceUnreachableError) as caught:
            connect(text)
        assert caught.value.device == text
        assert caught.value.hint


def test_a_server_that_speaks_no_ssh_is_unreachable(ssh_home: SshServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"220 mail.example ESMTP\r\n" * 100)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DeviceUnreachableError):
            connect(f"ssh:x@127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
