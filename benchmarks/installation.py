"""What an installation costs: seconds to the first report and megabytes on disk, for each way to install.

    python3 benchmarks/installation.py [--ways readme wheel uv pipx pip] [--no-examples]

Needs nothing but Python, its ``venv``, a C++ compiler and a package index, so that it runs in a fresh container; uv and
pipx are installed beside, untimed. Every way has a folder of its own with an empty home and empty caches: whatever is
needed is downloaded and counted, and so is the bytecode that the first report leaves. Megabytes are 10^6 bytes of disk
blocks of the environment alone. ``CPU s`` is processor time up to the report, which other work on the machine changes
less than the seconds; the sweep itself waits more than it computes.

After the report every command's own example is typed, as ``--help`` shows it, for that campaign and this computer: the
last columns say how many, and how many ended in a traceback or as a bug (exit code 1).
"""

import argparse
import contextlib
import itertools
import os
import platform
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A sweep's flags: what else this machine does must not end the measurement of the installation.
BUSY = "--set foreign_pct=100 --set foreign_core_pct=100"
LASTING = {"worker", "sweep", "press", "tune"}
LIMIT_S = 60.0


@dataclass(frozen=True)
class Place:
    """A fresh folder with a copy of the checkout, and how commands are called there."""

    folder: Path
    tools: Path

    @property
    def source(self) -> Path:
        """The checkout."""
        return self.folder / "devicelab"

    def sh(self, line: str, cwd: Path | None = None) -> None:
        """Run a shell line; its output is shown if it fails."""
        environment = {
            **os.environ,
            "HOME": str(self.folder / "home"),
            "PIP_NO_CACHE_DIR": "1",
            "UV_CACHE_DIR": str(self.folder / "uv-cache"),
            "UV_TOOL_DIR": str(self.folder / "tools"),
            "UV_TOOL_BIN_DIR": str(self.folder / "bin"),
            "PIPX_HOME": str(self.folder / "pipx"),
            "PIPX_BIN_DIR": str(self.folder / "bin"),
        }
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=cwd or self.source,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{line}\nended with exit code {done.returncode}:\n{done.stdout}")


def readme(at: Place) -> Path:
    """The README's first command, up to its sweep."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("python3 -m venv .venv && "))
    at.sh(line.rpartition(" && ")[0].replace("python3", shlex.quote(sys.executable), 1))
    return at.source / ".venv"


def _pip(at: Place, flags: str) -> Path:
    at.sh(f"{sys.executable} -m venv ../venv && ../venv/bin/pip install -q {flags} -c constraints.txt {_wheel(at)}")
    return at.folder / "venv"


def wheel(at: Place) -> Path:
    """The wheel, by pip, without the bytecode of what is never imported."""
    return _pip(at, "--no-compile")


def pip(at: Place) -> Path:
    """The wheel, by pip as it comes."""
    return _pip(at, "")


def uv(at: Place) -> Path:
    """``uv tool install``."""
    at.sh(f"{at.tools}/uv/bin/uv tool install -q --python {sys.executable} -c constraints.txt {_wheel(at)}")
    return at.folder / "tools" / "devicelab"


def pipx(at: Place) -> Path:
    """``pipx install``."""
    flags = shlex.quote(f"--no-compile -c {at.source}/constraints.txt")
    at.sh(f"{at.tools}/pipx/bin/pipx install -q --python {sys.executable} --pip-args={flags} {_wheel(at)}")
    return at.folder / "pipx" / "venvs" / "devicelab"


WAYS: dict[str, Callable[[Place], Path]] = {one.__name__: one for one in (readme, wheel, uv, pipx, pip)}


def _wheel(at: Place) -> str:
    return str(next((at.tools / "wheel").glob("devicelab-*.whl")))


def prepare(tools: Path) -> None:
    """uv, pipx and the wheel, each in a folder of its own."""
    for name in ("uv", "pipx", "build"):
        subprocess.run([sys.executable, "-m", "venv", tools / name], check=True)
        if name != "build":
            subprocess.run([tools / name / "bin/pip", "install", "-q", name], check=True)
    with copied(tools) as source:
        pip_wheel = [tools / "build/bin/pip", "wheel", "-q", "--no-deps", "-w", tools / "wheel", source]
        subprocess.run(pip_wheel, check=True)


@contextlib.contextmanager
def copied(to: Path) -> Iterator[Path]:
    """A copy of the checkout, without what git does not know of; hidden folders and builds stay behind."""
    place = to / "devicelab"
    aside = shutil.ignore_patterns(".*", "__pycache__", "devicelab-report", "*.sqlite*")
    shutil.copytree(ROOT, place, ignore=aside, symlinks=True)
    yield place
    shutil.rmtree(place)


def cpu_s() -> float:
    """Processor time of every command that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def megabytes(folder: Path) -> float:
    """Disk blocks of everything below, links not followed; a file with several names counts once."""
    seen = {}
    for path in folder.rglob("*"):
        stat = path.lstat()
        seen[stat.st_dev, stat.st_ino] = stat.st_blocks * 512
    return sum(seen.values()) / 1e6


def _here(line: str, campaign: str) -> list[str]:
    """An example for this computer and the campaign that there is."""
    there = {"note10": "local"} if not line.startswith(("sim", "quarantine")) else {}
    words = [campaign if re.match(r"20\d{6}-", word) else there.get(word, word) for word in first(line)]
    return [word for word in words if word not in {"--serve", "--open"}]


def examples(program: Path, cwd: Path) -> tuple[int, list[str]]:
    """How many examples of the help were typed, and which of them ended as a bug."""
    listed = subprocess.run(
        [program.parent / "python", "-c", LEAVES], cwd=cwd, capture_output=True, text=True, check=True
    )
    (page,) = (cwd / "devicelab-report").glob("*.html")
    lines = [words for line in listed.stdout.splitlines() if not LASTING & set(words := _here(line, page.stem))]
    bad = []
    for words in lines:
        with tempfile.TemporaryFile("w+") as said:
            try:
                done = subprocess.run([program, *words], cwd=cwd, stdout=said, stderr=said, stdin=subprocess.DEVNULL,
                                      timeout=LIMIT_S, check=False)  # fmt: skip
                code = done.returncode
            except subprocess.TimeoutExpired:
                code = 0
            said.seek(0)
            if code == 1 or code < 0 or "Traceback (most recent call last)" in said.read():
                bad.append(f"devicelab {shlex.join(words)}: exit code {code}")
    return len(lines), bad


def first(line: str) -> list[str]:
    """The words of the first command in a shell line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    return list(itertools.takewhile(lambda word: not set(word) <= set(";&|<>"), lexer))


LEAVES = """
import re
from devicelab.cli import command
def walk(group, path):
    for name, one in group.commands.items():
        if hasattr(one, 'commands'): walk(one, (*path, name))
        else:
            shown = re.search(r'Example: devicelab (.+)', one.epilog or '')
            print(shown[1] if shown else ' '.join((*path, name)))
walk(command(whole=True), ())
"""


def main() -> int:
    """Measure each way and print one table; exit code 1 if a command ended as a bug."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--no-examples", action="store_true", help="only the times and the size")
    args = parser.parse_args()
    system = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text(encoding="utf-8"))
    bugs: list[str] = []
    with tempfile.TemporaryDirectory(prefix="devicelab-installation-") as top:
        tools = Path(top)
        prepare(tools)
        print(f"{system[1] if system else platform.system()}, Python {platform.python_version()}")
        print(
            f"{'way':<8}{'installed s':>12}{'report s':>10}{'CPU s':>7}{'MB':>6}{'commands':>10}{'bugs':>6}", flush=True
        )
        for way in args.ways:
            folder = tools / f"as-{way}"
            (folder / "home").mkdir(parents=True)
            at = Place(folder, tools)
            with copied(folder):
                began, before = time.monotonic(), cpu_s()
                environment = WAYS[way](at)
                installed = time.monotonic()
                program = environment / "bin" / "devicelab"
                at.sh(f"{program} sweep quick --board local {BUSY}", cwd=at.folder / "home")
                ended, used = time.monotonic(), cpu_s() - before
                if not list((folder / "home" / "devicelab-report").glob("*.html")):
                    raise SystemExit("the sweep wrote no report")
                size = megabytes(environment)
                tried, found = (0, []) if args.no_examples else examples(program, folder / "home")
            bugs += found
            seconds = f"{installed - began:>12.1f}{ended - began:>10.1f}{used:>7.1f}"
            print(f"{way:<8}{seconds}{size:>6.0f}{tried:>10}{len(found):>6}", flush=True)
            shutil.rmtree(folder)
    print("\n".join(bugs))
    return 1 if bugs else 0


if __name__ == "__main__":
    sys.exit(main())
