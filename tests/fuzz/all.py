"""All targets by name."""

from tests.fuzz import adb, device, files

TARGETS = {target.name: target for module in (files, device, adb) for target in module.TARGETS}
