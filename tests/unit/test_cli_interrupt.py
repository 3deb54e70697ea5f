"""Ctrl-C and SIGTERM end a command wherever they fall."""

import subprocess
import sys

import pytest

_COMMAND = """
import signal, sys, time
from devicelab import cli

signal.signal(signal.SIGINT, {sigint})

class Finalised:
    def __del__(self):
        signal.raise_signal(signal.{signal})

def work(prog_name):
    Finalised()
    for _ in range(600):
        time.sleep(0.05)

cli.command = lambda: work
cli.main()
"""


@pytest.mark.parametrize(
    ("name", "sigint"),
    [
        ("SIGINT", "signal.default_int_handler"),
        ("SIGTERM", "signal.default_int_handler"),
        ("SIGTERM", "signal.SIG_IGN"),
    ],
)
def test_an_interruption_that_falls_into_a_finaliser_is_not_lost(name: str, sigint: str) -> None:
    argv = [sys.executable, "-c", _COMMAND.format(signal=name, sigint=sigint)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


_IMPATIENT = """
import signal
from devicelab import cli
signal.signal(signal.SIGINT, signal.default_int_handler)
from devicelab.errors import ConfigError

def impatient(say):
    def said(*words, **named):
        signal.raise_signal(signal.SIGINT)
        say(*words, **named)
    return said

def work(prog_name):
    raise {error}

cli.typer.echo, cli.typer.secho = impatient(cli.typer.echo), impatient(cli.typer.secho)
cli.command = lambda: work
cli.main()
"""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [("KeyboardInterrupt", 130, "interrupted\n"), ("ConfigError('no such thing')", 2, "error: no such thing\n")],
)
def test_a_second_interruption_during_the_last_words_changes_nothing(error: str, code: int, said: str) -> None:
    argv = [sys.executable, "-c", _IMPATIENT.format(error=error)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, said)


_CONVERTED = """
import signal
from devicelab import cli
signal.signal(signal.SIGINT, signal.default_int_handler)

def work(prog_name):
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise RuntimeError("Error building the serializer: KeyboardInterrupt")

cli.command = lambda: work
cli.main()
"""


def test_an_interruption_that_a_library_made_an_error_of_its_own_is_one() -> None:
    argv = [sys.executable, "-c", _CONVERTED]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
