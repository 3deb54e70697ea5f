"""``devicelab worker``: a host's process that waits for tasks until it is asked to end."""

import asyncio
import contextlib
import logging
import signal
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

from distributed import Worker
from tornado.ioloop import PeriodicCallback

from devicelab.errors import DeviceUnreachableError
from devicelab.farm import hosting
from devicelab.farm.dask_link import LOST, Tls, address_of, bracketed, hush, own_address, reaching, usable
from devicelab.farm.hosting import Host

# Tasks at a time; the devices are the limit, and a thread that is not needed is never started.
_THREADS = 512
_CONNECT_S = 30.0
# What is said to a scheduler at the end is a courtesy: it may be gone, and its host with it.
_GOODBYE_S = 10.0


class _Worker(Worker):
    """Without a page of its own: nobody is asked who he is there, with TLS either."""

    def start_http_server(self, *_: object, **__: object) -> None:
        """Nothing."""


def serve(
    place: str,
    host: Host,
    *,
    name: str,
    tls: Tls | None = None,
    listen: str | None = None,
    said: Callable[[str], None],
) -> None:
    """Work for the scheduler until SIGTERM or SIGINT, then give all devices back and leave.

    Args:
        place: of the scheduler, ``HOST:PORT``.
        host: this host's side.
        name: of the worker, unique in the farm.
        tls: files for encrypted connections.
        listen: the interface or address to listen at; ``None``: the one from which the scheduler is reached.
        said: is told, in a sentence, what happens.

    Raises:
        ConfigError: the place, lab.toml or the files are wrong.
        DeviceUnreachableError: no scheduler answers, or it went away; the devices were given back.
    """
    hush()
    security = usable(tls)
    address = address_of(place, tls=security is not None)
    own = own_address(address, listen)
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
            "host": bracketed(own),
            "local_directory": folder,
            # What matters to a person is said here; Dask also logs what is as it should be when a farm ends.
            "silence_logs": logging.CRITICAL,
            "death_timeout": _CONNECT_S,
        }
        asyncio.run(_serve(address, make, host, said))


def unmoved() -> None:
    """What happens every so often in this process goes on happening when the clock is set back.

    Tornado goes by the wall clock: one that is set back by a day would stop the worker's heartbeats for a day. The
    loop's own clock has to stay what it is; Dask gives it points of wall time to wait for.
    """
    usual = PeriodicCallback._update_next  # noqa: SLF001 - there is no other way in

    def update(self: PeriodicCallback, now: float) -> None:
        usual(self, now)
        self._next_timeout = min(self._next_timeout, now + 2 * self.callback_time / 1000)

    PeriodicCallback._update_next = update  # type: ignore[method-assign,assignment]  # noqa: SLF001


async def _serve(address: str, make: dict[str, Any], host: Host, said: Callable[[str], None]) -> None:
    unmoved()
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ending.set)
    loop.set_exception_handler(lambda *_: None)  # what is left of broken connections
    with reaching(address):
        worker = await _Worker(address, **make)
    names = sorted(name.removeprefix(hosting.resource("")) for name in worker.state.total_resources)
    said(f"works for {address} with {', '.join(names) or 'no device that is there now'}")
    asked = asyncio.create_task(ending.wait())
    gone = asyncio.create_task(worker.finished())
    try:
        await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
        host.end()
        if not gone.done():
            await _courtesy(hosting.take_resources((), worker))
        if host.busy:
            said(f"ending: {host.busy} {'devices are' if host.busy > 1 else 'device is'} given back first")
        await asyncio.to_thread(host.wait_until_idle)
        if not asked.done():
            raise DeviceUnreachableError(f"the scheduler at {address} went away", hint="the devices were given back")
        if not gone.done() and not await _courtesy(worker.close_gracefully()):
            await _courtesy(worker.close(timeout=1, executor_wait=False))
    finally:
        for task in (asked, gone):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, *LOST):
                await task


async def _courtesy(step: Awaitable[object]) -> bool:
    """Do it if the scheduler lets us; it may have gone at the same moment, and then waits are without end."""
    try:
        await asyncio.wait_for(step, _GOODBYE_S)
    except (OSError, TimeoutError, RuntimeError, ValueError, *LOST):
        return False
    return True
