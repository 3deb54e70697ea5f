"""An authority of our own with one certificate, for farms with TLS."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Files in a folder: ``ca.pem``, ``cert.pem`` and ``key.pem`` for this machine."""

    def __init__(self, folder: Path, *, valid_days: tuple[int, int] = (-1, 2)) -> None:
        """``valid_days``: from when until when its certificate is valid, from today on; the authority is valid now."""
        folder.mkdir(parents=True)
        self.folder = folder
        own, farm = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {folder.name}")])
        ca = self._certificate(name, name, own, own, ca=True)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "farm")])
        cert = self._certificate(subject, name, farm, own, ca=False, days=valid_days)
        pem = serialization.Encoding.PEM
        (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
        (folder / "cert.pem").write_bytes(cert.public_bytes(pem))
        (folder / "key.pem").write_bytes(
            farm.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )

    def _certificate(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        signer: ec.EllipticCurvePrivateKey,
        *,
        ca: bool,
        days: tuple[int, int] = (-1, 2),
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=days[0]))
            .not_valid_after(now + dt.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(local, critical=False)
            .sign(signer, hashes.SHA256())
        )

    def words(self) -> tuple[str, ...]:
        """Options of our commands."""
        files = (self.folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        return tuple(str(w) for pair in zip(("--tls-ca", "--tls-cert", "--tls-key"), files, strict=True) for w in pair)

    def scheduler_words(self) -> tuple[str, ...]:
        """Options of ``dask scheduler``."""
        files = (self.folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        options = ("--tls-ca-file", "--tls-cert", "--tls-key")
        return ("--protocol", "tls", *(str(w) for pair in zip(options, files, strict=True) for w in pair))
