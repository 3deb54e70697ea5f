"""Commands end in order whatever their standard streams are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_MAIN = "from devicelab import cli; from devicelab.cli import _out; {set}; cli.main()"
_PRINTS = _MAIN.format(set='cli.command = lambda: lambda **_: _out.print_json({"text": "\\xb5\\u2026\\U0001f600"})')
_TABLE = _MAIN.format(set='cli.command = lambda: lambda **_: _out.print_table(("a",), [("\\u2026",)] * 9000)')


def run(code: str, redirection: str, tmp_path: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The program as a shell starts it."""
    shell = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, code]
    return subprocess.run(
        shell, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **variables}, timeout=120, check=False
    )


@pytest.mark.parametrize("code", [_PRINTS, _TABLE])
def test_a_closed_stdout_or_stderr_is_no_bug(code: str, tmp_path: Path) -> None:
    for redirection in (">&-", "2>&-", ">&- 2>&- <&-"):
        done = run(code, redirection, tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), redirection


@pytest.mark.parametrize("code", [_PRINTS, _TABLE])
def test_nobody_reading_is_the_exit_code_of_a_closed_pipe(code: str, tmp_path: Path) -> None:
    done = run(code, "| true; exit ${PIPESTATUS[0]}", tmp_path)
    assert done.stderr == ""
    assert done.returncode in {0, 141}  # a short text may have gone into the pipe before it was closed


def test_a_table_that_nobody_reads_ends_with_141(tmp_path: Path) -> None:
    assert run(_TABLE, "| true; exit ${PIPESTATUS[0]}", tmp_path).returncode == 141


@pytest.mark.parametrize("code", [_PRINTS, _TABLE])
def test_a_result_that_does_not_fit_is_an_error(code: str, tmp_path: Path) -> None:
    done = run(code, ">/dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: cannot write to stdout: No space left on device\n")


def test_what_is_said_for_people_may_be_lost(tmp_path: Path) -> None:
    code = _MAIN.format(set='cli.command = lambda: lambda **_: [_out.say("x"), _out.echo("result")]')
    done = run(code, "2>/dev/full", tmp_path)
    assert (done.returncode, done.stdout) == (0, "result\n")
    failing = (
        'from devicelab.errors import DeviceUnreachableError as E\ndef f(**_): raise E("gone")\ncli.command = lambda: f'
    )
    for redirection in ("2>/dev/full", "2>&-"):
        assert run(f"from devicelab import cli\n{failing}\ncli.main()", redirection, tmp_path).returncode == 3


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_json_is_valid_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    done = run(_PRINTS, "", tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"text": "\xb5\u2026\U0001f600"}
    assert run(_TABLE, "", tmp_path, PYTHONIOENCODING=encoding).returncode == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ('open("no/such/file")', "error: no/such/file: No such file or directory\n"),
        ('open("a" * 300)', f"error: {'a' * 200}: File name too long\n"),
        ("(_ for _ in ()).throw(OSError(28, 'No space left on device'))", "error: No space left on device\n"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(error: str, said: str, tmp_path: Path) -> None:
    done = run(f"from devicelab import cli\ncli.command = lambda: lambda **_: {error}\ncli.main()", "", tmp_path)
    assert (done.returncode, done.stderr.partition("  hint")[0]) == (2, said)


def test_no_file_of_ours_becomes_a_standard_stream(tmp_path: Path) -> None:
    code = 'import os; cli.command = lambda: lambda **_: os._exit(os.open("x", os.O_CREAT))'
    assert run(_MAIN.format(set=code), ">&- 2>&- <&-", tmp_path).returncode > 2
