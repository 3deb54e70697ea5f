"""Texts from devices, made harmless for a reader: in XML, in Markdown, in names of files."""

import hashlib
import re

from devicelab.ground.safe_text import printable

__all__ = ["markdown_text", "one_line", "page_name", "printable"]

_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~])")
# Names Windows does not give to files, whatever their ending.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def one_line(text: str) -> str:
    """The text, printable, on one line."""
    return " ".join(printable(text).split())


def markdown_text(text: str) -> str:
    """One line without markup. A chat is not made to call everybody by a name with an ``@`` in it."""
    return _MARKDOWN.sub(r"\\\1", one_line(text)).replace("@", "@\u200b")


def page_name(text: str) -> str:
    """A name from anywhere as the stem of a page's file name.

    Lower-case letters, digits, dot, hyphen and underscore; a text that is not like that already gets a piece of its
    hash at the end, so that two texts never share a page, on no file system.
    """
    stem = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip(".-")[:60]
    if _RESERVED.fullmatch(stem):
        stem = stem.replace(".", "-")
    elif stem == text and stem:
        return stem
    return f"{stem or 'unnamed'}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:10]}"
