"""A finished run as rows of the database: everything heavy happens here, before the write lock is taken."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicelab.model.journal import Flag, ProgramResult, RunRecord
from devicelab.model.measurement import Measurement
from devicelab.store.codec import digest, encode_table, pack

Row = dict[str, Any]
MetricKey = tuple[str, str, str]
"""Program, metric, unit."""

_INT64 = 1 << 63


@dataclass(frozen=True)
class RunRows:
    """The rows of one run, without the numbers the database gives (``run``, ``campaign``, ``cell``)."""

    run: Row
    flags: tuple[Row, ...]
    programs: tuple[Row, ...]
    metrics: Mapping[MetricKey, float | None]
    samples: tuple[Row, ...]
    evidence: Row
    outputs: tuple[Row, ...]


def clean(text: str) -> str:
    """Text from a device as every database takes it: no NUL, nothing that is not Unicode."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def run_rows(
    record: RunRecord, repetition: int, measurements: Mapping[str, Measurement], flags: Sequence[Flag]
) -> RunRows:
    """All rows of a run.

    The run's flags are the record's, the measurements' and the given ones, each once. It is valid if it was performed
    and has none but remarks.

    Raises:
        ValueError: a measurement's table is not a table of numbers.
    """
    outputs, damaged = _outputs(record.programs)
    parsed = [flag for measurement in measurements.values() for flag in measurement.flags]
    every = tuple(dict.fromkeys((*record.flags, *parsed, *flags, *damaged)))
    return RunRows(
        run={
            "run_id": clean(record.run_id),
            "repetition": repetition,
            "seq": _int64(record.seq),
            "status": record.status,
            "valid": record.status == "done" and all(flag.remark for flag in every),
            "simulated": any(measurement.simulated for measurement in measurements.values()),
            "t_unix_ns": _int64(record.t_unix_ns),
            "duration_ns": _int64(record.t_end_ns - record.t_start_ns),
        },
        flags=tuple({"position": i, "code": clean(f.code), "detail": clean(f.detail)} for i, f in enumerate(every)),
        programs=tuple(
            {"program": clean(name), "info_json": json.dumps(m.info, default=str), "simulated": m.simulated}
            for name, m in measurements.items()
        ),
        metrics=_metrics(measurements),
        samples=tuple(_samples(measurements)),
        evidence=_evidence(record),
        outputs=outputs,
    )


def _int64(value: int) -> int:
    """A device's number, limited to what a database column holds."""
    return max(-_INT64, min(_INT64 - 1, value))


def _metrics(measurements: Mapping[str, Measurement]) -> dict[MetricKey, float | None]:
    """Not-a-number is stored as NULL, which is how SQLite would keep it anyway."""
    values: dict[MetricKey, float | None] = {}
    for program, measurement in measurements.items():
        for name, metric in measurement.metrics.items():
            value = float(metric.value)
            # NaN is the one value that differs from itself.
            values[clean(program), clean(name), clean(metric.unit)] = value if value == value else None  # noqa: PLR0124
    return values


def _samples(measurements: Mapping[str, Measurement]) -> Iterable[Row]:
    for program, measurement in measurements.items():
        for name, table in measurement.tables.items():
            rows, blob = encode_table({clean(column): values for column, values in table.items()})
            yield {
                "program": clean(program),
                "name": clean(name),
                "rows": rows,
                "sha256": digest(blob),
                "data": blob,
            }


def _evidence(record: RunRecord) -> Row:
    """The record without the programs' output, which has its own table."""
    kept = record.model_dump(mode="json", exclude={"programs": {"__all__": {"stdout", "stdout_b64"}}})
    blob = pack(json.dumps(kept, separators=(",", ":")).encode())
    return {"sha256": digest(blob), "data": blob}


def output_row(program: str, data: bytes) -> Row:
    """What a program printed, as a row."""
    blob = pack(data)
    return {"program": clean(program), "bytes": len(data), "sha256": digest(blob), "data": blob}


def _outputs(programs: Iterable[ProgramResult]) -> tuple[tuple[Row, ...], tuple[Flag, ...]]:
    rows: dict[str, Row] = {}
    flags = []
    for program in programs:
        try:
            data = program.output()
        except ValueError as error:
            flags.append(Flag(code="output-damaged", detail=clean(str(error))))
            data = (program.stdout_b64 or program.stdout or "").encode("utf-8", "replace")
        if data:
            row = output_row(program.name, data)
            rows[row["program"]] = row
    return tuple(rows.values()), tuple(flags)
