"""The documents tell the truth: examples validate, commands exist, links resolve, generated parts are up to date."""

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer.main

from devicelab import __version__
from devicelab.boards import Board
from devicelab.cli import _schemas, app
from devicelab.device.lab import load_lab
from devicelab.errors import MeasurementError
from devicelab.experiment import plan, programs
from devicelab.farm import job
from devicelab.ground.registry import data_dir, module, names
from devicelab.model.experiment import Experiment
from devicelab.workloads.base import Context
from tests.typed import Typed

ROOT = data_dir("native").parent
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
WRITTEN = tuple(page for page in PAGES if "<!-- Generated" not in page.read_text(encoding="utf-8"))
INSTALL, TEST = ".venv/bin/pip install -q {}-c constraints.txt -e", ".venv/bin/pytest --all"
QUICK_START = (
    f"python3 -m venv .venv && {INSTALL.format('--no-compile ')} . && .venv/bin/devicelab sweep quick --board local",
    f"{INSTALL.format('')} '.[dev]' && {TEST}",
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, page and first line."""

    language: str
    text: str
    page: Path
    line: int

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> tuple[str, ...]:
        """Lines after a prompt; in a block of commands alone (``sh``) all lines."""
        lines = self.text.splitlines()
        if self.language == "console":
            return tuple(line[2:] for line in lines if line.startswith("$ "))
        return tuple(line for line in lines if line) if self.language == "sh" else ()


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
        body = "\n".join(line.removeprefix(match[1]) for line in match[3].splitlines())
        yield Block(match[2], body, page, text[: match.start()].count("\n") + 1)


ALL_BLOCKS = tuple(block for page in PAGES for block in blocks(page))
WRITTEN_BLOCKS = tuple(block for block in ALL_BLOCKS if block.page in WRITTEN)


def calls(line: str) -> Iterator[list[str]]:
    """The ``devicelab`` command lines in a shell line, without the program's name."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word and not set(word) <= set(";&|"):
            words.append(word)
            continue
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words and words[0] in {"devicelab", ".venv/bin/devicelab"}:
            yield words[1:]
        words = []


def resolve(words: list[str]) -> tuple[str, Any]:
    """Parse a command line as the product would, without running it: the command's full name and its context."""
    command: Any = typer.main.get_command(app)
    name, context = "devicelab", command.make_context("devicelab", list(words))
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        found, command, rest = command.resolve_command(context, rest)
        name, context = f"{name} {found}", command.make_context(found, rest, parent=context)
    return name, context


def all_commands(command: Any = None, name: str = "devicelab") -> Iterator[tuple[str, Any]]:
    command = command or typer.main.get_command(app)
    if hasattr(command, "commands"):
        for child_name, child in command.commands.items():
            yield from all_commands(child, f"{name} {child_name}")
    else:
        yield name, command


def slug(heading: str) -> str:
    """A heading's anchor as code hosts make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower().replace("`", "")
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")


@pytest.mark.parametrize("name", _schemas.PAGES)
def test_the_reference_of_files_is_up_to_date(name: str) -> None:
    written = (ROOT / "docs/reference" / name).read_text(encoding="utf-8")
    assert written == _schemas.PAGES[name](), "run: python -m devicelab.cli._schemas docs/reference"


def test_the_table_of_layers_is_the_contract_that_is_checked() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = page.partition("## Layers\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    rooms = [{name.rstrip("/").removesuffix(".py") for name in re.findall(r"`([^`]+)`", cell)} for cell in cells]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    assert rooms == [set(layer.split(" | ")) for layer in layers]


def test_the_quick_start_is_two_commands_and_the_check_runs_the_second() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Quick start\n")[2].partition("\n## ")[0]
    fenced = re.findall(r"^```\w+\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert [text.splitlines() for text in fenced] == [list(QUICK_START)]
    check = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert TEST in check
    assert any("-c constraints.txt -e '.[dev]'" in line for line in check)


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    versions = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9A-Za-z.]*", line) for line in versions)
    pinned = {line.partition("==")[0] for line in versions}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(word for words in project["optional-dependencies"].values() for word in words),
    ]
    names = {re.split(r"[^A-Za-z0-9._-]", word)[0].lower().replace("_", "-") for word in wanted} - {"devicelab"}
    assert names <= pinned


def test_the_changelog_is_versions_with_a_line_an_entry() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions, kinds = re.findall(r"^## (.*)", text, re.MULTILINE), re.findall(r"^### (.*)", text, re.MULTILINE)
    assert versions[0] == f"[{__version__}] - unreleased", "entries go under the version that comes next"
    assert all(re.fullmatch(r"\[[0-9.]+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:]), versions
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}, kinds
    body = text[text.index("\n## ") :].splitlines()
    stray = [line for line in body if line and not re.match(r"##|- \S|\[[0-9.]+\]: https", line)]
    assert not stray, f"one line an entry: {stray}"
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        name, entries = section.splitlines()[0], section.partition("### ")[0].count("\n- ")
        assert not entries, f"{name}: {entries} entries above Added, Changed and Fixed"
        headings = re.findall(r"^### (.*)", section, re.MULTILINE)
        assert len(headings) == len(set(headings)), f"{name}: a heading stands twice: {headings}"


# What own-plug-in.md brings is known only where its files lie: tests/integration/test_howtos.py follows it.
TOML_BLOCKS = [b for b in ALL_BLOCKS if b.language == "toml" and b.page.name != "own-plug-in.md"]


@pytest.mark.parametrize("block", TOML_BLOCKS, ids=str)
def test_every_toml_example_is_valid(block: Block, tmp_path: Path) -> None:
    data = tomllib.loads(block.text)
    if "devices" in data:
        (tmp_path / "lab.toml").write_text(block.text, encoding="utf-8")
        assert load_lab(tmp_path / "lab.toml").devices
        return
    if "jobs" in data:
        (tmp_path / "farm.toml").write_text(block.text, encoding="utf-8")
        assert job.load(tmp_path / "farm.toml").farm.jobs
        return
    if "title" in data:
        Board.model_validate({"kind": "example", **data})
        return
    # An excerpt of an experiment has no question of its own.
    experiment = Experiment.model_validate({"question": "?", **data})
    programs.check(experiment, plan.cells(experiment))
    for name in experiment.analyses:
        module("analyses", name)


def test_the_image_of_the_how_to_is_the_recipe_of_the_checkout() -> None:
    (block,) = (b for b in blocks(ROOT / "docs/howto/labs.md") if b.language == "dockerfile")
    assert (ROOT / "Containerfile").read_text(encoding="utf-8").partition("\n")[
        2
    ].splitlines() == block.text.splitlines()


@pytest.mark.parametrize("block", [b for b in WRITTEN_BLOCKS if b.commands()], ids=str)
def test_every_command_in_a_block_exists_with_its_options(block: Block) -> None:
    for line in block.commands():
        for words in calls(line):
            try:
                resolve(words)
            except Exception as error:  # noqa: BLE001 - the parser's errors have no common public base
                pytest.fail(f"{block}: devicelab {shlex.join(words)}: {getattr(error, 'message', error)}")


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_named_in_the_text_exists(page: Path) -> None:
    known = dict(all_commands())
    groups = {name.rpartition(" ")[0] for name in known}
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`(devicelab [^`]+)`", prose):
        words = " ".join(code.split()).split(" && ")[0].split(" ")
        if "…" in words or words[1].startswith("-"):
            continue
        name = " ".join(words[:3]) if " ".join(words[:2]) in groups else " ".join(words[:2])
        assert name in known or name in groups, f"{page.name}: {code}"
        options = {option for parameter in known[name].params for option in parameter.opts} if name in known else set()
        used = {word.partition("=")[0].rstrip(".,") for word in words if re.match(r"--?[a-z]", word)}
        assert used <= options | {"--help"}, f"{page.name}: {code}"


def test_every_command_is_documented_outside_the_generated_reference() -> None:
    text = " ".join(" ".join(page.read_text(encoding="utf-8").split()) for page in WRITTEN)
    missing = [name for name, _ in all_commands() if not re.search(rf"{re.escape(name)}\b", text)]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(\s*([^)\s]+)\s*\)", re.sub(r"`[^`\n]*`", "", text)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            content = re.sub(r"^ *```.*?^ *```$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
            anchors = {slug(heading) for heading in re.findall(r"^#+ (.+)$", content, re.MULTILINE)}
            assert anchor in anchors, f"{page.name} links to {target}"


def test_paths_named_in_the_documents_exist() -> None:
    pattern = re.compile(r"`((?:devicelab|docs|tests|native|experiments|reports|toolchains|\.ci)/[\w./-]+)`")
    for page in WRITTEN:
        for path in pattern.findall(page.read_text(encoding="utf-8")):
            if not re.search(r"NAME|KIND|my-", path):
                assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_every_flag_that_is_explained_can_be_set() -> None:
    sources = [*(ROOT / "devicelab").rglob("*.py"), *(ROOT / "native").rglob("*.h")]
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    page = (ROOT / "docs/howto/when-a-board-misbehaves.md").read_text(encoding="utf-8")
    table = page.partition("## Flags\n")[2].partition("\n## ")[0]
    flags = [
        flag for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for flag in re.findall(r"`([a-z-]+)`", row)
    ]
    assert len(flags) > 10
    assert not [flag for flag in flags if f'"{flag}"' not in code]


def test_the_workload_of_the_how_to_keeps_the_contract() -> None:
    (block,) = (b for b in blocks(ROOT / "docs/howto/own-binary.md") if b.language == "python")
    own: dict[str, Any] = {"__name__": "openssl_speed"}
    exec(compile(block.text, str(block), "exec"), own)  # noqa: S102 - the example as a reader would save it
    params = own["Params"](block_bytes=64)
    assert own["command"](params, Context()).argv[-3:] == ("-bytes", "64", "sha256")
    measured = own["parse"](b"+H:64\n+F:6:sha256:1388557429.51\n", params)
    assert measured.metrics["bytes_per_s"].value == pytest.approx(1388557429.51)
    with pytest.raises(MeasurementError):
        own["parse"](b"+F:6:sha256", params)


def test_the_board_of_the_how_to_is_taken_for_a_phone_of_its_model() -> None:
    (block,) = (b for b in blocks(ROOT / "docs/howto/add-a-board.md") if b.language == "toml")
    board = Board.model_validate({"kind": "my-phone", **tomllib.loads(block.text)})
    assert board.gpu in names("knobs")
    assert re.fullmatch(board.recognise.props["ro.product.model"][0], "MYPHONE-12")


def test_the_picture_is_small() -> None:
    assert (ROOT / "docs/pictures/report.png").stat().st_size <= 300_000


def test_the_readme_names_every_exit_code() -> None:
    from devicelab import errors

    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Exit codes\n")[2].partition("\n## ")[0]
    codes = {thing.exit_code for thing in vars(errors).values() if isinstance(thing, type)}
    assert codes <= {int(code) for code in re.findall(r"(?:^|· |·\n)(\d+) ", section, re.MULTILINE)}


@pytest.mark.slow
@pytest.mark.timeout(900)  # as for the tutorial: native programs are compiled, which a loaded machine is slow at
def test_documented_commands_run_on_this_computer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    monkeypatch.chdir(tmp_path)
    # A folder of its own there: another test, or the user, may be at work in the usual one.
    (tmp_path / "lab.toml").write_text(f'[devices.local]\naddress = "local:"\ndir = "{tmp_path}/device"\n')
    own = next(b for b in blocks(ROOT / "docs/howto/own-binary.md") if b.language == "toml")
    (tmp_path / "loop.toml").write_text(own.text, encoding="utf-8")
    quick = list(calls(QUICK_START[0]))
    lines = [line for block in blocks(own.page) for line in block.commands()]
    for words in (
        *quick,
        *(call for line in lines for call in calls(line) if "note10" not in call),  # a phone's own
        ["report"],
        ["devices"],
        ["store", "list"],
    ):
        # A machine that runs tests is not idle; an answer need not be waited for.
        busy = ["--set", "foreign_pct=100", "--set", "foreign_core_pct=100"] if words[0] == "sweep" else []
        busy += ["--budget", "3 s"] if words[:2] == ["sweep", "quick"] else []
        done = typed(*words, *busy)
        # The loop's check depends on this machine; that it was judged is what counts.
        assert done.returncode in ({0, 7} if "loop.toml" in words else {0}), done.stderr
    assert len(list((tmp_path / "devicelab-report").glob("*.html"))) == 2


@pytest.mark.slow
@pytest.mark.sim
@pytest.mark.timeout(900)
def test_the_tutorial_runs_from_beginning_to_end(
    tmp_path: Path, virtual_board: Any, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    monkeypatch.chdir(tmp_path)
    tutorial = ROOT / "docs/tutorial.md"
    lines = [line for block in blocks(tutorial) for line in block.commands()]
    for line in lines:
        for words in calls(line):
            # The fixture starts the board, so that it is skipped by name where none can run.
            if words[:2] == ["sim", "up"]:
                virtual_board(words[2])
                continue
            fewer = ["repetitions=1" if word.startswith("repetitions=") else word for word in words]
            fewer = ["1" if before == "--seconds" else word for before, word in pairwise(["", *fewer])]
            # The whole night of the first page is a few cells here.
            fewer += ["--set", "repetitions=1", "--set", "k=[4]"] if words == ["sweep", "--board", "note10"] else []
            done = typed(*fewer)
            expected = 2 if "--resume" in words else 0
            assert done.returncode == expected, f"devicelab {shlex.join(words)}: {done.stderr}"
    assert (tmp_path / "first.html").stat().st_size > 100_000


def test_the_manual_page_has_every_command_and_is_shown_without_a_warning() -> None:
    page = _schemas.PAGES["devicelab.1"]()
    for name in ("sweep", "store list", "quarantine add", "klo model"):
        assert f'.SS "devicelab {name}' in page
    assert page.count("\n.SH ") == 8
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    argv = ["groff", "-man", "-Tutf8", "-K", "utf8", "-ww", "-rLL=100n"]
    done = subprocess.run(argv, input=page, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert "--until" in re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
