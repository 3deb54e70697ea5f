"""The inside of a virtual board: /sys, /proc and /dev as a phone's kernel behaves, CPU accounting, affinity.

The kernel is plain Python that tests drive directly, with a clock of their own; ``mount`` shows it as a file system.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from virtualboards.kernel.kernel import Kernel
from virtualboards.kernel.spec import BoardSpec, kind_names, load_spec

if TYPE_CHECKING:
    from virtualboards.kernel.fuse import Mount

__all__ = ["BoardSpec", "Kernel", "kind_names", "load_spec", "mount", "spec_from_capture"]


def mount(kernel: Kernel, mountpoint: Path) -> "Mount":
    """Serve a kernel's tree at a directory; see ``virtualboards.kernel.fuse.mount``."""
    from virtualboards.kernel import fuse  # needs libfuse, which the kernel alone does not

    return fuse.mount(kernel, mountpoint)


def spec_from_capture(path: Path) -> BoardSpec:
    """The spec of a virtual board that answers like a captured device; see ``virtualboards.kernel.captured``."""
    from virtualboards.kernel import captured

    return captured.spec_from_capture(path)
