"""When to give up: the same reason not to believe a run, again and again, whatever is varied."""

from collections.abc import Iterable, Mapping, Sequence

from devicelab.errors import DeviceRefusedError, LabError, MeasurementError
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag

# They pass by themselves, or are of one run alone.
_PASSING = frozenset({"gate-timeout", "throttled", "interrupted", "agent-busy"})
# The device does not do what it is asked to (exit code 4); whatever else is no measurement (6).
_REFUSED = frozenset(
    {"write-failed", "probe-failed", "affinity-refused", "load-not-running", "cpu-frequency-not-proven",
     "gpu-frequency-not-proven", "idle-states-not-proven", "core-not-held", "not-on-gpu"}
)  # fmt: skip


class Streak:
    """Counts runs in a row that share a flag.

    They are hopeless once there are ``most`` of them (0: never) and they have every level of every factor among them,
    so that no level can be the reason: a frequency that cannot be set spoils its own cells and not the sweep.
    """

    def __init__(self, most: int, cells: Mapping[str, Mapping[str, Level]]) -> None:
        self._most = most
        self._cells = cells
        self._levels = {(word, str(level)) for levels in cells.values() for word, level in levels.items()}
        self._shared: dict[str, Flag] = {}
        self._seen: list[str] = []

    def see(self, cell: str, flags: Sequence[Flag]) -> None:
        """One more run."""
        if self.over:
            return
        found = {flag.code: flag for flag in flags if not flag.remark and flag.code not in _PASSING}
        shared = {code: flag for code, flag in found.items() if code in self._shared}
        self._seen = [*self._seen, cell] if shared else [cell]
        self._shared = shared or found
        if not found:
            self._seen = []

    @property
    def over(self) -> bool:
        """Whether going on would give more of the same."""
        if not self._most or len(self._seen) < self._most or not self._shared:
            return False
        ran = {(word, str(level)) for cell in self._seen for word, level in self._cells[cell].items()}
        return ran == self._levels

    def error(self, device: str) -> LabError | None:
        """What to end the sweep with; nothing while there is hope."""
        if not self.over:
            return None
        code, flag = next(iter(self._shared.items()))
        kind = DeviceRefusedError if code in _REFUSED else MeasurementError
        return kind(
            f"{len(self._seen)} runs in a row are flagged {code}: {flag.detail}",
            device=device,
            hint="mend that, then `devicelab sweep --resume` goes on; --set give_up_after=0 runs all the same",
        )


def reasons(flags: Iterable[tuple[Flag, ...]]) -> tuple[tuple[str, int, str], ...]:
    """Why runs are invalid, most frequent first: a flag's code, how many runs have it, the words of one."""
    by_code: dict[str, list[str]] = {}
    for of_run in flags:
        for code, detail in {flag.code: flag.detail for flag in of_run}.items():
            by_code.setdefault(code, []).append(detail)
    ranked = sorted(by_code.items(), key=lambda item: -len(item[1]))
    return tuple((code, len(details), details[0]) for code, details in ranked)
