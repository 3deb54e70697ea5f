"""``devicelab worker``: a host's process that waits for tasks until it is asked to end."""

import asyncio
import contextlib
import logging
import signal
import tempfile
from collections.abc import Callable
from typing import Any

from distributed import Worker

from devicelab.errors import DeviceUnreachableError
from devicelab.farm import hosting
from devicelab.farm.engine_dask import Tls, address_of, failed
from devicelab.farm.hosting import Host

# Tasks at a time; the devices are the limit, and a thread that is not needed is never started.
_THREADS = 512
_CONNECT_S = 30.0


def serve(place: str, host: Host, *, name: str, tls: Tls | None = None, said: Callable[[str], None]) -> None:
    """Work for the scheduler until SIGTERM or SIGINT, then give all devices back and leave.

    Args:
        place: of the scheduler, ``HOST:PORT``.
        host: this host's side.
        name: of the worker, unique in the farm.
        tls: files for encrypted connections.
        said: is told, in a sentence, what happens.

    Raises:
        ConfigError: the place, lab.toml or the files are wrong.
        DeviceUnreachableError: no scheduler answers, or it went away; the devices were given back.
    """
    security = tls.security() if tls is not None else None
    address = address_of(place, tls=security is not None)
    devices = host.devices()
    hosting.begin(host)
    with tempfile.TemporaryDirectory(prefix="devicelab-worker-") as folder:
        # Not through a nanny: a worker that dies is started again by whoever started it (systemd), as a new one.
        make = {
            "name": name,
            "nthreads": _THREADS,
            "resources": hosting.resources(devices),
            "memory_limit": 0,
            "security": security,
            "local_directory": folder,
            # What matters to a person is said here; Dask also logs what is as it should be when a farm ends.
            "silence_logs": logging.CRITICAL,
            "death_timeout": _CONNECT_S,
        }
        asyncio.run(_serve(address, make, host, said))


async def _serve(address: str, make: dict[str, Any], host: Host, said: Callable[[str], None]) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ending.set)
    worker = Worker(address, **make)
    try:
        await worker
    except Exception as error:
        raise failed(error, address) from error
    names = sorted(name.partition(":")[2] for name in worker.state.total_resources)
    said(f"works for {address} with {', '.join(names) or 'no device that is there now'}")
    asked = asyncio.create_task(ending.wait())
    gone = asyncio.create_task(worker.finished())
    try:
        await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
        host.end()
        if not gone.done():
            await hosting.take_resources((), worker)
        if host.busy:
            said(f"ending: {host.busy} {'devices are' if host.busy > 1 else 'device is'} given back first")
        await asyncio.to_thread(host.wait_until_idle)
        if gone.done():
            raise DeviceUnreachableError(f"the scheduler at {address} went away", hint="the devices were given back")
        await worker.close_gracefully()
    finally:
        for task in (asked, gone):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
