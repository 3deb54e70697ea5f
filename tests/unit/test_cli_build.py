"""``devicelab build`` on the command line."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from devicelab.cli import build as command
from devicelab.device.toolchain import Compiler, Missing, Toolchain, find_compiler, host_abi
from devicelab.errors import BuildError, ConfigError
from devicelab.ground import registry

pytestmark = pytest.mark.skipif(host_abi() is None, reason="no toolchain for this machine")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The command alone, over two small programs and an empty cache, with this machine's compiler only."""
    folder = tmp_path / "native"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.cpp").write_text("int main() { return 0; }\n")
    real = registry.data_dir
    monkeypatch.setattr(registry, "data_dir", lambda name: folder if name == "native" else real(name))
    monkeypatch.setenv("DEVICELAB_CACHE", str(tmp_path / "cache"))
    app = typer.Typer()
    command.register(app)
    return app


def _run(app: typer.Typer, *args: str) -> str:
    done = CliRunner().invoke(app, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_all_programs_are_built_for_this_machine_and_shown(app: typer.Typer) -> None:
    first = _run(app)
    assert "one" in first
    assert "two" in first
    assert "host" in first
    assert "cached" not in first
    assert _run(app).count("cached") == 2


def test_json_says_what_was_built_with_what(app: typer.Typer) -> None:
    (built,) = json.loads(_run(app, "one", "--json"))["built"]
    assert (built["program"], built["toolchain"], built["cached"]) == ("one", "host", False)
    assert len(built["sha256"]) == 64
    assert Path(built["path"]).stat().st_size == built["size_bytes"]
    assert built["compiler_version"]


def test_all_covers_every_kind_of_device_once(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    from devicelab.device import build as builder

    host = next(chain for chain in builder.toolchains() if chain.name == "host")
    compiler = find_compiler(host, str(host_abi()))
    assert isinstance(compiler, Compiler)
    stand_in = registry.data_dir("native") / "cc.sh"
    stand_in.write_text('#!/bin/sh\nfor last; do :; done\necho "$@" > "$last"\n')
    stand_in.chmod(0o755)

    def find(chain: Toolchain, abi: str) -> Compiler | Missing:
        if chain.name == "zig-musl":
            return Compiler((str(stand_in),), "zig 1")
        return compiler if chain.name == "host" and abi == host_abi() else Missing("absent")

    monkeypatch.setattr(builder, "find_compiler", find)
    rows = json.loads(_run(app, "one", "--all", "--json"))["built"]
    made = {(row["abi"], row["toolchain"]) for row in rows}
    assert made >= {("arm64-v8a", "zig-musl"), ("armeabi-v7a", "zig-musl"), (host_abi(), "host")}
    assert len(rows) == len({row["path"] for row in rows})


def test_all_shows_what_could_be_built_before_it_says_what_could_not(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from devicelab.device import build as builder

    monkeypatch.setattr(
        builder,
        "find_compiler",
        lambda chain, abi: find_compiler(chain, abi) if chain.name == "host" else Missing(f"{chain.name} is absent"),
    )
    done = CliRunner().invoke(app, ["one", "--all"])
    assert isinstance(done.exception, BuildError)
    assert "no compiler for one on arm64-v8a" in str(done.exception)
    assert "zig-musl is absent" in str(done.exception)
    assert str(host_abi()) in done.output


def test_contradicting_options_and_unknown_names_are_refused(app: typer.Typer) -> None:
    with pytest.raises(ConfigError, match="--all chooses"):
        _run(app, "--all", "--abi", "x86_64")
    with pytest.raises(ConfigError, match="did you mean 'one'"):
        _run(app, "onne")


def test_a_compile_error_reaches_the_user_with_exit_code_5(app: typer.Typer) -> None:
    (registry.data_dir("native") / "one.cpp").write_text("int main() { return wrong; }\n")
    with pytest.raises(BuildError, match="wrong") as caught:
        _run(app, "one")
    assert caught.value.exit_code == 5
