"""Files of an experiment's `push`: found beside it, told apart by content, never in place of one of ours."""

import hashlib
from pathlib import Path

import pytest

from devicelab.device import files
from devicelab.errors import ConfigError
from devicelab.experiment import files as experiments
from devicelab.experiment.programs import Needs

TOML = """
question = "?"
push = ["bin/bench", "model.tflite"]
[measure]
workload = "command"
[measure.params]
argv = ["{dir}/bench", "{dir}/model.tflite"]
"""


def test_files_are_taken_from_the_folder_of_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "own.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    found = experiments.load("lab/own.toml")
    assert found.push == (tmp_path / "lab" / "bin" / "bench", tmp_path / "lab" / "model.tflite")


@pytest.mark.parametrize("push", ['["a/x", "b/x"]', '"bench"', "[1]"])
def test_a_push_that_makes_no_sense_names_the_key(tmp_path: Path, push: str) -> None:
    (tmp_path / "own.toml").write_text(TOML.replace('["bin/bench", "model.tflite"]', push))
    with pytest.raises(ConfigError, match="push"):
        experiments.load(str(tmp_path / "own.toml"))


def test_a_file_is_known_by_its_content_and_may_be_run(tmp_path: Path) -> None:
    (tmp_path / "bench").write_bytes(b"one")
    needs = Needs(files=(tmp_path / "bench",))
    [before] = files.wanted(needs)
    assert (before.name, before.sha256, before.mode) == ("bench", hashlib.sha256(b"one").hexdigest(), 0o755)
    (tmp_path / "bench").write_bytes(b"another")
    assert [one.sha256 for one in files.pushed(needs)] == [hashlib.sha256(b"another").hexdigest()]


@pytest.mark.parametrize("name", ["agent", "opencl_layer", "torch_tenant.py"])
def test_a_name_that_devicelab_uses_on_the_device_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ConfigError, match="rename"):
        files.wanted(Needs(scripts=("torch_tenant.py",), files=(tmp_path / name,)))


@pytest.mark.parametrize("there", ["nothing", "folder"])
def test_what_is_no_file_is_said_before_anything_is_sent(tmp_path: Path, there: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="there is no file"):
        files.wanted(Needs(files=(tmp_path / there,)))
