"""Integrity of the results database: what `devicelab store check` looks at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckReport:
    """What a check of the database found.

    Attributes:
        campaigns, runs, blobs: how many were looked at.
        problems: one sentence each; empty if all is well.
    """

    campaigns: int
    runs: int
    blobs: int
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems
