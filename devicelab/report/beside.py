"""Traces beside a page: files that it links to, so that whoever has the folder needs no command and no database.

A page ``NAME.html`` has its traces in ``NAME-traces/``: of each run that it draws devicelab's own, of each run that the
system's tracer recorded what that wrote. They are made and removed with the page, and bounded in size.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote

from devicelab.errors import ConfigError, LabError
from devicelab.experiment import tracing
from devicelab.model.results import Results
from devicelab.report import frames
from devicelab.report.figures_timeline import drawn_runs
from devicelab.report.page import TraceLink, written
from devicelab.report.trace import write_traces
from devicelab.store.export import file_stem

MOST_BYTES = 64 << 20
"""All traces of one page together; what does not fit is left out and said."""

# What each tracer's file is called, and what reads it.
_TOOLS = {
    "perfetto": (".perfetto-trace", "opens in ui.perfetto.dev"),
    "atrace": (".atrace", "opens in ui.perfetto.dev"),
    "ftrace": (".ftrace.txt", "text; opens in ui.perfetto.dev"),
    "perf": (".perf.data", "perf report -i FILE"),
    "simpleperf": (".simpleperf.data", "simpleperf report -i FILE"),
}
_OWN = ".pftrace"
_UNKNOWN = ".trace"
_SUFFIXES = (_OWN, _UNKNOWN, *(suffix for suffix, _ in _TOOLS.values()))


@runtime_checkable
class _Printing(Protocol):
    def output(self, run_id: str, program: str) -> bytes: ...

    def pruned(self, run_id: str, program: str) -> bool: ...


def folder_of(page: Path) -> Path:
    """Where the traces of a page lie."""
    return page.with_name(f"{page.stem}-traces")


def files_of(page: Path) -> dict[str, Path]:
    """The traces of a page by the place where its links say that they are."""
    folder = folder_of(page)
    found = sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
    return {f"{folder.name}/{one.name}": one for one in found if one.name.endswith(_SUFFIXES) and one.is_file()}


def remove(page: Path) -> None:
    """Remove the traces of a page, and their folder if nothing else lies in it."""
    _tidy(page, set())


def write_beside(results: Results, page: Path) -> tuple[TraceLink, ...]:
    """Write the traces that belong to a page; what it says of each.

    Raises:
        ConfigError: a file cannot be written.
    """
    folder = folder_of(page)
    runs = results.runs()
    named = frames.group_labels(runs, frames.varied(results)) if len(runs) else ()
    labels = dict(zip(runs["run_id"], named, strict=True))
    links: list[TraceLink] = []
    made: set[str] = set()
    left = MOST_BYTES
    for run, what, name, note, data in _system(results):
        if data and len(data) <= left:
            with written(folder / name) as temporary:
                temporary.write_bytes(data)
            left -= len(data)
            made.add(name)
            links.append(_link(folder, run, labels, what, name, note, len(data)))
            continue
        large = f"{_size(len(data))}, too large to lie beside a page: {_command(results, run, system=True)}"
        links.append(_link(folder, run, labels, what, "", large if data else note, 0))
    own = _own(results, folder, left)
    made.update(name for _, name, _, _ in own if name)
    links = [*(_link(folder, run, labels, _WHAT, name, note, size) for run, name, note, size in own), *links]
    _tidy(page, made)
    return tuple(links)


_WHAT = "phases, programs, kernels, clocks, heat, power"


def _own(results: Results, folder: Path, left: int) -> list[tuple[str, str, str, int]]:
    """Of each run that is drawn: run, name of the file (empty: none), what is to be said, bytes."""
    names = {run: f"{file_stem(run)}{_OWN}" for run in drawn_runs(results)}
    if not names:
        return []
    try:
        write_traces(results, {folder / name: (run,) for run, name in names.items()})
    except LabError as error:
        why = error.message if not error.hint else f"{error.message} ({error.hint})"
        return [(run, "", why, 0) for run in names]
    rows = []
    for run, name in names.items():
        size = (folder / name).stat().st_size
        if size > left:
            (folder / name).unlink()
            note = f"{_size(size)}, too large to lie beside a page: {_command(results, run)}"
            rows.append((run, "", note, size))
        else:
            left -= size
            rows.append((run, name, "opens in ui.perfetto.dev", size))
    return rows


def _system(results: Results) -> Iterator[tuple[str, str, str, str, bytes]]:
    """Of each run that the system's tracer recorded: run, what, file name, what is to be said, the trace."""
    runs = results.runs()
    is_traced = runs["flags"].map(lambda flags: any(flag.code == "traced" for flag in flags)).astype(bool)
    for run in map(str, runs.loc[is_traced, "run_id"]):
        tool = tracing.tool_of(results.evidence(run))
        suffix, note = _TOOLS.get(tool, (_UNKNOWN, ""))
        stored = results if isinstance(results, _Printing) else None
        data = stored.output(run, tracing.OUTPUT) if stored is not None else b""
        if stored is None or not data:
            pruned = stored is not None and stored.pruned(run, tracing.OUTPUT)
            note = "pruned with the raw samples" if pruned else "nothing was recorded"
        yield run, f"system trace by {tool or 'no tool'}", f"{file_stem(run)}-system{suffix}", note, data


def _link(folder: Path, run: str, labels: Mapping[Any, Any], what: str, name: str, note: str, size: int) -> TraceLink:
    href = f"{quote(folder.name)}/{quote(name)}" if name else ""
    return TraceLink(
        run=run,
        cell=str(labels.get(run, "")),
        what=what,
        href=href,
        file=name,
        size=_size(size) if name else "",
        note=note,
    )


def _command(results: Results, run: str, *, system: bool = False) -> str:
    return f"devicelab trace {results.campaign} {run}{' --system' if system else ''}"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{max(1, round(size / 1e3))} kB"


def _tidy(page: Path, made: set[str]) -> None:
    try:
        for place, path in files_of(page).items():
            if place.partition("/")[2] not in made:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot tidy {folder_of(page)}: {error.strerror or error}") from error
    with contextlib.suppress(OSError):  # something else lies there
        folder_of(page).rmdir()
