"""What is closed behind a ``with``."""

from typing import Self


class Closing:
    """Something with a ``close``, which leaving its ``with`` calls."""

    def close(self) -> None:
        """Let go of what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
