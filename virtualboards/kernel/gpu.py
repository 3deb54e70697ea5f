"""What all GPUs of virtual boards have in common: how busy they are, and the clock heat leaves them."""

from abc import ABC, abstractmethod

from virtualboards.kernel.spec import GpuSpec

# Emulated GPU programs read /sys/devicelab/emulation before every inference; so long after it the GPU counts as busy.
_BUSY_NS = 100_000_000
_NEVER_NS = -(1 << 62)


class Gpu(ABC):
    """A GPU: clocks in Hz, ascending in ``table``.

    ``cap_hz`` is what heat allows (0: everything), ``share`` how much of the last step it was busy.
    """

    def __init__(self, spec: GpuSpec) -> None:
        self.spec, self.table = spec, spec.sorted_hz
        self.cap_hz = 0
        self.share = 0.0
        self.now_ns = 0
        self.busy_until_ns = _NEVER_NS

    @property
    def busy(self) -> bool:
        """Is it at work now?"""
        return self.now_ns < self.busy_until_ns

    @property
    @abstractmethod
    def loaded_hz(self) -> int:
        """The clock it has, or would have now, when it is busy."""

    @property
    @abstractmethod
    def cur_hz(self) -> int:
        """The clock it has now."""

    def touch(self, now_ns: int) -> None:
        """A program begins an inference on it."""
        self.now_ns = now_ns
        self.busy_until_ns = now_ns + _BUSY_NS

    def step(self, at_ns: int, dt_ns: int) -> None:
        """Time passed; see ``account``."""
        busy_ns = max(0, min(self.busy_until_ns, at_ns) - (at_ns - dt_ns))
        self.now_ns, self.share = at_ns, busy_ns / dt_ns
        self.account(dt_ns, busy_ns)

    @abstractmethod
    def account(self, dt_ns: int, busy_ns: int) -> None:
        """``dt_ns`` passed, of which it was busy for ``busy_ns``."""

    def power_w(self) -> float:
        """Power over the last step."""
        return self.spec.max_mw / 1000 * self.share * (self.loaded_hz / self.table[-1]) ** 2

    def capped(self, hz: int) -> int:
        """That clock, or the one heat allows if that is lower."""
        return min(hz, self.cap_hz) if self.cap_hz else hz
