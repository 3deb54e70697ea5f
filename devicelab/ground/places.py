"""Where the user's own files are looked for: a configuration folder, and the folder lab.toml lies in."""

import os
from pathlib import Path

from devicelab.ground import user


def config_dir() -> Path | None:
    """``$XDG_CONFIG_HOME/devicelab`` or ``~/.config/devicelab``; ``None`` for a user without a home."""
    base, home = os.environ.get("XDG_CONFIG_HOME"), user.home()
    if not base and home is None:
        return None
    return Path(base or f"{home}/.config") / "devicelab"


def lab_path() -> Path | None:
    """Where lab.toml is: ``$DEVICELAB_LAB``, ``./lab.toml`` or ``~/.config/devicelab/lab.toml``."""
    explicit = os.environ.get("DEVICELAB_LAB")
    if explicit:
        return Path(explicit)
    config = config_dir()
    places = [Path("lab.toml"), *([config / "lab.toml"] if config is not None else [])]
    return next(filter(_is_file, places), None)


def data_folders(kind: str) -> tuple[Path, ...]:
    """The user's folders for TOML files of a kind (``boards``, ``experiments``, ``toolchains``), each once.

    They lie in the configuration folder and beside lab.toml.
    """
    beside = lab_path()
    roots = (config_dir(), beside.parent if beside is not None else None)
    folders = {(root / kind).resolve(): None for root in roots if root is not None}
    return tuple(folders)


def lab_is_here() -> bool:
    """lab.toml was found in the current directory, and nobody named it: a downloaded folder may have brought it."""
    return not os.environ.get("DEVICELAB_LAB") and lab_path() == Path("lab.toml")


def code_folder(kind: str) -> Path | None:
    """The user's folder for Python modules of a kind: in the configuration folder alone.

    Never in the current directory or beside a lab.toml found there: a folder that was downloaded runs no code.
    """
    config = config_dir()
    return config / kind if config is not None else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # HOME is another user's, as after su: what lies there is not ours
        return False
