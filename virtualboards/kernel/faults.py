"""Faults of a board's kernel and silicon, on demand.

``thermal``: heats the silicon, or the zone or mass ``where``, to ``celsius`` for ``seconds``.
``daemon``: from now on a service ``name`` writes ``value`` to ``path`` every ``period_s`` with the rights of ``uid``,
until it is stopped; without a path, what the board's own daemon would write when it is hot.
``power``: the board draws ``watts`` (below 0: what its silicon does), and its gauge is wrong by ``noise_pct`` at every
reading. ``charger``: plugged in, or with ``on`` = 0 pulled. ``charge``: the battery is at ``pct``. ``rails-reset``: the
monitors of the rails begin anew. ``offline``: CPU ``cpu`` goes offline. ``isolate``: CPU ``cpu`` is isolated from the
scheduler (``on`` = 0 ends it).
"""

import math
from typing import Any

from virtualboards.kernel.cpufreq import CPU_DIR
from virtualboards.kernel.kernel import Kernel
from virtualboards.kernel.spec import DaemonSpec

FAULTS: dict[str, dict[str, float | str]] = {
    "thermal": {"celsius": 95.0, "seconds": 30.0, "where": ""},
    "daemon": {"name": "", "path": "", "value": "", "period_s": 2.0, "uid": 0.0},
    "power": {"watts": -1.0, "noise_pct": 0.0},
    "charger": {"on": 1.0},
    "charge": {"pct": 20.0},
    "rails-reset": {},
    "offline": {"cpu": 1.0},
    "isolate": {"cpu": 1.0, "on": 1.0},
}
"""Faults and their arguments with the values used where none are given."""

_MOST = 1e9
"""No number of a fault is larger; what is computed from one stays far from every limit."""


def check(kernel: Kernel, fault: str, **args: float | str) -> None:
    """Refuse at once what ``inject`` would refuse.

    Raises:
        ValueError: an unknown fault or argument, or one that makes no sense on this board.
    """
    with kernel.lock:
        _values(kernel, fault, args)


def inject(kernel: Kernel, fault: str, **args: float | str) -> None:
    """Make a fault happen now.

    Raises:
        ValueError: an unknown fault or argument, or one that makes no sense on this board.
        OSError: the board refuses, as it does to take its last CPU.
    """
    with kernel.lock:
        kernel.advance()
        values = _values(kernel, fault, args)
        if fault == "thermal":
            until = kernel.at_ns + int(values["seconds"] * 1e9)
            kernel.heat.force(values["celsius"], until, values["where"])
        elif fault == "daemon":
            kernel.daemons.add(_rogue(kernel, **values))
        elif fault == "power":
            kernel.power.plant(**values)
        elif fault == "charger":
            kernel.power.plugged = bool(values["on"])
        elif fault == "charge":
            kernel.power.level_pct = min(100.0, max(0.0, values["pct"]))
        elif fault == "rails-reset":
            kernel.power.reset()
        else:
            _take(kernel, int(values["cpu"]), fault, on=bool(values.get("on", 1.0)))


def _values(kernel: Kernel, fault: str, args: dict[str, float | str]) -> dict[str, Any]:
    """All arguments of a fault, each of its kind; the kernel's lock is held."""
    usual = FAULTS.get(fault)
    if usual is None:
        raise ValueError(f"unknown fault {fault!r}; known: {', '.join(FAULTS)}")
    wrong = sorted(args.keys() - usual.keys())
    if wrong:
        raise ValueError(f"fault {fault!r} knows no {wrong[0]!r}; known: {', '.join(usual)}")
    given = {**usual, **args}
    values: dict[str, Any] = {n: _text(given[n]) if isinstance(v, str) else float(given[n]) for n, v in usual.items()}
    for name, value in values.items():
        if isinstance(value, float) and not (math.isfinite(value) and abs(value) <= _MOST):
            raise ValueError(f"{name} cannot be {value}")
    if fault == "thermal":
        kernel.heat.named(values["where"])
    elif fault in {"offline", "isolate"} and (
        values["cpu"] not in kernel.cpus.possible or (values["cpu"] == 0 and fault == "offline")
    ):
        raise ValueError(f"CPU {_text(values['cpu'])} cannot be taken from this board")
    return values


def _text(value: float | str) -> str:
    # From the command line whatever looks like a number has become one.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _take(kernel: Kernel, cpu: int, fault: str, *, on: bool) -> None:
    if fault == "offline":
        kernel.plug(cpu, online=False)
    else:
        held = kernel.cpus.isolated_by.get("fault", frozenset())
        kernel.cpus.isolate("fault", held | {cpu} if on else held - {cpu})


def _rogue(kernel: Kernel, *, name: str, path: str, value: str, period_s: float, uid: float) -> DaemonSpec:
    if path:
        return DaemonSpec(name or "vendor.rogue", {path: value}, period_s, int(uid))
    own = kernel.daemons.restless(name)
    if own is not None:
        return DaemonSpec(own.name, own.writes, period_s, own.uid)
    policy = kernel.policies[-1]
    node = f"{CPU_DIR}/cpufreq/{policy.spec.name}/scaling_max_freq"
    return DaemonSpec(name or "vendor.rogue", {node: str(policy.table[len(policy.table) // 2])}, period_s, int(uid))
