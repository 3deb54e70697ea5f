"""Vendor daemons that rewrite limits (thermal engines, performance HALs): stopped only if the experiment asks.

``daemons = "stop"`` stops those that the board file names and that run; a list of names stops those. Each is started
again at the end, and only those that were running. Kernel protection (LMh, TMU, critical trips) stays.
"""

import fnmatch
import re

from devicelab.errors import ConfigError
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


def running(facts: Facts) -> tuple[str, ...]:
    """Services that run: init's on Android, systemd's elsewhere."""
    if facts.os == "android":
        states = ((name.removeprefix(_STATE), state) for name, state in facts.props.items() if name.startswith(_STATE))
        return tuple(sorted(name for name, state in states if state == "running"))
    found = facts.tree.glob(f"{_SLICE}/*.service/cgroup.procs")
    return tuple(path.removeprefix(f"{_SLICE}/").removesuffix(".service/cgroup.procs") for path in found)


def _chosen(want: Level, facts: Facts) -> tuple[str, ...]:
    level = str(want).replace(",", " ").split()
    if _levels.text(want) == "keep":
        return ()
    patterns = facts.board.daemons if _levels.text(want) == "stop" else tuple(level)
    if not patterns or not all(_NAME.fullmatch(pattern) for pattern in patterns):
        raise ConfigError(f"daemons = {want!r} makes no sense", hint="stop, keep, or names of services")
    return tuple(name for name in running(facts) if any(fnmatch.fnmatchcase(name, shape) for shape in patterns))


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Stop daemons that run.

    Raises:
        ConfigError: not a level, or not a name of a service.
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
