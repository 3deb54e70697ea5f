"""Native programs: source + toolchain → binary, kept by the content of source, flags and compiler.

Every ``native/*.cpp`` is a program, or a shared library if it has no ``main``. A toolchain is chosen by the target's
ABI, by where the program will run, and by whether the program loads libraries there at run time (its sources include
``<dlfcn.h>``); a library needs a toolchain that links dynamically.
"""

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devicelab.device.toolchain import Compiler, Missing, Place, Toolchain, find_compiler, host_abi, toolchains
from devicelab.errors import BuildError, ConfigError
from devicelab.ground import registry
from devicelab.model.campaign import BinaryInfo
from devicelab.model.device import Facts

__all__ = [
    "Built",
    "Choice",
    "build",
    "build_for",
    "choose",
    "clear",
    "kept",
    "libraries",
    "programs",
    "sources",
    "toolchains",
]

# What all native programs are held to, whatever compiles them.
COMMON_FLAGS = (
    "-std=c++17",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-threadsafe-statics",
    "-I.",
)
# A library besides: only what it exports is seen, its own calls stay its own, and it is never unloaded.
_LIBRARY_FLAGS = ("-fPIC", "-fvisibility=hidden")
_LIBRARY_LINK_FLAGS = ("-shared", "-Wl,-Bsymbolic", "-Wl,-z,nodelete", "-Wl,-z,defs")
# Android's linker knows a library by this name alone: a preloaded one answers whoever asks for OpenCL.
_ANDROID_NAME = "-Wl,-soname,libOpenCL.so"
_TIMEOUT_S = 1800
# A device is told of no more builds of the agent: those of all targets, with those of some versions before.
_MOST_KEPT = 32
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)
_MAIN = re.compile(r"^int main\(", re.MULTILINE)
_LOADER = re.compile(r"^[ \t]*#[ \t]*include[ \t]*<dlfcn\.h>", re.MULTILINE)


@dataclass(frozen=True)
class Built:
    """A compiled program.

    Attributes:
        program, abi: what was asked for.
        path: the binary; its file name is the program's name.
        sha256: of the binary.
        size_bytes: of the binary.
        toolchain: name of the toolchain that made it.
        compiler_version: as the compiler reports it.
        flags: all arguments of compiling and linking, except compiler and files.
        cached: it was there already.
        seconds: this call took (wall time).
        loads_libraries: it can load the vendor's GPU library on the device.
        note: what it cannot do, for people; empty if nothing.
    """

    program: str
    abi: str
    path: Path
    sha256: str
    size_bytes: int
    toolchain: str
    compiler_version: str
    flags: tuple[str, ...]
    cached: bool
    seconds: float
    loads_libraries: bool
    note: str = ""

    @property
    def info(self) -> BinaryInfo:
        """The program as the store keeps it."""
        return BinaryInfo(
            name=self.program,
            sha256=self.sha256,
            target=self.abi,
            toolchain=self.toolchain,
            compiler=self.compiler_version,
        )


@dataclass(frozen=True)
class Choice:
    """The toolchain that will be used, its compiler, and what the result will not be able to do."""

    toolchain: Toolchain
    compiler: Compiler
    note: str = ""


def programs() -> tuple[str, ...]:
    """Names of the native programs: each ``native/*.cpp`` with a ``main``."""
    return _named(library=False)


def libraries() -> tuple[str, ...]:
    """Names of the native shared libraries: each ``native/*.cpp`` without one."""
    return _named(library=True)


def _named(*, library: bool) -> tuple[str, ...]:
    found = registry.data_dir("native").glob("*.cpp")
    return tuple(sorted(path.stem for path in found if (_MAIN.search(_read(path)) is None) == library))


def sources(program: str) -> tuple[Path, ...]:
    """The program's source and every file below ``native/`` that it includes, directly or not, sorted.

    Raises:
        ConfigError: there is no such program, or a file is not readable.
    """
    known = (*programs(), *libraries())
    if program not in known:
        raise registry.unknown("native program", program, known)
    root = registry.data_dir("native")
    todo, seen = [root / f"{program}.cpp"], set[Path]()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in _INCLUDE.findall(_read(path)):
            header = next((p for p in (path.parent / name, root / name) if p.is_file()), None)
            if header is not None:  # one that is missing is the compiler's to report
                todo.append(header.resolve())
    return tuple(sorted(seen))


def choose(program: str, abi: str, *, place: Place | None = None, toolchain: str | None = None) -> Choice:
    """The toolchain for a program and a target.

    Args:
        program: one of ``programs()`` or ``libraries()``.
        abi: the target's ABI, as in ``Facts.abi``.
        place: where it will run; by default ``local`` for this machine's ABI and ``android`` for others.
        toolchain: the name of a toolchain to use instead of the best one.

    Raises:
        ConfigError: no such program, toolchain or target.
        BuildError: no compiler on this machine can do it; the hint says what to install.
    """
    needs_loader = any(_LOADER.search(_read(path)) for path in sources(program))
    known = toolchains()
    targets = sorted({target for one in known for target in one.targets})
    if abi not in targets:
        raise registry.unknown("ABI", abi, tuple(targets))
    where = place or ("local" if abi == host_abi() else "android")
    if toolchain is not None:
        registry.toml_file("toolchains", toolchain, registry.data_dir("toolchains"))
        fitting = [one for one in known if one.name == toolchain]
        if not fitting:
            raise registry.unknown("toolchain", toolchain, tuple(one.name for one in known))
        if abi not in fitting[0].targets:
            raise ConfigError(
                f"toolchain {toolchain} has no target {abi}", hint=f"it has {', '.join(fitting[0].targets)}"
            )
    else:
        fitting = [one for one in known if where in one.runs_on and abi in one.targets]
    reasons = []
    ranked = sorted(
        fitting, key=lambda one: (needs_loader and one.loads_libraries, one.runs_on.get(where, 0)), reverse=True
    )
    for one in ranked:
        if one.link == "static" and program in libraries():
            compiler: Compiler | Missing = Missing(f"{one.name} makes no shared libraries")
        else:
            compiler = find_compiler(one, abi)
        if isinstance(compiler, Compiler):
            return Choice(one, compiler, _note(program, one, where) if needs_loader and not one.loads_libraries else "")
        reasons.append((one, compiler))
    raise _no_compiler(program, abi, reasons)


def _note(program: str, toolchain: Toolchain, place: Place) -> str:
    better = next((t.advice for t in toolchains() if t.loads_libraries and place in t.runs_on), "")
    return (
        f"{program} is {toolchain.link}ally linked: it cannot load the device's OpenCL library, so only its emulated "
        f"backend works" + (f"; for the real GPU: {better}" if better else "")
    )


def _no_compiler(program: str, abi: str, reasons: list[tuple[Toolchain, Missing]]) -> BuildError:
    lines = "".join(f"\n  {toolchain.name}: {missing.reason}" for toolchain, missing in reasons)
    # What comes as a wheel is the least to ask for.
    wheels_first = sorted(reasons, key=lambda reason: "{extra:" not in reason[0].install)
    ways = dict.fromkeys(chain.advice for chain, missing in wheels_first if "this machine is" not in missing.reason)
    return BuildError(f"no compiler for {program} on {abi}{lines}", hint=" or ".join(ways) or None)


def build(program: str, abi: str, *, place: Place | None = None, toolchain: str | None = None) -> Built:
    """Compile a program for a target, or take it from the cache. Safe to call from several processes at once.

    Arguments and errors are those of ``choose``.

    Raises:
        BuildError: also when the compiler refuses; the message holds its whole output.
    """
    started = time.monotonic()
    choice = choose(program, abi, place=place, toolchain=toolchain)
    job = _Job.of(program, abi, choice)
    with _locked(job.folder):
        stored = _load(job)
        cached = stored is not None
        if stored is None:
            _compile(job)
            stored = _load(job)
    if stored is None:
        raise BuildError(f"the build of {program} vanished from {job.folder}", hint="is the disk full?")
    sha256, size_bytes = stored
    return Built(
        program=program,
        abi=abi,
        path=job.folder / program,
        sha256=sha256,
        size_bytes=size_bytes,
        toolchain=choice.toolchain.name,
        compiler_version=choice.compiler.version,
        flags=(*job.compile, *job.link, *job.libs),
        cached=cached,
        seconds=time.monotonic() - started,
        loads_libraries=choice.toolchain.loads_libraries,
        note=choice.note,
    )


def build_for(program: str, facts: Facts) -> Built:
    """``build`` for a device: its ABI, and where it is. Raises as ``build`` does."""
    return build(program, facts.abi, place="local" if facts.address.startswith("local:") else facts.os)


def kept(program: str) -> tuple[str, ...]:
    """SHA-256 of the program's builds in the cache, the newest of all targets first."""
    notes = sorted((registry.cache_dir() / "build").glob(f"{program}-*/built.json"), key=_changed, reverse=True)
    sums = (_sum_of(note) for note in notes[:_MOST_KEPT])
    return tuple(dict.fromkeys(sha256 for sha256 in sums if sha256))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _sum_of(note: Path) -> str:
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    sha256 = said.get("sha256") if isinstance(said, dict) else None
    return sha256 if isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256) else ""


def clear() -> int:
    """Delete all cached builds; returns how many there were."""
    folders = [path for path in (registry.cache_dir() / "build").glob("*") if path.is_dir()]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return len(folders)


@dataclass(frozen=True)
class _Job:
    """One build: arguments of the two steps (without the compiler), and where the result is kept."""

    program: str
    choice: Choice
    compile: tuple[str, ...]
    link: tuple[str, ...]
    libs: tuple[str, ...]
    folder: Path

    @classmethod
    def of(cls, program: str, abi: str, choice: Choice) -> "_Job":
        chain = choice.toolchain
        target = next(name for known, name in chain.targets.items() if known == abi)
        api = "" if chain.api_level is None else str(chain.api_level)

        def fill(words: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(word.replace("{target}", target).replace("{api}", api) for word in words)

        head = fill(tuple(word for word in chain.command if word != "{compiler}"))
        more: tuple[str, ...] = ("-DDEVICELAB_STATIC",) if chain.link == "static" else ()
        links = fill(chain.link_flags)
        if program in libraries():
            more = _LIBRARY_FLAGS
            links = (*(word for word in links if word != "-pie"), *_LIBRARY_LINK_FLAGS)
            if chain.kind == "ndk":
                links = (*links, _ANDROID_NAME)
        flags = tuple(word for word in fill(chain.flags) if word != "-fPIE" or not set(more) & {"-fPIC"})
        steps = (*head, *COMMON_FLAGS, *more, *flags), (*head, *links), fill(chain.libs)
        digest = hashlib.sha256(
            "\x1e".join("\x1f".join(words) for words in ((choice.compiler.version,), *steps)).encode()
        )
        root = registry.data_dir("native").resolve()
        for path in sources(program):
            data = path.read_bytes()
            digest.update(f"\x1e{os.path.relpath(path.resolve(), root)}\x1f{len(data)}\x1f".encode())
            digest.update(data)
        name = f"{program}-{abi}-{chain.name}-{digest.hexdigest()[:16]}"
        return cls(program, choice, *steps, registry.cache_dir() / "build" / name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file, so that two processes do not compile the same thing twice."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(folder.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        hint = "set DEVICELAB_CACHE to a folder that can be written"
        raise BuildError(f"cannot keep builds in {folder.parent}: {error.strerror or error}", hint=hint) from error


def _load(job: _Job) -> tuple[str, int] | None:
    """Checksum and size of a kept binary; ``None`` if it is absent or not what was put there."""
    try:
        said = json.loads((job.folder / "built.json").read_text(encoding="utf-8"))
        data = (job.folder / job.program).read_bytes()
    except (OSError, ValueError):
        return None
    sha256 = hashlib.sha256(data).hexdigest()
    return (sha256, len(data)) if isinstance(said, dict) and said.get("sha256") == sha256 else None


def _compile(job: _Job) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{job.program}-", dir=job.folder.parent) as name:
        work = Path(name) / "new"
        work.mkdir()
        output = work / job.program
        compiler, unit = job.choice.compiler.argv, Path(name) / "unit.o"
        # Relative source path and a fixed working directory: the binary does not depend on where the checkout lies.
        compiling = [*compiler, *job.compile, "-c", f"{job.program}.cpp", "-o", str(unit)]
        linking = [*compiler, *job.link, str(unit), *job.libs, "-o", str(output)]
        _run_compiler(job, compiling)
        _run_compiler(job, linking)
        output.chmod(0o755)
        sha256 = hashlib.sha256(output.read_bytes()).hexdigest()
        note = {"sha256": sha256, "compile": compiling, "link": linking, "compiler": job.choice.compiler.version}
        (work / "built.json").write_text(json.dumps(note, indent=1), encoding="utf-8")
        if job.folder.exists():  # a damaged one
            shutil.rmtree(job.folder)
        work.rename(job.folder)


def _run_compiler(job: _Job, argv: list[str]) -> None:
    name = job.choice.toolchain.name
    try:
        done = subprocess.run(
            argv,
            cwd=registry.data_dir("native"),
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise BuildError(f"{name} does not start: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{name} did not finish {job.program} within {_TIMEOUT_S} s") from error
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace").rstrip()
        command = shlex.join(argv)
        raise BuildError(f"{name} cannot compile {job.program} (exit code {done.returncode}):\n{command}\n{said}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
