"""How root is found: by what works, whatever `su` and `timeout` a device has; and why what was tried is none."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from devicelab.device import facts, probe
from devicelab.device.lab import DeviceEntry
from devicelab.errors import DeviceRefusedError
from devicelab.transports.local import LocalTransport

SHELLS = [["dash"], ["mksh"], ["bash"]]
GOOD = 'export FAKE_UID=0; shift; exec sh -c "$1"'

Ask = Callable[..., probe.Basics]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The probe's answer on a machine of uid 2000 with the programs given (name → script)."""

    def asked(methods: str, shell: list[str] = SHELLS[0], **programs: str) -> probe.Basics:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, text in {"id": "echo ${FAKE_UID:-2000}", **programs}.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        argv = [*shell, "-c", probe._PROBE, "probe", str(tmp_path), methods]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return probe.parse_probe(done.stdout)

    return asked


OLD_BUSYBOX = """secs=10
while :; do case $1 in -t) secs=$2; shift 2;; -s) shift 2;; *) break;; esac; done
command -v "$1" >/dev/null 2>&1 || { echo "timeout: can't execute '$1': No such file or directory" >&2; exit 127; }
exec "$@"
"""


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize(("su", "root", "said"), [
    (GOOD, "su-c", ""),
    (f"echo 'Magisk says hello'; {GOOD}", "su-c", ""),
    ("echo 'su: Permission denied' >&2; exit 1", "none", "su-c: su: Permission denied"),
    ("exit 7", "none", "su-c: exit code 7"),
    ("echo 2000", "none", "su-c: it gives uid 2000"),
    ("echo 0; echo 0000000000000000", "none", "su-c: uid 0, but without any capability"),
    ('printf "0\\r\\n000001ffffffffff\\r\\n"', "none", "su-c: uid 0, but on a terminal, which changes output"),
    ("echo 0; echo 00000000a80425fb; echo refused", "none", "su-c: uid 0, but it may not write to sysfs"),
])  # fmt: skip
def test_root_is_what_works(ask: Ask, shell: list[str], su: str, root: str, said: str) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    found = ask("su-c", shell, su=su)
    assert (found.root, found.root_said) == (root, said)


def test_an_old_timeout_does_not_take_the_seconds_for_a_program(ask: Ask) -> None:
    assert ask("su-c su-0", su=GOOD, timeout=OLD_BUSYBOX).root == "su-c"


def test_a_machine_without_timeout_has_root_all_the_same(ask: Ask) -> None:
    assert ask("su-c", su=GOOD, timeout="exit 127").root == "su-c"


def test_each_way_that_was_tried_is_named(ask: Ask) -> None:
    found = ask("su-c su-0", su="echo 'su: invalid uid/gid' >&2; exit 1")
    assert found.root_said == "su-c: su: invalid uid/gid; su-0: su: invalid uid/gid"


def test_a_way_that_lab_toml_names_and_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    told = probe.Basics("aarch64", "4.14", "none", "/d", "b", root_said="su-c: su: Permission denied")
    monkeypatch.setattr(facts, "look", lambda *_: (told, None))
    entry = DeviceEntry(name="board", address="local:", root="su-c")
    with pytest.raises(DeviceRefusedError, match=r"lab\.toml does not work: su-c: su: Permission denied"):
        facts._open(entry, LocalTransport("local:"), ())
