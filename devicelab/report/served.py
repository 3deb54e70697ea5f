"""A campaign's page as it is served: the page, and each run's samples and trace behind its name."""

import tempfile
from pathlib import Path

from devicelab.errors import LabError, SamplesDroppedError
from devicelab.model.results import Results
from devicelab.report import beside
from devicelab.report.serve import Answer, Pages
from devicelab.report.trace import write_trace
from devicelab.store.export import Exportable, file_stem, spreadsheet_safe


def campaign_pages(page: Path, results: Exportable) -> Pages:
    """``""``: the page; ``run/ID.csv``: samples of the run; ``run/ID.pftrace``: its trace for ui.perfetto.dev.

    Besides the traces beside the page, at the places that it links to. The page learns from a mark in it that runs have
    links here.
    """
    runs = set(results.runs()["run_id"])

    def answer(path: str) -> Answer | None:
        if not path:
            return Answer("text/html", page.read_bytes().replace(b"<body>", b"<body data-served>", 1))
        if (trace := beside.files_of(page).get(path)) is not None:
            return Answer("application/octet-stream", trace.read_bytes(), trace.name)
        folder, _, name = path.partition("/")
        run, _, kind = name.rpartition(".")
        if folder != "run" or run not in runs:
            return None
        stem = file_stem(f"{results.campaign}-{run}")
        if kind == "csv":
            return Answer("text/csv", samples_csv(results, run), f"{stem}.csv")
        if kind == "pftrace":
            return Answer("application/octet-stream", _trace(results, run), f"{stem}.pftrace")
        return None

    return answer


def samples_csv(results: Exportable, run: str) -> bytes:
    """All samples of a run, table after table, each with its heading line."""
    parts = []
    for table in results.tables():
        try:
            rows = results.samples(table)
        except SamplesDroppedError as error:
            parts.append(f"# {table}: {error.message}\n")
            continue
        mine = rows[rows["run_id"] == run] if "run_id" in rows else rows.iloc[:0]
        if len(mine):
            parts.append(f"# {table}\n{spreadsheet_safe(mine).to_csv(index=False, lineterminator=chr(10))}")
    return "".join(parts).encode() or b"# no samples\n"


def _trace(results: Results, run: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="devicelab-") as folder:
        try:
            return write_trace(results, [run], Path(folder) / "run.pftrace").read_bytes()
        except LabError as error:
            return f"{error}\n".encode()
