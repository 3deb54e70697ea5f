"""Markdown tables as llama-bench and MNN's llm_bench print them, with log lines around them."""

from collections.abc import Iterator

from devicelab.errors import MeasurementError
from devicelab.ground import budget


def rows(lines: list[str], needed: frozenset[str], *, whole: bool) -> Iterator[tuple[int, dict[str, str] | None]]:
    """Numbered rows of every table that has one of the columns; ``None`` for a last row that was cut.

    Raises:
        MeasurementError: a row has more or fewer cells than its header.
    """
    header: list[str] = []
    for at, line in enumerate(lines, 1):
        text = line.strip()
        if not text.startswith("|"):
            header = header if text else []  # a line of a log stands within a table, an empty one ends it
            continue
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        if needed & set(cells):
            header = cells
        elif header and at == len(lines) and not whole:
            yield at, None
        elif header and not all(set(cell) <= set("-: ") for cell in cells):
            if len(cells) != len(header):
                raise MeasurementError(
                    f"line {at} has {len(cells)} cells, its header {len(header)}: {budget.cut(text, 160)!r}"
                )
            else:
                yield at, dict(zip(header, cells, strict=True))
