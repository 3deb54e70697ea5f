"""MLPerf Inference's LoadGen, v0.5 to v5: ``mlperf_log_summary.txt`` or ``mlperf_log_detail.txt``.

Latencies are in nanoseconds, rates a second; which of them there are depends on the scenario. In Offline and Server a
latency contains the time that a sample waited, so only SingleStream's is the time of an inference. LoadGen calls a run
invalid that was too short or too slow for a submission: such a run counts only where it is told to.
"""

import re
from collections.abc import Iterator, Mapping

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.journal import Flag
from devicelab.model.measurement import Metric
from devicelab.workloads._benchmarks.results import (
    INVALID,
    NUMBER,
    Output,
    Result,
    count,
    cut,
    lines_of,
    nothing,
    rate,
    time,
)
from devicelab.workloads._benchmarks.results import slug as _slug

_BEGIN = "MLPerf Results Summary"
_MARK = ":::MLLOG "
_ENTRY = re.compile(rf"(?P<key>[A-Za-z0-9 .:/()_-]{{1,80}}?) *: (?P<value>{NUMBER})\s*")
_PERCENTILE = re.compile(r"(?P<head>.*?)_?(?P<place>[0-9]{1,2}(?:[._][0-9]{1,2})?)(?:th)?_percentile(?P<tail>_.*|)")
_NO = re.compile(r"\b(?:NO|No)\s*$")
_ERRORS = re.compile(r"([0-9]+) ERRORs? encountered")
_PARTS = {"per_query_latency": "query", "per_sample_latency": ""}
# Constant words of the names that say nothing.
_IDLE = ("latency",)
_LONGEST_KEY = 120
_PARAMETERS = "Test Parameters Used"
_SHAPE = "Result is : VALID"


def read(text: str) -> Output:
    """A summary or a detailed log.

    Flags: ``called-invalid`` (LoadGen's verdict, with what was not met), ``program-complained`` (errors in the log).

    Raises:
        MeasurementError: no results (an accuracy run has none), or a log that was cut.
    """
    lines, whole = lines_of(text)
    if any(line.startswith(_MARK) for line in lines):
        return _detail(lines, whole)
    starts = [at for at, line in enumerate(lines) if line.strip() == _BEGIN]
    if not starts:
        raise nothing(lines, "LoadGen's summary", f"{_BEGIN} ... {_SHAPE}")
    if len(starts) > 1:
        raise MeasurementError(f"the output holds {len(starts)} summaries of LoadGen: one a run")
    return _summary(lines, starts[0], whole)


def _summary(lines: list[str], start: int, whole: bool) -> Output:
    said = dict(_words(lines[start:]))
    scenario, mode = said.get("Scenario", "").replace(" ", ""), said.get("Mode", "")
    if mode.startswith("Accuracy"):
        raise MeasurementError(f"LoadGen ran in mode {mode}: it has no performance results")
    figures: dict[str, Metric] = {}
    part, ended = "", False
    for at, line in enumerate(lines[start + 1 :], start + 2):
        text = line.strip()
        if text.startswith(_PARAMETERS):
            ended = True
            break
        if text.rstrip(":").replace(" ", "_").replace("-", "_").lower() in _PARTS or text.startswith(
            "Per-query latency"
        ):
            part = _PARTS[text.split(":")[0].replace(" ", "_").replace("-", "_").lower()]
        found = _ENTRY.fullmatch(text)
        if found is None:
            continue
        if at == len(lines) and not whole:
            raise cut(at, line, _PARAMETERS)
        name = _name(found["key"], part)
        if not name:
            continue
        metric = _value(found["value"], name, at)
        # The headline repeats a percentile.
        if figures.setdefault(name, metric) != metric:
            raise MeasurementError(f"line {at}: {name} is there twice, with different values")
    if "Result is" not in said or not ended:
        raise cut(len(lines), lines[-1], "Result is" if "Result is" not in said else _PARAMETERS)
    unmet = [
        key.removesuffix(" satisfied") for key, value in said.items() if key.endswith("satisfied") and _NO.search(value)
    ]
    errors = next((found[1] for line in lines[start:] if (found := _ERRORS.search(line))), "")
    return _output(figures, scenario, said["Result is"], unmet, f"{errors} errors in its log" if errors else "")


def _words(lines: list[str]) -> Iterator[tuple[str, str]]:
    """``Scenario : Offline`` and ``Min duration satisfied : Yes``, up to the parameters."""
    for line in lines:
        if line.startswith(_PARAMETERS):
            return
        key, colon, value = line.strip().partition(":")
        if colon:
            yield key.strip(), value.strip()


def _name(key: str, part: str) -> str:
    """``99.90 percentile latency (ns)`` is ``p99_9_ns``, ``Samples per second`` ``samples_per_s``; empty: no figure."""
    text = key.lower().replace("w/o loadgen", "without").replace("w/ loadgen", "with").strip(" :")
    if text.endswith("(ns)"):
        return _latency(_slug(text.removesuffix("(ns)").replace(".", "_dot_")), part)
    if text.endswith("per second"):
        return f"{_slug(text.removesuffix('per second'))}_per_s"
    if text.startswith("qps "):
        return f"queries_{_slug(text.removeprefix('qps '))}_per_s"
    return "samples_a_query" if text == "samples per query" else ""


def _latency(words: str, part: str) -> str:
    words = words.replace("_dot_", ".").replace("time_to_output_token", "time_per_output_token")  # both are printed
    found = _PERCENTILE.fullmatch(words)
    if found is not None:
        place = found["place"].rstrip("0").rstrip(".") if "." in found["place"] else found["place"]
        words = f"{found['head']}{found['tail']}_p{place.replace('.', '_')}"
    else:
        for least in ("min", "max", "mean"):
            if words.startswith(f"{least}_"):
                words = f"{words.removeprefix(f'{least}_')}_{least}"
    kept = [word for word in words.split("_") if word not in _IDLE and word]
    return "_".join(filter(None, (part, *kept, "ns")))


def _value(text: object, name: str, at: int) -> Metric:
    where = f"output line {at}, {name}"
    if name.endswith("_ns"):
        return time(text, "ns", where)
    return rate(text, where) if name.endswith("_per_s") else count(text, where)


def _detail(lines: list[str], whole: bool) -> Output:
    said: dict[str, object] = {}
    errors: list[str] = []
    for at, line in enumerate(lines, 1):
        if not line.startswith(_MARK):
            continue
        try:
            entry = budget.loads(line.removeprefix(_MARK).encode(), 1_000_000)
        except ValueError as error:
            if at == len(lines) and not whole:
                raise cut(at, line[:200], "its last results") from error
            raise MeasurementError(f"line {at} is no entry of LoadGen's log: {budget.cut(line, 120)!r}") from error
        if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
            raise MeasurementError(f"line {at} is no entry of LoadGen's log: {budget.cut(line, 120)!r}")
        metadata = entry.get("metadata")
        if isinstance(metadata, dict) and metadata.get("is_error") is True:
            errors.append(f"{entry['key']}: {str(entry.get('value'))[:120]}")
        said[entry["key"]] = entry.get("value")
    mode = str(said.get("effective_test_mode", ""))
    if mode.startswith("Accuracy"):
        raise MeasurementError(f"LoadGen ran in mode {mode}: it has no performance results")
    figures = dict(_entries(said))
    if "result_validity" not in said or not any(name.endswith("p99_9_ns") for name in figures):
        raise cut(len(lines), lines[-1][:200], "its last results")
    unmet = [
        key.removeprefix("result_").removesuffix("_met")
        for key, value in said.items()
        if key.endswith("_met") and value is False
    ]
    scenario = str(said.get("effective_scenario", "")).replace(" ", "")
    return _output(figures, scenario, str(said["result_validity"]), unmet, "; ".join(errors[:3]))


def _entries(said: Mapping[str, object]) -> Iterator[tuple[str, Metric]]:
    for key, value in said.items():
        if not key.startswith("result_") or len(key) > _LONGEST_KEY or isinstance(value, bool | str) or value is None:
            continue
        text = key.removeprefix("result_")
        if text.endswith("_ns"):
            part = "query" if "per_query_" in text or "_query_latency" in text else ""
            name = _latency(
                text.removesuffix("_ns").replace("per_query_", "").replace("query_latency", "latency"), part
            )
        elif text.endswith(("_per_second", "_per_sec")):
            name = f"{text.rsplit('_per_', 1)[0]}_per_s"
        elif text.startswith("qps_"):
            name = f"queries_{text.removeprefix('qps_').removesuffix('_loadgen_overhead')}_overhead_per_s"
        else:
            continue
        yield name, _value(value, name, 0)


def _output(figures: Mapping[str, Metric], scenario: str, verdict: str, unmet: list[str], errors: str) -> Output:
    if not figures:
        raise MeasurementError("LoadGen's log has no figure")
    flags: list[Flag] = []
    if verdict != "VALID":
        why = f": not met: {', '.join(unmet)}" if unmet else ""
        flags.append(Flag(code=INVALID, detail=f"LoadGen calls the run {budget.cut(verdict, 40)}{why}"))
    if errors:
        flags.append(Flag(code="program-complained", detail=f"LoadGen met errors: {errors}"))
    total = "mean_ns" if scenario == "SingleStream" and "mean_ns" in figures else ""
    result = Result("", figures, {}, total, "the mean latency of LoadGen's queries")
    return Output([result], {"program": "loadgen", "scenario": scenario[:40], "verdict": verdict[:40]}, tuple(flags))
