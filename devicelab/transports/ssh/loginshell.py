r"""Commands for login shells that are no POSIX shell: sshd gives every command to the account's own.

csh ends a quoted word at a newline, expands ``!`` within quotes and takes words up to 1 KiB; fish has backslashes in
single quotes, rc doubles them. A command of digits, letters and ``\0NNN`` in short words survives them all, and ``sh``
there puts it together.
"""

import re

GROWTH = 6
"""At most so many times as long as a command is its encoded form."""

_CHUNK = 120
_ODD = re.compile(rb"[^A-Za-z0-9_./=, -]")
_JOIN = b"""exec sh -c 'eval "$(printf %b "$@")"' sh"""
# What POSIX quoting carries and others break at.
_TRICKY = "a\n!b\\\\c$d`e\"f'g"


def encoded(command: bytes) -> bytes:
    """The same command for a shell of which only the simplest quoting is known."""
    pieces = (command[at : at + _CHUNK] for at in range(0, len(command), _CHUNK))
    words = (_ODD.sub(lambda odd: b"\\0%03o" % ord(odd[0]), piece) for piece in pieces)
    return b" ".join([_JOIN, *(b"'%b'" % word for word in words)])


def question(token: str) -> bytes:
    """A command that prints the token if its words arrive as they were written.

    The last word is for shells that, in a locale of ASCII, take a command with another letter for an empty one (yash).
    """
    word = _TRICKY.replace("'", "'\"'\"'")
    return f"""exec sh -c '[ "${{#1}}" = {len(_TRICKY)} ] && echo "$2"' sh '{word}' '{token}' 'é'""".encode()
