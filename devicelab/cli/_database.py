"""The reference of the results database, generated from its schema."""

from sqlalchemy import Column, Table, UniqueConstraint
from sqlalchemy.types import TypeEngine

from devicelab.store.schema import HEAD, metadata

_TABLES = {
    "documents": "Plans and captured nodes, stored once by what they hold.",
    "campaigns": "One invocation on one device: what ran on what, its status and counters.",
    "cells": "Combinations of levels; the same cell of several campaigns is one row.",
    "campaign_cells": "The planned cells of a campaign, in their order.",
    "binaries": "Programs that were built, by checksum.",
    "campaign_binaries": "Which of them a campaign used.",
    "runs": "One repetition of a cell; never dropped, `valid` says whether it enters verdicts.",
    "flags": "Every reason not to believe a run.",
    "programs": "What a measured program said about itself.",
    "metric_names": "Names and units of figures.",
    "metrics": "One figure of a run.",
    "samples": "Tables of raw samples (see above for the blob).",
    "thinned_samples": "What is left of samples that were dropped on request.",
    "evidence": "The agent's journal record of a run, without the programs' output.",
    "outputs": "What a program printed, byte for byte.",
    "findings": "What the analyses concluded of a campaign.",
    "nights": "One farm job each.",
    "tasks": "An experiment on a device in a night: what became of it, and why.",
    "health": "Looks at a device before and after tasks.",
    "quarantines": "When a device got no work, and why; outlives the nights.",
    "cell_verdicts": "How a figure of a cell moved against the nights before.",
}
_TYPES = {
    "BIGINT": "integer",
    "INTEGER": "integer",
    "TEXT": "text",
    "BOOLEAN": "boolean",
    "BLOB": "blob",
    "FLOAT": "double",
    "DOUBLE": "double",
}


def page(head: str) -> str:
    """``docs/reference/database.md``; a table without a sentence is an error."""
    start = (
        f"{head}\n# Tables of the results database\n\nRevision {HEAD}. [store](store.md) says what it promises and how "
        "to read it without SQL. Times are nanoseconds since 1970 (`_unix_ns`) or lengths (`_ns`); `_json` is JSON "
        "text; blobs are described in [store](store.md#tables)."
    )
    parts = [start]
    for table in sorted(metadata.tables.values(), key=lambda one: list(_TABLES).index(one.name)):
        rows = "\n".join(_row(column) for column in table.columns)
        parts.append(f"## `{table.name}`\n\n{_TABLES[table.name]}\n\n| column | type | |\n|---|---|---|\n{rows}")
        unique = _unique(table)
        if unique:
            parts.append(f"Unique: {', '.join(unique)}.")
    return "\n\n".join(parts) + "\n"


def _row(column: "Column[object]") -> str:
    words = []
    if column.primary_key:
        words.append("key")
    words += [f"→ `{key.column.table.name}.{key.column.name}`" for key in column.foreign_keys]
    if column.nullable and not column.primary_key:
        words.append("may be empty")
    return f"| `{column.name}` | {_type(column.type)} | {', '.join(words)} |"


def _type(kind: "TypeEngine[object]") -> str:
    name = type(kind).__name__.upper()
    return _TYPES.get({"LARGEBINARY": "BLOB", "BIGINTEGER": "BIGINT"}.get(name, name), name.lower())


def _unique(table: Table) -> list[str]:
    together = [one.columns for one in table.constraints if isinstance(one, UniqueConstraint)]
    together += [one.columns for one in table.indexes if one.unique and len(one.columns) > 1]
    return sorted("(" + ", ".join(f"`{column.name}`" for column in columns) + ")" for columns in together)
