"""Readers of what public benchmark programs print: one module a program, none of which trusts a byte.

Each reads the forms of several versions of its program and gives ``Result``s; ``results.measurement`` makes the tables
and figures of a run of them. What a program prints as a summary (mean, minimum, maximum) is one figure of a run each:
single values are kept only where single values were printed.
"""

from collections.abc import Callable
from types import MappingProxyType

from devicelab.model.measurement import Measurement
from devicelab.workloads._benchmarks import androidx, llama_bench, loadgen, mnn_llm, networks, onnxruntime, tflite
from devicelab.workloads._benchmarks.results import Output, measurement
from devicelab.workloads._own_binary import decoded

READERS: "MappingProxyType[str, Callable[[str], Output]]" = MappingProxyType(
    {
        "tflite": tflite.read,
        "llama-bench": llama_bench.read,
        "ncnn": networks.read_ncnn,
        "mnn": networks.read_mnn,
        "mnn-llm": mnn_llm.read,
        "onnxruntime": onnxruntime.read,
        "androidx": androidx.read,
        "mlperf": loadgen.read,
    }
)
"""Word for ``output`` → reader."""

ON_STDERR = frozenset(("tflite", "ncnn"))
"""Programs that print their results where errors go."""


def read(program: str, output: bytes, wanted: str, *, any_verdict: bool = False) -> Measurement:
    """What a program of ``READERS`` printed.

    Args:
        program: a word of ``READERS``.
        output: as it was printed.
        wanted: the name of one of several results; empty takes all.
        any_verdict: a run that the program itself calls invalid counts all the same, with a remark.

    Raises:
        MeasurementError: nothing that can be used, cut, damaged, or no result of that name; says where and what is
            missing.
    """
    return measurement(READERS[program](decoded(output)), wanted, any_verdict=any_verdict)
