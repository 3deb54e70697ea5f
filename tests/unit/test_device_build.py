"""Choice of toolchain, cache of builds, and errors of the compiler."""

import ctypes
import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from devicelab.device import build as builder
from devicelab.device import toolchain
from devicelab.device.toolchain import Compiler, Missing, Toolchain, host_abi
from devicelab.errors import BuildError, ConfigError
from devicelab.ground import extras, registry
from devicelab.model.device import Board, Facts

HOST = str(host_abi())
pytestmark = pytest.mark.skipif(host_abi() is None, reason="no toolchain for this machine")


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of native programs of our own, and an empty cache."""
    folder = tmp_path / "native"
    folder.mkdir()
    (folder / "hello.cpp").write_text('#include "part/word.h"\nint main() { return WORD; }\n')
    (folder / "part").mkdir()
    (folder / "part" / "word.h").write_text("#define WORD 7\n")
    (folder / "loader.cpp").write_text(
        "#include <dlfcn.h>\nint main() { return dlopen(nullptr, RTLD_NOW) == nullptr; }\n"
    )
    real = registry.data_dir
    monkeypatch.setattr(registry, "data_dir", lambda name: folder if name == "native" else real(name))
    monkeypatch.setenv("DEVICELAB_CACHE", str(tmp_path / "cache"))
    return folder


def _only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Pretend that only these toolchains have a compiler."""

    def find(chain: Toolchain, abi: str) -> Compiler | Missing:
        return Compiler((f"{chain.name}-cc",), "1.0") if chain.name in names else Missing(f"{chain.name} is not here")

    monkeypatch.setattr(builder, "find_compiler", find)


def test_every_source_at_the_top_of_native_is_a_program() -> None:
    assert {"overhead"} <= set(builder.programs())


def test_every_toolchain_file_fits_the_schema() -> None:
    names = {chain.name for chain in toolchain.toolchains()}
    assert {"host", "host-sanitize", "ndk-android", "zig-gnu", "zig-musl"} <= names
    for chain in toolchain.toolchains():
        assert chain.command[0] == "{compiler}"
        assert chain.install
        assert "{" not in chain.advice


def test_a_program_is_compiled_once_and_then_taken_from_the_cache(native: Path) -> None:
    first = builder.build("hello", HOST)
    second = builder.build("hello", HOST)
    assert (first.cached, second.cached) == (False, True)
    assert first.path == second.path
    assert first.path.name == "hello"
    assert first.sha256 == second.sha256
    assert first.toolchain == "host"
    assert subprocess.run([str(first.path)], check=False).returncode == 7


def test_a_change_in_an_included_header_gives_a_new_build(native: Path) -> None:
    before = builder.build("hello", HOST)
    (native / "part" / "word.h").write_text("#define WORD 8\n")
    after = builder.build("hello", HOST)
    assert not after.cached
    assert subprocess.run([str(after.path)], check=False).returncode == 8
    assert before.path.is_file()


def test_a_file_the_program_does_not_include_changes_nothing(native: Path) -> None:
    builder.build("hello", HOST)
    (native / "other.h").write_text("#define OTHER 1\n")
    assert builder.build("hello", HOST).cached


def test_a_damaged_cached_binary_is_built_again(native: Path) -> None:
    built = builder.build("hello", HOST)
    built.path.write_bytes(b"cut")
    again = builder.build("hello", HOST)
    assert not again.cached
    assert again.sha256 == built.sha256


def test_the_same_source_gives_the_same_binary_wherever_it_lies(native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = builder.build("hello", HOST)
    monkeypatch.setenv("DEVICELAB_CACHE", str(native.parent / "elsewhere"))
    second = builder.build("hello", HOST)
    assert not second.cached
    assert first.sha256 == second.sha256


def test_builds_of_the_same_program_at_the_same_time_do_not_disturb_each_other(native: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: builder.build("hello", HOST), range(8)))
    assert len({built.sha256 for built in done}) == 1
    assert sum(not built.cached for built in done) == 1
    left = [path.name for path in (native.parent / "cache" / "build").iterdir() if path.name.startswith(".")]
    assert left == []


def test_a_compile_error_is_shown_whole_and_leaves_no_build(native: Path) -> None:
    lines = "\n".join(f"int wrong_{number} = missing_{number};" for number in range(60))
    (native / "hello.cpp").write_text(lines + "\nint main() {}\n")
    with pytest.raises(BuildError) as caught:
        builder.build("hello", HOST)
    assert caught.value.exit_code == 5
    assert "missing_0" in str(caught.value)
    assert "missing_59" in str(caught.value)
    assert list((native.parent / "cache" / "build").glob("hello-*/")) == []


def test_an_unknown_program_is_refused_with_the_nearest_name(native: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'hello'"):
        builder.build("helo", HOST)


def test_an_unknown_abi_and_an_unknown_toolchain_are_refused(native: Path) -> None:
    with pytest.raises(ConfigError, match="known: arm64-v8a"):
        builder.build("hello", "arm64")
    with pytest.raises(ConfigError, match="zig-musl"):
        builder.build("hello", HOST, toolchain="zigmusl")
    with pytest.raises(ConfigError, match="has no target riscv64"):
        builder.build("hello", "riscv64", toolchain="zig-gnu")


def test_the_ndk_is_taken_for_android_when_it_is_there(native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(monkeypatch, "ndk-android", "zig-musl", "zig-gnu", "host")
    assert builder.choose("loader", "arm64-v8a", place="android").toolchain.name == "ndk-android"
    assert builder.choose("hello", "armeabi-v7a", place="android").toolchain.name == "ndk-android"


def test_without_an_ndk_a_program_that_loads_libraries_is_built_with_a_note(
    native: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(monkeypatch, "zig-musl", "zig-gnu", "host")
    choice = builder.choose("loader", "arm64-v8a", place="android")
    assert choice.toolchain.name == "zig-musl"
    assert "only its emulated backend works" in choice.note
    assert "ANDROID_NDK_HOME" in choice.note
    assert builder.choose("hello", "arm64-v8a", place="android").note == ""


def test_on_another_linux_machine_what_loads_libraries_is_dynamic_and_the_rest_static(
    native: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(monkeypatch, "zig-musl", "zig-gnu", "host")
    assert builder.choose("loader", "arm64-v8a", place="linux").toolchain.name == "zig-gnu"
    assert builder.choose("hello", "x86_64", place="linux").toolchain.name == "zig-musl"


def test_on_this_machine_its_own_compiler_is_taken_and_zig_where_there_is_none(
    native: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(monkeypatch, "zig-musl", "zig-gnu", "host")
    assert builder.choose("loader", HOST).toolchain.name == "host"
    _only(monkeypatch, "zig-musl", "zig-gnu")
    assert builder.choose("loader", HOST).toolchain.name == "zig-gnu"
    assert builder.choose("hello", HOST).toolchain.name == "zig-musl"


def test_a_machine_of_our_own_kind_elsewhere_gets_a_static_program(
    native: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(monkeypatch, "zig-musl", "zig-gnu", "host", "host-static")
    assert builder.choose("hello", HOST, place="linux").toolchain.name == "host-static"
    assert builder.choose("hello", HOST, place="android").toolchain.name == "host-static"
    assert builder.choose("loader", HOST, place="linux").toolchain.name == "zig-gnu"


def test_without_a_static_c_library_the_host_compiler_is_not_taken_for_static_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "c++ 1" || echo libc.a\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    chain = next(chain for chain in toolchain.toolchains() if chain.name == "host-static")
    assert toolchain.find_compiler(chain, HOST) == Missing("this machine has no static C library (libc.a)")


def test_a_device_gets_what_fits_its_place(native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []
    monkeypatch.setattr(builder, "build", lambda program, abi, *, place: built.append((program, abi, place)))
    common: dict[str, Any] = {
        "name": "d",
        "board": Board(kind="k", title="t"),
        "kernel": "6",
        "boot_id": "b",
        "root": "none",
    }
    for address, os_name in (("local:", "linux"), ("ssh:a@b", "linux"), ("adb:S", "android")):
        facts = Facts(**common, address=address, os=os_name, abi="arm64-v8a", dir="/d")
        builder.build_for("hello", facts)
    assert built == [("hello", "arm64-v8a", place) for place in ("local", "linux", "android")]


def test_a_missing_compiler_is_an_error_that_says_what_to_install(
    native: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(monkeypatch)
    with pytest.raises(BuildError) as caught:
        builder.build("hello", "arm64-v8a", place="android")
    assert "no compiler for hello on arm64-v8a" in caught.value.message
    assert "ndk-android is not here" in caught.value.message
    assert extras.install("cross") in str(caught.value.hint)
    assert "ANDROID_NDK_HOME" in str(caught.value.hint)


def test_a_cache_that_cannot_be_written_is_an_error_with_a_hint(
    native: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEVICELAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BuildError, match="DEVICELAB_CACHE"):
        builder.build("hello", HOST)


def _fake_ndk(root: Path, revision: str) -> Path:
    """An NDK folder whose clang is a script: it says a version and leaves its arguments where the output should be."""
    binaries = root / "toolchains" / "llvm" / "prebuilt" / "linux-x86_64" / "bin"
    binaries.mkdir(parents=True)
    clang = binaries / "clang++"
    clang.write_text(
        '#!/bin/sh\nif [ "$1" = --version ]; then echo "Android clang version 18"; exit 0; fi\n'
        'for last; do :; done\necho "$@" > "$last"\n'
    )
    clang.chmod(clang.stat().st_mode | stat.S_IXUSR)
    (root / "source.properties").write_text(f"Pkg.Desc = Android NDK\nPkg.Revision = {revision}\n")
    return root


@pytest.fixture
def no_ndk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT", "ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_ndk")
def test_the_newest_ndk_below_the_sdk_is_used_with_the_api_level_in_its_target(
    native: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for revision in ("9.0.1", "26.1.10909125", "25.2.9519653"):
        _fake_ndk(tmp_path / "sdk" / "ndk" / revision, revision)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    built = builder.build("loader", "armeabi-v7a", place="android")
    assert built.compiler_version == "NDK 26.1.10909125, Android clang version 18"
    assert "--target=armv7a-linux-androideabi24" in built.path.read_text().split()
    assert built.loads_libraries
    assert built.note == ""


@pytest.mark.usefixtures("no_ndk")
def test_an_ndk_named_outright_goes_before_those_below_the_sdk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _fake_ndk(tmp_path / "sdk" / "ndk" / "27.0.1", "27.0.1")
    named = _fake_ndk(tmp_path / "named", "21.4.7075529")
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    monkeypatch.setenv("ANDROID_NDK_ROOT", str(named))
    assert toolchain.ndk_roots()[0] == named


@pytest.mark.usefixtures("no_ndk")
def test_an_ndk_folder_without_a_compiler_is_named_as_the_reason(
    native: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path))
    with pytest.raises(BuildError, match=f"no clang\\+\\+ in the NDK at {tmp_path}"):
        builder.build("hello", "arm64-v8a", toolchain="ndk-android")


def test_a_toolchain_file_with_an_unknown_key_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(registry.data_dir("toolchains"), tmp_path / "toolchains")
    (tmp_path / "toolchains" / "host.toml").write_text('title = "x"\nflag = "typo"\n')
    monkeypatch.setattr(registry, "data_dir", lambda name: tmp_path / name)
    with pytest.raises(ConfigError, match=r"host\.toml"):
        toolchain.toolchains()


def test_the_compiler_named_by_cxx_is_used(native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildError, match="CXX=no-such-compiler is not a program"):
        builder.build("hello", HOST, toolchain="host")
    compiler = shutil.which("g++") or shutil.which("clang++")
    monkeypatch.setenv("CXX", os.path.realpath(str(compiler)))
    assert builder.build("hello", HOST, toolchain="host").compiler_version


def test_a_static_build_says_that_it_loads_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICELAB_CACHE", str(tmp_path))
    built = builder.build("klo", HOST, place="linux", toolchain="host-static")
    argv = [built.path, "--backend", "auto", "--network", "squeezenet", "--k", "4", "--inferences", "1", "--plain", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "loads no libraries" in done.stderr
    assert '"simulated":true' in done.stdout


def test_a_source_without_main_is_a_shared_library_that_exports_what_it_says(native: Path) -> None:
    (native / "shown.cpp").write_text('extern "C" __attribute__((visibility("default"))) int shown() { return 3; }\n')
    assert builder.libraries() == ("shown",)
    assert "shown" not in builder.programs()
    built = builder.build("shown", HOST)
    assert ctypes.CDLL(str(built.path)).shown() == 3


def test_a_toolchain_that_links_statically_is_refused_for_a_library(native: Path) -> None:
    (native / "shown.cpp").write_text("int shown() { return 3; }\n")
    with pytest.raises(BuildError, match="host-static makes no shared libraries"):
        builder.build("shown", HOST, toolchain="host-static")
