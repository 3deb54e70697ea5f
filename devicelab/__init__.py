"""devicelab: how does a program's latency change with the board's load, clocks, flush period or GPU scheduler?

``import devicelab as dl`` is for scripts and notebooks: ``dl.open`` for what is stored, ``dl.sweep`` to measure.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devicelab.notebook.lab import Campaign, Lab, open  # noqa: A004 - said as dl.open
    from devicelab.notebook.sweeping import sweep

__version__ = "0.2.0"

__all__ = ["Campaign", "Lab", "__version__", "open", "sweep"]

_WHERE = {"Campaign": "lab", "Lab": "lab", "open": "lab", "sweep": "sweeping"}


def __getattr__(name: str) -> Any:
    # pandas, SQLAlchemy and the rest are imported when they are used: every command begins by importing this.
    if name not in _WHERE:
        import difflib

        near = difflib.get_close_matches(name, __all__, n=1)
        raise AttributeError(
            f"module 'devicelab' has no attribute {name!r}{f': did you mean {near[0]!r}?' if near else ''}", name=name
        )
    return getattr(importlib.import_module(f"devicelab.notebook.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
