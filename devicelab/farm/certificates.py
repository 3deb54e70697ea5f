"""Certificates (PEM) that are out of date, or not valid yet: Dask would only say that nobody answers."""

import datetime as dt
from pathlib import Path

from cryptography import x509

from devicelab.errors import ConfigError

_CLOCK = "is this computer's clock right?"


def in_date(
    path: str, option: str, what: str, renew: str, *, chain: bool = False, now: dt.datetime | None = None
) -> None:
    """Refuse a file of which no certificate is valid now.

    Args:
        path: a PEM file with one certificate or several (an authority's old and new one side by side are usual).
        option: of the command line, for the message.
        what: whose certificate it is, for the message.
        renew: what to do when it is out of date.
        chain: the file's first certificate counts, what follows are those that signed it (RFC 8446, 4.4.2).
        now: with a time zone; this computer's clock if not given.

    Raises:
        ConfigError: it holds no certificate, or none that is valid now.
    """
    try:
        found = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"TLS: {path} ({option}) holds no certificate (PEM)") from error
    found = found[:1] if chain else found
    now = now or dt.datetime.now(dt.UTC)
    if any(one.not_valid_before_utc <= now <= one.not_valid_after_utc for one in found):
        return
    latest = max(found, key=lambda one: one.not_valid_after_utc)
    if latest.not_valid_after_utc < now:
        raise ConfigError(
            f"TLS: {what} in {path} ({option}) is out of date since {latest.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            hint=f"{renew}; or {_CLOCK}",
        )
    raise ConfigError(
        f"TLS: {what} in {path} ({option}) is not valid before {latest.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
        hint=f"it is {now:%Y-%m-%d %H:%M} UTC here: {_CLOCK}",
    )
