"""MNN's ``llm_bench``: its Markdown table, or the JSON of ``-j``; rates in tokens a second, no time of a token.

``pp512`` and ``tg128`` have one rate (``t/s`` or ``speed(tok/s)``); a prompt and what is generated behind it
(``pp512+tg128``, ``prompt=512<br>decode=128``) have two, ``prefill ± std<br>decode ± std``. ``loadingTime(s)`` is in
seconds.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.journal import Flag
from devicelab.model.measurement import Metric
from devicelab.workloads._benchmarks import documents, markdown
from devicelab.workloads._benchmarks.results import NUMBER, Output, Result, lines_of, nothing, rate, time

_RATES = re.compile(rf"({NUMBER}) ± ({NUMBER})(?: ?<br> ?({NUMBER}) ± ({NUMBER}))?")
_LOADING = re.compile(rf"({NUMBER}) ± ({NUMBER})")
_DEMO = re.compile(r"prompt=([0-9]+)<br>decode=([0-9]+)")
_COLUMNS = ("t/s", "speed(tok/s)")
_SHAPE = "| model | modelSize | backend | threads | precision | test | t/s |"


def read(text: str) -> Output:
    """The tests of an output.

    Flags: ``output-truncated`` (the last line was cut and is not used).

    Raises:
        MeasurementError: no test, or a damaged one.
    """
    lines, whole = lines_of(text)
    flags: list[Flag] = []
    results: list[Result] = []
    for at, row in markdown.rows(lines, frozenset(_COLUMNS), whole=whole):
        if row is None:
            flags.append(Flag(code="output-truncated", detail=f"line {at} was cut: {budget.cut(lines[at - 1], 100)!r}"))
        else:
            results.append(_row(at, row))
    if not results and '"results"' in text:
        results = list(_document(documents.first(text, "{", "llm_bench's results")))
    if not results:
        raise nothing(lines, "llm_bench's results", _SHAPE)
    return Output(results, {"program": "llm_bench"}, tuple(flags))


def _row(at: int, row: Mapping[str, str]) -> Result:
    cell = next(row[name] for name in _COLUMNS if name in row)
    found = _RATES.fullmatch(cell)
    if found is None:
        raise MeasurementError(f"line {at}: {cell[:60]!r} is not like '123.45 ± 0.67'")
    figures: dict[str, Metric] = {}
    names = ("prefill_", "decode_") if found[3] is not None else ("",)
    for place, name in enumerate(names):
        figures[f"{name}tokens_per_s"] = rate(found[2 * place + 1], f"output line {at}")
        figures[f"{name}tokens_std_per_s"] = rate(found[2 * place + 2], f"output line {at}")
    loading = _LOADING.fullmatch(row.get("loadingTime(s)", ""))
    if loading is not None:
        figures["load_ns"] = time(loading[1], "s", f"output line {at}, loadingTime(s)")
    demo = _DEMO.fullmatch(row.get("llm_demo", ""))
    name = f"pp{demo[1]}+tg{demo[2]}" if demo else row.get("test", "")
    if not name:
        raise MeasurementError(f"line {at}: a test without a name")
    skipped = {*_COLUMNS, "test", "llm_demo", "loadingTime(s)", "modelSize"}
    return Result(name, figures, traits={key: value for key, value in row.items() if key not in skipped})


def _document(found: Any) -> Iterator[Result]:
    tests = found.get("results") if isinstance(found, dict) else None
    if not isinstance(tests, list):
        raise MeasurementError("llm_bench's JSON has no list of results")
    for at, one in enumerate(tests, 1):
        if not isinstance(one, dict):
            raise MeasurementError(f"llm_bench's result {at} is no object")
        figures: dict[str, Metric] = {}
        for key, name in (("", ""), ("prefill_", "prefill_"), ("decode_", "decode_")):
            if f"{key}tps" in one:
                figures[f"{name}tokens_per_s"] = rate(one[f"{key}tps"], f"llm_bench's result {at}")
                if f"{key}std" in one:
                    figures[f"{name}tokens_std_per_s"] = rate(one[f"{key}std"], f"llm_bench's result {at}")
        if not figures:
            raise MeasurementError(f"llm_bench's result {at} has no rate")
        if "loading_time" in one:
            figures["load_ns"] = time(one["loading_time"], "s", f"llm_bench's result {at}")
        lengths = (("pp", one.get("prompt_len")), ("tg", one.get("generate_len")))
        yield Result("+".join(f"{word}{length}" for word, length in lengths if length is not None), figures)
