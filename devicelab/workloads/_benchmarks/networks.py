"""``benchncnn`` and MNN's ``benchmark.out``: a line a network with minimum, maximum and mean, in milliseconds.

``squeezenet  min =    2.44  max =    2.51  avg =    2.46`` (ncnn, milliseconds unsaid), and
``[ - ] squeezenetv1.1.mnn  max =   61.632 ms  min =   38.819 ms  avg =   40.068 ms`` (MNN; no blank before ``ms`` up to
2021). ``benchncnn_llm`` adds ``tps``, tokens a second. Neither prints single values, nor the warm-up. A network that
could not be run is all zeros, or missing.
"""

import re

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.journal import Flag
from devicelab.workloads._benchmarks.results import (
    NUMBER,
    Output,
    Result,
    complaints,
    count,
    lines_of,
    nothing,
    rate,
    time,
)

_VALUE = rf"= {{0,20}}({NUMBER})"
_NCNN = re.compile(rf"\s*(\S.{{0,200}}?)\s+min {_VALUE}\s+max {_VALUE}\s+avg {_VALUE}(?:\s+tps {_VALUE})?\s*")
_MNN = re.compile(rf"\s*\[ - \]\s+(\S.{{0,400}}?)\s+max {_VALUE} ?ms\s+min {_VALUE} ?ms\s+avg {_VALUE} ?ms\s*")
_ROW = re.compile(r"(?:min|max) {0,20}= {0,20}[-0-9.]")
_MEAN = re.compile(r"avg {0,20}=")
_LONGEST = 2_048
_LOOPS = re.compile(r"loop(?:_count)? = ([0-9]{1,9})")
_SETTING = re.compile(r"\s*(num_threads|powersave|gpu_device|cooling_down) = (-?[0-9]{1,9})\s*")
_BACKEND = re.compile(r"Forward type: \**([A-Za-z]+)\**(?:.*thread=([0-9]+))?")
_MOST_FLAGS = 8
_NCNN_SHAPE = "squeezenet  min =    2.44  max =    2.51  avg =    2.46"
_MNN_SHAPE = "[ - ] squeezenetv1.1.mnn  max =   61.632 ms  min =   38.819 ms  avg =   40.068 ms"
# Three roundings to the printed digits.
_ROUNDING_NS = 10_000


def read_ncnn(text: str) -> Output:
    """Benchncnn's table; see ``_read``. Networks of several runs have what differs (threads, GPU) in their names."""
    return _read(text, _NCNN, ("min", "max", "mean"), "a network of benchncnn", _NCNN_SHAPE)


def read_mnn(text: str) -> Output:
    """benchmark.out's table; see ``_read``. Networks of several back ends have the back end's name, too."""
    return _read(text, _MNN, ("max", "min", "mean"), "a network of MNN's benchmark.out", _MNN_SHAPE)


def _read(text: str, row: "re.Pattern[str]", order: tuple[str, ...], wanted: str, shape: str) -> Output:
    """Networks in the order printed.

    Flags: ``output-truncated`` (the last line was cut and is not used), ``program-complained`` (a network failed; as a
    remark where a back end handed operators over to another).

    Raises:
        MeasurementError: no row, a damaged one, or times that contradict each other.
    """
    lines, whole = lines_of(text)
    results: list[Result] = []
    flags: list[Flag] = []
    loops = ""
    traits: dict[str, str] = {}
    for at, line in enumerate(lines, 1):
        if (found := _LOOPS.search(line)) is not None:
            loops = found[1]
        if (found := _SETTING.fullmatch(line)) is not None:
            traits[found[1]] = found[2]
        if (found := _BACKEND.search(line)) is not None:
            traits = {"on": found[1], "threads": found[2] or ""}
        if at == len(lines) and not whole:
            flags.append(Flag(code="output-truncated", detail=f"line {at} was cut: {budget.cut(line.strip(), 160)!r}"))
            continue
        if len(line) > _LONGEST or not (_ROW.search(line) and _MEAN.search(line)):
            flags += complaints(line, at) if len(flags) < _MOST_FLAGS else ()
            continue
        found = row.fullmatch(line)
        if found is None:
            raise MeasurementError(
                f"line {at} is not {wanted}: {budget.cut(line.strip(), 160)!r} is not like {shape!r}"
            )
        results.append(_result(found, order, at, loops, traits))
    if not results:
        failed = next((flag for flag in flags if not flag.remark), None)
        if failed is not None:
            raise MeasurementError(f"no network was measured; {failed.detail}")
        raise nothing(lines, wanted, shape)
    return Output(results, {"program": wanted.removeprefix("a network of ")}, tuple(flags))


def _result(found: "re.Match[str]", order: tuple[str, ...], at: int, loops: str, traits: dict[str, str]) -> Result:
    name = found[1].removesuffix(".mnn")
    figures = {f"{key}_ns": time(found[2 + place], "ms", f"output line {at}") for place, key in enumerate(order)}
    low, mean, high = (figures[f"{key}_ns"].value for key in ("min", "mean", "max"))
    if low <= 0:
        raise MeasurementError(f"line {at}: {name} took no time: the program could not run it")
    if not low - _ROUNDING_NS <= mean <= high + _ROUNDING_NS:
        raise MeasurementError(f"line {at}: the mean of {name} is not between its minimum and its maximum")
    if found.re is _NCNN and found[5] is not None:
        figures["tokens_per_s"] = rate(found[5], f"output line {at}, tps")
    if loops:
        figures["inferences"] = count(loops, "loop_count")
    return Result(name, figures, {}, "mean_ns", f"the mean of {loops or 'all'} inferences", dict(traits))
