"""The files of the site: each is replaced at once, and only if what it was made from is not what it was."""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from devicelab import __version__
from devicelab.errors import ConfigError
from devicelab.ground.files import alone
from devicelab.ground.registry import data_dir
from devicelab.report import beside
from devicelab.report.page import written

_MANIFEST = ".devicelab-site.json"
_LOCK = ".devicelab-site.lock"
# What may be deleted: pages of ours, by the only form their names have.
_OURS = re.compile(r"(nights|devices|experiments|campaigns)/[a-z0-9][a-z0-9._-]*\.html")
_LEFT_OVER = re.compile(r"\.[a-z0-9._-]+\.html\.\d+\.part")


@dataclass
class SiteBuild:
    """What became of the pages.

    Attributes:
        index: the page to open.
        written, kept, removed: pages, by their place under the folder.
        problems: reports that could not be made, a sentence each.
    """

    index: Path
    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@contextlib.contextmanager
def in_turn(directory: Path) -> Iterator[None]:
    """One build of a folder at a time; others wait for it.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(alone(directory / _LOCK))
            yield
    except OSError as error:
        raise ConfigError(f"cannot write {directory}: {error.strerror or error}") from error


class SiteFiles:
    """The folder: what is in it, from what it was made, and what is left to remove."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.build = SiteBuild(directory / "index.html")
        old = self._manifest()
        if old is None and self.build.index.exists():
            raise ConfigError(f"{directory} holds an index.html that is not a site of devicelab", hint="choose another")
        self._old: dict[str, str] = dict((old or {}).get("pages", {}))
        self._notes: dict[str, Any] = dict((old or {}).get("notes", {}))
        self._new: dict[str, str] = {}
        self._new_notes: dict[str, Any] = {}
        # What a build that was killed left behind.
        for folder in (directory, *(directory / name for name in ("nights", "devices", "experiments", "campaigns"))):
            for path in folder.glob(".*.part") if folder.is_dir() else ():
                if _LEFT_OVER.fullmatch(path.name):
                    path.unlink(missing_ok=True)

    def begin(self) -> None:
        """Say whose the folder is before a page lies in it: a build that ends early can be done again then."""
        if not (self.directory / _MANIFEST).exists():
            self._note({}, {})

    def known(self, place: str) -> bool:
        """It was made before and is there."""
        return place in self._old and (self.directory / place).is_file()

    def has(self, place: str) -> bool:
        """It belongs to the site as it is being made."""
        return place in self._new

    def key(self, place: str) -> str:
        """What the page was made from."""
        return self._old[place]

    def current(self, place: str, key: str) -> bool:
        """It is there and was made from the same."""
        return self._old.get(place) == key and self.known(place)

    def keep(self, place: str, key: str) -> None:
        """Leave the page as it is."""
        self._new[place] = key
        self.build.kept.append(place)

    def wrote(self, place: str, key: str) -> None:
        """The page was made."""
        self._new[place] = key
        self.build.written.append(place)

    def write(self, place: str, key: str, text: str) -> None:
        """Make the page; one that says the same is not touched."""
        path = self.directory / place
        with contextlib.suppress(OSError, ValueError):
            if path.read_text(encoding="utf-8") == text:
                self.keep(place, key)
                return
        with written(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        self.wrote(place, key)

    def remembered(self, name: str, key: str) -> dict[str, Any] | None:
        """What was noted about a group of pages, if it was made from the same and all its pages are there."""
        note = self._notes.get(name)
        if not isinstance(note, dict) or note.get("key") != digest(made_from(), key):
            return None
        return note["value"] if all(self.known(place) for place in note["value"]["pages"]) else None

    def remember(self, name: str, key: str, value: dict[str, Any]) -> None:
        """Note something about a group of pages."""
        self._new_notes[name] = {"key": digest(made_from(), key), "value": value}

    def keep_group(self, name: str) -> None:
        """Leave the group's pages as they are."""
        self._new_notes[name] = self._notes[name]
        for place in self._notes[name]["value"]["pages"]:
            self.keep(place, self._old[place])

    def finish(self) -> None:
        """Remove pages of what is no longer stored, and note what the others were made from."""
        for place in self._old.keys() - self._new.keys():
            if _OURS.fullmatch(place) and ".." not in place:
                with contextlib.suppress(OSError):
                    (self.directory / place).unlink()
                    self.build.removed.append(place)
                with contextlib.suppress(ConfigError):
                    beside.remove(self.directory / place)
        self._note(self._new, self._new_notes)

    def _note(self, pages: dict[str, str], notes: dict[str, Any]) -> None:
        with written(self.directory / _MANIFEST) as temporary:
            text = json.dumps({"pages": pages, "notes": notes}, indent=0, sort_keys=True)
            temporary.write_text(text, encoding="utf-8")

    def _manifest(self) -> dict[str, Any] | None:
        try:
            manifest = json.loads((self.directory / _MANIFEST).read_text(encoding="utf-8"))
        except OSError:
            return None
        except ValueError:
            return {}
        return manifest if isinstance(manifest, dict) else {}


def digest(*parts: object) -> str:
    """A short name for the values: they have no other way to be the same than to look the same."""
    return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()


@cache
def made_from() -> str:
    """Digest of this version's templates and code that make pages: another version makes all of them anew."""
    files = [*data_dir("reports").rglob("*"), *Path(__file__).parent.glob("*.py")]
    return digest(__version__, [path.read_bytes() for path in sorted(files) if path.is_file()])
