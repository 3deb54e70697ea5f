"""Building and running programs under the OpenCL layer in tests."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devicelab.device.build import COMMON_FLAGS
from devicelab.ground import registry
from tests.compilers import host_compiler

_HERE = Path(__file__).parent
_SHARED = ("-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-Bsymbolic")


@dataclass(frozen=True)
class Bench:
    """A program, the layer in front of it and a driver that holds commands back, built alike."""

    program: Path
    layer: Path
    driver: Path

    def run(
        self, way: str, *, kernels: int, inferences: int, own: int = 1, layer: bool = True, **settings: object
    ) -> tuple[bytes, list[dict[str, Any]]]:
        """What the program printed, and the layer's records."""
        records = self.driver.parent / "records.jsonl"
        records.unlink(missing_ok=True)
        env = self.environment(records, **settings)
        library = self.layer if layer else self.driver
        argv = [self.program, library, way, *map(str, (kernels, inferences, own))]
        done = subprocess.run(argv, env=env, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout, read(records) if layer else []

    def environment(self, records: Path, **settings: object) -> dict[str, str]:
        """Of a program under the layer; the watchdog is off, so that a missing flush is a hang."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("DEVICELAB_LAYER")}
        told = {"watchdog_ms": 60_000, "out": records, "opencl_lib": self.driver} | settings
        return env | {f"DEVICELAB_LAYER_{name.upper()}": str(value) for name, value in told.items()}


def build(folder: Path, *flags: str) -> Bench:
    """With this machine's compiler and these flags besides; skips by name where it cannot be done."""
    compiler = host_compiler()
    native = registry.data_dir("native")
    common = (*COMMON_FLAGS[:4], "-O1", "-g", *flags, f"-I{native}")
    made = Bench(folder / "program", folder / "libOpenCL.so", folder / "libdeferring.so")
    parts = (
        ((*common, *_SHARED), _HERE / "deferring_opencl.cpp", made.driver),
        ((*common, *COMMON_FLAGS[4:7], *_SHARED), native / "opencl_layer.cpp", made.layer),
        (common, _HERE / "opencl_program.cpp", made.program),
    )
    for options, source, target in parts:
        argv = [*compiler.argv, *options, str(source), "-o", str(target), "-ldl", "-lpthread"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if flags and "cannot find" in done.stderr:
            pytest.skip(f"no library for {' '.join(flags)} on this machine")
        assert done.returncode == 0, done.stderr
    return made


def read(records: Path) -> list[dict[str, Any]]:
    """Whole lines.

    A kill may end a write at the border of a page: what was cut is the last line, or stands right before the header of
    a process that began afterwards, and nowhere else.
    """
    lines = [line for line in records.read_bytes().split(b"\n")[:-1] if line]
    whole = []
    for line, following in zip(lines, [*lines[1:], b""], strict=True):
        try:
            whole.append(json.loads(line))
        except ValueError:
            assert b'"event":"header"' in following, line
    return whole


def named(records: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [one for one in records if one["event"] == event]
