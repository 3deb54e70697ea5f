"""From production and kernel times to K: the launch model, its optimum, its fit. Pure functions on arrays.

A library for analyses and the command line, not an analysis itself. Times are nanoseconds, arrays have length N.
"""

from devicelab.analyses.klo.model.core import (
    LaunchCosts,
    Timeline,
    best_constant,
    best_schedule,
    constant_batches,
    constant_curve,
    floor_ns,
    makespan,
    root_estimates,
    simulate,
)
from devicelab.analyses.klo.model.fit import Fit, Observed, fit
from devicelab.analyses.klo.model.near import NearOptimal, near_optimal_set
from devicelab.analyses.klo.model.policy import simulate_dynamic

__all__ = [
    "Fit",
    "LaunchCosts",
    "NearOptimal",
    "Observed",
    "Timeline",
    "best_constant",
    "best_schedule",
    "constant_batches",
    "constant_curve",
    "fit",
    "floor_ns",
    "makespan",
    "near_optimal_set",
    "root_estimates",
    "simulate",
    "simulate_dynamic",
]
