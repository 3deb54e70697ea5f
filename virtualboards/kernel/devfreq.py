"""The devfreq class: governors and limits of buses and GPUs (drivers/devfreq/devfreq.c).

Before 5.5 a minimum above the maximum (and the reverse) is EINVAL; from then on limits are requests and clamped. An
unknown governor is ENODEV before 4.20 (``find_devfreq_governor``), EINVAL after it.
"""

import errno
from collections.abc import Callable

from virtualboards.kernel.nodes import Caller, Tree, fail
from virtualboards.kernel.text import scan_u32

CLASS_DIR = "/sys/class/devfreq"


class Devfreq:
    """One device: limits, governor and the frequency that follows from them. Units are the table's."""

    def __init__(
        self, table: tuple[int, ...], governor: str, governors: tuple[str, ...], version: tuple[int, int]
    ) -> None:
        self.table, self.governors, self.governor = tuple(sorted(table)), governors, governor
        self._requests, self._unknown = version >= (5, 5), errno.EINVAL if version >= (4, 20) else errno.ENODEV
        self.low, self.high = self.table[0], self.table[-1]
        self.set_speed = self.table[0]
        self.cap = 0
        self.busy = False
        self.ms_in_state = dict.fromkeys(self.table, 0.0)
        self.transitions = 0
        self._last = self.cur

    @property
    def limits(self) -> tuple[int, int]:
        """Minimum and maximum that hold, heat included."""
        high = min(self.high, self.cap) if self.cap else self.high
        return min(self.low, high), high

    @property
    def cur(self) -> int:
        """The frequency now."""
        return self.target(self.busy)

    def target(self, busy: bool) -> int:
        """The frequency the governor chooses."""
        low, high = self.limits
        wanted = {"performance": high, "powersave": low, "userspace": self.set_speed}.get(
            self.governor, high if busy else low
        )
        wanted = max(low, min(high, wanted))
        # The lowest table entry that satisfies the request, unless that lies above the limit.
        above = min((one for one in self.table if one >= wanted), default=self.table[-1])
        return above if above <= high else max((one for one in self.table if one <= high), default=self.table[0])

    def account(self, dt_ns: int, busy: bool) -> None:
        """Time passed."""
        self.ms_in_state[self.cur] += dt_ns / 1e6
        self.busy = busy
        if self.cur != self._last:
            self.transitions += 1
            self._last = self.cur

    def set_limits(self, *, low: int | None = None, high: int | None = None) -> None:
        """The user writes min_freq or max_freq; 0 means the table's end.

        Raises:
            OSError: EINVAL if min > max, before 5.5.
        """
        new_low = self.low if low is None else low or self.table[0]
        new_high = self.high if high is None else high or self.table[-1]
        if new_low > new_high:
            if not self._requests:
                raise fail(errno.EINVAL)
            new_low, new_high = (new_low, max(new_high, self.table[0])) if high is not None else (new_low, new_high)
        self.low, self.high = new_low, new_high

    def set_governor(self, text: str) -> None:
        """The user writes the governor.

        Raises:
            OSError: ENODEV or EINVAL (by release) for a name that is not available.
        """
        words = text.split()
        if not words:
            raise fail(errno.EINVAL)
        if words[0] not in self.governors:
            raise fail(self._unknown)
        self.governor = words[0]

    def trans_stat(self) -> str:
        """Time spent at each frequency (ms) and the number of transitions; single transitions are not told apart."""
        head = "     From  :   To\n           :" + "".join(f"{one:>10}" for one in self.table) + "   time(ms)\n"
        zeros = "".join(f"{0:>10}" for _ in self.table)
        rows = (
            f"{'*' if one == self.cur else ' '}{one:>10}:{zeros}{int(ms):>10}\n" for one, ms in self.ms_in_state.items()
        )
        return head + "".join(rows) + f"Total transition : {self.transitions}\n"


def install(
    tree: Tree,
    name: str,
    device: Devfreq,
    home: str,
    *,
    ascending: bool = True,
    current: Callable[[], int] | None = None,
) -> None:
    """Put a device's directory under ``home``/devfreq and a link to it into the class directory.

    ``current``: what a driver that has a say of its own answers for ``cur_freq``.
    """
    shown = current or (lambda: device.cur)
    base = f"{home}/devfreq/{name}"
    order = device.table if ascending else device.table[::-1]

    def set_min(text: str, _caller: Caller) -> None:
        device.set_limits(low=scan_u32(text))

    def set_max(text: str, _caller: Caller) -> None:
        device.set_limits(high=scan_u32(text))

    def governor(text: str, _caller: Caller) -> None:
        device.set_governor(text)

    def speed(text: str, _caller: Caller) -> None:
        if device.governor != "userspace":
            raise fail(errno.ENODEV)
        device.set_speed = scan_u32(text)

    tree.file(f"{base}/governor", lambda: f"{device.governor}\n", governor)
    tree.file(f"{base}/available_governors", " ".join(device.governors) + "\n")
    tree.file(f"{base}/available_frequencies", " ".join(map(str, order)) + "\n")
    tree.file(f"{base}/min_freq", lambda: f"{device.limits[0]}\n", set_min)
    tree.file(f"{base}/max_freq", lambda: f"{device.limits[1]}\n", set_max)
    tree.file(f"{base}/cur_freq", lambda: f"{shown()}\n")
    tree.file(f"{base}/target_freq", lambda: f"{device.cur}\n")
    tree.file(f"{base}/polling_interval", "10\n")
    tree.file(f"{base}/trans_stat", device.trans_stat)
    if "userspace" in device.governors:
        tree.file(f"{base}/userspace/set_freq", lambda: f"{device.set_speed}\n", speed)
    tree.link(f"{CLASS_DIR}/{name}", base)
