"""Every precondition of a measurement, checked, each with what to do where it fails."""

import fnmatch
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devicelab import knobs
from devicelab.device import agent, build, choose, lab
from devicelab.device.facts import Device, open_device
from devicelab.device.toolchain import Compiler, find_compiler, toolchains
from devicelab.errors import LabError
from devicelab.experiment import evidence
from devicelab.ground import places, registry
from devicelab.model.device import Facts


@dataclass(frozen=True)
class Checked:
    """One check: ``ok`` is True, False, or None for something to know rather than to mend."""

    what: str
    ok: bool | None
    found: str
    todo: str = ""
    exit_code: int = 0


def examine(board: str | None) -> tuple[Checked, ...]:
    """All checks; those of a device only if one is named or just one is there. Errors become checks that failed."""
    checks = [*_host()]
    checks += [
        Checked(one.what, None, one.where, f"{one.why} (devicelab doctor --plugins)")
        for one in registry.look_everywhere()
    ]
    try:
        # Whoever means this computer needs no adb server; none is started.
        blind = choose.survey(lab.load_lab()).blind if board not in {lab.LOCAL, "local:"} else ()
        checks += [Checked(f"transport {one.scheme}", None, one.error, one.hint or "") for one in blind]
        entry = choose.choose(board)
    except LabError as error:
        return (*checks, Checked("device", False, error.message, error.hint or "", error.exit_code))
    try:
        device = open_device(entry)
    except LabError as error:
        return (*checks, Checked(f"device {entry.name}", False, error.message, error.hint or "", error.exit_code))
    try:
        checks += _device(device)
    except LabError as error:
        checks.append(Checked(f"device {entry.name}", False, error.message, error.hint or "", error.exit_code))
    finally:
        device.transport.close()
    return tuple(checks)


def _host() -> Iterator[Checked]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Checked("Python", True, version)
    cache = registry.cache_dir()
    yield _writable("cache directory", cache)
    try:
        path = places.lab_path()
        loaded = lab.load_lab()
        yield Checked("lab.toml", True if path else None, f"{path}: {len(loaded.devices)} devices" if path else "none")
    except LabError as error:
        yield Checked("lab.toml", False, error.message, error.hint or "mend the file", error.exit_code)
    # Without it ssh's configuration is read by paramiko, which knows less of it.
    ssh = shutil.which("ssh")
    yield Checked("OpenSSH client", True if ssh else None, ssh or "none", "" if ssh else "install it for ssh: devices")
    for toolchain in toolchains():
        compiler = find_compiler(toolchain, next(iter(toolchain.targets)))
        if isinstance(compiler, Compiler):
            yield Checked(f"toolchain {toolchain.name}", True, compiler.version)
        else:
            yield Checked(f"toolchain {toolchain.name}", None, "not here", toolchain.advice)
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    yield Checked("disk space here", free_gb > 1, f"{free_gb:.1f} GB free", "" if free_gb > 1 else "make room", 2)


def _writable(what: str, path: Path) -> Checked:
    nearest = next(p for p in (path, *path.parents) if os.access(p, os.F_OK))
    if os.access(nearest, os.W_OK):
        return Checked(what, True, str(path))
    return Checked(what, False, f"{path} cannot be written", "set DEVICELAB_CACHE to a directory that can", 2)


def _device(device: Device) -> Iterator[Checked]:
    facts = device.facts
    name = f"device {facts.name}"
    simulated = " (simulated)" if facts.simulated else ""
    yield Checked(name, True, f"{facts.board.title}{simulated}, {facts.abi}, kernel {facts.kernel}")
    for program in build.programs():
        try:
            built = build.build_for(program, facts)
            size = f"{built.toolchain}: {built.size_bytes // 1024} KiB"
            yield Checked(f"build {program}", None if built.note else True, size, built.note)
        except LabError as error:
            first = error.message.splitlines()[0]
            yield Checked(f"build {program}", False, first, error.hint or "", error.exit_code)
    rooted = facts.root != "none"
    way = facts.root if rooted or not facts.root_said else f"none ({facts.root_said})"
    yield Checked("root", True if rooted else None, way, "" if rooted else "without root no clocks can be pinned")
    known = knobs.known(facts)
    clusters = ", ".join(f"{one.name} {knobs.show(one.cpus)}" for one in known.clusters)
    yield Checked("clusters", None if known.doubts else True, clusters, "; ".join(known.doubts))
    yield from _board_file(facts)
    status = agent.status(device)
    if status.pending:
        todo = f"devicelab restore --board {facts.name}"
        yield Checked("left to undo", False, f"{len(status.pending)} things", todo, 8)
    if status.kept:
        yield Checked("pinned", None, f"{len(status.kept)} things", f"devicelab restore --board {facts.name} undoes it")
    held = status.holder is not None or status.alive
    yield Checked("lease", not held, f"held by {status.holder}" if held else "free", "wait for it" if held else "", 3)
    for word in ("cpu", "gpu"):
        try:
            setting = knobs.setting(word, "max", facts)
            yield Checked(f"pin {word}", None if setting.unmet else True, "; ".join(setting.unmet) or "possible")
        except LabError as error:
            yield Checked(f"pin {word}", None, error.message, error.hint or "")


def _board_file(facts: Facts) -> Iterator[Checked]:
    """What the board's file names, as this unit has it: a typo there shows nowhere else."""
    board, present = facts.board, set(facts.cpus_present)
    odd = [f"no CPU {cpu} ({one.name})" for one in board.clusters for cpu in one.cpus if cpu not in present]
    zones = set(evidence.thermal_zones(facts).values()) if board.thermal_zones else set()
    services = {name.removeprefix("init.svc.") for name in facts.props if name.startswith("init.svc.")}
    daemons = {name for name in services for pattern in board.daemons if fnmatch.fnmatchcase(name, pattern)}
    if board.thermal_zones and not zones:
        odd.append("none of its thermal zones")
    if board.daemons and services and not daemons:
        odd.append("none of its daemons")
    named = (("zones", zones), ("daemons", daemons))
    found = "; ".join(odd) or "; ".join(f"{what} {', '.join(sorted(names))}" for what, names in named if names)
    todo = f"compare boards/{board.kind}.toml with `devicelab facts --board {facts.name}`" if odd else ""
    yield Checked(f"board file {board.kind}", None if odd else True, found or "recognised", todo)
