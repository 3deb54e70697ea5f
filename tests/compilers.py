"""The compiler of this computer, for what tests compile themselves."""

import pytest

from devicelab.device.toolchain import Compiler, find_compiler, host_abi, toolchains


def host_compiler() -> Compiler:
    """The one that devicelab takes for this computer; the test is skipped, with the reason, where there is none."""
    host = next(chain for chain in toolchains() if chain.name == "host")
    compiler = find_compiler(host, str(host_abi()))
    if not isinstance(compiler, Compiler):
        pytest.skip(compiler.reason)
    return compiler
