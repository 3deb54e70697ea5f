"""Everything of a campaign as one archive: page, figures for a paper, captions, method, data, trace."""

import contextlib
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from devicelab.analyses.base import Figure
from devicelab.errors import LabError
from devicelab.model.experiment import Finding
from devicelab.report import beside, svg
from devicelab.report.method import method
from devicelab.report.page import written
from devicelab.report.trace import choose_runs, write_trace
from devicelab.store.export import Exportable, export_results, file_stem, spreadsheet_safe

_README = """One campaign of devicelab, {campaign}.

page.html          the report
*-traces/          the traces that it links to
figures/           each figure as SVG, as PNG at 300 dpi, its data as CSV, its caption as text
method.txt         a paragraph for a paper, with versions and citation
findings.json      what was concluded
data/              runs, figures of runs, samples, evidence (devicelab export)
trace.pftrace      all runs for ui.perfetto.dev, where the package for it is installed
"""


def write_archive(
    results: Exportable, findings: Sequence[Finding], figures: Sequence[Figure], page: Path, to: Path
) -> Path:
    """Write the archive.

    Args:
        results: of the campaign.
        findings: as on its page.
        figures: as on its page.
        page: the page itself.
        to: the file to write.

    Raises:
        ConfigError: the file cannot be written.
    """
    with written(to) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", _README.format(campaign=results.campaign))
        archive.write(page, "page.html")
        for place, trace in beside.files_of(page).items():
            archive.write(trace, place)
        archive.writestr("method.txt", method(results) + "\n")
        told = [finding.model_dump(mode="json") for finding in findings]
        archive.writestr("findings.json", json.dumps(told, ensure_ascii=False, indent=1))
        for figure in figures:
            _add_figure(archive, figure)
        with tempfile.TemporaryDirectory(prefix="devicelab-") as folder:
            for path in export_results(results, findings, Path(folder) / "data", "csv"):
                archive.write(path, f"data/{path.name}")
            with contextlib.suppress(LabError):  # no such package, or samples that were dropped: the README says so
                runs = choose_runs(results, None)
                archive.write(write_trace(results, runs, Path(folder) / "trace.pftrace"), "trace.pftrace")
    return to


def _add_figure(archive: zipfile.ZipFile, figure: Figure) -> None:
    stem = f"figures/{file_stem(figure.name)}"
    try:
        drawing, picture = svg.draw(figure), svg.png(figure)
    except Exception as problem:  # noqa: BLE001 - one figure's failure must not cost the archive; it is said there
        archive.writestr(f"{stem}.txt", f"could not be drawn: {type(problem).__name__}: {problem}\n")
    else:
        archive.writestr(f"{stem}.svg", drawing)
        archive.writestr(f"{stem}.png", picture)
        archive.writestr(f"{stem}.txt", f"{figure.title}. {figure.caption}\n")
    archive.writestr(f"{stem}.csv", spreadsheet_safe(figure.data).to_csv(index=False, lineterminator="\n"))
