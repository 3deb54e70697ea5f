"""Timestamps of kernels as other people's binaries print them, and what has to come of them."""

import numpy as np

from devicelab.model.measurement import Measurement

N, ITERATIONS = 12, 3


def stamps(batch: int = 4) -> dict[str, np.ndarray]:
    """Timestamps of 3 iterations of 12 kernels, flushed every 4."""
    kernel = np.arange(N)
    queued = 1_000_000 + kernel * 10_000 + np.arange(ITERATIONS)[:, None] * 900_000
    submit = queued[:, np.minimum((kernel // batch + 1) * batch - 1, N - 1)] + 3_000
    start = submit + 20_000 + (kernel % batch) * 12_000
    return {"queued": queued, "flushed": submit, "start": start, "end": start + 11_000}


def check_kernels(got: Measurement) -> None:
    table = got.tables["kernels"]
    for name, ours in (("queued", "queued_ns"), ("flushed", "submit_ns"), ("start", "start_ns"), ("end", "end_ns")):
        assert table[ours].tolist() == stamps()[name].ravel().tolist()
    assert table["batch"].reshape(-1, N)[0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert got.metrics["t_prod_mean_ns"].value == 10_000
    assert got.metrics["flushes"].value == 3
