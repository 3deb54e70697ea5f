"""How slowly data may come: a trickle that never ends holds up whoever waits for one piece at a time."""

import time

from devicelab.errors import CommandTimeoutError

SERVICE_TIMEOUT_S = 60.0
# A transfer is given up when it is slower than this (a bad cable at its worst is faster).
_SLOWEST_BYTES_PER_S = 64 << 10


def transfer_timeout_s(size: int) -> float:
    """How long a transfer of ``size`` bytes may take at most."""
    return SERVICE_TIMEOUT_S + size / _SLOWEST_BYTES_PER_S


class Pace:
    """A transfer of unknown size: it may last as long as what has come of it justifies.

    Args:
        what: for the error.
        device: for the error.
    """

    def __init__(self, what: str, device: str) -> None:
        self._what, self._device = what, device
        self._began, self._came = time.monotonic(), 0

    @property
    def deadline(self) -> float:
        """When it is too slow, unless more comes (``time.monotonic``)."""
        return self._began + transfer_timeout_s(self._came)

    def came(self, size: int) -> None:
        """So many bytes more.

        Raises:
            CommandTimeoutError: they come too slowly.
        """
        if time.monotonic() > self.deadline:
            raise CommandTimeoutError(f"{self._what} comes too slowly", device=self._device)
        self._came += size
