"""The launch cost table (LUT): what launching costs on one device at each clock; where and when it was measured."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from devicelab.analyses import _frames
from devicelab.analyses.klo.condition import WORST_RESIDUAL_PCT, Condition
from devicelab.analyses.klo.data import KloData
from devicelab.analyses.klo.model import LaunchCosts
from devicelab.analyses.klo.model.fit import NAMES
from devicelab.errors import ConfigError
from devicelab.model.plan import Noun
from devicelab.model.results import Results

DAY_NS = 86_400_000_000_000

Nanoseconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class Entry(Noun):
    """Launch costs under one condition.

    Attributes:
        levels: the condition's levels ("cpu", "gpu", "load", ...), by factor.
        cpu_khz: median clock of each CPU policy while it was measured, by node.
        gpu_clock: the same of the GPU, in the node's own unit.
        flush_ns, start_idle_ns, gap_ns: the costs.
        flush_per_kernel_ns: what each kernel of a batch adds to its flush.
        intervals_ns: 95% intervals by cost, where there is one.
        not_identified: costs that the runs could not tell; they are upper bounds.
        residual_pct: median difference between measured and modelled time, percent.
        runs: number of runs behind it.
    """

    levels: dict[str, str] = Field(default_factory=dict)
    cpu_khz: dict[str, float] = Field(default_factory=dict)
    gpu_clock: dict[str, float] = Field(default_factory=dict)
    flush_ns: Nanoseconds
    start_idle_ns: Nanoseconds
    gap_ns: Nanoseconds
    flush_per_kernel_ns: Nanoseconds = 0.0
    intervals_ns: dict[str, tuple[float, float]] = Field(default_factory=dict)
    not_identified: tuple[str, ...] = ()
    residual_pct: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    runs: Annotated[int, Field(ge=0)]

    @property
    def costs(self) -> LaunchCosts:
        """The costs as the model takes them."""
        return LaunchCosts(self.flush_ns, self.start_idle_ns, self.gap_ns, self.flush_per_kernel_ns)


class LaunchTable(Noun):
    """A table with its provenance; ``placeholder`` marks invented numbers, which nothing may be concluded from."""

    launch_table: Literal[1] = 1
    placeholder: bool = False
    simulated: bool = False
    board: str
    device: str
    gpu: str = ""
    driver: str = ""
    os_build: str = ""
    kernel: str = ""
    backend: str = ""
    network: str = ""
    campaign: str
    measured_unix_ns: int
    devicelab: str = ""
    entries: tuple[Entry, ...]

    def age_days(self, now_unix_ns: int | None = None) -> float:
        """Days since it was measured."""
        now = time.time_ns() if now_unix_ns is None else now_unix_ns
        return (now - self.measured_unix_ns) / DAY_NS

    def entry(self, levels: Mapping[str, str]) -> Entry:
        """The entry of a condition: the one whose CPU and GPU levels, and load if the table has it, are those.

        Raises:
            ConfigError: there is none; names those there are.
        """
        # What was measured with free clocks says nothing about pinned ones.
        pinned = {name: level for name, level in levels.items() if name in {"cpu", "gpu"} and level != "-"}
        fitting = [
            one
            for one in self.entries
            if all(levels.get(name, level) == level for name, level in one.levels.items())
            and all(one.levels.get(name) == level for name, level in pinned.items())
        ]
        if len(fitting) != 1:
            known = "; ".join(_frames.label(one.levels) for one in self.entries)
            wrong = "no" if not fitting else "more than one"
            raise ConfigError(f"{wrong} entry of the launch cost table fits {dict(levels)}", hint=f"it has: {known}")
        return fitting[0]


def measure(results: Results, data: KloData) -> LaunchTable:
    """The table of a campaign that ran several K with kernel timestamps.

    Raises:
        ConfigError: no condition has fitted costs.
    """
    entries = tuple(_entry(results, condition) for condition in data.conditions if condition.profile is not None)
    if not entries:
        raise ConfigError(
            f"campaign {results.campaign} has no kernel timestamps to fit launch costs from",
            hint="run an experiment with the klo workload and several K, such as lut_frequency",
        )
    info = results.info
    said: dict[str, object] = next((one for one in info.get("programs", {}).values() if "backend" in one), {})
    return LaunchTable(
        simulated=data.simulated,
        board=str(info.get("board", "")),
        device=str(info.get("device", "")),
        gpu=str(said.get("device", "")),
        driver=str(info.get("gpu_driver", "")),
        os_build=str(info.get("os_build", "")),
        kernel=str(info.get("kernel", "")),
        backend=str(said.get("backend", "")),
        network=str(said.get("network", "")),
        campaign=results.campaign,
        measured_unix_ns=int(info.get("start_unix_ns") or results.runs()["t_unix_ns"].min()),
        devicelab=str(info.get("version", "")),
        entries=entries,
    )


def _entry(results: Results, condition: Condition) -> Entry:
    if condition.profile is None:
        raise ValueError("a condition without kernel timestamps has no costs")
    fit = condition.profile.fit
    record = results.evidence(str(condition.runs["run_id"].iloc[0]))
    return Entry(
        levels={name: text for name, text in condition.levels.items() if text != "-"},
        cpu_khz=_frames.clocks(record, "cpu"),
        gpu_clock=_frames.clocks(record, "gpu"),
        flush_ns=fit.costs.flush_ns,
        start_idle_ns=fit.costs.start_idle_ns,
        gap_ns=fit.costs.gap_ns,
        flush_per_kernel_ns=fit.costs.flush_per_kernel_ns,
        intervals_ns={name: interval for name in NAMES if (interval := fit.intervals[name]) is not None},
        not_identified=tuple(name for name in NAMES if not fit.identified[name]),
        residual_pct=fit.residual_pct,
        runs=fit.runs,
    )


def save(table: LaunchTable, path: Path) -> None:
    """Write a table as JSON.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.write_text(table.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def load(path: Path) -> LaunchTable:
    """Read a table.

    Raises:
        ConfigError: not readable, or not such a table; names the place.
    """
    try:
        return LaunchTable.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(
            f"{path} is no launch cost table: {where}: {first['msg']}", hint="write one with `devicelab klo lut`"
        ) from error


def require_fits(
    table: LaunchTable,
    info: Mapping[str, object],
    *,
    foreign: bool = False,
    max_age_days: float | None = None,
    now_unix_ns: int | None = None,
) -> tuple[str, ...]:
    """Refuse a table that was not measured on this device as it is now.

    Args:
        table: the table.
        info: of the campaign it is to be used for (``Results.info``: board, device, gpu_driver, os_build, simulated).
        foreign: use a table of another device, driver or system all the same; what differs is returned.
        max_age_days: refuse an older one.
        now_unix_ns: the time to take the age at; now by default.

    Returns:
        What differs, one sentence each; empty if the table fits.

    Raises:
        ConfigError: invented numbers (a placeholder, or nothing measured behind them) or a fit that does not describe
            the device: both always; a foreign or too old table unless told.
    """
    hint = "measure one on this device: devicelab sweep lut_frequency, then devicelab klo lut"
    if table.placeholder or not table.entries or any(entry.runs < 1 for entry in table.entries) or not table.campaign:
        raise ConfigError("the launch cost table is a placeholder: nothing was measured for it", hint=hint)
    worst = max(entry.residual_pct for entry in table.entries)
    if worst > WORST_RESIDUAL_PCT:
        raise ConfigError(f"the launch cost table does not describe its device: off by {worst:.0f}%", hint=hint)
    pairs = (
        ("board", table.board, info.get("board")),
        ("device", table.device, info.get("device")),
        ("GPU driver", table.driver, info.get("gpu_driver")),
        ("system build", table.os_build, info.get("os_build")),
        ("simulated", table.simulated, bool(info.get("simulated", False))),
    )
    differs = [
        f"{name} {ours!r} instead of {theirs!r}" for name, ours, theirs in pairs if ours != (theirs or type(ours)())
    ]
    age = table.age_days(now_unix_ns)
    if max_age_days is not None and not 0 <= age <= max_age_days:
        differs.append(f"measured {age:.0f} days ago, at most {max_age_days:g} are allowed")
    if differs and not foreign:
        raise ConfigError(f"the launch cost table does not fit: {'; '.join(differs)}", hint=f"{hint}; or say --foreign")
    return tuple(differs)
