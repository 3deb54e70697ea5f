"""Options of commands that work with a farm of several hosts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from devicelab.ground import extras

if TYPE_CHECKING:
    from devicelab.farm.engine import Hosts

EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="Where devices are: dask://HOST:8786 (workers); this computer, if left out."),
]
TlsCaOption = Annotated[str | None, typer.Option("--tls-ca", help="CA certificate (PEM) for encrypted connections.")]
TlsCertOption = Annotated[str | None, typer.Option("--tls-cert", help="This process's certificate (PEM).")]
TlsKeyOption = Annotated[str | None, typer.Option("--tls-key", help="Its key (PEM).")]


@contextmanager
def farm_hosts(engine: str | None, tls: tuple[str | None, str | None, str | None]) -> "Iterator[Hosts | None]":
    """The hosts behind ``--engine``; ``None`` for this computer.

    Raises:
        ConfigError: no such engine, or Dask is not installed.
        DeviceUnreachableError: no scheduler answers there.
    """
    if engine is None:
        yield None
        return
    needs_dask()
    from devicelab.errors import ConfigError
    from devicelab.farm.dask_link import SCHEME, Tls
    from devicelab.farm.engine_dask import DaskHosts

    if not engine.startswith(SCHEME):
        raise ConfigError(f"no engine {engine!r}", hint=f"{SCHEME}HOST:8786, or leave --engine out")
    with DaskHosts(engine, Tls(*tls)) as hosts:
        yield hosts


def needs_dask() -> None:
    """Several hosts need an extra.

    Raises:
        ConfigError: it is not installed.
    """
    import importlib.util

    from devicelab.errors import ConfigError

    if importlib.util.find_spec("distributed") is None:
        raise ConfigError("several hosts need Dask distributed", hint=extras.install("dask"))
