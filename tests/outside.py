"""Plug-ins from outside the package, for tests: files in a folder of the user's, distributions with entry points."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from devicelab.ground import registry

KNOB = """
    from devicelab.knobs.base import Phase, Setting

    WORDS = ("fan",)
    GLOBS = ("/sys/class/hwmon/hwmon*/pwm1",)
    PHASE = Phase.INTERFERENCE

    def applies(facts):
        return True

    def plan(word, want, facts):
        return Setting()

    def prove(word, want, facts, record):
        return ()
"""

WORKLOAD = """
    from devicelab.model.measurement import Measurement
    from devicelab.model.plan import Noun
    from devicelab.workloads.base import CommandLine

    NATIVE: tuple[str, ...] = ()
    FILES: tuple[str, ...] = ()

    class Params(Noun):
        n: int = 1

    def command(params, context):
        return CommandLine(("true",))

    def parse(output, params):
        return Measurement()
"""

SCHEDULER = """
    from devicelab.schedulers.base import TenantTreatment, Treatment

    def treat(variant, tenants, place):
        return Treatment(tenants={tenant.name: TenantTreatment() for tenant in tenants})

    def verify(variant, tenants, record):
        return ()
"""

TRANSPORT = """
    from devicelab.errors import ConfigError

    SCHEME = "serial"

    def connect(address):
        raise ConfigError("not an address of this kind")

    def discover():
        return ()

    def listed_as(address):
        return None
"""

ANALYSIS = """
    def analyse(results):
        return ()
"""

GOOD = {
    "knobs": ("fan", KNOB),
    "workloads": ("nothing", WORKLOAD),
    "schedulers": ("fair", SCHEDULER),
    "transports": ("serial", TRANSPORT),
    "analyses": ("silence", ANALYSIS),
}
"""Kind → the name and the text of a plug-in that keeps its contract."""


class Outside:
    """The user's folder and what is installed."""

    def __init__(self, root: Path, config: Path) -> None:
        self._root = root
        self.config = config

    def put(self, path: str, text: str) -> Path:
        """A file in the user's folder: ``knobs/fan.py``."""
        file = self.config / path
        for folder in (file.parent, *file.parent.parents):
            if not folder.is_dir():
                folder.mkdir(parents=True, mode=0o755)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        registry._look.cache_clear()
        return file

    def install(self, distribution: str, group: str, entry: str, **modules: str) -> None:
        """A distribution that offers an entry point, ``NAME = MODULE``, with its modules."""
        info = self._root / "site" / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
        for name, text in modules.items():
            (self._root / "site" / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        registry._look.cache_clear()


def everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    """Body of the fixture ``outside``."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    forget()
    known = set(sys.modules)
    yield Outside(tmp_path, tmp_path / "config" / "devicelab")
    for name in set(sys.modules) - known:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)) or name.startswith("devicelab_user"):
            del sys.modules[name]
    forget()


def forget() -> None:
    """Look again."""
    registry._look.cache_clear()
    registry._left_out.clear()
