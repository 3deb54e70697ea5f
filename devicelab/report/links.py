"""What a page carries within itself: files as links, and the scripts that its policy allows by their hash."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote

from markupsafe import Markup

from devicelab.ground.registry import data_dir

# Of the characters that a table is full of, those that stand for themselves in an attribute, and that browsers take as
# they are behind "data:".
_PLAIN = " ,.-:=@/;()+"


def data_uri(kind: str, data: bytes) -> Markup:
    """The data as a link that needs no server; nothing in it is to be escaped. Numbers as text take a third less."""
    if kind == "text/csv":
        return Markup(f"data:{kind};charset=utf-8,{quote(data, safe=_PLAIN)}")  # noqa: S704 - all else is %XX
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode()}")  # noqa: S704


@dataclass(frozen=True)
class Script:
    """A script of ours as it stands in a page, and the source expression that allows exactly it."""

    text: Markup
    source: str


@cache
def script(name: str) -> Script:
    """A file of ``reports/`` as a script for a page.

    Raises:
        ValueError: it would end the element that it stands in.
    """
    text = (data_dir("reports") / name).read_text(encoding="utf-8")
    if "</script" in text.lower():
        raise ValueError(f"{name} would end its own element")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(Markup(text), f"'sha256-{digest}'")  # noqa: S704 - a file of ours
