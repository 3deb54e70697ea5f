"""The mounted tree under real programs: shells, ``cat``, ``dd``, and Python's own file calls."""

import errno
import os
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from virtualboards.kernel import Kernel, fuse

pytestmark = pytest.mark.sim

POLICY = "sys/devices/system/cpu/cpufreq/policy4"


def shell(tree: Path, line: str, user: int | None = None) -> tuple[int, str]:
    # This process serves the tree, and a child that enters it before it is a program of its own (``cwd``) would wait
    # for us, while we wait for it with the interpreter's lock held.
    argv = ["sh", "-c", 'cd "$0" && eval "$1"', str(tree), line]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, user=user)
    return done.returncode, done.stdout + done.stderr


def test_a_shell_reads_and_writes_nodes(tree: Path) -> None:
    assert shell(tree, f"echo 1066000 > {POLICY}/scaling_max_freq; cat {POLICY}/scaling_max_freq") == (0, "1066000\n")
    assert shell(tree, "dd if=sys/devices/system/cpu/online bs=1 2>/dev/null") == (0, "0-7\n")
    assert shell(tree, "cat sys/devices/system/cpu/cpu5/cpufreq/related_cpus") == (0, "4 5\n")
    assert shell(tree, "ls sys/devices/system/cpu/cpu5/topology")[1].split()[0] == "core_id"
    assert shell(tree, "ls") == (0, "dev\nproc\nsys\n")


def test_a_tree_is_mounted_once_its_first_request_is_answered(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def slow(self: fuse._Operations, _path: str) -> None:
        self.ready.set()
        answered.wait(0.3)
        answered.set()

    monkeypatch.setattr(fuse._Operations, "init", slow)
    with tempfile.TemporaryDirectory() as place:
        mounted = fuse.mount(kernel, Path(place))
        assert answered.is_set()
        mounted.close()


def test_errors_are_the_kernels(tree: Path) -> None:
    with pytest.raises(OSError, match="Invalid") as refused:
        (tree / POLICY / "scaling_min_freq").write_text("99999999")
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(PermissionError):
        (tree / POLICY / "no_such_node").write_text("1")
    with pytest.raises(PermissionError):
        (tree / POLICY / "scaling_cur_freq").write_text("1")
    with pytest.raises(FileNotFoundError):
        (tree / POLICY / "no_such_node").read_text()
    with pytest.raises(PermissionError):
        (tree / "sys/new").mkdir()


def test_every_read_from_the_start_asks_the_node_anew(tree: Path) -> None:
    fd = os.open(tree / POLICY / "scaling_max_freq", os.O_RDONLY)
    try:
        assert os.pread(fd, 100, 0) == b"2314000\n"
        (tree / POLICY / "scaling_max_freq").write_text("1066000")
        assert os.pread(fd, 100, 0) == b"1066000\n"
        assert os.pread(fd, 4, 4) == b"000\n"
    finally:
        os.close(fd)


def test_nodes_vanish_and_come_back_with_their_cpu(tree: Path) -> None:
    state = tree / "sys/devices/system/cpu/cpu6/cpuidle/state0/disable"
    fd = os.open(state, os.O_RDONLY)
    try:
        (tree / "sys/devices/system/cpu/cpu6/online").write_text("0")
        assert not state.exists()
        assert "cpu6 " not in (tree / "proc/stat").read_text()
        with pytest.raises(OSError, match="No such device"):
            os.pread(fd, 10, 0)
        (tree / "sys/devices/system/cpu/cpu6/online").write_text("1")
        assert state.read_text() == "0\n"
    finally:
        os.close(fd)


@pytest.mark.skipif(os.getuid() != 0, reason="changes the user of a child process")
def test_the_callers_user_decides(tree: Path) -> None:
    def as_shell(line: str) -> int:
        return shell(tree, line, user=2000)[0]

    assert as_shell(f"cat {POLICY}/scaling_max_freq") == 0
    assert as_shell(f"echo 1066000 > {POLICY}/scaling_max_freq") != 0
    assert as_shell(f"test -w {POLICY}/scaling_max_freq") != 0


def test_permissions_can_be_changed_as_in_sysfs(tree: Path) -> None:
    node = tree / POLICY / "scaling_max_freq"
    node.chmod(0o444)
    with pytest.raises(PermissionError):  # root too: sysfs looks at the bits
        node.write_text("1066000")
    node.chmod(0o644)
    node.write_text("1066000")


def test_many_readers_at_once_get_whole_texts(tree: Path, kernel: Kernel) -> None:
    wrong: list[str] = []

    def read() -> None:
        for _ in range(50):
            text = (tree / "proc/stat").read_text()
            if not text.startswith("cpu  ") or not text.endswith("\n"):
                wrong.append(text)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_reboot_resets_what_the_mount_shows(tree: Path, kernel: Kernel) -> None:
    old = (tree / "proc/sys/kernel/random/boot_id").read_text()
    (tree / POLICY / "scaling_max_freq").write_text("1066000")
    kernel.reboot()
    assert (tree / "proc/sys/kernel/random/boot_id").read_text() != old
    assert (tree / POLICY / "scaling_max_freq").read_text() == "2314000\n"
