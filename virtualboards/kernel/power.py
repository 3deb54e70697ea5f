"""What a board draws and who feeds it: a battery with its gauge, a charger, monitors of single rails.

Known truth is the energy drawn (``Power.drawn_j``). What a gauge shows of it is the vendor's: units, signs, noise, and
how often it measures. All numbers are the kind's or a fault's, none is measured here.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from virtualboards.kernel.nodes import Caller, Tree, fail
from virtualboards.kernel.spec import PowerSpec
from virtualboards.kernel.text import scan_u32
from virtualboards.kernel.thermal import Heat

HOME = "/sys/class/power_supply"
_ODPM = "/sys/bus/iio/devices/iio:device0/energy_value"
_FULL_AH = 4.0
# What a computer's USB port gives.
_CHARGER_W = 2.5
_VOLTS = 4.123


@dataclass(frozen=True)
class Planted:
    """What a test wants to be true, or shown, instead of what the board does by itself.

    ``watts`` < 0: what the silicon draws. ``noise_pct``: of each new reading of the gauge.
    """

    watts: float = -1.0
    noise_pct: float = 0.0


class Power:
    """The power of a board, its battery and its charger."""

    def __init__(self, spec: PowerSpec, heat: Heat, chance: random.Random, at_ns: int) -> None:
        self.spec, self._heat, self._chance = spec, heat, chance
        self.planted = Planted()
        self.drawn_j = 0.0
        self.plugged = spec.plugged
        self.level_pct = 87.0
        self.rails_j = dict.fromkeys(heat.sources, 0.0)
        self.at_ns = at_ns
        self._held = {node: "1" if node.endswith("charging_enabled") else "0" for node in spec.suspend}
        self._shown_ns, self._shown_a = -(1 << 62), 0.0

    @property
    def watts(self) -> float:
        """What the board draws at this moment."""
        if self.planted.watts >= 0:
            return self.planted.watts
        return self.spec.idle_w + sum(self._heat.power_w(source) for source in self.rails_j)

    @property
    def fed(self) -> bool:
        """A charger feeds it."""
        kept = any(self._held.get(node) == "1" for node in ("input_suspend", "batt_slate_mode"))
        return self.plugged and not kept

    @property
    def battery_w(self) -> float:
        """What leaves the battery; negative while it is charged."""
        if not self.fed:
            return self.watts
        return self.watts - _CHARGER_W if self._charges else max(0.0, self.watts - _CHARGER_W)

    @property
    def status(self) -> str:
        """As the battery's ``status`` says."""
        if not self.fed:
            return "Discharging"
        return "Charging" if self._charges else "Not charging"

    @property
    def _charges(self) -> bool:
        return all(value == "1" for node, value in self._held.items() if node.endswith("charging_enabled"))

    def plant(self, **changes: float) -> None:
        """See ``Planted``."""
        self.planted = replace(self.planted, **changes)

    def step(self, at_ns: int, dt_ns: int) -> None:
        """Time passed."""
        self.at_ns = at_ns
        seconds = dt_ns / 1e9
        total_w = self.watts
        self.drawn_j += total_w * seconds
        self.level_pct = min(100.0, self.level_pct - 100 * self.battery_w * seconds / 3600 / _VOLTS / _FULL_AH)
        for source in self.rails_j:
            self.rails_j[source] += self._heat.power_w(source) * seconds

    def reset(self) -> None:
        """The monitors of the rails begin anew."""
        self.rails_j = dict.fromkeys(self.rails_j, 0.0)

    def current(self) -> str:
        """``current_now``, as the gauge measured it last."""
        if self.at_ns - self._shown_ns >= self.spec.gauge_ms * 1_000_000:
            noise = self._chance.gauss(0.0, self.planted.noise_pct / 100) if self.planted.noise_pct else 0.0
            self._shown_ns, self._shown_a = self.at_ns, self.battery_w / _VOLTS * (1 + noise)
        sign = 1 if self.spec.positive else -1
        return f"{round(sign * self._shown_a * (1e3 if self.spec.milli else 1e6))}\n"

    def charge(self) -> str:
        """``charge_counter`` in uAh."""
        return f"{round(_FULL_AH * 1e6 * self.level_pct / 100)}\n"

    def rails(self) -> str:
        """``energy_value`` of the monitors: a stamp in ms, then uJ by rail."""
        at_ms = self.at_ns // 1_000_000
        lines = [
            f"CH{i}(T={at_ms})[VDD_{name.upper()}], {round(j * 1e6)}"
            for i, (name, j) in enumerate(self.rails_j.items())
        ]
        return "\n".join([f"t={at_ms}", *lines, ""])

    def hold(self, node: str) -> tuple[Callable[[], str], Callable[[str, Caller], None]]:
        """How a node that suspends the charger is read and written."""

        def write(text: str, _caller: Caller) -> None:
            if (value := scan_u32(text)) > 1:
                raise fail(22)
            self._held[node] = str(value)

        return lambda: f"{self._held[node]}\n", write


def install(tree: Tree, power: Power) -> None:
    """Put gauge, charger and monitors into the tree."""
    nodes = {
        "status": lambda: f"{power.status}\n",
        "capacity": lambda: f"{max(0, int(power.level_pct))}\n",
        "current_now": power.current,
        "charge_counter": power.charge,
    }
    for name, read in nodes.items():
        tree.file(f"{HOME}/battery/{name}", read)
    tree.file(f"{HOME}/battery/voltage_now", f"{round(_VOLTS * 1e6)}\n")
    tree.file(f"{HOME}/usb/online", lambda: f"{int(power.plugged)}\n")
    for node in power.spec.suspend:
        tree.file(f"{HOME}/battery/{node}", *power.hold(node))
    if power.spec.monitors:
        tree.file(_ODPM, power.rails)
