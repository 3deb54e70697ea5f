"""Certificates that are out of date are said before Dask says that nobody answers."""

import datetime as dt
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from devicelab.errors import ConfigError
from devicelab.farm.certificates import in_date
from devicelab.farm.dask_link import Tls, usable
from tests.certificates import Authority


def _tls(of: Authority) -> Tls:
    return Tls(*(str(of.folder / name) for name in ("ca.pem", "cert.pem", "key.pem")))


@pytest.mark.parametrize(("days", "said"), [((-3, -1), "out of date since"), ((1, 3), "not valid before")])
def test_the_farms_own_certificate_out_of_its_dates_is_named_with_what_to_do(
    tmp_path: Path, days: tuple[int, int], said: str
) -> None:
    assert usable(_tls(Authority(tmp_path / "valid"))) is not None
    late = Authority(tmp_path / "late", valid_days=days)
    with pytest.raises(ConfigError, match=rf"cert\.pem \(--tls-cert\) is {said}") as refused:
        usable(_tls(late))
    assert "clock" in str(refused.value.hint)


def test_an_authority_counts_as_long_as_one_of_its_certificates_is_valid_and_a_chain_by_its_first(
    tmp_path: Path,
) -> None:
    old = Authority(tmp_path / "old", valid_days=(-3, -1)).folder / "cert.pem"
    new = Authority(tmp_path / "new").folder / "cert.pem"
    both = tmp_path / "both.pem"
    both.write_bytes(old.read_bytes() + new.read_bytes())
    in_date(str(both), "--tls-ca", "the authority", "renew")
    with pytest.raises(ConfigError, match="out of date"):
        in_date(str(both), "--tls-cert", "the certificate", "renew", chain=True)


def test_the_borders_of_its_dates_belong_to_it(tmp_path: Path) -> None:
    file = Authority(tmp_path / "ca", valid_days=(-1, 2)).folder / "cert.pem"
    second = dt.timedelta(seconds=1)
    last = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=2)
    in_date(str(file), "--tls-cert", "it", "renew", now=last - 60 * second)
    with pytest.raises(ConfigError, match="out of date"):
        in_date(str(file), "--tls-cert", "it", "renew", now=last + second)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_a_certificate_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "no.pem"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="holds no certificate"):
        in_date(str(file), "--tls-cert", "it", "renew")
