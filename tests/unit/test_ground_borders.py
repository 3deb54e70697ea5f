"""What everything stands on, at its bounds: lengths of time, sizes, contracts, names, order of answers."""

import threading
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from devicelab.errors import ConfigError, StoreError, UnsortedError
from devicelab.ground import contract, places, registry, side_by_side, sorting, toml
from devicelab.ground.budget import within
from devicelab.ground.safe_text import csv_cell, printable, spoken, terminal
from devicelab.ground.times import duration

# --- lengths of time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "exactly", "roughly"),
    [
        (0, "0 s", "0 s"),
        (59.4, "59 s", "59 s"),
        (59.6, "1 min 00 s", "1 min"),
        (61, "1 min 01 s", "1 min"),
        (91, "1 min 31 s", "2 min"),
        (3599, "59 min 59 s", "60 min"),
        (3600, "1 h 00 min", "1 h 00 min"),
        (7_259, "2 h 00 min", "2 h 00 min"),
        (7_260, "2 h 01 min", "2 h 01 min"),
    ],
)
def test_a_length_of_time_changes_its_unit_where_the_next_is_full(seconds: float, exactly: str, roughly: str) -> None:
    assert (duration(seconds), duration(seconds, roughly=True)) == (exactly, roughly)


@given(st.integers(0, 400_000))
def test_no_length_of_time_is_off_by_more_than_its_last_unit(seconds: int) -> None:
    unit = {"s": 1, "min": 60, "h": 3600}
    words = duration(seconds).split()
    told = sum(int(number) * unit[name] for number, name in zip(words[::2], words[1::2], strict=True))
    assert 0 <= seconds - told < (60 if "h" in words else 1)


# --- sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "taken"), [(3, True), (4, False)])
def test_a_text_of_as_many_values_as_allowed_is_taken(values: int, taken: bool) -> None:
    text = b"[" + b",".join([b'"a,b,[{"'] * values) + b"]"  # a bracket, and a comma for each but the first
    if taken:
        assert within(text, 3) == text
    else:
        with pytest.raises(ValueError, match="more than 3 values"):
            within(text, 3)


@pytest.mark.parametrize(("size", "taken"), [(99, True), (100, True), (101, False)])
def test_a_file_as_large_as_allowed_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, taken: bool
) -> None:
    monkeypatch.setattr(toml, "_MAX_TOML", 100)
    file = tmp_path / "x.toml"
    file.write_text("a = 1 #" + "x" * (size - 7))
    if taken:
        assert toml.read(file) == {"a": 1}
    else:
        with pytest.raises(ConfigError, match="larger than"):
            toml.read(file)


@pytest.mark.parametrize(("parts", "taken"), [(64, True), (65, False), (3000, False)])
def test_keys_are_nested_so_deep_and_no_deeper(parts: int, taken: bool) -> None:
    text = ".".join(["a"] * parts) + " = 1"
    if taken:
        assert toml.loads(text)
    else:
        with pytest.raises(ValueError, match="nested too deep"):
            toml.loads(text)


# --- words of a file -----------------------------------------------------------------------------------------------


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    cooldown_s: float = 1.0


class File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = Field(default=1, ge=1, le=9)
    share: float = Field(default=0.5, gt=0, lt=1)
    inner: tuple[Inner, ...] = ()
    table: dict[str, Inner] | None = None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"count": 0}, "count: at least 1 is expected (got 0)"),
        ({"count": 10}, "count: at most 9 is expected (got 10)"),
        ({"share": 0}, "share: more than 0 is expected (got 0)"),
        ({"share": 1}, "share: less than 1 is expected (got 1)"),
        ({"count": "x"}, "count: a whole number is expected (got 'x')"),
        ({"count": 1.5}, "count: a whole number is expected (got 1.5)"),
        ({"inner": 5}, "inner: a list is expected (got 5)"),
        ({"cuont": 5}, "cuont: no such key, did you mean 'count'?"),
        ({"inner": [{"coldown_s": 5}]}, "inner.0.coldown_s: no such key, did you mean 'cooldown_s'?"),
        ({"inner": [{"zzz": 5}]}, "inner.0.zzz: no such key; known: cooldown_s"),
        ({"table": {"a": []}}, "table.a: a table is expected"),
    ],
)
def test_a_mistake_is_said_in_the_words_of_the_file(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as told:
        File.model_validate(data)
    assert toml.explain(told.value, File) == said


# --- exceptions ----------------------------------------------------------------------------------------------------


def test_the_first_row_that_knows_an_exception_counts() -> None:
    rows = (
        sorting.Row((OSError,), ConfigError, "a", words="^no space", says="full: {words}"),
        sorting.Row((OSError, KeyError), StoreError, says="failed: {words}"),
    )
    one, two = (sorting.as_lab_error(rows, OSError(text), what="writing", hint="b") for text in ("NO SPACE", "x\ny"))
    assert (type(one), one.message, one.hint) == (ConfigError, "writing: full: NO SPACE", "a")
    assert (type(two), two.message, two.hint) == (StoreError, "writing: failed: x", "b")
    bug = sorting.as_lab_error(rows, ValueError())
    assert (type(bug), bug.message) == (UnsortedError, "builtins.ValueError: ValueError")
    assert sorting.as_lab_error(rows, one) is one


# --- contracts -----------------------------------------------------------------------------------------------------


class Kind(Protocol):
    WORDS: tuple[str, ...]
    LIMIT: Annotated[float, "s"]

    def plan(self, word: str, want: int) -> tuple[str, ...]: ...


class Good:
    WORDS = ("a",)
    LIMIT = 3

    @staticmethod
    def plan(word: str, want: int) -> tuple[str, ...]:
        return (word * want,)


@dataclass
class Pair:
    name: str
    sizes: tuple[int, ...]


def kind(**changes: Any) -> object:
    made = type("Other", (), {**{name: vars(Good)[name] for name in ("WORDS", "LIMIT", "plan")}, **changes})
    for name in [name for name, value in changes.items() if value is None]:
        delattr(made, name)
    return made


def none(_word: str, want: int, *, extra: int) -> tuple[str, ...]:
    return (str(want + extra),)


def some(_word: str, want: int, more: int = 1, *, extra: int = 0) -> tuple[str, ...]:
    return (str(want + more + extra),)


def turned(want: int, word: str) -> tuple[str, ...]:
    return (word * want,)


def rest(word: str, *others: int) -> tuple[str, ...]:
    return (word, str(others))


def short(word: str) -> tuple[str, ...]:
    return (word,)


def text(word: str, want: int) -> str:
    return word * want


async def later(word: str, want: int) -> tuple[str, ...]:
    return (word * want,)


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (Good, ""),
        (kind(plan=staticmethod(some)), ""),
        (kind(plan=staticmethod(rest)), ""),
        (kind(plan=None), "it has no plan()"),
        (kind(plan=5), "plan is 5 and no function"),
        (kind(plan=staticmethod(none)), "plan takes (_word, want, extra)"),
        (kind(plan=staticmethod(turned)), "plan takes (want, word)"),
        (kind(plan=staticmethod(short)), "plan takes (word)"),
        (kind(plan=staticmethod(text)), "plan is annotated to return str"),
        (kind(plan=staticmethod(later)), "plan is async"),
        (kind(WORDS=None), "it has no WORDS"),
        (kind(WORDS=["a"]), "WORDS is ['a'] (list)"),
        (kind(WORDS=("a", 5)), "WORDS[1] is 5 (int): str is expected"),
        (kind(LIMIT=True), "LIMIT is True (bool): float is expected"),
        (kind(LIMIT="3"), "LIMIT is '3' (str)"),
    ],
)
def test_what_a_plug_in_lacks_is_said_and_nothing_else(plugin: object, said: str) -> None:
    found = contract.problems(plugin, Kind)
    assert len(found) == bool(said)
    assert "".join(found).startswith(said)


@pytest.mark.parametrize(
    ("value", "hint", "wrong"),
    [
        (1, int | None, ""),
        (None, int | None, ""),
        ("1", int | None, "it is '1' (str): int | None is expected"),
        (Pair("a", (1, 2)), Pair, ""),
        (Pair("a", (1, "2")), Pair, "it.sizes[1] is '2' (str): int is expected"),  # type: ignore[arg-type]
        ({"a": 1}, Mapping[str, int], ""),
        ({"a": "b"}, Mapping[str, int], "it['a'] is 'b' (str): int is expected"),
        ({1: 1}, dict[str, int], "a key of it is 1 (int): str is expected"),
        (bool, type[int], ""),
        (str, type[int], "it is <class 'str'> (type): None is expected"),
        (5, Any, ""),
        (1.5, int, "it is 1.5 (float): int is expected"),
        ("x" * 60, int, "it is '" + "x" * 56 + "... (str): int is expected"),
        ("x" * 58, int, "it is '" + "x" * 58 + "' (str): int is expected"),
    ],
)
def test_a_value_is_what_its_annotation_says_all_the_way_down(value: object, hint: Any, wrong: str) -> None:
    assert (contract.mismatch(value, hint, "it") or "") == wrong


# --- many at once --------------------------------------------------------------------------------------------------


def test_no_more_are_asked_at_once_than_allowed_and_each_has_its_turn() -> None:
    now, most, lock, together = 0, 0, threading.Lock(), threading.Barrier(3)

    def ask(item: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(30)
        with lock:
            now -= 1
        return -item

    got = dict(side_by_side.asked(ask, range(9), deadline_s=60, at_once=3))
    assert got == {item: -item for item in range(9)}
    assert most == 3


# --- texts and places ----------------------------------------------------------------------------------------------


@given(st.text())
def test_what_is_shown_has_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = terminal(text)
    assert not {char for char in shown if (ord(char) < 32 and char not in "\t\n") or 0x7F <= ord(char) < 0xA0}
    assert terminal(shown) == shown
    assert len(printable(text)) == len(text)


@pytest.mark.parametrize(
    ("cell", "shown"), [("=1+1", "'=1+1"), (" -x", "' -x"), ("-1.5e3", "-1.5e3"), ("a=b", "a=b"), (-5, -5), ("+", "'+")]
)
def test_a_cell_is_text_unless_it_is_a_number(cell: object, shown: object) -> None:
    assert csv_cell(cell) == shown


def test_the_linkers_warnings_are_nobodys_words() -> None:
    assert spoken("\n  WARNING: linker: /x: unused DT entry\nmine\nlinker: warning: y\n") == "mine"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "DEVICELAB_LAB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_a_lab_is_the_named_one_then_that_of_the_folder_then_the_users(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (places.lab_path(), places.lab_is_here()) == (None, False)
    config = home / ".config" / "devicelab"
    config.mkdir(parents=True)
    (config / "lab.toml").touch()
    assert (places.lab_path(), places.lab_is_here()) == (config / "lab.toml", False)
    Path("lab.toml").touch()
    assert (places.lab_path(), places.lab_is_here()) == (Path("lab.toml"), True)
    monkeypatch.setenv("DEVICELAB_LAB", "lab.toml")
    assert (places.lab_path(), places.lab_is_here()) == (Path("lab.toml"), False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "x"))
    assert places.config_dir() == home / "x" / "devicelab"
    assert places.code_folder("knobs") == home / "x" / "devicelab" / "knobs"
    assert places.data_folders("boards") == (home / "x" / "devicelab" / "boards", home / "here" / "boards")


def test_a_name_that_is_near_is_offered_unless_it_is_private() -> None:
    def lacks(**members: object) -> str:
        made = type("Other", (), {"WORDS": ("a",), "LIMIT": 3, **members})
        (said,) = contract.problems(made, Kind)
        return said

    for name in ("plam", "p_lan", "Plan"):
        assert f"(is '{name.lower()}' meant to be it?)" in lacks(**{name: short})
    assert "meant to be it" not in lacks(_plan=short)
    assert "meant to be it" not in lacks(plam=int)
    assert "meant to be it" not in lacks(other=short)


@pytest.mark.parametrize("value", [len, "x", None])
def test_a_hint_that_is_no_kind_of_value_forbids_nothing(value: object) -> None:
    assert contract.mismatch(value, typing.Literal["x"], "it") is None


def test_a_name_nobody_knows_comes_with_the_nearest_and_all_there_are() -> None:
    near, far, none = (registry.unknown("knob", "cpuu", known) for known in (("gpu", "cpu"), ("zzz",), ()))
    assert near.message == "no knob named 'cpuu'"
    assert near.hint == "did you mean 'cpu'? known: gpu, cpu"
    assert (far.hint, none.hint) == ("known: zzz", "known: none")
    nouns = {
        "knobs": "knob",
        "analyses": "analysis",
        "boards": "board kind",
        "cli": "command",
        "schedulers": "scheduler",
    }
    assert {folder: registry.noun(folder) for folder in nouns} == nouns


def test_what_comes_with_devicelab_is_found_beside_or_inside_it() -> None:
    for folder, file in (
        ("native", "agent.cpp"),
        ("experiments", "load_calibration.toml"),
        ("toolchains", "host.toml"),
    ):
        assert (registry.data_dir(folder) / file).is_file()
    assert registry.script("torch_tenant.py").is_file()


class Tool(Protocol):
    def work(self) -> int: ...


class Makes(Protocol):
    def make(self) -> Tool: ...


@pytest.mark.parametrize(
    ("made", "fits"), [(type("Full", (), {"work": lambda _self: 1}), True), (type("Bare", (), {}), False)]
)
def test_what_a_function_returns_keeps_the_contract_it_is_annotated_with(made: type, fits: bool) -> None:
    def make() -> Any: ...

    make.__annotations__["return"] = made
    assert (contract.problems(type("Other", (), {"make": staticmethod(make)}), Makes) == ()) is fits


def test_a_type_is_a_type_and_nothing_else() -> None:
    assert contract.mismatch(int, type, "it") is None
    assert contract.mismatch(5, type, "it") == "it is 5 (int): type is expected"


def test_a_file_that_is_not_there_says_so_in_the_systems_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"cannot read {tmp_path}/x.toml: No such file or directory$"):
        toml.read(tmp_path / "x.toml")


def test_a_check_of_ours_speaks_for_itself() -> None:
    class Checked(BaseModel):
        span: str

        @field_validator("span")
        @classmethod
        def _sound(cls, value: str) -> str:
            raise ValueError(f"no Value error, but {len(value)}")

    with pytest.raises(ValidationError) as told:
        Checked.model_validate({"span": "x"})
    assert toml.explain(told.value) == "span: no Value error, but 1 (got 'x')"
