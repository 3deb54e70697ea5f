"""Vendor daemons that rewrite limits (thermal engines, performance HALs): stopped only if the experiment asks.

``daemons = "stop"`` stops those that the board file names and that run; a list of names or patterns stops those. Each
is started again at the end, and only those that were running. Kernel protection (LMh, TMU, critical trips) stays. A
name that no service of the device has is an error: nothing would be stopped, and all would look as wanted.
"""

import fnmatch
import re

from devicelab.errors import ConfigError
from devicelab.ground import registry
from devicelab.knobs import _levels
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command

WORDS = ("daemons",)
PHASE = Phase.INTERFERENCE

_SLICE = "/sys/fs/cgroup/system.slice"
GLOBS = (f"{_SLICE}/*.service/cgroup.procs",)

_STATE = "init.svc."
_NAME = re.compile(r"[A-Za-z0-9_.@*?-]+")


def applies(facts: Facts) -> bool:  # noqa: ARG001 - asked of every family
    """Always: a device on which none runs needs nothing."""
    return True


# A service that init starts again and again is at work as well.
_AT_WORK = frozenset(("running", "restarting"))


def services(facts: Facts) -> dict[str, bool]:
    """Services by name, and whether they run: all that Android's init tells of; systemd's that run, elsewhere."""
    if facts.os == "android":
        states = ((name.removeprefix(_STATE), state) for name, state in facts.props.items() if name.startswith(_STATE))
        return {name: state in _AT_WORK for name, state in sorted(states)}
    found = facts.tree.glob(f"{_SLICE}/*.service/cgroup.procs")
    return {path.removeprefix(f"{_SLICE}/").removesuffix(".service/cgroup.procs"): True for path in found}


def _chosen(want: Level, facts: Facts) -> tuple[str, ...]:
    level, known = str(want).replace(",", " ").split(), services(facts)
    if _levels.text(want) == "keep":
        return ()
    stop = _levels.text(want) == "stop"
    patterns = facts.board.daemons if stop else tuple(level)
    if not patterns or not all(_NAME.fullmatch(pattern) for pattern in patterns):
        raise ConfigError(f"daemons = {want!r} makes no sense", hint="stop, keep, or names of services")
    for pattern in () if stop else patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in known):
            error = registry.unknown("service", pattern, ("stop", "keep", *known))
            raise ConfigError(f"daemons = {want!r}: {error.message}", hint=error.hint)
    return tuple(name for name in known if known[name] and any(fnmatch.fnmatchcase(name, one) for one in patterns))


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Stop daemons that run.

    Raises:
        ConfigError: not a level, or a name that no service of the device has.
    """
    names = _chosen(want, facts)
    if names and facts.root == "none":
        return Setting(unmet=(f"no root: {', '.join(names)} cannot be stopped",))
    manager = () if facts.os == "android" else ("systemctl",)
    steps = tuple(
        Command(
            do=(*manager, "stop", name), undo=(*manager, "start", name), why=f"{word}: {name} may rewrite what we set"
        )
        for name in names
    )
    return Setting(steps=steps)


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """Code ``daemon-not-stopped``: a stop command that failed. What a daemon does shows in the other knobs' proof."""
    stops = {step.do for step in plan(word, want, facts).steps if step.kind == "command"}
    return tuple(
        Flag(code="daemon-not-stopped", detail=f"{' '.join(result.do)}: exit code {result.exit_code}")
        for result in record.steps
        if result.do is not None and result.do in stops and not result.held
    )
