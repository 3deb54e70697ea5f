"""The torch tenant's script as a module: it is no part of the package, since it runs under another Python."""

import importlib.util
from types import ModuleType

from devicelab.ground import registry


def load(name: str = "torch_tenant.py") -> ModuleType:
    """A fresh module; importing it needs nothing but the standard library."""
    spec = importlib.util.spec_from_file_location(name.partition(".")[0], registry.script(name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
