"""Which GPU driver a board has."""

from collections.abc import Callable

from virtualboards.kernel import kgsl, mali
from virtualboards.kernel.gpu import Gpu
from virtualboards.kernel.kgsl import Kgsl
from virtualboards.kernel.mali import ExynosMali, TensorMali
from virtualboards.kernel.nodes import Tree
from virtualboards.kernel.spec import GpuSpec


def make(spec: GpuSpec, version: tuple[int, int]) -> Gpu:
    """The driver for a GPU, on a kernel of that release."""
    if spec.family == "kgsl":
        return Kgsl(spec, version)
    return ExynosMali(spec) if spec.family == "mali-exynos" else TensorMali(spec, version)


def install(tree: Tree, gpu: Gpu | None, temperature: Callable[[], float]) -> None:
    """Put the driver's nodes into the tree; ``temperature`` is the GPU's, in degrees."""
    if isinstance(gpu, Kgsl):
        kgsl.install(tree, gpu, temperature)
    elif isinstance(gpu, ExynosMali):
        mali.install_exynos(tree, gpu, temperature)
    elif isinstance(gpu, TensorMali):
        mali.install_tensor(tree, gpu)
