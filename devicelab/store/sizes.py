"""What nights take in the database."""

from dataclasses import dataclass

from devicelab.model.night import NightStatus

BYTES_PER_RUN = 1024
"""What a run takes besides its blobs (figures, flags, the run itself, indexes): a rule of thumb."""


@dataclass(frozen=True)
class NightSize:
    """A night and the space it takes.

    Attributes:
        night, farm, status, started_unix_ns: as in ``NightInfo``.
        bytes: of its campaigns.
        sample_bytes: of it, raw samples that have not been dropped yet.
    """

    night: str
    farm: str
    status: NightStatus
    started_unix_ns: int
    bytes: int = 0
    sample_bytes: int = 0
