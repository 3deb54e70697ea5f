"""A run as the agent records it, and what a knob's proof makes of it."""

from typing import Any

from devicelab import knobs
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import RunRecord

Texts = dict[str, str | None]


def run(before: Texts | None = None, after: Texts | None = None, **more: Any) -> RunRecord:
    return RunRecord.model_validate(
        {
            "event": "run",
            "run_id": "r",
            "seq": 0,
            "status": "done",
            "t_start_ns": 0,
            "t_end_ns": 10**10,
            "t_unix_ns": 0,
            "before": before or {},
            "after": {**(before or {}), **(after or {})},
            **more,
        }
    )


def codes(word: str, want: Level, device: Facts, record: RunRecord) -> list[str]:
    return [flag.code for flag in knobs.prove(word, want, device, record)]
