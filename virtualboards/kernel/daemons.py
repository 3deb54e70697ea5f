"""Vendor daemons that write limits behind everybody's back while they run."""

import contextlib
from collections.abc import Callable
from dataclasses import replace

from virtualboards.kernel.spec import DaemonSpec

_COOLED_C = 3.0


class Daemons:
    """All daemons of a board. ``read`` and ``write`` reach its nodes, ``heat`` a mass's temperature.

    A daemon with a ``mass`` acts while it is hot, and puts back what it found when it has cooled down again.
    """

    def __init__(
        self,
        specs: tuple[DaemonSpec, ...],
        read: Callable[[str], str],
        write: Callable[[str, str, int], None],
        heat: Callable[[str], float],
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self.running = {spec.name: spec.running for spec in specs}
        self._read, self._write, self._heat = read, write, heat
        self._due_ns: dict[str, int] = {}
        self._respawn_ns: dict[str, int] = {}
        self._found: dict[str, dict[str, str]] = {}
        self._now_ns = 0

    def set(self, name: str, running: bool) -> None:
        """A service was started or stopped; unknown names are ignored."""
        spec = self._specs.get(name)
        if spec is None:
            return
        self.running[name] = running
        self._due_ns.pop(name, None)
        if not running and spec.respawn_s:
            self._respawn_ns[name] = self._now_ns + int(spec.respawn_s * 1e9)

    def add(self, spec: DaemonSpec) -> None:
        """From now on there is one more, running; one of the same name is replaced."""
        self._specs[spec.name] = spec
        self.running[spec.name] = True
        self._due_ns.pop(spec.name, None)

    def restless(self, name: str) -> DaemonSpec | None:
        """The spec of a daemon (the first if no name is given), made to act whether it is hot or not."""
        spec = self._specs.get(name) if name else next(iter(self._specs.values()), None)
        return replace(spec, mass="", above_c=0.0) if spec is not None else None

    def step(self, at_ns: int, dt_ns: int) -> None:  # noqa: ARG002  # the signature of all parts
        """Time passed: daemons whose turn has come act."""
        self._now_ns = at_ns
        for name, spec in self._specs.items():
            if not self.running[name] and at_ns >= self._respawn_ns.get(name, at_ns + 1):
                self.running[name] = True
            if self.running[name] and at_ns >= self._due_ns.get(name, 0):
                self._due_ns[name] = at_ns + int(spec.period_s * 1e9)
                self._act(spec)

    def _act(self, spec: DaemonSpec) -> None:
        found = self._found.setdefault(spec.name, {})
        if not spec.mass or self._heat(spec.mass) >= spec.above_c:
            for path, text in spec.writes.items():
                now = self._try_read(path)
                if now is not None and now != text:
                    found.setdefault(path, now)
                    self._try_write(path, text, spec.uid)
        elif found and self._heat(spec.mass) < spec.above_c - _COOLED_C:
            for path, text in found.items():
                self._try_write(path, text, spec.uid)
            found.clear()

    def _try_read(self, path: str) -> str | None:
        with contextlib.suppress(OSError):
            return self._read(path).strip()
        return None

    def _try_write(self, path: str, text: str, uid: int) -> None:
        # Daemons log what the kernel refuses and go on.
        with contextlib.suppress(OSError):
            self._write(path, f"{text}\n", uid)
