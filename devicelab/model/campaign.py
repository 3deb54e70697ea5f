"""What the store says about a campaign and the binaries it used."""

import re
import secrets
import time
from typing import Literal

from devicelab.model.plan import Noun

ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4,16}")
"""The form of a campaign's id. It becomes the name of files and folders."""


def new_id(unix_ns: int | None = None, *, tail: str | None = None) -> str:
    """A campaign's id, sortable by time (UTC) and unlikely to be drawn twice: ``20261122-101500-3f2a41``.

    Args:
        unix_ns: when it begins; now if left out.
        tail: hexadecimal digits to end with; drawn if left out.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(None if unix_ns is None else unix_ns // 1_000_000_000))
    return f"{stamp}-{tail or secrets.token_hex(3)}"


CampaignStatus = Literal["running", "complete", "unreliable", "interrupted", "failed"]
"""``unreliable``: all of its runs are done, and half of them or more do not count."""
EndStatus = Literal["complete", "unreliable", "interrupted", "failed"]

ENDED: frozenset[str] = frozenset(("complete", "unreliable"))
"""Campaigns with nothing left to do."""


def unreliable(runs: int, invalid: int) -> bool:
    """Whether so many of a campaign's runs are flagged that what is left was picked by whatever went wrong."""
    return runs > 0 and 2 * invalid >= runs


def lasted_s(started_unix_ns: int, ended_unix_ns: int | None) -> float | None:
    """From start to end, seconds; ``None`` without an end, and where the clock was set back in between."""
    lasted_ns = -1 if ended_unix_ns is None else ended_unix_ns - started_unix_ns
    return lasted_ns / 1e9 if lasted_ns >= 0 else None


class BinaryInfo(Noun):
    """A program that was pushed to the device.

    Attributes:
        name: of the program ("klo", "agent").
        sha256: hex digest of the file's content; the program's identity.
        target: what it was built for ("aarch64-linux-musl"), empty for a file that was not built here.
        toolchain: the toolchain's name ("zig-arm64"), empty likewise.
        compiler: the compiler's own version line.
        source: hex digest over source and flags (the build cache's key).
    """

    name: str
    sha256: str
    target: str = ""
    toolchain: str = ""
    compiler: str = ""
    source: str = ""


class CampaignInfo(Noun):
    """One campaign as a row of a list.

    Attributes:
        campaign: id, sortable by time ("20261122-101500-3f2a").
        status: ``running`` until the campaign was finished; a killed process leaves it ``running``.
        reason: why it ended so, for people.
        device, address, board, board_title: of the device it ran on.
        experiment, question: what was asked.
        night: name of the farm job it belongs to, if any.
        simulated: a virtual board.
        started_unix_ns, ended_unix_ns: host's clock (of a bundle, its machine's); the end is ``None`` while it runs.
        runs_planned, runs_done, runs_invalid: all cells times repetitions; stored so far; those of them with flags.
        command: as typed.
        version: of devicelab.
        seed: of the shuffle.
        thinned_rows: rows of raw samples that were dropped later, on request; figures and evidence stay.
    """

    campaign: str
    status: CampaignStatus
    reason: str = ""
    device: str
    address: str
    board: str
    board_title: str = ""
    experiment: str
    question: str = ""
    night: str | None = None
    simulated: bool = False
    started_unix_ns: int
    ended_unix_ns: int | None = None
    runs_planned: int
    runs_done: int = 0
    runs_invalid: int = 0
    command: str = ""
    version: str = ""
    seed: int = 1
    thinned_rows: int = 0
