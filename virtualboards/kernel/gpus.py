"""Which GPU driver a board has."""

from collections.abc import Callable

from virtualboards.kernel import devfreq_gpu, kgsl, mali, mediatek
from virtualboards.kernel.devfreq_gpu import DevfreqGpu
from virtualboards.kernel.gpu import Gpu
from virtualboards.kernel.kgsl import Kgsl
from virtualboards.kernel.mali import ExynosMali, TensorMali
from virtualboards.kernel.mediatek import MediatekGpu
from virtualboards.kernel.nodes import Tree
from virtualboards.kernel.spec import GpuSpec


def make(spec: GpuSpec, version: tuple[int, int]) -> Gpu:
    """The driver for a GPU, on a kernel of that release."""
    if spec.family == "kgsl":
        return Kgsl(spec, version)
    if spec.family == "mediatek":
        return MediatekGpu(spec)
    if spec.family == "devfreq":
        return DevfreqGpu(spec, version)
    return ExynosMali(spec) if spec.family == "mali-exynos" else TensorMali(spec, version)


def install(tree: Tree, gpu: Gpu | None, temperature: Callable[[], float]) -> None:
    """Put the driver's nodes into the tree; ``temperature`` is the GPU's, in degrees."""
    if isinstance(gpu, Kgsl):
        kgsl.install(tree, gpu, temperature)
    elif isinstance(gpu, ExynosMali):
        mali.install_exynos(tree, gpu, temperature)
    elif isinstance(gpu, TensorMali):
        mali.install_tensor(tree, gpu)
    elif isinstance(gpu, MediatekGpu):
        mediatek.install(tree, gpu)
    elif isinstance(gpu, DevfreqGpu):
        devfreq_gpu.install(tree, gpu)
