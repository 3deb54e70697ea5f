"""Kernel launches, whoever recorded them (klo, the layer, a program of somebody's): checks, table and figures."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from devicelab.model.journal import Flag
from devicelab.model.measurement import Metric, Table

GPU_KINDS = {"gpu": "GPU", "cpu": "CPU device", "other": "other device", "noop": "no-op GPU"}
"""Which it was: said wherever a result is shown."""
STAMPS = ("queued_ns", "submit_ns", "start_ns", "end_ns")
_FEW_CROSSED = 0.01
_TELLING = ("cl_arm_", "cl_qcom_", "cl_img_", "cl_khr_priority")


def infer_batches(queued_ns: NDArray[np.int64], submit_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which batch each kernel was really submitted in, counted from 0. Both arrays: inferences by kernels.

    K is only a hint to a driver, which may submit on its own. A kernel opens a batch if it was queued after the one
    before had been submitted already, or if it was submitted later than that one by more than half the usual T_prod
    (drivers that submit from another thread while the host goes on).
    """
    opens = np.ones(queued_ns.shape, dtype=bool)
    if queued_ns.shape[1] > 1:
        usual = np.median(np.diff(queued_ns, axis=1), axis=1, keepdims=True)
        apart = np.diff(submit_ns, axis=1) > np.maximum(usual / 2, 0)
        opens[:, 1:] = (queued_ns[:, 1:] > submit_ns[:, :-1]) | apart
    batches: NDArray[np.int64] = np.cumsum(opens, axis=1, dtype=np.int64) - 1
    return batches


def count_out_of_order(
    queued_ns: NDArray[np.int64], submit_ns: NDArray[np.int64], start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]
) -> int:
    """Kernels that contradict QUEUED ≤ SUBMIT ≤ START ≤ END or the order of enqueueing (inferences by kernels)."""
    crossed = (queued_ns > submit_ns) | (submit_ns > start_ns) | (start_ns > end_ns)
    crossed[:, 1:] |= np.diff(queued_ns, axis=1) < 0
    return int(np.count_nonzero(crossed))


def timestamp_flags(
    queued_ns: NDArray[np.int64], submit_ns: NDArray[np.int64], start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]
) -> tuple[Flag, ...]:
    """What is wrong with timestamps (inferences by kernels): ``timestamps-missing`` ``timestamps-out-of-order``.

    Real drivers cross a few now and then, which medians bear: up to 1 % of the kernels it is a remark.
    """
    stamps = {"QUEUED": queued_ns, "SUBMIT": submit_ns, "START": start_ns, "END": end_ns}
    for name, values in stamps.items():
        # One stamp may be 0, in a program that counts from its own start; all of an inference may not.
        if (values.shape[1] > 1 or name == "END") and (~values.any(axis=1)).any():
            detail = f"{name} is 0 for every kernel of an inference: the driver did not give it"
            return (Flag(code="timestamps-missing", detail=detail),)
    crossed = count_out_of_order(queued_ns, submit_ns, start_ns, end_ns)
    if not crossed:
        return ()
    detail = f"{crossed} of {queued_ns.size} kernels have timestamps out of order"
    few = crossed <= _FEW_CROSSED * queued_ns.size
    return (Flag(code="timestamps-out-of-order", detail=detail, remark=few),)


def kernel_table(
    rows: NDArray[np.int64],
    queued: NDArray[np.int64],
    submit: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
) -> Table:
    """The table ``kernels`` from timestamps (inferences by kernels); ``rows`` numbers the inferences."""
    count, kernels = queued.shape
    return {
        "inference": np.repeat(rows, kernels),
        "kernel": np.tile(np.arange(kernels, dtype=np.int64), count),
        "batch": infer_batches(queued, submit).ravel(),
        "queued_ns": queued.ravel(),
        "submit_ns": submit.ravel(),
        "start_ns": start.ravel(),
        "end_ns": end.ravel(),
    }


def kernel_metrics(
    queued: NDArray[np.int64], submit: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]
) -> dict[str, Metric]:
    """Figures from timestamps (inferences by kernels), all differences signed.

    The first kernel of an inference has no predecessor: it has no T_prod, T_idle, starved or launch share.
    """
    # Sums as floats: garbage of a driver must not wrap around.
    ker = (end - start).sum(axis=1, dtype=np.float64)
    before, later = end[:, :-1], start[:, 1:]
    starved = np.maximum(0, np.minimum(submit[:, 1:], later) - before)
    launch = later - np.maximum(submit[:, 1:], before)
    sums = {
        "t_ker_sum_ns": ker,
        "klo_total_ns": end[:, -1] - queued[:, 0] - ker,
        "idle_sum_ns": (later - before).sum(axis=1, dtype=np.float64),
        "starved_sum_ns": starved.sum(axis=1, dtype=np.float64),
        "launch_sum_ns": launch.sum(axis=1, dtype=np.float64),
    }
    metrics = {name: Metric(float(np.median(values)), "ns") for name, values in sums.items()}
    metrics["wait_for_flush_mean_ns"] = Metric(float((submit - queued).mean()), "ns")
    t_prod = np.diff(queued, axis=1)
    if t_prod.size:
        metrics["t_prod_mean_ns"] = Metric(float(t_prod.mean()), "ns")
        metrics["t_prod_median_ns"] = Metric(float(np.median(t_prod)), "ns")
    return metrics


def extensions_text(extensions: str) -> str:
    """A device's extensions in short: a digest of all of them, and those that tell about flushing and priorities."""
    names = extensions.split()
    digest = hashlib.sha256(" ".join(sorted(names)).encode()).hexdigest()[:12]
    return " ".join((digest, *(name for name in names if name.startswith(_TELLING))))[:2000]
