"""Memory buses under devfreq: they follow the busiest CPU."""

from collections.abc import Callable

from virtualboards.kernel import devfreq
from virtualboards.kernel.devfreq import Devfreq
from virtualboards.kernel.nodes import Tree
from virtualboards.kernel.spec import BoardSpec

_BUSY = 0.5


class Bus:
    """One bus; ``load`` tells the busiest CPU's share of time."""

    def __init__(self, device: Devfreq, load: Callable[[], float]) -> None:
        self._device, self._load = device, load

    def step(self, at_ns: int, dt_ns: int) -> None:  # noqa: ARG002  # the signature of all parts
        """Time passed."""
        self._device.account(dt_ns, self._load() > _BUSY)


def install(tree: Tree, spec: BoardSpec, load: Callable[[], float]) -> list[Bus]:
    """Put the buses of a board into the tree."""
    nodes = []
    for part in spec.devfreq:
        device = Devfreq(part.table, part.governor, part.governors, spec.version)
        home = "/sys/devices/platform/" + part.name.replace("/", "_")
        devfreq.install(tree, part.name, device, home, ascending=part.table[0] < part.table[-1])
        nodes.append(Bus(device, load))
    return nodes
