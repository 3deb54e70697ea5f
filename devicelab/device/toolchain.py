"""Ways to compile ``native/``: the files in ``toolchains/``, and the compilers found on this machine for them."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from devicelab.errors import ConfigError
from devicelab.ground import extras, places, registry, toml
from devicelab.model.plan import Noun

Abi = Literal["arm64-v8a", "armeabi-v7a", "x86_64", "x86", "riscv64"]
Place = Literal["local", "linux", "android"]
"""Where a program will run: on this machine, on another Linux machine, on Android."""

ABI_BY_MACHINE: dict[str, Abi] = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "arm64-v8a",
    "arm64": "arm64-v8a",
    "armv7l": "armeabi-v7a",
    "armv8l": "armeabi-v7a",
    "i686": "x86",
    "i386": "x86",
    "riscv64": "riscv64",
}
"""Android's name of an ABI by the kernel's name of the machine (uname(2))."""


class Toolchain(Noun):
    """One file ``toolchains/<name>.toml``.

    Attributes:
        name: the file's name without ``.toml``.
        title: for people.
        kind: how its compiler is found.
        targets: ABI → the compiler's name for that target.
        runs_on: place → rank; among the toolchains that fit, the highest rank is taken. A place that is not named is
            not served, except when the toolchain is asked for by name.
        command: argv template; ``{compiler}``, ``{target}`` and ``{api}`` are filled in.
        flags: arguments when compiling, after those that all programs share.
        link_flags: arguments when linking, before the object file; ``libs``: after it. Compiling and linking are two
            steps because zig has no C++ headers when it is told not to link the C++ library, and builds that library
            for over a minute when it is not.
        link: how the C library is linked.
        loads_libraries: the program can ``dlopen`` what lies on the device (the vendor's GPU library).
        api_level: Android API level, if any.
        install: what to do when the compiler is missing; ``{extra:NAME}`` stands for the command that installs an
            extra of devicelab's.
    """

    name: str
    title: str
    kind: Literal["host", "ndk", "zig"]
    targets: dict[Abi, str]
    runs_on: dict[Place, int]
    command: tuple[str, ...]
    flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()
    libs: tuple[str, ...] = ()
    link: Literal["static", "dynamic"]
    loads_libraries: bool
    api_level: int | None = None
    install: str

    @property
    def advice(self) -> str:
        """What to do when the compiler is missing, as it can be typed here."""
        return re.sub(r"\{extra:([a-z]+)\}", lambda match: extras.install(match[1]), self.install)


@dataclass(frozen=True)
class Compiler:
    """A compiler found: the argv that starts it, and the version it reports."""

    argv: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class Missing:
    """No compiler found for a toolchain: why, one sentence."""

    reason: str


def host_abi() -> Abi | None:
    """The ABI of this machine, ``None`` if it is none that devicelab knows."""
    return ABI_BY_MACHINE.get(platform.machine().lower())


def toolchains() -> tuple[Toolchain, ...]:
    """All toolchains, by name. One of the user's that cannot be read, or has a name of ours, is left out, and said.

    Raises:
        ConfigError: a file of ours is not TOML or does not fit the schema; names the file and the key.
    """
    loaded, own = [], registry.data_dir("toolchains")
    for name, paths in registry.toml_files("toolchains", own).items():
        ours = paths[0].parent == own.resolve()
        for path in paths[ours:] if len(paths) > 1 else ():
            _leave_out(path, f"{name} is claimed by {' and by '.join(map(str, paths))}: rename one")
        if ours:
            loaded.append(read(paths[0]))
        elif len(paths) == 1:
            try:
                loaded.append(_users(paths[0]))
            except ConfigError as error:
                _leave_out(paths[0], error.message)
    return tuple(loaded)


def _leave_out(path: Path, why: str) -> None:
    registry.leave_out("toolchains", path.stem, str(path), why.removeprefix(f"{path}: "))


def _users(path: Path) -> Toolchain:
    """A toolchain of the user's; one beside a lab.toml in the current directory only serves who asks for it by name.

    A compiler's flags can run programs: a folder that was downloaded must not bring its own to a command that builds.
    """
    found = read(path)
    here = places.lab_is_here() and path.parent == Path("toolchains").resolve()
    return found.model_copy(update={"runs_on": {}}) if here else found


def read(path: Path) -> Toolchain:
    """A toolchain's file; its name is the file's.

    Raises:
        ConfigError: it does not fit the schema; names the file and the key.
    """
    try:
        return Toolchain.model_validate({"name": path.stem} | toml.read(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {toml.explain(error, Toolchain)}") from error


def find_compiler(toolchain: Toolchain, abi: str) -> Compiler | Missing:
    """The compiler of a toolchain for a target, or why there is none."""
    if abi not in toolchain.targets:
        return Missing(f"{toolchain.name} has no target {abi} (it has {', '.join(toolchain.targets)})")
    if toolchain.kind == "zig":
        return _find_zig()
    if toolchain.kind == "ndk":
        return _find_ndk()
    if abi != host_abi():
        return Missing(f"this machine is {host_abi() or platform.machine()}, not {abi}")
    compiler = _find_host()
    if toolchain.link == "static" and isinstance(compiler, Compiler):
        library = _ask(compiler.argv, ("-print-file-name=libc.a",))
        if isinstance(library, Missing) or not Path(library.version).is_absolute():
            return Missing("this machine has no static C library (libc.a)")
    return compiler


def _find_host() -> Compiler | Missing:
    wanted = os.environ.get("CXX")
    for name in (wanted,) if wanted else ("g++", "clang++", "c++"):
        path = shutil.which(name)
        if path is not None:
            return _ask((path,), ("--version",))
    return Missing(f"CXX={wanted} is not a program" if wanted else "neither g++ nor clang++ on PATH")


def _find_zig() -> Compiler | Missing:
    if importlib.util.find_spec("ziglang") is None:
        return Missing("the Python package ziglang is not installed")
    zig = (sys.executable, "-m", "ziglang")
    answer = _ask(zig, ("version",))
    return answer if isinstance(answer, Missing) else Compiler((*zig, "c++"), f"zig {answer.version}")


def _find_ndk() -> Compiler | Missing:
    roots = ndk_roots()
    for root in roots:
        # One folder for the machine the NDK runs on (linux-x86_64, darwin-x86_64): only one is ever installed.
        for clang in sorted(root.glob("toolchains/llvm/prebuilt/*/bin/clang++")):
            answer = _ask((str(clang),), ("--version",))
            if isinstance(answer, Compiler):
                return Compiler(answer.argv, f"NDK {_ndk_revision(root)}, {answer.version}")
    if roots:
        return Missing(f"no clang++ in the NDK at {roots[0]}")
    return Missing("no NDK by ANDROID_NDK_HOME, ANDROID_NDK_ROOT or ANDROID_HOME/ndk/*")


def ndk_roots() -> tuple[Path, ...]:
    """Folders where an NDK lies, the one to use first: those named outright, then the newest below the SDK."""
    named = [Path(os.environ[name]) for name in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT") if os.environ.get(name)]
    sdks = [Path(os.environ[name]) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if os.environ.get(name)]
    below = {path for sdk in sdks for path in sdk.glob("ndk/*") if path.is_dir()}
    return (*named, *sorted(below, key=lambda path: _numbers(path.name), reverse=True))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _ndk_revision(root: Path) -> str:
    try:
        text = (root / "source.properties").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "of unknown release"
    match = re.search(r"^Pkg\.Revision\s*=\s*(\S+)", text, re.MULTILINE)
    return match[1] if match else "of unknown release"


@cache
def _ask(argv: tuple[str, ...], question: tuple[str, ...]) -> Compiler | Missing:
    """The first line a compiler prints about itself."""
    try:
        done = subprocess.run(
            [*argv, *question], capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Missing(f"{argv[0]} does not start: {error}")
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        return Missing(f"{' '.join(argv)} ended with exit code {done.returncode}: {done.stderr.strip()[:200]}")
    return Compiler(argv, lines[0].strip())
