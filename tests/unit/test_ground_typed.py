"""A command that is typed once more: quoted, with one change, and nothing of it lost."""

import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.ground.typed import again, typed, words_of

OPTIONS = st.lists(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1).filter(lambda s: s[0] != "-"))


@pytest.mark.parametrize(
    ("line", "more", "said"),
    [
        ("sweep klo --store 'my lab.sqlite'", "--resume", "sweep klo --store 'my lab.sqlite' --resume"),
        ("sweep klo --until '± 2 %' --board b", "--resume", "sweep klo --board b --resume"),
        ("sweep --budget=2h --resume klo", "--resume", "sweep klo --resume"),
        ("sweep e --set k=[1] --set repetitions=2", "--set repetitions=9", "sweep e --set 'k=[1]' --set repetitions=9"),
        ("sweep own.toml --set=repetitions=2 -b b", "--set repetitions=12", "sweep own.toml -b b --set repetitions=12"),
        ("sweep own.toml --set repetitions=2", "--until decided", "sweep own.toml --until decided"),
        ("klo app --k 1 -- x --until y", "--set repetitions=9", "klo app --k 1 --set repetitions=9 -- x --until y"),
    ],
)  # fmt: skip
def test_one_thing_is_changed_and_the_rest_stays(line: str, more: str, said: str) -> None:
    assert again(shlex.split(f"devicelab {line}"), *more.split()) == f"devicelab {said}"


@given(OPTIONS)
def test_whatever_was_typed_can_be_read_again(words: list[str]) -> None:
    command = shlex.join(["devicelab", "sweep", *words])
    assert words_of(command, ("sweep",)) == ["devicelab", "sweep", *words]
    assert shlex.split(again(words_of(command, ("sweep",)), "--resume")) == ["devicelab", "sweep", *words, "--resume"]


@pytest.mark.parametrize("called", ["/opt/x/bin/devicelab", "/src/devicelab/__main__.py"])
def test_the_command_is_kept_as_one_types_it(monkeypatch: pytest.MonkeyPatch, called: str) -> None:
    monkeypatch.setattr(sys, "argv", [called, "sweep", "e.toml", "--set", "load=1000 5000 20"])
    assert typed() == "devicelab sweep e.toml --set 'load=1000 5000 20'"
    monkeypatch.setattr(sys, "argv", ["devicelab", "sweep", "--store", "postgresql://me:secret@db/lab"])
    assert "secret" not in typed()


@pytest.mark.parametrize("other", ["night.py --all", str(Path("/opt/devicelab")) + " sweep x", "devicelab 'open", ""])
def test_what_is_no_command_of_ours_is_not_typed_again(other: str) -> None:
    assert words_of(other, ("sweep",), ("klo", "app")) == []
