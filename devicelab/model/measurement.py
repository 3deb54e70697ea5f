"""What a workload's output says, in the form the store keeps: tables of raw samples, metrics, facts, flags."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devicelab.model.journal import Flag

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Column = NDArray[np.int64] | NDArray[np.float64]
else:
    Column = Any  # commands that measure nothing (`devices`, `restore`) do without numpy
Table = dict[str, Column]


@dataclass(frozen=True)
class Metric:
    """One figure of a run, with its unit ("ns", "pct", "1/s", "1")."""

    value: float
    unit: str


@dataclass(frozen=True)
class Measurement:
    """Parsed output of one program in one run.

    Attributes:
        tables: table name → column name → 1-D array; the columns of one table have equal length. ``klo`` gives
            ``kernels`` and ``inferences``, tenants give ``requests``.
        metrics: figures of the whole run, by name; a run's figure is one observation for statistics.
        info: what the program said about itself (device, driver, versions, parameters).
        flags: reasons not to believe the run.
        simulated: an emulated part produced these numbers.
    """

    tables: dict[str, Table] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    info: dict[str, str | int | float | bool] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    simulated: bool = False
