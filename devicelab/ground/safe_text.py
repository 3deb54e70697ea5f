"""Texts from devices, files and users made harmless for whoever reads them: terminals, JSON readers, spreadsheets.

Stored texts stay as they came; they are made harmless on their way out. ``masked`` is for our own texts: a command line
or a message in which the user's password may stand.
"""

import re
from functools import cache

# scheme://user:PASSWORD@, password=..., and a password where an ssh address has none.
_SECRETS = (
    # To the last @ before the query: a password in which @ or / was not escaped is one all the same.
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s:/@'\"]*):(?:(?!\?[A-Za-z_]\w*=)\S)*@"), r"\1:***@"),
    (re.compile(r"(?i)\b((?:ssl)?password|passwd|pwd|token|secret|api_?key)=[^\s&'\",;]+"), r"\1=***"),
    (re.compile(r"\b(ssh:[^\s:@/'\"]+):[^\s@]+@"), r"\1:***@"),
)
# Android 7's linker says so of every program with an entry that it does not use (bionic, linker.cpp, DL_WARN).
_LINKER = re.compile(r"(?:WARNING: )?linker: (?:warning: )?", re.IGNORECASE)
# What a spreadsheet takes for a formula when it stands at the beginning of a cell (OWASP, "CSV Injection").
_FORMULA = re.compile(r"\s*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@cache  # not at the start of every command: so many ranges take milliseconds to compile
def _unprintable() -> re.Pattern[str]:
    """Everything XML 1.0 does not allow, the C1 controls, and the marks that reorder text (Unicode TR 36, "bidi")."""
    return re.compile(
        "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
    )


def printable(text: str) -> str:
    """The text with each character that may not stand in XML, or turns text around, replaced by U+FFFD."""
    return _unprintable().sub("\ufffd", text)


def terminal(text: str) -> str:
    """The text without anything a terminal obeys: no escape sequence, no return to the beginning of a line."""
    return printable(text).replace("\r\n", "\n").replace("\r", "\ufffd")


def json_text(text: str) -> str:
    """JSON with such characters written as escapes: the same data, and nothing that a terminal obeys."""
    return _unprintable().sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def masked(text: str) -> str:
    """The text with ``***`` in place of passwords in URLs, addresses and ``password=`` words."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def spoken(text: str) -> str:
    """What a program on a device said on stderr, without the warnings of Android's linker, which are not its own."""
    return "\n".join(line for line in text.splitlines() if not _LINKER.match(line.strip())).strip()


def csv_cell(value: object) -> object:
    """A cell of a CSV file: text that a spreadsheet would run as a formula gets an apostrophe in front.

    Numbers, also those that are text, stay as they are.
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value.strip()):
        return f"'{value}"
    return value
