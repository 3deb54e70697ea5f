"""An app behind the OpenCL layer on a virtual board: started wrapped, measured, and nothing of it left."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devicelab.cli import app
from devicelab.ground import registry
from devicelab.store import Store
from tests.native.layer_tools import build
from tests.sim_fixtures import StartBoard, adb
from virtualboards.lifecycle import AdbServer

pytestmark = pytest.mark.sim

PACKAGE = "com.example.net"
EXPERIMENT = f"""
question = "?"
repetitions = 1
answer = {{ quantity = "k_matters" }}
analyses = ["opencl_app"]
settle_s = 0.1
foreign_pct = 100
foreign_core_pct = 100
[factors]
k = [1, 4]
[measure]
workload = "opencl_apk"
[measure.params]
package = "{PACKAGE}"
duration_s = 2
"""


def test_an_app_is_measured_behind_the_layer_and_nothing_is_left(
    virtual_board: StartBoard, adb_server: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = build(tmp_path)
    board = virtual_board("note10", su="magisk", abi="x86_64")
    run = adb(adb_server, board.serial)

    def root(script: str) -> str:
        done = run("shell", f"su -c {shlex.quote(script)}")
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    for source, target in ((bench.program, "program"), (bench.driver, "driver")):
        assert run("push", str(source), f"/data/local/tmp/{target}").returncode == 0
    root(
        f"mkdir -p /data/app/{PACKAGE} /data/data/{PACKAGE} && chown 10123:10123 /data/data/{PACKAGE} &&"
        f" cp /data/local/tmp/program /data/app/{PACKAGE}/program &&"
        " cp /data/local/tmp/driver /vendor/lib64/libOpenCL.so &&"
        f" printf '#!/system/bin/sh\\nexec /data/app/{PACKAGE}/program libOpenCL.so finish 10 60 1\\n'"
        f" > /data/app/{PACKAGE}/main && chmod -R 755 /data/app /vendor/lib64 /data/data"
    )
    assert "does not exist" in run("shell", "am start -W -n com.nobody/.Main").stdout.decode()
    (tmp_path / "app.toml").write_text(EXPERIMENT)
    # In place of an NDK: a virtual board of this machine's ABI runs what this machine's compiler makes.
    (tmp_path / "toolchains").mkdir()
    host = (registry.data_dir("toolchains") / "host.toml").read_text()
    (tmp_path / "toolchains" / "here.toml").write_text(f"{host}android = 50\n")
    (tmp_path / "lab.toml").write_text("")
    monkeypatch.setenv("DEVICELAB_LAB", str(tmp_path / "lab.toml"))
    monkeypatch.setenv("DEVICELAB_STORE", str(tmp_path / "s.sqlite"))
    words = ["sweep", str(tmp_path / "app.toml"), "--board", f"adb:{board.serial}", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    with Store.open(tmp_path / "s.sqlite", create=False) as store:
        results = store.results(store.campaign(None).campaign)
        figures = results.metrics().pivot_table(index="run_id", columns="metric", values="value")
        runs = results.runs().set_index("run_id")
    assert runs["valid"].all()
    assert figures["flushes"].groupby(runs["k"]).first().to_dict() == {1: 10, 4: 3}
    assert (figures["start_total_ns"] == 412e6).all()
    assert (figures["frame_p95_ns"] == 17e6).all()
    assert (figures["janky_pct"] == 5).all()
    # The property, the app's directory and the app itself are as they were.
    assert root(f"getprop wrap.{PACKAGE}").strip() == ""
    assert "devicelab" not in root(f"ls -a /data/data/{PACKAGE}")
    assert json.loads(done.stdout[done.stdout.index("{") :])
