"""Running klo in tests."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Said:
    """What one klo process printed."""

    raw: bytes
    header: dict[str, Any]
    inferences: list[dict[str, Any]]
    profile: dict[str, Any] | None
    end: dict[str, Any]

    def phase(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.inferences if one["phase"] == name]


def attempt(program: Path, *args: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program, *map(str, args)], capture_output=True, timeout=120, check=False, env=env)


def run(program: Path, *args: object, env: dict[str, str] | None = None) -> Said:
    done = attempt(program, *args, env=env)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.endswith(b"\n")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("header", "end")
    profile = next((event for event in events if event["event"] == "profile"), None)
    inferences = [event for event in events if event["event"] == "inference"]
    assert len(inferences) + 2 + (profile is not None) == len(events)
    return Said(done.stdout, events[0], inferences, profile, events[-1])
