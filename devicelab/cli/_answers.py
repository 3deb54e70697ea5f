"""What ``--json`` prints, one type a command: the published schema is generated from these.

A test walks all commands and reads what they print by these types. Within a version of the schema a key is only added;
what else changes is a new version and is announced as CONTRIBUTING says.
"""

import json
from types import MappingProxyType
from typing import Any, Literal

from pydantic import TypeAdapter

from devicelab.analyses.lut.table import LaunchTable
from devicelab.cli import _answers_device as device
from devicelab.cli import _answers_stored as stored
from devicelab.model.night import Quarantine

VERSION = 1
"""Of the schema; within one, keys are only added."""

ID = f"https://github.com/devicelab/devicelab/blob/main/docs/reference/json.schema.json#v{VERSION}"

ANSWERS: "MappingProxyType[str, tuple[Any, ...]]" = MappingProxyType(
    {
        "build": (stored.Build,),
        "capture": (device.Capture,),
        "compare": (stored.Compared, stored.ComparedMany),
        "config": (stored.Config,),
        "devices": (device.Devices,),
        "doctor": (device.Doctor, device.Plugins),
        "export": (stored.Export,),
        "facts": (device.DeviceFacts,),
        "farm install": (stored.FarmInstall,),
        "farm morning": (stored.FarmMorning,),
        "farm status": (stored.FarmStatus,),
        "import": (stored.Imported,),
        "klo app": (device.Sweep,),
        "klo lut": (LaunchTable,),
        "klo model": (stored.KloModel,),
        "klo plan": (stored.KloPlan,),
        "load": (device.Load,),
        "nightly": (stored.Night, stored.NightPlan),
        "nights": (stored.Nights, stored.OneNight),
        "pin": (stored.Pin,),
        "press": (device.Press, device.Bundle),
        "quarantine add": (Quarantine,),
        "quarantine list": (stored.Quarantines,),
        "quarantine release": (stored.Released,),
        "report": (stored.Report,),
        "reserve": (stored.Reserve,),
        "restore": (stored.Restore,),
        "site": (stored.Site,),
        "store check": (stored.StoreCheck,),
        "store list": (stored.Campaigns,),
        "store prune": (stored.Pruned,),
        "store show": (stored.Shown,),
        "store vacuum": (stored.Vacuumed,),
        "sweep": (device.Sweep, device.SweepPlan, device.Bundle),
        "trace": (stored.Trace,),
        "tune": (device.Tune, device.Bundle),
        "watch": (stored.Watch,),
        "sim down": (stored.SimDown,),
        "sim fault": (stored.SimFault,),
        "sim kinds": (stored.SimKinds,),
        "sim list": (stored.SimBoards,),
        "sim stats": (stored.SimStats,),
        "sim up": (stored.SimBoards,),
    }
)
"""Command → what its ``--json`` prints: one of these."""


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of all answers: ``properties`` are the commands."""
    how: Literal["serialization"] = "serialization"
    inputs = [
        ((command, number), how, TypeAdapter(kind))
        for command, kinds in ANSWERS.items()
        for number, kind in enumerate(kinds)
    ]
    references, definitions = TypeAdapter.json_schemas(inputs, ref_template="#/$defs/{model}")
    commands = {
        command: (
            {"anyOf": [references[(command, number), how] for number in range(len(kinds))]}
            if len(kinds) > 1
            else references[(command, 0), how]
        )
        for command, kinds in ANSWERS.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": f"What devicelab prints with --json, version {VERSION}",
        "description": "One property a command. Within a version keys are only added.",
        "type": "object",
        "properties": commands,
        **definitions,
    }


def text() -> str:
    """The schema as the file that is published."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"
