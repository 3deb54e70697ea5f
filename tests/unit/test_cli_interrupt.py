"""Ctrl-C and SIGTERM end a command wherever they fall."""

import subprocess
import sys

import pytest

_COMMAND = """
import signal, sys, time
from devicelab import cli

class Finalised:
    def __del__(self):
        signal.raise_signal(signal.{signal})

def work():
    Finalised()
    for _ in range(600):
        time.sleep(0.05)

cli.{entry} = work if "{entry}" == "app" else lambda: work
cli.main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interruption_that_falls_into_a_finaliser_is_not_lost(name: str) -> None:
    from devicelab import cli

    text = _COMMAND.format(signal=name, entry="command" if hasattr(cli, "command") else "app")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
