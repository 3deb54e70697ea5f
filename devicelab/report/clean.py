"""Texts from devices, made harmless for a reader: what may not stand in XML, and what turns text around."""

import re

# Everything XML 1.0 does not allow, the C1 controls, and the marks that reorder text (Unicode TR 36, "bidi" spoofing).
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    """The text with each such character replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)
