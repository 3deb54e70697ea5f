"""Files that a device is given beside the native programs: workloads' scripts, and what an experiment pushes."""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from devicelab.device import build
from devicelab.errors import ConfigError
from devicelab.experiment.programs import Needs
from devicelab.ground import registry
from devicelab.model.campaign import BinaryInfo


@dataclass(frozen=True)
class Wanted:
    """A file for the folder of the plan's binaries.

    Attributes:
        path: on this computer.
        sha256: of its content.
        mode: permissions there.
    """

    path: Path
    sha256: str
    mode: int

    @property
    def name(self) -> str:
        """Its name there."""
        return self.path.name


def wanted(needs: Needs) -> tuple[Wanted, ...]:
    """Every such file, with its checksum.

    Raises:
        ConfigError: one cannot be read, or an experiment's file has the name of one that devicelab puts there.
    """
    scripts = [registry.script(name) for name in dict.fromkeys(needs.scripts)]
    taken = {*build.programs(), *build.libraries(), *(path.name for path in scripts)}
    if clash := next((path for path in needs.files if path.name in taken), None):
        raise ConfigError(f"{clash.name} is a file of devicelab's on the device", hint=f"rename {clash}")
    # What is pushed may be a program, and its permissions here may not have survived a download.
    return (*(_wanted(path, 0o644) for path in scripts), *(_wanted(path, 0o755) for path in needs.files))


def pushed(needs: Needs) -> tuple[BinaryInfo, ...]:
    """What the experiment pushes, as the store keeps it: name and checksum."""
    ours = {path.name for path in needs.files}
    return tuple(BinaryInfo(name=one.name, sha256=one.sha256) for one in wanted(needs) if one.name in ours)


def _wanted(path: Path, mode: int) -> Wanted:
    try:
        if not path.is_file():
            raise ConfigError(f"push: there is no file {path}", hint="paths are taken from the experiment's folder")
        found = path.stat()
        return Wanted(path, _sha256(path, found.st_mtime_ns, found.st_size), mode)
    except OSError as error:
        raise ConfigError(f"push: cannot read {path}: {error.strerror or os.strerror(error.errno or 0)}") from error


@lru_cache(maxsize=64)
def _sha256(path: Path, _changed_ns: int, _size: int) -> str:
    """Read once as long as it is the same file: a model may have gigabytes, and every block of a sweep asks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
