"""What an agent finds in its folders, against a fuzzer; longer: ``python -m tests.fuzz agent-journal``."""

import shutil
from pathlib import Path

import pytest

from tests.fuzz import native

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("clang++") is None, reason="clang is not installed"),
]


def test_a_fuzzer_finds_no_bad_memory_access_in_the_readers_of_journals(tmp_path: Path) -> None:
    program = native.build("agent-journal", tmp_path)
    assert program is not None
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(native.seeds("agent-journal")):
        (corpus / str(number)).write_bytes(seed)
    # Executions and not seconds: a busy machine only takes longer.
    done = native.play(program, corpus, "-runs=5000", "-timeout=60", "-max_len=4096", "-seed=1")
    assert done.returncode == 0, done.stderr[-4000:]
