"""cpufreq: policies with the write rules of the kernel a board runs.

Rules, with their sources (drivers/cpufreq/cpufreq.c and freq_table.c of the release named):

- before 5.4 a store works on the user's own min and max and is EINVAL if min > max; limits of others (thermal, PM QoS)
  are applied on top by notifiers; nodes of a policy without online CPU give EINVAL on write and stale values on read;
- from 5.4 on limits are requests (freq QoS): min > max is taken and min reads back clamped to max;
- from 5.16 on limits are rounded to table frequencies ("cpufreq: Make policy min/max hard requirements");
- from 5.19 on nodes of a policy without online CPU give EBUSY on read and write.
"""

import errno
from collections.abc import Callable

from virtualboards.kernel.nodes import Caller, Read, Tree, Write, fail
from virtualboards.kernel.spec import BoardSpec, PolicySpec
from virtualboards.kernel.text import scan_u32

CPU_DIR = "/sys/devices/system/cpu"
NAME_LEN = 15
_BOUND = 0xFFFFFFFF
# Share of a CPU's time from which schedutil asks for the highest frequency: next = 1.25 * max * utilisation.
_HEADROOM = 1.25


class Policy:
    """One policy: what the user asked, what others ask, what holds, and how long it held.

    ``online`` tells which CPUs are online; ``requests`` maps a name ("thermal", "ufc", an open PM-QoS device) to the
    (min, max) in kHz it asks, 0 and 2^32-1 being no wish.
    """

    def __init__(self, spec: PolicySpec, version: tuple[int, int], online: Callable[[], frozenset[int]]) -> None:
        self.spec = spec
        self.table = spec.sorted_khz
        self.lowest, self.highest = self.table[0], spec.cpuinfo_max_khz or self.table[-1]
        self.qos, self.rounds, self.busy_error = version >= (5, 4), version >= (5, 16), version >= (5, 19)
        self._online = online
        self.requests: dict[str, tuple[int, int]] = {}
        self.user_min, self.user_max = self.lowest, self.highest
        self.min, self.max = self.lowest, self.highest
        self.governor = spec.governor or spec.governors[0]
        self.setspeed = self.lowest
        self.load = 0.0
        self.cur = self.lowest
        self.ns_in_state = dict.fromkeys(spec.table_khz, 0)
        self.transitions: dict[tuple[int, int], int] = {}
        self.settle()

    @property
    def online_cpus(self) -> tuple[int, ...]:
        """Its CPUs that are online."""
        online = self._online()
        return tuple(cpu for cpu in self.spec.cpus if cpu in online)

    @property
    def loaded_khz(self) -> int:
        """The frequency a busy CPU of this policy runs at, now."""
        return self._target(1.0)

    def account(self, dt_ns: int, load: float) -> None:
        """Time passed: ``load`` is the busiest CPU's share of it (0 to 1)."""
        if self.online_cpus:
            self.ns_in_state[self.cur] += dt_ns
            self.load = load
            self.settle()

    def settle(self) -> None:
        """Let the governor choose again, after load or limits changed."""
        chosen = self._target(self.load)
        if chosen != self.cur:
            key = (self.cur, chosen)
            self.transitions[key] = self.transitions.get(key, 0) + 1
            self.cur = chosen

    def request(self, name: str, low: int | None = None, high: int | None = None) -> None:
        """Somebody other than the user asks for limits; both ``None`` withdraws."""
        if low is None and high is None:
            self.requests.pop(name, None)
        else:
            self.requests[name] = (low or 0, _BOUND if high is None else high)
        self.refresh()

    def refresh(self) -> None:
        """Compute the limits that hold from all requests."""
        low, high = self.user_min, self.user_max
        if not self.qos:
            low, high = self._verify(low, high)
        for other_low, other_high in self.requests.values():
            if self.qos:
                low, high = max(low, other_low), min(high, other_high)
            else:
                low, high = _within(low, high, other_low, other_high)
        low, high = self._verify(low, high)
        if self.rounds:
            # The order matters: max first, and min is then looked for below it.
            high = self.below(high)
            low = min(self.above(low), high)
        self.min, self.max = low, high
        self.settle()

    def set_user(self, *, low: int | None = None, high: int | None = None) -> None:
        """The user writes scaling_min_freq or scaling_max_freq.

        Raises:
            OSError: EINVAL if min > max, before 5.4.
        """
        new_low = self.user_min if low is None else low
        new_high = self.user_max if high is None else high
        if not self.qos and new_low > new_high:
            raise fail(errno.EINVAL)
        self.user_min, self.user_max = new_low, new_high
        self.refresh()

    def set_governor(self, text: str) -> None:
        """The user writes scaling_governor: the first word, at most 15 characters, compared without regard to case.

        Raises:
            OSError: EINVAL for a name that is not available.
        """
        words = text.split()
        name = words[0][:NAME_LEN].lower() if words else ""
        if name not in self.spec.governors:
            raise fail(errno.EINVAL)
        if name == "userspace" and self.governor != "userspace":
            self.setspeed = self.cur
        self.governor = name
        self.settle()

    def set_speed(self, text: str) -> None:
        """The user writes scaling_setspeed.

        Raises:
            OSError: EINVAL under a governor other than ``userspace``, or without a number.
        """
        if self.governor != "userspace":
            raise fail(errno.EINVAL)
        self.setspeed = scan_u32(text)
        self.settle()

    def below(self, khz: int) -> int:
        """The highest table frequency at or below (CPUFREQ_RELATION_H), the lowest if there is none."""
        return max((f for f in self.table if f <= khz), default=self.table[0])

    def above(self, khz: int) -> int:
        """The lowest table frequency at or above (CPUFREQ_RELATION_L), the highest if there is none."""
        return min((f for f in self.table if f >= khz), default=self.table[-1])

    def _verify(self, low: int, high: int) -> tuple[int, int]:
        # cpufreq_frequency_table_verify: at least one table frequency must lie between the limits.
        low, high = _within(low, high, self.lowest, self.highest)
        if not any(low <= khz <= high for khz in self.table):
            high = min((khz for khz in self.table if khz > high), default=self.highest)
            low, high = _within(low, high, self.lowest, self.highest)
        return low, high

    def _target(self, load: float) -> int:
        low, high = self.above(self.min), self.below(self.max)
        low = min(low, high)
        if self.governor == "performance":
            return high
        if self.governor == "powersave":
            return low
        if self.governor == "userspace":
            return max(low, min(high, self.above(max(self.min, min(self.setspeed, self.max)))))
        wanted = self.above(int(_HEADROOM * load * self.highest))
        return max(low, min(high, wanted))

    # Texts of the nodes.

    def time_in_state(self) -> str:
        """Frequency and time in units of 10 ms, in the table's order."""
        return "".join(f"{khz} {ns // 10_000_000}\n" for khz, ns in self.ns_in_state.items())

    def trans_table(self) -> str:
        """Transitions from (row) to (column)."""
        head = "   From  :    To\n         : " + "".join(f"{khz:>9} " for khz in self.table) + "\n"
        rows = (
            f"{one:>9}: " + "".join(f"{self.transitions.get((one, two), 0):>9} " for two in self.table) + "\n"
            for one in self.table
        )
        return head + "".join(rows)

    def reset_stats(self) -> None:
        """Clear time_in_state and the transitions."""
        self.ns_in_state = dict.fromkeys(self.spec.table_khz, 0)
        self.transitions.clear()


def _within(low: int, high: int, floor: int, ceiling: int) -> tuple[int, int]:
    high = min(max(high, floor), ceiling)
    return min(max(low, floor), high), high


def install(tree: Tree, spec: BoardSpec, policies: tuple[Policy, ...]) -> None:
    """Put the nodes of all policies into the tree, with a ``cpufreq`` link in every CPU's directory."""
    for policy in (policy for policy in policies if policy.spec.nodes):
        _install_policy(tree, policy)
        for cpu in policy.spec.cpus:
            tree.link(f"{CPU_DIR}/cpu{cpu}/cpufreq", f"{CPU_DIR}/cpufreq/{policy.spec.name}")
    _install_tunables(tree, spec, policies)


def _install_policy(tree: Tree, policy: Policy) -> None:
    spec, base = policy.spec, f"{CPU_DIR}/cpufreq/{policy.spec.name}"

    def show(make: Read) -> Read:
        def read() -> str | bytes:
            if policy.busy_error and not policy.online_cpus:
                raise fail(errno.EBUSY)
            return make()

        return read

    def store(take: Callable[[str], None]) -> Write:
        def write(text: str, _caller: Caller) -> None:
            if not policy.online_cpus:
                raise fail(errno.EBUSY if policy.busy_error else errno.EINVAL)
            take(text)

        return write

    def table() -> str:
        if not policy.online_cpus:  # the driver's exit() dropped the table
            raise fail(errno.ENODEV)
        return " ".join(map(str, spec.table_khz)) + " \n"

    def set_min(text: str) -> None:
        policy.set_user(low=scan_u32(text))

    def set_max(text: str) -> None:
        policy.set_user(high=scan_u32(text))

    def speed() -> str:
        return f"{policy.cur}\n" if policy.governor == "userspace" else "<unsupported>\n"

    def reset(_text: str) -> None:
        policy.reset_stats()

    fixed = {
        "related_cpus": " ".join(map(str, spec.cpus)) + "\n",
        "cpuinfo_min_freq": f"{policy.lowest}\n",
        "cpuinfo_max_freq": f"{policy.highest}\n",
        "cpuinfo_transition_latency": "0\n",
        "scaling_driver": f"{spec.driver}\n",
        "scaling_available_governors": " ".join(spec.governors) + " \n",
    }
    for name, text in fixed.items():
        tree.file(f"{base}/{name}", show(lambda text=text: text))  # type: ignore[misc]  # bound per turn
    tree.file(f"{base}/affected_cpus", show(lambda: " ".join(map(str, policy.online_cpus)) + "\n"))
    tree.file(f"{base}/scaling_available_frequencies", show(table))
    tree.file(f"{base}/scaling_cur_freq", show(lambda: f"{policy.cur}\n"))
    tree.file(f"{base}/cpuinfo_cur_freq", show(lambda: f"{policy.cur}\n"), mode=0o400)
    limits: dict[str, tuple[Read, Callable[[str], None]]] = {
        "scaling_min_freq": (lambda: f"{policy.min}\n", set_min),
        "scaling_max_freq": (lambda: f"{policy.max}\n", set_max),
        "scaling_governor": (lambda: f"{policy.governor}\n", policy.set_governor),
    }
    for name, (read, take) in limits.items():
        tree.file(f"{base}/{name}", show(read), store(take), mode=spec.limits_mode, owner=spec.limits_owner)
    tree.file(f"{base}/scaling_setspeed", show(speed), store(policy.set_speed))
    tree.file(f"{base}/stats/time_in_state", show(policy.time_in_state))
    tree.file(f"{base}/stats/total_trans", show(lambda: f"{sum(policy.transitions.values())}\n"))
    tree.file(f"{base}/stats/trans_table", show(policy.trans_table))
    tree.file(f"{base}/stats/reset", None, store(reset), mode=0o200)


def _install_tunables(tree: Tree, spec: BoardSpec, policies: tuple[Policy, ...]) -> None:
    for governor, values in spec.tunables.items():
        places = [f"{CPU_DIR}/cpufreq/{policy.spec.name}/{governor}" for policy in policies]
        for place in places if spec.per_policy_tunables else [f"{CPU_DIR}/cpufreq/{governor}"]:
            for name, text in values.items():
                _tunable(tree, f"{place}/{name}", text)


def _tunable(tree: Tree, path: str, text: str) -> None:
    held = [int(text)]

    def write(value: str, _caller: Caller) -> None:
        held[0] = scan_u32(value)

    tree.file(path, lambda: f"{held[0]}\n", write)
