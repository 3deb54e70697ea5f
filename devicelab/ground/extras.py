"""What to type where an optional package is missing: requirements by their own names, for the interpreter that runs.

devicelab's own name is not on a public index, so ``devicelab[EXTRA]`` would install somebody else's package or nothing.
"""

import re
import shlex
import sys
from pathlib import Path

_REQUIREMENT = re.compile(r"\s*([^;]+?)\s*;.*\bextra\s*==\s*['\"]([A-Za-z0-9_-]+)['\"]")
# The extra that brings a module, by the module's top-level name.
_MODULES = {
    "apprise": "notify",
    "distributed": "dask",
    "google": "trace",  # protobuf, in Perfetto's protos
    "mfusepy": "sim",
    "optuna": "search",
    "perfetto": "trace",
    "psycopg": "postgres",
    "pyarrow": "parquet",
    "tornado": "dask",
    "ziglang": "cross",
}


def install(extra: str) -> str:
    """The command that installs an extra's packages into the environment devicelab runs in; one line.

    Without devicelab's metadata (it runs from a source tree on the path) the extra is named instead.
    """
    import importlib.metadata  # ten milliseconds that every start would pay

    try:
        required = importlib.metadata.requires("devicelab") or []
    except importlib.metadata.PackageNotFoundError:
        required = []
    packages = [match[1] for one in required if (match := _REQUIREMENT.match(one)) and match[2] == extra]
    if not packages:
        return f"install the packages of the extra `{extra}` in pyproject.toml"
    return shlex.join([*_installer(), *packages])


def _installer() -> list[str]:
    """How packages get into this environment: who made it says which program may change it."""
    # Only who is told what to type needs these.
    import importlib.util
    import shutil
    import sysconfig

    prefix = Path(sys.prefix)
    if (prefix / "pipx_metadata.json").is_file():
        return ["pipx", "inject", prefix.name]  # so `pipx upgrade` keeps them
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip", "install"]
        # A distribution's own Python (PEP 668): devicelab can only be in it by this flag.
        marked = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").is_file()
        return [*pip, "--break-system-packages"] if marked and sys.prefix == sys.base_prefix else pip
    # `uv tool install` and `uv venv` make environments without pip.
    return [shutil.which("uv") or "uv", "pip", "install", "--python", sys.executable]


def of_module(name: str) -> str | None:
    """The extra that brings a module that was not found; ``None`` if it belongs to none."""
    return _MODULES.get(name.partition(".")[0])
