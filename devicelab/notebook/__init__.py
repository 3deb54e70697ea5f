"""devicelab from Python: stored campaigns as tidy frames, and sweeps from a script or notebook.

    import devicelab as dl

    with dl.open() as lab:
        results = lab.results()  # the latest campaign
        wide = results.wide()    # a row a run: factors and figures, units in wide.attrs["units"]

Times are nanoseconds where a name ends in ``_ns``. Errors are ``devicelab.errors``.
"""

from devicelab.notebook.lab import Campaign, Lab, open  # noqa: A004 - said as dl.open
from devicelab.notebook.sweeping import sweep

__all__ = ["Campaign", "Lab", "open", "sweep"]
