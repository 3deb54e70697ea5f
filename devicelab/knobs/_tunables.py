"""A governor's own settings (schedutil's rate limits, ondemand's thresholds), which the kernel forgets.

They are freed when a policy changes its governor, or when its last CPU goes offline, and come back as defaults. The
writes here change nothing, but their undo is due: performed before such a step, they are undone after it.
"""

import re

from devicelab.knobs._domains import CPU
from devicelab.model.device import Facts
from devicelab.model.plan import Write

# Folders of one policy or of all (where the driver has one set of settings); ``stats`` is none.
GLOBS = (f"{CPU}/cpufreq/policy*/[!s]*/*", f"{CPU}/cpufreq/policy*/s[!t]*/*", f"{CPU}/cpufreq/[!p]*/*")
_GOVERNOR = re.compile(r"[a-z][a-z0-9_-]{0,30}")


def of_policy(folder: str, facts: Facts) -> tuple[Write, ...]:
    """What the governor of the policy in this folder has for that policy alone."""
    governor = _governor(folder, facts)
    return _kept(f"{folder}/{governor}", governor, facts) if governor else ()


def of_all(folder: str, facts: Facts) -> tuple[Write, ...]:
    """What the governor of the policy in this folder has for every policy that uses it."""
    governor = _governor(folder, facts)
    return _kept(f"{CPU}/cpufreq/{governor}", governor, facts) if governor else ()


def _governor(folder: str, facts: Facts) -> str | None:
    governor = facts.tree.text(f"{folder}/scaling_governor") or ""
    return governor if _GOVERNOR.fullmatch(governor) else None


def _kept(folder: str, governor: str, facts: Facts) -> tuple[Write, ...]:
    tree = facts.tree
    where = folder.removeprefix(f"{CPU}/cpufreq/").removesuffix(governor).rstrip("/") or "every policy"
    writes = []
    for path in tree.glob(f"{folder}/*"):
        value = tree.text(path)
        if value is not None and "\n" not in value and tree[path].writable:
            name = path.rsplit("/", 1)[-1]
            why = f"{where}: {name} of {governor} as it is, to come back with it"
            writes.append(Write(path=path, value=value, why=why, required=False))
    return tuple(writes)
