"""A GPU that has nothing but the generic devfreq interface, as Samsung's Xclipse (``sgpu``) and mainline drivers do."""

from virtualboards.kernel import devfreq
from virtualboards.kernel.devfreq import Devfreq
from virtualboards.kernel.gpu import Gpu
from virtualboards.kernel.nodes import Tree
from virtualboards.kernel.spec import GpuSpec


class DevfreqGpu(Gpu):
    """See the module."""

    def __init__(self, spec: GpuSpec, version: tuple[int, int]) -> None:
        super().__init__(spec)
        self.devfreq = Devfreq(self.table, spec.governor, spec.governors, version)

    @property
    def loaded_hz(self) -> int:
        """The clock of a busy GPU."""
        return self.capped(self.devfreq.target(busy=True))

    @property
    def cur_hz(self) -> int:
        """The clock now."""
        return self.capped(self.devfreq.target(self.busy))

    def account(self, dt_ns: int, busy_ns: int) -> None:  # noqa: ARG002  # the signature of all GPUs
        """Count time at the clock."""
        self.devfreq.account(dt_ns, self.busy)


def install(tree: Tree, gpu: DevfreqGpu) -> None:
    """Put the devfreq directory into the tree, and the device it is of."""
    name, home = gpu.spec.devfreq, gpu.spec.path
    order = gpu.spec.devfreq_ascending
    devfreq.install(tree, name, gpu.devfreq, home, ascending=order, current=lambda: gpu.cur_hz)
    driver = name.rpartition(".")[2]
    tree.file(
        f"{home}/uevent", f"DRIVER={driver}\nOF_NAME={driver}\nOF_COMPATIBLE_0=samsung-{driver},samsung-{driver}\n"
    )
    tree.link(f"{home}/devfreq/{name}/device", home)
