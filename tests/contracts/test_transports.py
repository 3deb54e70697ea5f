"""One contract, every transport: what a caller may rely on whatever lies between it and the device."""

import hashlib
import os
import signal
from pathlib import Path

import pytest
from transport_bench import Bench, sh

from devicelab.errors import (
    CommandTimeoutError,
    ConfigError,
    DeviceRefusedError,
    DeviceUnreachableError,
    MeasurementError,
)
from devicelab.transports import _scripts as scripts
from devicelab.transports.base import Transport

pytestmark = pytest.mark.slow

ALL_BYTES = bytes(range(256)) * 40

ODD_WORDS = (
        "two words", " lead and trail ", "it's", 'say "hi"', "a;b", "$(echo no)", "`echo no`", "$HOME", "a\nb\n", "\n",
        "tab\there", "back\\slash\\n", "*", "?[a-z]", "~", "#no", "!x", "&& false", "| cat", "> /f", "", "-n", "--",
        "-c", "grüße 漢字 🦊", "a=b", "{a,b}", "%s", "\x01\x7f", "\udcff\udc80", "'\\''", "x" * 3000,
)  # fmt: skip


# Commands -------------------------------------------------------------------------------------------------------------


def test_the_exit_code_arrives(device: Transport) -> None:
    for code in (0, 1, 3, 42, 127, 255):
        assert device.run(sh(f"exit {code}")).exit_code == code


def test_death_by_a_signal_is_128_plus_its_number(device: Transport) -> None:
    for name in ("TERM", "KILL", "SEGV", "ABRT"):
        done = device.run(sh(f"kill -{name} $$"))
        assert (done.exit_code, done.stderr) == (128 + signal.Signals[f"SIG{name}"], b""), name


def test_a_program_that_is_not_there_is_127_and_says_so(device: Transport) -> None:
    done = device.run(["devicelab-no-such-program", "x"])
    assert done.exit_code == 127
    assert b"devicelab-no-such-program" in done.stderr


def test_a_builtin_of_the_shell_does_not_stand_in_for_a_program(device: Transport) -> None:
    assert device.run(["exit", "0"]).exit_code == 127


def test_streams_are_separate(device: Transport) -> None:
    done = device.run(sh("echo one; echo two >&2; echo three; echo four >&2"))
    assert (done.stdout, done.stderr) == (b"one\nthree\n", b"two\nfour\n")


def test_output_without_newline_and_no_output_at_all(device: Transport) -> None:
    assert device.run(sh("printf x; printf y >&2")).stdout == b"x"
    assert device.run(sh("printf x; printf y >&2")).stderr == b"y"
    done = device.run(["true"])
    assert (done.stdout, done.stderr) == (b"", b"")


def test_all_bytes_pass_in_all_three_streams(device: Transport) -> None:
    assert device.run(["cat"], stdin=ALL_BYTES).stdout == ALL_BYTES
    assert device.run(sh("cat >&2"), stdin=ALL_BYTES).stderr == ALL_BYTES


def test_ten_megabytes_of_output(device: Transport) -> None:
    done = device.run(["head", "-c", "10000000", "/dev/zero"])
    assert (done.exit_code, len(done.stdout), done.stdout.count(0)) == (0, 10_000_000, 10_000_000)


def test_both_streams_large_at_once_do_not_block_each_other(device: Transport) -> None:
    done = device.run(sh("head -c 3000000 /dev/zero & head -c 3000000 /dev/zero >&2 & wait"))
    assert (len(done.stdout), len(done.stderr)) == (3_000_000, 3_000_000)


def test_large_input_and_output_cross(device: Transport) -> None:
    data = os.urandom(3_000_000)
    done = device.run(["cat"], stdin=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_input_that_nobody_reads_does_no_harm(device: Transport) -> None:
    assert device.run(["true"], stdin=bytes(1_000_000)).exit_code == 0


def test_input_ends_also_when_there_is_none(device: Transport) -> None:
    assert device.run(["cat"], timeout_s=20).stdout == b""
    assert device.run(["cat"], stdin=b"", timeout_s=20).stdout == b""


def test_arguments_arrive_exactly_as_given(device: Transport) -> None:
    done = device.run(sh('for word; do printf "%s\\0" "$word"; done', *ODD_WORDS, "", "last"))
    expected = [word.encode("utf-8", "surrogateescape") for word in (*ODD_WORDS, "", "last")]
    assert done.stdout.split(b"\0")[:-1] == expected


def test_a_very_long_command_line_arrives(device: Transport) -> None:
    words = [f"{n:05d}{'x' * 95}" for n in range(3000)]
    done = device.run(["printf", "%s\\n", *words])
    assert done.stdout.decode().split() == words


def test_what_cannot_be_a_command_is_refused_here(device: Transport) -> None:
    for argv in ([], [""], ["-x"], ["echo", "a\0b"]):
        with pytest.raises(ConfigError) as caught:
            device.run(argv)
        assert caught.value.device == device.address


def test_a_list_of_all_processes_does_not_confuse_the_streams(device: Transport) -> None:
    done = device.run(
        sh('for dir in /proc/[0-9]*; do cat "$dir/cmdline"; done 2>/dev/null; echo end; echo err >&2; exit 3')
    )
    assert (done.exit_code, done.stdout[-4:], done.stderr) == (3, b"end\n", b"err\n")


def test_output_is_handed_over_as_it_comes(bench: Bench) -> None:
    device, gate = bench.transport, f"{bench.dir}/gate"
    pieces: list[bytes] = []

    def receive(data: bytes) -> None:
        pieces.append(data)
        if b"".join(pieces) == b"first\n":
            bench.other.run(sh(': >"$1"', gate))

    # The second line comes only once the first was seen here.
    done = device.run(sh('echo first; until [ -e "$1" ]; do sleep 0.05; done; echo second', gate), on_stdout=receive)
    assert b"".join(pieces) == b"first\nsecond\n"
    assert (done.exit_code, done.stdout) == (0, b"")


def test_a_receiver_that_gives_up_ends_the_command(bench: Bench, marker: str) -> None:
    def receive(data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.transport.run(sh("echo here; sleep 600", marker), on_stdout=receive)
    assert bench.alive(marker) == []


def test_an_error_of_another_device_in_the_receiver_ends_the_command_too(bench: Bench, marker: str) -> None:
    def receive(data: bytes) -> None:
        raise DeviceUnreachableError("somebody else")

    with pytest.raises(DeviceUnreachableError, match="somebody else"):
        bench.transport.run(sh("echo here; sleep 600", marker), on_stdout=receive)
    assert bench.alive(marker) == []


# Time-outs ------------------------------------------------------------------------------------------------------------


def test_a_timeout_ends_the_process_its_children_and_those_in_other_sessions(bench: Bench, marker: str) -> None:
    family = 'sh -c "sleep 600; :" "$1" & setsid sh -c "sleep 600; :" "$1" & trap "" TERM HUP INT; sleep 600; :'
    with pytest.raises(CommandTimeoutError) as caught:
        bench.transport.run(sh(family, marker), timeout_s=1)
    assert caught.value.device == bench.transport.address
    assert bench.alive(marker) == []


def test_the_timeout_counts_in_all_not_since_the_last_output(bench: Bench, marker: str) -> None:
    with pytest.raises(CommandTimeoutError):
        bench.transport.run(sh("while :; do echo tick; sleep 0.1; done", marker), timeout_s=1)
    assert bench.alive(marker) == []


def test_a_flood_of_output_does_not_defer_the_timeout(bench: Bench, marker: str) -> None:
    with pytest.raises(CommandTimeoutError):
        bench.transport.run(sh("cat /dev/zero; :", marker), timeout_s=1, on_stdout=lambda _: None)
    assert bench.alive(marker) == []


def test_too_much_output_ends_the_command(bench: Bench, marker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicelab.transports._posix.MAX_OUTPUT_BYTES", 1 << 20)
    with pytest.raises(MeasurementError, match="MiB"):
        bench.transport.run(sh("cat /dev/zero; :", marker))
    assert bench.alive(marker) == []


def test_the_device_serves_on_after_a_timeout(device: Transport) -> None:
    with pytest.raises(CommandTimeoutError):
        device.run(["sleep", "600"], timeout_s=0.3)
    assert device.run(["echo", "still", "here"]).stdout == b"still here\n"


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_push_keeps_every_byte(bench: Bench, tmp_path: Path) -> None:
    source, remote = tmp_path / "source", f"{bench.dir}/file"
    for size in (0, 1, 65_535, 65_536, 65_537, 20_000_000):
        source.write_bytes(os.urandom(size))
        bench.transport.push(source, remote)
        assert bench.read(remote) == source.read_bytes(), size
    assert bench.listing() == ["file"]


def test_odd_file_names(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "source"
    names = ("two words", "it's", "$(id)", "a;b", "grüße", "new\nline", "-rf", "comma,0644", "\\", "x" * 255)
    for name in names:
        source.write_bytes(ALL_BYTES + name.encode())
        bench.transport.push(source, f"{bench.dir}/{name}")
        assert bench.read(f"{bench.dir}/{name}") == source.read_bytes(), name
    done = bench.transport.run(["rm", *(f"{bench.dir}/{name}" for name in names)])
    assert done.exit_code == 0, done
    assert bench.listing() == []


def test_push_makes_folders_sets_the_mode_and_replaces(bench: Bench, tmp_path: Path) -> None:
    source, remote = tmp_path / "tool", f"{bench.dir}/a/b c/tool"
    source.write_text("#!/bin/sh\necho old\n")
    bench.transport.push(source, remote, mode=0o755)
    source.write_text("#!/bin/sh\necho new\n")
    bench.transport.push(source, remote, mode=0o755)
    done = bench.transport.run(["sh", "-c", 'test -x "$1" && sh "$1"', "sh", remote])
    assert done.stdout == b"new\n"
    bench.transport.push(source, remote, mode=0o600)
    assert bench.transport.run(["stat", "-c", "%a", remote]).stdout == b"600\n"


def test_many_files_are_pushed_together(bench: Bench, tmp_path: Path) -> None:
    files = []
    for n in range(12):
        (tmp_path / f"{n}").write_bytes(os.urandom(n * 1000))
        files.append((tmp_path / f"{n}", f"{bench.dir}/many/{n}", 0o644))
    bench.transport.push_many(files)
    for local, remote, _ in files:
        assert bench.read(remote) == local.read_bytes()
    bench.transport.push_many([])


def test_a_push_that_fails_leaves_nothing_and_tells_the_devices_own_words(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    bench.transport.run(sh(': >"$1/plain"', bench.dir))
    with pytest.raises(DeviceRefusedError, match=r"(?i)not a directory|exists|create") as caught:
        bench.transport.push(tmp_path / "source", f"{bench.dir}/plain/file")
    assert caught.value.device == bench.transport.address
    assert bench.listing() == ["plain"]


def test_a_push_onto_a_folder_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    bench.transport.run(["mkdir", f"{bench.dir}/folder"])
    with pytest.raises(DeviceRefusedError):
        bench.transport.push(tmp_path / "source", f"{bench.dir}/folder")
    assert bench.listing() == ["folder"]
    assert bench.listing("folder") == []


def test_local_files_that_cannot_be_read_are_the_users_mistake(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        bench.transport.push(tmp_path / "none", f"{bench.dir}/x")
    assert bench.listing() == []


def test_a_device_without_sha256sum_is_verified_by_reading_back(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = scripts.PLACE.partition("}\n")[2]
    monkeypatch.setattr(scripts, "PLACE", "digest() { return 127; }\n" + rest)
    (tmp_path / "source").write_bytes(ALL_BYTES)
    bench.transport.push(tmp_path / "source", f"{bench.dir}/x")
    assert bench.read(f"{bench.dir}/x") == ALL_BYTES
    assert bench.listing() == ["x"]
