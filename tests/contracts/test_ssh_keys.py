"""Which keys are shown to a server, in which order, and what is said where none lets us in."""

import base64
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from sshd import SshServer, keygen

from devicelab.errors import DeviceRefusedError, LabError
from devicelab.transports import connect
from devicelab.transports.ssh import keys

pytestmark = pytest.mark.sshd


def address(server: SshServer) -> str:
    return f"ssh:{server.user}@127.0.0.1:{server.port}"


def works(server: SshServer) -> bool:
    transport = connect(address(server))
    try:
        return transport.run(["echo", "hello"]).stdout == b"hello\n"
    finally:
        transport.close()


def config(server: SshServer, text: str) -> None:
    server.know(f"[127.0.0.1]:{server.port}")
    (server.home / ".ssh" / "config").write_text(text)


@contextmanager
def agent(path: Path) -> Iterator[Callable[..., None]]:
    """An ssh-agent on a socket, with the means to add keys to it."""
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL) as process:
        try:
            wait = 'until [ -S "$1" ]; do sleep 0.05; done'
            subprocess.run(["sh", "-c", wait, "sh", str(path)], check=True)

            def add(*files: Path) -> None:
                subprocess.run(["ssh-add", "-q", *map(str, files)], check=True, env={"SSH_AUTH_SOCK": str(path)})

            yield add
        finally:
            process.terminate()


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, kind: str = "old") -> bytes:
    shape = form.PrivateFormat.PKCS8 if kind == "pkcs8" else form.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(form.Encoding.DER if kind == "der" else form.Encoding.PEM, shape, form.NoEncryption())


def odd_point() -> bytes:
    """An ECDSA key in OpenSSH's format whose public point is of a form that nobody reads."""
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    first, *middle, last = text.splitlines()
    data = base64.b64decode(b"".join(middle)).replace(b"\x00\x00\x00\x41\x04", b"\x00\x00\x00\x41\x94", 1)
    return b"\n".join([first, base64.b64encode(data), last, b""])


RSA = rsa.generate_private_key(65537, 2048)
UNREADABLE = {
    "id_rsa: DER": pem(RSA, "der"),
    "id_rsa: UTF-16": pem(RSA).decode().encode("utf-16"),
    "id_rsa: 1 byte": b"x",
    "id_ecdsa: odd point": odd_point(),
    "id_rsa: empty": b"",
    "id_rsa: cut": pem(RSA)[:300],
    "id_ecdsa: secp256k1": pem(ec.generate_private_key(ec.SECP256K1())),
    "id_rsa: PuTTY": b"PuTTY-User-Key-File-3: ssh-rsa\n",
    "id_rsa: nonsense in armour": b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_key_that_cannot_be_read_beside_a_good_one_is_passed_over(ssh_home: SshServer, what: str) -> None:
    config(ssh_home, "")
    odd = ssh_home.home / ".ssh" / what.partition(":")[0]
    odd.write_bytes(UNREADABLE[what])
    odd.chmod(0o600)
    try:
        assert works(ssh_home)
    finally:
        odd.unlink()


def test_a_key_that_is_too_short_is_passed_over(ssh_home: SshServer) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    config(ssh_home, "")
    short = ssh_home.home / ".ssh" / "id_rsa"
    subprocess.run([openssl, "genrsa", "-traditional", "-out", str(short), "512"], check=True, capture_output=True)
    try:
        assert works(ssh_home)
        found = keys.read(short)
        assert isinstance(found, keys.Unusable)
        assert "512 bits" in found.why
    finally:
        short.unlink()


def locked(folder: Path) -> Path:
    keygen(folder / "locked", "rsa")
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "s3cret", "-f", str(folder / "locked")], check=True)
    return folder / "locked"


def test_the_one_key_that_is_meant_and_cannot_be_used_is_named(ssh_home: SshServer, tmp_path: Path) -> None:
    (tmp_path / "k8").write_bytes(pem(ed25519.Ed25519PrivateKey.generate(), "pkcs8"))
    (tmp_path / "putty.ppk").write_bytes(UNREADABLE["id_rsa: PuTTY"])
    for file, why in (
        (locked(tmp_path), "passphrase"),
        (tmp_path / "k8", "OpenSSH's own format"),
        (tmp_path / "putty.ppk", "PuTTY"),
    ):
        config(ssh_home, f"IdentityFile {file}\nIdentitiesOnly yes\n")
        with pytest.raises(DeviceRefusedError, match=why) as caught:
            connect(address(ssh_home))
        assert str(file) in caught.value.message


def test_keys_in_older_forms_that_ssh_reads_open_the_door(ssh_home: SshServer, tmp_path: Path) -> None:
    allowed = ssh_home.config.with_name("authorized")
    before = allowed.read_text()
    curve = ec.generate_private_key(ec.SECP256R1())
    forms = {"r8": pem(RSA, "pkcs8"), "r1": pem(RSA), "e8": pem(curve, "pkcs8"), "e1": pem(curve)}
    try:
        for name, data in forms.items():
            (tmp_path / name).write_bytes(data)
            public = (RSA if name[0] == "r" else curve).public_key()
            line = public.public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
            allowed.write_bytes(line + b"\n")
            config(ssh_home, f"IdentityFile {tmp_path / name}\nIdentitiesOnly yes\n")
            assert works(ssh_home)
    finally:
        allowed.write_text(before)


def test_too_many_keys_of_an_agent_are_a_refusal_that_says_so(
    ssh_home: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config(ssh_home, "")
    with ExitStack() as stack:
        add = stack.enter_context(agent(tmp_path / "agent"))
        for number in range(8):
            keygen(tmp_path / f"k{number}")
        add(*(tmp_path / f"k{number}" for number in range(8)))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        with pytest.raises(DeviceRefusedError, match=r"(?i)too many authentication failures") as caught:
            connect(address(ssh_home))
        assert "IdentitiesOnly" in (caught.value.hint or "")
        config(ssh_home, "IdentityFile ~/.ssh/id_ed25519\nIdentitiesOnly yes\n")
        assert works(ssh_home)


def test_the_agent_that_the_configuration_names_opens_the_door(ssh_home: SshServer, tmp_path: Path) -> None:
    key = ssh_home.home / ".ssh" / "id_ed25519"
    socket = ssh_home.home / "agent.sock"
    with agent(socket) as add:
        add(key)
        key.rename(tmp_path / "away")
        try:
            config(ssh_home, "Host 127.0.0.1\n  IdentityAgent ~/agent.sock\n")
            assert works(ssh_home)
            config(ssh_home, "Host 127.0.0.1\n  IdentityAgent none\n")
            with pytest.raises(LabError, match="no key of ours"):
                connect(address(ssh_home))
        finally:
            (tmp_path / "away").rename(key)
    config(ssh_home, "Host 127.0.0.1\n  IdentityAgent ~/nobody.sock\n")
    assert works(ssh_home)


def test_a_certificate_beside_a_key_opens_the_door(ssh_home: SshServer, tmp_path: Path) -> None:
    authority = keygen(tmp_path / "ca")
    keygen(tmp_path / "mine")
    sign = ["ssh-keygen", "-q", "-s", str(tmp_path / "ca"), "-I", "x", "-n", ssh_home.user, str(tmp_path / "mine.pub")]
    subprocess.run(sign, check=True)
    allowed = ssh_home.config.with_name("authorized")
    before = allowed.read_text()
    allowed.write_text(f"cert-authority {authority}\n")
    try:
        config(ssh_home, f"IdentityFile {tmp_path}/mine\nIdentitiesOnly yes\n")
        assert works(ssh_home)
    finally:
        allowed.write_text(before)
