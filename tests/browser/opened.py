"""What tests of pages share: a page with what the browser said about it, and colours that can be read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WIDE, NARROW = 1280, 400


@dataclass
class Opened:
    """A page with what the browser said about it."""

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def outside(opened: Opened, path: Path) -> list[str]:
    return [url for url in opened.requests if url != path.as_uri() and not url.startswith("data:")]


def contrast(colours: list[str]) -> float:
    """Ratio of two colours by WCAG 2.2 (relative luminance of sRGB)."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(luminance(colour) for colour in colours)
    return (high + 0.05) / (low + 0.05)
