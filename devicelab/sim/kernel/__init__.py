"""The inside of a virtual board: /sys, /proc and /dev as a phone's kernel behaves, CPU accounting, affinity.

The kernel is plain Python that tests drive directly, with a clock of their own; ``mount`` shows it as a file system.
"""

from devicelab.sim.kernel.kernel import Kernel
from devicelab.sim.kernel.spec import BoardSpec, kind_names, load_spec

__all__ = ["BoardSpec", "Kernel", "kind_names", "load_spec"]
