"""A campaign as files for other tools: Parquet or CSV frames, its facts as JSON, its evidence as JSON lines.

Files: ``campaign.json`` (facts, experiment, binaries, which raw samples were dropped since), ``runs``, ``flags``,
``metrics``, ``findings``, ``samples-TABLE`` for every table of raw samples, ``evidence.jsonl`` (one journal record a
line).
"""

import contextlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd

from devicelab.errors import ConfigError, StoreError
from devicelab.ground import extras
from devicelab.ground.files import replacing
from devicelab.ground.safe_text import csv_cell
from devicelab.ground.sorting import Row, as_lab_error
from devicelab.model.experiment import Finding
from devicelab.model.results import Results

Format = Literal["parquet", "csv", "both"]


class Exportable(Results, Protocol):
    """Results that can also say which tables of samples they hold."""

    def tables(self) -> tuple[str, ...]:
        """Names of the sample tables."""
        ...


def export_results(results: Exportable, findings: Sequence[Finding], directory: Path, fmt: Format) -> tuple[Path, ...]:
    """Write everything of a campaign into ``directory`` (made if missing); the paths written.

    A file of the same name is replaced at once when its successor is complete, so a reader never sees half of one.

    Raises:
        ConfigError: Parquet is asked for and pyarrow is not installed; the directory cannot be made.
        StoreError: a file cannot be written (full disk).
    """
    writers = _writers(fmt)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {directory}: {error.strerror}") from error
    written = [_write_campaign(results, directory / "campaign.json")]
    for name, frame in _frames(results, findings):
        for suffix, write in writers:
            path = directory / f"{name}.{suffix}"
            with _replaced(path) as temporary:
                write(frame, temporary)
            written.append(path)
    written.append(_write_evidence(results, directory / "evidence.jsonl"))
    return tuple(written)


def flag_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a flag: ``run_id cell code detail``."""
    rows = [
        (run_id, cell, flag.code, flag.detail)
        for run_id, cell, flags in zip(runs["run_id"], runs["cell"], runs["flags"], strict=True)
        for flag in flags
    ]
    return pd.DataFrame(rows, columns=["run_id", "cell", "code", "detail"])


def finding_rows(findings: Sequence[Finding]) -> pd.DataFrame:
    """One row a finding, its reasons joined by "; "."""
    rows = [{**finding.model_dump(), "reasons": "; ".join(finding.reasons)} for finding in findings]
    return pd.DataFrame(rows, columns=list(Finding.model_fields))


def file_stem(name: str) -> str:
    """A name from anywhere as part of a file name: letters, digits, dot, hyphen and underscore only."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80] or "unnamed"


def _frames(results: Exportable, findings: Sequence[Finding]) -> Iterator[tuple[str, pd.DataFrame]]:
    runs = results.runs()
    flat = runs.assign(flags=[" ".join(flag.code for flag in flags) for flags in runs["flags"]])
    yield "runs", flat
    yield "flags", flag_rows(runs)
    yield "metrics", results.metrics()
    yield "findings", finding_rows(findings)
    used: set[str] = set()
    for table in results.tables():
        stem = f"samples-{file_stem(table)}"
        while stem.lower() in used:
            stem += "_"
        used.add(stem.lower())
        yield stem, results.samples(table)


def _writers(fmt: Format) -> list[tuple[str, Callable[[pd.DataFrame, Path], None]]]:
    writers: list[tuple[str, Callable[[pd.DataFrame, Path], None]]] = []
    if fmt in {"parquet", "both"}:
        if importlib.util.find_spec("pyarrow") is None:
            raise ConfigError("Parquet needs pyarrow", hint=f"{extras.install('parquet')}, or --format csv")
        writers.append(("parquet", _parquet))
    if fmt in {"csv", "both"}:
        writers.append(("csv", _csv))
    return writers


def spreadsheet_safe(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as CSV may hold it: no text (cell or column name) that a spreadsheet would take for a formula.

    Such a text gets an apostrophe in front; Parquet and JSON have it as it is.
    """
    worded = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    texts = {name: frame[name].map(csv_cell) for name in worded}
    return frame.assign(**texts).rename(columns=csv_cell)


def _csv(frame: pd.DataFrame, path: Path) -> None:
    spreadsheet_safe(frame).to_csv(path, index=False, lineterminator="\n")


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    """A factor may have levels of several types ("none", 4); a Parquet column has one, so those become texts."""
    mixed = [
        name
        for name in frame.columns
        if frame[name].dtype == object and len({type(value) for value in frame[name].dropna()}) > 1
    ]
    texts = {name: frame[name].map(lambda value: None if value is None else str(value)) for name in mixed}
    import pyarrow as pa

    try:
        frame.assign(**texts).to_parquet(path, index=False)
    except (pa.ArrowException, OverflowError) as error:
        raise as_lab_error(_parquet_rows(), error, what=f"cannot write {path.stem}") from error


def _parquet_rows() -> tuple[Row, ...]:
    """What pyarrow raises while it writes a frame."""
    import pyarrow as pa

    no_place = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, pa.lib.ArrowCapacityError)
    return (
        Row((pa.lib.ArrowMemoryError,), StoreError, "export fewer runs at once", says="no memory is left"),
        Row(
            (*no_place, OverflowError), StoreError, "--format csv has every value as text",
            says="a column has no place in Parquet: {words}",
        ),
    )  # fmt: skip


def _write_campaign(results: Results, path: Path) -> Path:
    data = {"info": results.info, "experiment": results.experiment.model_dump(mode="json")}
    with _replaced(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1, default=str, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _write_evidence(results: Results, path: Path) -> Path:
    with _replaced(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for run_id in results.runs()["run_id"]:
            record: dict[str, Any] = results.evidence(run_id)
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
    return path


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A temporary neighbour that takes the path's place if all went well."""
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}", hint="free space or use --to") from error
