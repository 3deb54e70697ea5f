"""Heat: lumps of silicon that warm up with what runs on them and cool down again, zones, trips, cooling devices.

Each mass follows its equilibrium with one time constant: ``target = base + c_per_w * power``,
``T += (target - T) * (1 - exp(-dt / tau))``. A CPU's power grows with the square of its place in the frequency table,
between the figures of the kind. All numbers are the kind's, none is measured here.
"""

import errno
import math
import random
from collections.abc import Callable

from virtualboards.kernel.cpufreq import Policy
from virtualboards.kernel.gpu import Gpu
from virtualboards.kernel.nodes import Caller, Tree, fail
from virtualboards.kernel.spec import BoardSpec, ZoneSpec
from virtualboards.kernel.text import scan_u32

CLASS_DIR = "/sys/class/thermal"
_HOME = "/sys/devices/virtual/thermal"
_POLL_NS = 250_000_000
# CPUs taken offline by heat return this many degrees below.
_HOTPLUG_GAP_C = 10.0


class Cooling:
    """A cooling device: state 0 is full speed, every state more takes one table entry off the top."""

    def __init__(self, kind: str, states: tuple[int, ...], apply: Callable[[int], None]) -> None:
        self.kind, self.states, self._apply = kind, states, apply
        self.state = 0

    def set(self, state: int) -> None:
        """Cool by that state.

        Raises:
            OSError: EINVAL beyond the highest state.
        """
        if not 0 <= state < len(self.states):
            raise fail(errno.EINVAL)
        if state != self.state:
            self.state = state
            self._apply(self.states[state] if state else 0)


class Zone:
    """A thermal zone: its number and type, the spec it belongs to, and its own small offset."""

    def __init__(self, number: int, kind: str, spec: ZoneSpec, offset_c: float) -> None:
        self.number, self.kind, self.spec, self.offset_c = number, kind, spec, offset_c
        self.enabled = True
        self.plugged_out = False


class Heat:
    """All masses, zones and cooling devices of a board."""

    def __init__(
        self,
        spec: BoardSpec,
        policies: tuple[Policy, ...],
        gpu: Gpu | None,
        load: Callable[[int], float],
        chance: random.Random,
    ) -> None:
        self._spec, self._policies, self._gpu, self._load = spec, {p.spec.name: p for p in policies}, gpu, load
        self._masses = sorted(spec.masses, key=lambda mass: mass.base != "")
        self.temps: dict[str, float] = {}
        for mass in self._masses:
            self.temps[mass.name] = self.temps.get(mass.base, spec.ambient_c) + mass.idle_w * mass.c_per_w
        self.zones: list[Zone] = []
        for part in spec.zones:
            number = part.number if part.number >= 0 else (self.zones[-1].number + 1 if self.zones else 0)
            for index, kind in enumerate(part.types):
                offset = part.offset_c + chance.uniform(-part.spread_c, part.spread_c)
                self.zones.append(Zone(number + index, kind, part, offset))
        self.cooling = {
            policy.spec.name: Cooling(f"thermal-cpufreq-{index}", policy.table[::-1], _limit_cpu(policy))
            for index, policy in enumerate(policies)
        }
        if gpu is not None:
            kind = "thermal-gpufreq-0" if gpu.spec.family.startswith("mali") else "thermal-devfreq-0"
            self.cooling["gpu"] = Cooling(kind, gpu.table[::-1], _limit_gpu(gpu))
        self.plug: Callable[[int, bool], None] = lambda _cpu, _online: None
        self._next_poll_ns = 0
        self._forced: dict[str, tuple[float, int]] = {}

    def zone_c(self, zone: Zone) -> float:
        """What the zone measures, in degrees."""
        return self.temps[zone.spec.mass] + zone.offset_c

    def mass_c(self, name: str) -> float:
        """Temperature of a mass in degrees; of one that does not exist, the board's."""
        return self.temps.get(name, next(iter(self.temps.values())))

    def named(self, where: str) -> list[str]:
        """The masses that the name of a mass or zone means; everything made of silicon if it is empty.

        Raises:
            ValueError: no such mass or zone.
        """
        if where in self.temps:
            return [where]
        silicon = [mass.name for mass in self._masses if mass.base] or [mass.name for mass in self._masses]
        if where:
            silicon = [zone.spec.mass for zone in self.zones if zone.kind == where]
            if not silicon:
                raise ValueError(f"no thermal zone or mass named {where!r}")
        return silicon

    def force(self, celsius: float, until_ns: int, where: str = "") -> None:
        """Something outside heats the silicon (or the one mass or zone named) to at least so much for a while.

        Raises:
            ValueError: no such mass or zone.
        """
        for name in self.named(where):
            self._forced[name] = (celsius, until_ns)
            self.temps[name] = max(self.temps[name], celsius)

    def step(self, at_ns: int, dt_ns: int) -> None:
        """Time passed: warm up, cool down, throttle."""
        seconds = dt_ns / 1e9
        for mass in self._masses:
            watts = mass.idle_w + sum(self.power_w(source) for source in mass.sources)
            target = self.temps.get(mass.base, self._spec.ambient_c) + mass.c_per_w * watts
            now = self.temps[mass.name]
            self.temps[mass.name] = now + (target - now) * -math.expm1(-seconds / mass.tau_s)
            celsius, until_ns = self._forced.get(mass.name, (-math.inf, 0))
            if at_ns < until_ns:
                self.temps[mass.name] = max(self.temps[mass.name], celsius)
        if at_ns >= self._next_poll_ns:
            late = max(0, at_ns - self._next_poll_ns) if self._next_poll_ns else 0
            self._next_poll_ns = at_ns + _POLL_NS
            self._throttle(1 + late // _POLL_NS)

    def status(self) -> int:
        """Android's thermal status: 0 none, 2 moderate (something throttles), 4 critical (at a critical trip)."""
        if any(zone.spec.trip_c and self.zone_c(zone) >= zone.spec.critical_c for zone in self.zones):
            return 4
        return 2 if any(device.state for device in self.cooling.values()) else 0

    @property
    def sources(self) -> tuple[str, ...]:
        """Everything that draws power: policies and the GPU."""
        return (*self._policies, *(("gpu",) if self._gpu is not None else ()))

    def power_w(self, source: str) -> float:
        """What a policy's CPUs or the GPU draw at this moment."""
        if source == "gpu":
            return self._gpu.power_w() if self._gpu is not None else 0.0
        policy = self._policies[source]
        part = policy.spec
        span = max(1, policy.table[-1] - policy.table[0])
        place = (policy.cur - policy.table[0]) / span
        each = part.min_mw + (part.max_mw - part.min_mw) * place * place
        return each / 1000 * sum(self._load(cpu) for cpu in part.cpus)

    def _throttle(self, polls: int) -> None:
        wanted: dict[str, int] = {}
        for zone in self.zones:
            if not zone.spec.trip_c or not zone.enabled:
                continue
            here = self.zone_c(zone)
            for name in zone.spec.cools:
                if name in self.cooling:
                    state = self.cooling[name].state
                    if here >= zone.spec.trip_c:
                        state += polls
                    elif here < zone.spec.trip_c - zone.spec.hysteresis_c:
                        state -= polls
                    wanted[name] = max(state, wanted.get(name, 0))
            self._hotplug(zone, here)
        for name, state in wanted.items():
            device = self.cooling[name]
            device.set(max(0, min(state, len(device.states) - 1)))

    def _hotplug(self, zone: Zone, here: float) -> None:
        limit = zone.spec.hotplug_c
        if not limit:
            return
        out = here >= limit or (zone.plugged_out and here >= limit - _HOTPLUG_GAP_C)
        if out != zone.plugged_out:
            zone.plugged_out = out
            for name in zone.spec.cools:
                for cpu in self._policies[name].spec.cpus if name in self._policies else ():
                    self.plug(cpu, not out)


def _limit_cpu(policy: Policy) -> Callable[[int], None]:
    return lambda khz: policy.request("thermal", high=khz or None)


def _limit_gpu(gpu: Gpu) -> Callable[[int], None]:
    def apply(hz: int) -> None:
        gpu.cap_hz = hz

    return apply


def install(tree: Tree, heat: Heat) -> None:
    """Put zones and cooling devices into the tree; the class directory holds links, as in sysfs."""
    numbers = {name: index for index, name in enumerate(heat.cooling)}
    for index, device in enumerate(heat.cooling.values()):
        base = f"{_HOME}/cooling_device{index}"

        def write(text: str, _caller: Caller, device: Cooling = device) -> None:
            device.set(scan_u32(text))

        tree.file(f"{base}/type", f"{device.kind}\n")
        tree.file(f"{base}/max_state", f"{len(device.states) - 1}\n")
        tree.file(f"{base}/cur_state", lambda device=device: f"{device.state}\n", write)  # type: ignore[misc]
        tree.link(f"{CLASS_DIR}/cooling_device{index}", base)
    for zone in heat.zones:
        base = f"{_HOME}/thermal_zone{zone.number}"
        _install_zone(tree, base, heat, zone)
        for place, name in enumerate(zone.spec.cools if zone.spec.trip_c else ()):
            if name in numbers:
                tree.link(f"{base}/cdev{place}", f"{_HOME}/cooling_device{numbers[name]}")
        tree.link(f"{CLASS_DIR}/thermal_zone{zone.number}", base)


def _install_zone(tree: Tree, base: str, heat: Heat, zone: Zone) -> None:
    part = zone.spec

    def temp() -> str:
        # Sensors resolve a tenth of a degree.
        return "" if part.empty else f"{round(heat.zone_c(zone) * 10) * part.scale // 10}\n"

    def mode(text: str, _caller: Caller) -> None:
        if text.strip() not in {"enabled", "disabled"}:
            raise fail(errno.EINVAL)
        zone.enabled = text.strip() == "enabled"

    tree.file(f"{base}/type", f"{zone.kind}\n")
    tree.file(f"{base}/temp", temp)
    tree.file(f"{base}/mode", lambda: f"{'enabled' if zone.enabled else 'disabled'}\n", mode)
    tree.file(f"{base}/policy", f"{part.policy}\n")
    trips = [("passive", part.trip_c, part.hysteresis_c)] if part.trip_c else []
    for place, (kind, celsius, gap) in enumerate([*trips, ("critical", part.critical_c, 0.0)]):
        tree.file(f"{base}/trip_point_{place}_type", f"{kind}\n")
        tree.file(f"{base}/trip_point_{place}_temp", f"{round(celsius * 1000)}\n")
        tree.file(f"{base}/trip_point_{place}_hyst", f"{round(gap * 1000)}\n")
