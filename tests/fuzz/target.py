"""What a fuzzing target is, and what has to hold for every input."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from devicelab.errors import LabError

_MARK = b"\n%%\n"
"""Parts of an input that is more than one text."""


@dataclass(frozen=True)
class Target:
    """One reader of texts that somebody else wrote.

    Attributes:
        name: on the command line and in the table of results.
        what: whose words are read by what.
        run: reads one input; a ``LabError`` is an answer, anything else that comes out of it is a bug.
        seeds: valid inputs to begin with.
        words: what to put in besides; pieces of the seeds are found by themselves.
        allowed: errors besides ``LabError`` which the reader's contract names (its callers handle them).
    """

    name: str
    what: str
    run: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    words: tuple[bytes, ...] = ()
    allowed: tuple[type[Exception], ...] = ()


def check(target: Target, data: bytes) -> bool:
    """Whether the input was taken; ``False`` if it was refused as the contract says.

    Raises:
        Exception: whatever else came out: a bug.
    """
    try:
        target.run(data)
    except LabError as error:
        if not error.message.strip() or error.exit_code not in range(2, 9):
            raise AssertionError(f"a refusal without message or exit code: {error!r}") from error
        return False
    except target.allowed:
        return False
    return True


def joined(*parts: bytes) -> bytes:
    """Several texts as one input."""
    return _MARK.join(parts)


def parted(data: bytes) -> list[bytes]:
    """The texts of an input, at least one."""
    return data.split(_MARK)


def pieces(data: bytes) -> Iterator[bytes]:
    """A stream cut into chunks: the first byte says how long they are, 0 is all at once."""
    size = data[0] if data else 0
    rest = data[1:]
    yield from (rest[at : at + size] for at in range(0, len(rest), size)) if size else iter((rest,))
