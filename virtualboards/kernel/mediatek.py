"""MediaTek's GPU since the Dimensity 9000: ``/proc/gpufreqv2`` fixes an entry of the table, ``/sys/kernel/ged`` tells.

Source: ``gpufreq/v2/gpufreq_debug.c`` (fix_target_opp_index_proc_show and _write) and ``ged_hal.c`` of the 5.10 kernel.
"""

import errno
import re

from virtualboards.kernel.gpu import Gpu
from virtualboards.kernel.nodes import Caller, Tree, fail
from virtualboards.kernel.spec import GpuSpec

_FREE = -1


class MediatekGpu(Gpu):
    """A GPU whose table goes from the highest clock (entry 0) down; ``fixed`` is an entry, -1 for none."""

    def __init__(self, spec: GpuSpec) -> None:
        super().__init__(spec)
        self.fixed = _FREE
        self.entries = self.table[::-1]

    @property
    def loaded_hz(self) -> int:
        """The clock of a busy GPU: the fixed one, or the highest that heat leaves."""
        return self.capped(self.entries[max(self.fixed, 0)])

    @property
    def cur_hz(self) -> int:
        """The clock now."""
        return self.loaded_hz if self.busy or self.fixed >= 0 else self.table[0]

    def account(self, dt_ns: int, busy_ns: int) -> None:
        """It counts nothing."""

    def opp_table(self) -> str:
        """Every entry with its voltages, which are of the usual order."""
        return "".join(f"{self._entry(index)}\n" for index in range(len(self.entries)))

    def shown(self) -> str:
        """What ``fix_target_opp_index`` reads."""
        if self.fixed < 0:
            return "[GPUFREQ-DEBUG] fixed OPP index is disabled\n"
        return f"[GPUFREQ-DEBUG] fixed OPP index is enabled\n{self._entry(self.fixed)}\n"

    def fix(self, text: str, _caller: Caller) -> None:
        """The user writes ``fix_target_opp_index``: an entry, or -1.

        Raises:
            OSError: EINVAL for an entry that is not there, or no number.
        """
        match = re.match(r"\s*(-?[0-9]{1,6})", text)
        index = int(match[1]) if match else len(self.entries)
        if not _FREE <= index < len(self.entries):
            raise fail(errno.EINVAL)
        self.fixed = index

    def ged(self) -> str:
        """Entry and clock (kHz) of this moment."""
        return f"{self.entries.index(self.cur_hz)} {self.cur_hz // 1000}\n"

    def _entry(self, index: int) -> str:
        return f"[{index:02d}] freq: {self.entries[index] // 1000}, volt: {90000 - 500 * index}, vsram: 75000"


def install(tree: Tree, gpu: MediatekGpu) -> None:
    """Put the driver's files into the tree."""
    for name in ("gpu_working_opp_table", "stack_working_opp_table"):
        tree.file(f"/proc/gpufreqv2/{name}", gpu.opp_table, mode=0o440)
    tree.file("/proc/gpufreqv2/fix_target_opp_index", gpu.shown, gpu.fix, mode=0o660)
    tree.file("/sys/kernel/ged/hal/current_freqency", gpu.ged)
