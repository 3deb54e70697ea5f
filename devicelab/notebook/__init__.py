"""devicelab from Python: stored campaigns as tidy frames, and sweeps from a script or notebook.

    import devicelab as dl

    with dl.open() as lab:
        results = lab.results()  # the latest campaign
        wide = results.wide()    # a row a run: factors and figures, units in wide.attrs["units"]

``devicelab`` itself hands out what stands here, so that whoever reads results does not import what measures. Times are
nanoseconds where a name ends in ``_ns``. Errors are ``devicelab.errors``.
"""
