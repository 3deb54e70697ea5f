"""``devicelab worker``: this host's devices for a farm of several hosts."""

from typing import Annotated

import typer

from devicelab.cli import _complete
from devicelab.cli._hosts import TlsCaOption, TlsCertOption, TlsKeyOption, needs_dask
from devicelab.cli._out import StoreOption, say


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab worker --scheduler farm-host:8786 --store postgresql://lab@farm-host/lab")
    def worker(
        scheduler: Annotated[str, typer.Option(help="Where `dask scheduler` runs: HOST[:PORT].")],
        device: Annotated[
            list[str] | None,
            typer.Option(
                "--device", help="Offer this device (repeatable); all, if left out.", autocompletion=_complete.board
            ),
        ] = None,
        name: Annotated[str | None, typer.Option(help="Of this worker; the host's name and a number.")] = None,
        listen: Annotated[
            str | None,
            typer.Option(help="Interface or address to listen at; the one that reaches the scheduler, if left out."),
        ] = None,
        tls_ca: TlsCaOption = None,
        tls_cert: TlsCertOption = None,
        tls_key: TlsKeyOption = None,
        store: StoreOption = None,
    ) -> None:
        """Offer this host's devices to a farm, until the process is asked to end; it gives the devices back then.

        Whoever reaches the scheduler's port can run programs here: use TLS, or a network of its own.
        """
        import os
        import platform

        needs_dask()
        from devicelab.farm.dask_link import Tls
        from devicelab.farm.hosting import Host
        from devicelab.farm.worker import serve
        from devicelab.store import Store

        with Store.open(store) as opened:
            host = Host(opened, device or ())
            called = name or f"{platform.node()}-{os.getpid()}"
            serve(scheduler, host, name=called, tls=Tls(tls_ca, tls_cert, tls_key), listen=listen, said=say)
