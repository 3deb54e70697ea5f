"""Whose process this is. In a container a user may have no name and no home."""

import os
from pathlib import Path


def name() -> str | None:
    """The user's name; ``None`` if neither the environment nor the system's list of users has one."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # which of them depends on Python's release
        return None


def shown_name() -> str:
    """The user's name for people; a number where there is no name."""
    return name() or f"uid {os.getuid()}"


def holder() -> str:
    """Who we are, for the lease of a device: user, host and process."""
    import socket  # this module is part of every start, the name of the host is not

    return f"{shown_name()}@{socket.gethostname()} pid {os.getpid()}"


def home() -> Path | None:
    """The user's home; ``None`` if neither ``HOME`` nor the system's list of users has one."""
    try:
        return Path.home()
    except RuntimeError:
        return None
