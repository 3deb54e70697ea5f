"""Device selectors of a farm file: ``note10-a``, ``board=note10``, ``tag=sd855``, ``any 2 of tag=a, board=pixel``."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError
from devicelab.ground import registry

_ANY = re.compile(r"any\s+(\d{1,9})\s+of\s+(.+)", re.IGNORECASE | re.DOTALL)
_WORDS = ("board", "tag")
MAX_COUNT = 1000
"""What ``any N of`` may ask for."""


@dataclass(frozen=True)
class Known:
    """A device that a farm may use.

    Attributes:
        entry: how lab.toml or the transport names it.
        kind: board kind, ``None`` if nobody knows (it is not attached and was never seen).
        present: a transport sees it now, or it cannot be told without trying (ssh).
    """

    entry: DeviceEntry
    kind: str | None = None
    present: bool = True


@dataclass(frozen=True)
class Word:
    """One word of a selector: a device's name, or a board kind or tag."""

    by: Literal["name", "board", "tag"]
    value: str

    def fits(self, device: Known) -> bool:
        """The device is meant."""
        if self.by == "board":
            return device.kind == self.value
        return self.value in device.entry.tags if self.by == "tag" else device.entry.name == self.value

    def __str__(self) -> str:
        return self.value if self.by == "name" else f"{self.by}={self.value}"


@dataclass(frozen=True)
class Selector:
    """A selector, read: the words, and how many devices of those that fit (``None``: every one)."""

    text: str
    words: tuple[Word, ...]
    count: int | None = None

    def fits(self, device: Known) -> bool:
        """One of the words means the device."""
        return any(word.fits(device) for word in self.words)


def parse(text: str) -> Selector:
    """Read a selector.

    Raises:
        ConfigError: a word nobody knows, an empty selector, or ``any`` without a number.
    """
    match = _ANY.fullmatch(text.strip())
    count, body = (int(match[1]), match[2]) if match else (None, text)
    if not match and re.match(r"any\b", text.strip(), re.IGNORECASE):
        raise ConfigError(f"not a selector: {text!r}", hint="write `any 2 of tag=NAME`")
    if count == 0:
        raise ConfigError(f"{text!r} asks for no device at all")
    parts = [part.strip() for part in body.split(",")]
    if not all(parts):
        raise ConfigError(
            f"not a selector: {text!r} has an empty word", hint="a name, board=KIND or tag=WORD, by commas"
        )
    return Selector(text, tuple(_word(part, text) for part in parts), count)


def _word(part: str, text: str) -> Word:
    by, mark, value = part.partition("=")
    by, value = by.strip(), value.strip()
    if not mark:
        if re.search(r"\s", part):
            raise ConfigError(
                f"not a selector: {part!r} in {text!r}", hint="several words are separated by commas: a, b, tag=c"
            )
        return Word("name", part)
    if by == "board":
        return Word("board", value)
    if by == "tag":
        return Word("tag", value)
    raise registry.unknown("selector word", f"{by}=", tuple(f"{word}=" for word in _WORDS))


@dataclass(frozen=True)
class Past:
    """What meant something once, whoever is away now.

    Attributes:
        selectors: of earlier nights, as they were written.
        knew: whether a device of that name was ever used.
    """

    selectors: Collection[str] = ()
    knew: Callable[[str], bool] = lambda _: False

    def means(self, word: Word) -> bool:
        """A device of that name was used, or an earlier night's selector had the word."""
        if word.by == "name" and self.knew(word.value):
            return True
        return any(word in parse(text).words for text in self.selectors)


NO_PAST = Past()


def check(selector: Selector, pool: Mapping[str, Known], kinds: Sequence[str], past: Past = NO_PAST) -> None:
    """That the lab knows what the selector means; whether it is there now shows when the night runs.

    Raises:
        ConfigError: a device, tag or board kind that nobody knows, or fewer devices than ``any`` asks for.
    """
    if selector.count is not None and selector.count > MAX_COUNT:
        raise ConfigError(f"{selector.text!r} asks for more than {MAX_COUNT} devices")
    tags = tuple(sorted({tag for device in pool.values() for tag in device.entry.tags}))
    for word in selector.words:
        if word.by == "name" and word.value not in pool and not past.means(word):
            raise registry.unknown("device", word.value, tuple(sorted(pool)))
        if word.by == "tag" and word.value not in tags and not past.means(word):
            raise registry.unknown("tag", word.value, tags)
        if word.by == "board" and word.value not in kinds:
            raise registry.unknown("board kind", word.value, tuple(kinds))
    fixed = all(word.by != "board" for word in selector.words)
    fitting = matching(selector, pool.values())
    away = selector.text in past.selectors
    if selector.count is not None and fixed and len(fitting) < selector.count and not away:
        names = ", ".join(device.entry.name for device in fitting)
        raise ConfigError(f"{selector.text!r} asks for {selector.count} devices, and {len(fitting)} fit: {names}")


def matching(selector: Selector, pool: Iterable[Known]) -> tuple[Known, ...]:
    """The devices of the pool that the selector means, by name."""
    return tuple(sorted((device for device in pool if selector.fits(device)), key=lambda device: device.entry.name))
