"""Libraries that take long to load, loaded while something else is waited for."""

import contextlib
import importlib
import threading


def load(library: str) -> None:
    """Begin to import a library of somebody else's; whoever imports it later waits for the rest.

    One that is not there, or fails, fails where it is used. Not for modules of this package: two threads that import
    what imports each other may see a half of it.
    """

    def work() -> None:
        with contextlib.suppress(Exception):
            importlib.import_module(library)

    threading.Thread(target=work, daemon=True).start()
