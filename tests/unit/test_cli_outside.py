"""Commands that other distributions offer: they are added, and one that fails costs no other."""

import pytest

from devicelab import cli
from devicelab.cli import _schemas
from devicelab.ground import registry
from tests.outside import GOOD, Outside

HELLO = """
    def register(app):
        @app.command()
        def {name}():
            '''Say it.'''
"""


@pytest.fixture(autouse=True)
def _app_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.app, "registered_commands", [*cli.app.registered_commands])
    monkeypatch.setattr(cli.app, "registered_groups", [*cli.app.registered_groups])


def _commands(outside: Outside, text: str) -> set[str]:
    outside.install("a-lab", "devicelab.commands", "hello = hello_command", hello_command=text)
    cli._add_from_outside()
    return set(cli.command().commands)


def test_the_reference_is_of_what_comes_with_devicelab_alone(outside: Outside) -> None:
    pages = {name: page() for name, page in _schemas.PAGES.items()}
    for kind, (name, text) in GOOD.items():
        outside.put(f"{kind}/{name}.py", text)
    outside.put("boards/mine.toml", 'title = "Mine"')
    outside.put("experiments/mine.toml", 'question = "?"')
    assert {name: page() for name, page in _schemas.PAGES.items()} == pages


def test_a_command_of_an_entry_point_is_there(outside: Outside) -> None:
    assert "hello" in _commands(outside, HELLO.format(name="hello"))
    assert [one for one in registry.left_out() if "hello" in one.what] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("def register(): ...", "register() failed: TypeError"),
        ("register = 3", "it has no register(app)"),
        (HELLO.format(name="sweep"), "there is a command sweep already"),
        (
            "def register(app):\n    @app.command()\n    def bad(x: list[list[int]]): ...\n",
            "register() failed",
        ),
    ],
)
def test_a_command_that_cannot_be_added_is_left_out_and_said(text: str, words: str, outside: Outside) -> None:
    before = set(cli.command().commands)
    assert _commands(outside, text) - {"sim"} == before - {"sim"}
    assert any(words in str(one) for one in registry.left_out()), registry.left_out()
