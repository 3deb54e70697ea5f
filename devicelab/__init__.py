"""devicelab: how does a program's latency change with the board's load, clocks, flush period or GPU scheduler?

``import devicelab as dl`` is for scripts and notebooks: ``dl.open`` for what is stored, ``dl.sweep`` to measure.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devicelab.notebook import Campaign, Lab, open, sweep  # noqa: A004 - said as dl.open

__version__ = "0.2.0"

__all__ = ["Campaign", "Lab", "__version__", "open", "sweep"]


def __getattr__(name: str) -> Any:
    # pandas, SQLAlchemy and the rest are imported when they are used: every command begins by importing this.
    if name not in __all__:
        raise AttributeError(f"module 'devicelab' has no attribute {name!r}")
    return getattr(importlib.import_module("devicelab.notebook"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
