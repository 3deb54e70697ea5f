"""Plug-ins are found in three places; what two of them claim, and what cannot be used, is said and never guessed."""

from pathlib import Path

import pytest

from devicelab import boards, knobs, transports
from devicelab.device import toolchain
from devicelab.errors import ConfigError
from devicelab.experiment import files
from devicelab.ground import finding, registry
from tests.labdata import facts
from tests.outside import ANALYSIS, GOOD, KNOB, TRANSPORT, WORKLOAD, Outside
from tests.unit import board_trees


def said() -> str:
    return "\n".join(map(str, registry.left_out()))


@pytest.mark.parametrize("kind", GOOD)
def test_a_file_in_the_users_folder_is_a_plug_in(kind: str, outside: Outside) -> None:
    name, text = GOOD[kind]
    outside.put(f"{kind}/{name}.py", text)
    assert name in registry.names(kind)
    assert name not in registry.own_names(kind)
    assert registry.module(kind, name).__name__ == f"devicelab_user.{kind}.{name}"
    assert not said()


@pytest.mark.parametrize("kind", GOOD)
def test_an_entry_point_is_a_plug_in(kind: str, outside: Outside) -> None:
    name, text = GOOD[kind]
    outside.install("some-lab", f"devicelab.{kind}", f"{name} = their_{name}", **{f"their_{name}": text})
    assert registry.module(kind, name).__name__ == f"their_{name}"
    assert not said()


def test_a_knob_of_the_users_takes_part_with_its_words_nodes_and_place(outside: Outside) -> None:
    outside.put("knobs/fan.py", KNOB)
    words = list(knobs.words())
    assert words.index("daemons") < words.index("fan") < words.index("cores")
    assert "/sys/class/hwmon/hwmon*/pwm1" in knobs.globs()
    assert knobs.families("fan", facts()) == ("fan",)


def test_a_knob_of_the_users_takes_no_word_from_ours_unless_the_board_says_so(outside: Outside) -> None:
    outside.put("knobs/a_gpu.py", KNOB.replace("fan", "gpu"))
    outside.put("knobs/early.py", KNOB.replace("fan", "cpu"))
    phone = board_trees.facts("sm8150")
    assert knobs.families("gpu", phone)[0] == "gpu_kgsl"
    assert knobs.families("cpu", phone)[0] == "cpufreq"
    assert list(knobs.words()).index("cores") < list(knobs.words()).index("cpu")
    chosen = phone.model_copy(update={"board": phone.board.model_copy(update={"gpu": "a_gpu"})})
    assert knobs.families("gpu", chosen)[0] == "a_gpu"


def test_modules_of_a_folder_share_what_begins_with_an_underscore(outside: Outside) -> None:
    outside.put("analyses/_shared.py", "NOTHING = ()")
    outside.put("analyses/silence.py", "from ._shared import NOTHING\ndef analyse(results):\n    return NOTHING\n")
    assert registry.analysis("silence").analyse(None) == ()  # type: ignore[arg-type]
    assert not said()


def test_a_plug_in_may_be_called_as_a_module_elsewhere(outside: Outside) -> None:
    outside.put("knobs/evidence.py", KNOB)
    assert "evidence" in registry.names("knobs")
    assert knobs.words()["fan"] == "evidence"


def test_a_name_of_ours_and_of_the_users_is_an_error_that_names_both(outside: Outside) -> None:
    mine = outside.put("workloads/klo.py", WORKLOAD)
    with pytest.raises(ConfigError) as caught:
        registry.workload("klo")
    assert str(mine) in str(caught.value)
    assert "devicelab/workloads/klo.py" in str(caught.value)
    assert "rename one" in str(caught.value)
    assert str(mine) in said()


def test_what_nobody_asks_for_stays_ours_where_a_name_has_two_claims(outside: Outside) -> None:
    outside.put("transports/local.py", TRANSPORT)
    assert any(one.address == "local:" for one in transports.discover_all())
    with pytest.raises(ConfigError, match="claimed by"):
        transports.connect("local:")


def test_two_entry_points_of_a_name_are_an_error_that_names_both(outside: Outside) -> None:
    outside.install("one-lab", "devicelab.analyses", "silence = one_silence", one_silence=ANALYSIS)
    outside.install("other-lab", "devicelab.analyses", "silence = other_silence", other_silence=ANALYSIS)
    with pytest.raises(ConfigError) as caught:
        registry.analysis("silence")
    assert "one-lab" in str(caught.value)
    assert "other-lab" in str(caught.value)
    assert "silence" not in registry.usable_names("analyses")


def test_a_module_and_a_package_of_one_name_are_an_error_that_names_both(outside: Outside) -> None:
    one = outside.put("analyses/silence.py", ANALYSIS)
    other = outside.put("analyses/silence/__init__.py", ANALYSIS)
    with pytest.raises(ConfigError) as caught:
        registry.analysis("silence")
    assert str(one) in str(caught.value)
    assert str(other) in str(caught.value)


def test_two_files_of_a_name_in_the_package_itself_are_both_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "idle").mkdir()
    (tmp_path / "idle" / "__init__.py").touch()
    monkeypatch.setattr("devicelab.knobs.__path__", [*knobs.__path__, str(tmp_path)])
    claims = [claim.where for claim in finding.own_claims("knobs") if claim.name == "idle"]
    assert claims == [str(Path(knobs.__file__).parent / "idle.py"), str(tmp_path / "idle" / "__init__.py")]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("knobs/my-fan.py", "letters, digits and _"),
        ("knobs/base.py", "base is the name of the contract itself"),
        ("knobs/fan/fan.py", "__init__.py"),
    ],
)
def test_no_file_in_a_folder_of_plug_ins_vanishes_without_a_word(path: str, words: str, outside: Outside) -> None:
    outside.put(path, KNOB)
    knobs.words()
    assert words in said()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_module_anywhere", "cannot be imported: ModuleNotFoundError"),
        ("def analyse(results:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("1 / 0", "ZeroDivisionError"),
        ("def analyse():\n    return ()", "analyse takes ()"),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_left_out_and_said(text: str, words: str, outside: Outside) -> None:
    file = outside.put("analyses/silence.py", text)
    assert "load" in registry.usable_names("analyses")
    assert "silence" not in registry.usable_names("analyses")
    assert words in said()
    assert str(file) in said()
    with pytest.raises(ConfigError) as caught:
        registry.analysis("silence")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "words"), [("return 3", "3 (int): bool is expected"), ("raise KeyError('hwmon9')", "KeyError: 'hwmon9'")]
)
def test_a_knob_that_goes_wrong_when_asked_is_left_out_and_others_are_not(
    answer: str, words: str, outside: Outside
) -> None:
    outside.put("knobs/fan.py", KNOB.replace("return True", answer))
    assert knobs.families("fan", facts()) == ()
    assert words in said()
    assert knobs.families("daemons", facts()) == ("daemons",)


def test_a_transport_that_goes_wrong_when_it_looks_hides_no_device(outside: Outside) -> None:
    outside.put("transports/serial.py", TRANSPORT.replace("return ()", "return [1]"))
    assert any(one.address == "local:" for one in transports.discover_all())
    assert "tuple[Attached, ...] is expected" in said()


def test_code_is_not_taken_from_a_folder_that_others_may_write(outside: Outside) -> None:
    folder = outside.put("analyses/silence.py", "raise AssertionError").parent
    folder.chmod(0o777)
    assert "silence" not in registry.names("analyses")
    assert "a folder of your own" in said()


def test_code_is_never_taken_from_the_current_directory(
    outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "analyses").mkdir(parents=True)
    (tmp_path / "here" / "lab.toml").touch()
    (tmp_path / "here" / "analyses" / "silence.py").write_text(ANALYSIS)
    monkeypatch.chdir(tmp_path / "here")
    assert "silence" not in registry.names("analyses")


BOARD = 'title = "Mine"\n[recognise]\npriority = 90\nprops."ro.product.model" = ["Mine"]\n'


def test_boards_and_experiments_lie_beside_lab_toml_or_in_the_users_folder(
    outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside.put("boards/mine.toml", BOARD)
    (tmp_path / "lab" / "experiments").mkdir(parents=True)
    (tmp_path / "lab" / "lab.toml").touch()
    text = 'question = "?"\n[factors]\nload = ["none"]\n'
    (tmp_path / "lab" / "experiments" / "own.toml").write_text(text)
    monkeypatch.setenv("DEVICELAB_LAB", str(tmp_path / "lab" / "lab.toml"))
    assert boards.recognise({"ro.product.model": "Mine"}, facts().tree).title == "Mine"
    assert "own" in files.known()
    assert files.load("own").name == "own"


def test_a_board_kind_of_two_files_is_an_error_only_where_it_matters(outside: Outside) -> None:
    mine = outside.put("boards/note10.toml", BOARD)
    with pytest.raises(ConfigError) as caught:
        boards.recognise({"ro.product.model": "Mine"}, facts().tree)
    assert str(mine) in str(caught.value)
    assert "devicelab/boards/note10.toml" in str(caught.value)
    assert boards.recognise({"ro.product.model": "other"}, facts().tree).kind == boards.ANDROID


def test_a_board_file_of_the_users_that_is_wrong_costs_no_other_device(outside: Outside) -> None:
    outside.put("boards/mine.toml", "titel = 3")
    assert boards.recognise({"ro.product.model": "other"}, facts().tree).kind == boards.ANDROID
    assert "titel: no such key" in said()
    with pytest.raises(ConfigError, match="titel"):
        boards.load("mine")


def test_an_experiment_of_two_files_is_an_error_that_names_both(outside: Outside) -> None:
    mine = outside.put("experiments/placement.toml", 'question = "?"\n')
    with pytest.raises(ConfigError, match="claimed by") as caught:
        files.load("placement")
    assert str(mine) in str(caught.value)


def test_a_toolchain_from_the_current_directory_builds_only_for_who_asks_for_it(
    outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (registry.data_dir("toolchains") / "host.toml").read_text()
    outside.put("toolchains/mine.toml", text)
    (tmp_path / "here" / "toolchains").mkdir(parents=True)
    (tmp_path / "here" / "lab.toml").touch()
    (tmp_path / "here" / "toolchains" / "theirs.toml").write_text(text)
    monkeypatch.delenv("DEVICELAB_LAB", raising=False)
    monkeypatch.chdir(tmp_path / "here")
    found = {one.name: one.runs_on for one in toolchain.toolchains()}
    assert found["mine"]
    assert found["theirs"] == {}


def test_a_users_home_that_cannot_be_read_has_no_plug_ins(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    outside.put("analyses/silence.py", ANALYSIS)

    def closed(_path: object) -> object:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", closed)
    monkeypatch.setattr(finding, "own_claims", lambda _: ())
    registry._look.cache_clear()
    assert registry.names("analyses") == ()
