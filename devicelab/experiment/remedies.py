"""What helps against a flag: said with the flag itself, so that nobody has to search for it."""

from collections.abc import Iterable

REMEDIES = {
    "affinity-refused": "core_ctl takes idle big cores away: --set isolation=hold (in the file: [set] isolation = "
    '"hold")',
    "probe-failed": 'the cores are isolated or offline: --set isolation=hold, or cores = "all-online"',
    "affinity-changed": "a core left: --set isolation=hold; hotplug by heat needs [thermal] or a longer cooldown_s",
    "core-not-held": "root is needed to hold cores; without it place loads on the little ones",
    "foreign-load": "end those programs, or allow more with --set foreign_pct=PERCENT and foreign_core_pct=PERCENT",
    "load-not-held": "what else runs on its cores takes its share: end it, or ask for less",
    "schedule-elsewhere": "make a schedule for this condition (devicelab klo plan), or "
    "--set measure.params.foreign_schedule=true",
    "throttled": "let the board cool: [thermal] max_c in the experiment, a longer cooldown_s, a fan",
    "gate-timeout": "the board does not cool down so far: a higher max_c, a longer timeout_s in [thermal]",
    "limits-changed": "vendor daemons write the limits: --set daemons=stop",
    "timeout": "the measured program takes longer than timeout_s in [measure]",
    "agent-busy": "a lower sample_hz",
}


def remedies(codes: Iterable[str]) -> tuple[str, ...]:
    """What helps against these flags, each once, in their order; nothing for those that nobody has a remedy for."""
    return tuple(dict.fromkeys(f"{code}: {REMEDIES[code]}" for code in codes if code in REMEDIES))
