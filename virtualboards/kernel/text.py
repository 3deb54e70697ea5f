"""How the kernel reads and prints numbers: sscanf, kstrto*, CPU lists."""

import errno
import re
from collections.abc import Iterable

from virtualboards.kernel.nodes import fail

_UNSIGNED = re.compile(r"\s*(\d+)")
_SIGNED = re.compile(r"\s*([+-]?\d+)")
_STRICT = re.compile(r"([+-]?)(0[xX][0-9a-fA-F]+|\d+)\n?")


def scan_u32(text: str) -> int:
    """The number ``sscanf(buf, "%u")`` finds: leading blanks skipped, what follows the digits ignored, modulo 2^32.

    Raises:
        OSError: EINVAL if there is none ("-5" has none, "0x10" is 0).
    """
    match = _UNSIGNED.match(text)
    if match is None:
        raise fail(errno.EINVAL)
    return int(match[1]) & 0xFFFFFFFF


def scan_int(text: str, error: int = errno.EINVAL) -> int:
    """The number ``sscanf(buf, "%d")`` finds.

    Raises:
        OSError: ``error`` if there is none.
    """
    match = _SIGNED.match(text)
    if match is None:
        raise fail(error)
    return int(match[1])


def strict_int(text: str, error: int = errno.EINVAL) -> int:
    """The number ``kstrtoint(buf, 0)`` reads: the whole text, decimal, hexadecimal with 0x, octal with a leading 0.

    Raises:
        OSError: ``error`` for anything else, ERANGE replaced by ``error`` too.
    """
    match = _STRICT.fullmatch(text)
    if match is None:
        raise fail(error)
    digits = match[2]
    try:
        base = 16 if digits[:2].lower() == "0x" else 8 if digits[0] == "0" else 10
        value = int(digits, base)
    except ValueError:
        raise fail(error) from None
    if value > 0x7FFFFFFF + (match[1] == "-"):
        raise fail(error)
    return -value if match[1] == "-" else value


def scan_bool(text: str) -> bool:
    """What ``kstrtobool`` reads: 1/0, y/n, on/off, by the first letters.

    Raises:
        OSError: EINVAL for anything else.
    """
    head = text[:2].lower()
    if head[:1] in {"1", "y"} or head == "on":
        return True
    if head[:1] in {"0", "n"} or head == "of":
        return False
    raise fail(errno.EINVAL)


def cpu_ranges(cpus: Iterable[int]) -> str:
    """CPU numbers as the kernel's list format: ``0-3,7``."""
    ordered = sorted(cpus)
    parts: list[str] = []
    while ordered:
        first = last = ordered.pop(0)
        while ordered and ordered[0] == last + 1:
            last = ordered.pop(0)
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(parts)


def parse_ranges(text: str, limit: int) -> frozenset[int]:
    """CPU numbers from the kernel's list format.

    Raises:
        OSError: EINVAL for another format, ERANGE for a number at or above ``limit``.
    """
    numbers: set[int] = set()
    for part in text.strip().split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            if text.strip():
                raise fail(errno.EINVAL)
            continue
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise fail(errno.EINVAL)
        if last >= limit:
            raise fail(errno.ERANGE)
        numbers.update(range(first, last + 1))
    return frozenset(numbers)


def mask_of(cpus: Iterable[int]) -> int:
    """CPU numbers as a bit mask."""
    mask = 0
    for cpu in cpus:
        mask |= 1 << cpu
    return mask


def cpus_of(mask: int) -> tuple[int, ...]:
    """The CPU numbers of a bit mask, ascending."""
    return tuple(cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1)
