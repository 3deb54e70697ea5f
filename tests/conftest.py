"""Which tests run when none is named, and fixtures that every test may use."""

import itertools
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sim_fixtures import adb_server, virtual_board  # noqa: F401  # pytest finds fixtures by name

from tests import outside as outside_
from tests import postgres
from tests import typed as typed_

# How long an example takes is this machine's affair.
settings.register_profile("devicelab", deadline=None)
settings.load_profile("devicelab")

# Tests start Python hundreds of times, and their own assertions are rewritten: what was compiled is kept.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_SLOWER = {"slow", "sim", "sshd"}
_MOST = 8  # each has everything imported: half a gigabyte
_HEARD = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--all``: whoever just says ``pytest`` waits less than a minute."""
    parser.addoption("--all", action="store_true", help=f"also the tests marked {', '.join(sorted(_SLOWER))}")
    parser.addoption("--write-goldens", action="store_true", help="take what is said and drawn now as read")
    parser.addoption("--shuffle", type=int, metavar="SEED", help="files and the tests in them in a random order")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Tests that were asked for by a marker, a word or a path run whatever they are, one after another.

    Else processes share them file by file, unless ``-n`` is given: more than there are cores, since tests wait, the
    slow ones as long as they compute.
    """
    option = config.option
    named = config.args_source is not pytest.Config.ArgsSource.TESTPATHS or bool(option.markexpr or option.keyword)
    alone = hasattr(config, "workerinput") or option.usepdb or option.collectonly
    if not named and option.numprocesses is None and not alone:
        option.numprocesses = min(_MOST, (os.cpu_count() or 1) + 1)
        option.dist, option.loadscopereorder = "loadfile", False
    option.all = option.all or named


def pytest_report_header(config: pytest.Config) -> str:
    """Says what is left out."""
    return "" if config.option.all else f"only the fast tests; --all runs those marked {', '.join(sorted(_SLOWER))} too"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the fast tests, unless others were asked for, in the order that was asked for."""
    if config.option.shuffle is not None:
        _shuffle(items, random.Random(config.option.shuffle))
    slower = {item for item in items if _SLOWER.intersection(mark.name for mark in item.iter_markers())}
    if config.option.all:
        if hasattr(config, "workerinput") and config.option.shuffle is None:
            _begin_with(items, {item.path for item in slower})
        return
    items[:] = [item for item in items if item not in slower]
    config.hook.pytest_deselected(items=[*slower])


def _begin_with(items: list[pytest.Item], files: set[Path]) -> None:
    """Files that take long come first, so that no process is still at one when the others have nothing left."""
    items.sort(key=lambda item: item.path not in files)


def _shuffle(items: list[pytest.Item], chance: random.Random) -> None:
    """What a file's tests share is made once, as ever: files change places, and tests within their file."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    groups = [files[path] for path in sorted(files)]
    for group in groups:
        chance.shuffle(group)
    chance.shuffle(groups)
    items[:] = itertools.chain.from_iterable(groups)


def pytest_sessionstart() -> None:
    """What the tests start hears its signals, also where the tests' own starter ignores them."""
    for number, handler in _HEARD.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """A command that a test runs in this process leaves nothing behind that is the whole process's."""
    with typed_.as_it_was():
        yield


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[outside_.Outside]:
    """A folder of the user's and a place for installed distributions, both empty; forgotten afterwards."""
    yield from outside_.everything(tmp_path, monkeypatch)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> typed_.Typed:
    """Performs command lines in this process."""
    return typed_.here(monkeypatch, capsys)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real PostgreSQL server; the test takes a database of its own with ``postgres.new_database``."""
    if postgres.TOOLS is None:
        pytest.skip("no PostgreSQL server is installed")
    with postgres.running() as url:
        yield url
