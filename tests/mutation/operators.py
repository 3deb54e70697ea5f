"""The mistakes that are planted: one operator, bound, number or condition changed.

mutmut's own, without those that change a text, drop an argument or assign ``None``: such a change fails wherever the
line runs and says little about a test. Added are the swaps that a slip of the mind makes between two functions.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import libcst as cst
from mutmut.mutation import mutators

_SWAPPED = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "floor": "ceil",
    "ceil": "floor",
    "argmin": "argmax",
    "argmax": "argmin",
    "mean": "median",
    "median": "mean",
}
_LEFT_OUT = (
    mutators.operator_string,
    mutators.operator_dict_arguments,
    mutators.operator_arg_removal,
    mutators.operator_assignment,
    mutators.operator_lambda,
)


def swapped_function(call: cst.Call) -> Iterable[cst.Call]:
    """``min(…)`` to ``max(…)`` and its like, also as an attribute (``np.min``)."""
    if isinstance(call.func, cst.Name) and (other := _SWAPPED.get(call.func.value)):
        yield call.with_changes(func=call.func.with_changes(value=other))
    if isinstance(call.func, cst.Attribute) and (other := _SWAPPED.get(call.func.attr.value)):
        yield call.with_changes(func=call.func.with_changes(attr=cst.Name(other)))


def mistakes() -> Sequence[tuple[type, Callable[[Any], Iterable[cst.CSTNode]]]]:
    """The operators in mutmut's form: kind of node, and what is made of it."""
    own = [(kind, change) for kind, change in mutators.mutation_operators if change not in _LEFT_OUT]
    return [*own, (cst.Call, swapped_function)]
