"""The layers of klo's networks in NumPy, to compare what the OpenCL kernels compute."""

from dataclasses import dataclass, field

import numpy as np


def uniform(seed: int, count: int) -> np.ndarray:
    """What klo fills a buffer with: a linear congruential generator, values in [-1, 1)."""
    states = np.array([(seed * 1664525 + 1013904223) & 0xFFFFFFFF], dtype=np.uint32)
    factor, offset = 1664525, 1013904223
    while states.size < count:
        states = np.concatenate((states, states * np.uint32(factor) + np.uint32(offset)))
        factor, offset = factor * factor & 0xFFFFFFFF, offset * (factor + 1) & 0xFFFFFFFF
    return ((states[:count] >> 8) / np.float32(1 << 23) - 1).astype(np.float32)


def relu6(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 6)


@dataclass
class Reference:
    """Layers on tensors (channel, row, column); takes weights from the common buffer in the order of the kernels."""

    seed: int
    weights: np.ndarray
    at: int = 1
    trace: list[tuple[int, ...]] = field(default_factory=list)

    @classmethod
    def start(cls, seed: int, weights: int, shape: tuple[int, int, int]) -> tuple["Reference", np.ndarray]:
        size = shape[0] * shape[1] * shape[2]
        return cls(seed, uniform(seed, weights + 1)), uniform(seed + 1, size).reshape(shape)

    def _take(self, *shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        taken = self.weights[self.at : self.at + size].reshape(shape)
        self.at += size
        return taken

    @staticmethod
    def _scale(inputs: int) -> float:
        return 3 / int(np.sqrt(inputs))

    @staticmethod
    def _windows(x: np.ndarray, k: int, stride: int, pad: int, fill: float = 0) -> np.ndarray:
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)), constant_values=fill)
        return np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))[:, ::stride, ::stride]

    def conv(self, x: np.ndarray, out_c: int, k: int, stride: int, pad: int) -> np.ndarray:
        w = self._take(out_c, x.shape[0], k, k)
        windows = self._windows(x, k, stride, pad)
        return relu6(np.tensordot(w, windows, axes=((1, 2, 3), (0, 3, 4))) * self._scale(x.shape[0] * k * k))

    def depthwise(self, x: np.ndarray, k: int, stride: int, pad: int) -> np.ndarray:
        w = self._take(x.shape[0], k, k)
        return relu6(np.einsum("cij,cyxij->cyx", w, self._windows(x, k, stride, pad)) * self._scale(k * k))

    def pointwise(self, x: np.ndarray, out_c: int, stride: int = 1) -> np.ndarray:
        w = self._take(out_c, x.shape[0])
        return relu6(np.tensordot(w, x[:, ::stride, ::stride], axes=(1, 0)) * self._scale(x.shape[0]))

    def maxpool(self, x: np.ndarray, k: int, stride: int, pad: int) -> np.ndarray:
        return self._windows(x, k, stride, pad, -np.inf).max(axis=(3, 4))

    def avgpool(self, x: np.ndarray, k: int, stride: int, pad: int) -> np.ndarray:
        count = self._windows(np.ones_like(x), k, stride, pad).sum(axis=(3, 4))
        return self._windows(x, k, stride, pad).sum(axis=(3, 4)) / count

    def fc(self, x: np.ndarray, out_c: int) -> np.ndarray:
        flat = x.ravel()
        return (self._take(out_c, flat.size) @ flat * self._scale(flat.size)).reshape(out_c, 1, 1)

    @staticmethod
    def add(x: np.ndarray, other: np.ndarray) -> np.ndarray:
        return relu6(x + other)


def mobilenet_v1(seed: int) -> np.ndarray:
    net, x = Reference.start(seed, 4_300_000, (3, 224, 224))
    x = net.conv(x, 32, 3, 2, 1)
    for out_c, stride in zip(
        (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024),
        (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1),
        strict=True,
    ):
        x = net.pointwise(net.depthwise(x, 3, stride, 1), out_c)
    return net.fc(net.avgpool(x, 7, 1, 0), 1000).ravel()


def mobilenet_v2(seed: int) -> np.ndarray:
    net, x = Reference.start(seed, 3_500_000, (3, 224, 224))
    x = net.conv(x, 32, 3, 2, 1)
    for expand, out_c, repeats, first in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for i in range(repeats):
            stride = first if i == 0 else 1
            y = x if expand == 1 else net.pointwise(x, x.shape[0] * expand)
            y = net.pointwise(net.depthwise(y, 3, stride, 1), out_c)
            x = net.add(y, x) if stride == 1 and x.shape == y.shape else y
    x = net.pointwise(x, 1280)
    return net.fc(net.avgpool(x, 7, 1, 0), 1000).ravel()


def resnet50(seed: int) -> np.ndarray:
    net, x = Reference.start(seed, 25_600_000, (3, 224, 224))
    x = net.maxpool(net.conv(x, 64, 7, 2, 3), 3, 2, 1)
    for width, repeats, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(repeats):
            stride = first if i == 0 else 1
            shortcut = net.pointwise(x, width * 4, stride) if i == 0 else x
            y = net.conv(net.pointwise(x, width), width, 3, stride, 1)
            x = net.add(net.pointwise(y, width * 4), shortcut)
    return net.fc(net.avgpool(x, 7, 1, 0), 1000).ravel()


def squeezenet(seed: int) -> np.ndarray:
    net, x = Reference.start(seed, 1_300_000, (3, 224, 224))
    x = net.maxpool(net.conv(x, 96, 7, 2, 0), 3, 2, 0)
    for squeeze, expand, pool in (
        (16, 64, False),
        (16, 64, False),
        (32, 128, True),
        (32, 128, False),
        (48, 192, False),
        (48, 192, False),
        (64, 256, True),
        (64, 256, False),
    ):
        x = net.pointwise(x, squeeze)
        x = np.concatenate((net.pointwise(x, expand), net.conv(x, expand, 3, 1, 1)))
        if pool:
            x = net.maxpool(x, 3, 2, 0)
    x = net.pointwise(x, 1000)
    return net.avgpool(x, x.shape[1], 1, 0).ravel()
