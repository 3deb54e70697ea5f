"""Targets in C++: what the agent reads, under the sanitizers; built here by clang with libFuzzer."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from devicelab.ground.registry import data_dir

_FLAGS = ("-std=c++17", "-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")

NAMES = {
    "agent-plan": ("plan_fuzz", "plans and single lines, read by the agent"),
    "agent-journal": ("journal_fuzz", "journals, leases and notes in its folders, read by the agent"),
}
"""Target → harness in ``native/fuzz``, and what it reads."""


def build(name: str, folder: Path) -> Path | None:
    """The fuzzer of a target; ``None`` without clang.

    Raises:
        RuntimeError: it does not compile.
    """
    if shutil.which("clang++") is None:
        return None
    program = folder / NAMES[name][0]
    source = data_dir("native") / "fuzz" / f"{NAMES[name][0]}.cpp"
    argv = ["clang++", *_FLAGS, f"-I{data_dir('native')}", str(source), "-o", str(program)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return program


def play(program: Path, corpus: Path, *options: str, rss_mib: int = 1024) -> "subprocess.CompletedProcess[str]":
    """Let a fuzzer run in the folder that holds ``corpus``; memory is counted by AddressSanitizer.

    libFuzzer's own limit looks at the highest use ever, which Linux hands from the process that starts it to the one
    that is started, so that a large pytest would look like a leak.
    """
    return subprocess.run(
        [program, *options, "-rss_limit_mb=0", str(corpus)],
        capture_output=True,
        text=True,
        check=False,
        cwd=corpus.parent,
        env={**os.environ, "ASAN_OPTIONS": f"hard_rss_limit_mb={rss_mib}"},
    )


def seeds(name: str) -> Iterator[bytes]:
    """Valid inputs; in the journals, lines with "+" in front are sealed by the harness."""
    if name == "agent-plan":
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))  # pytest does that by itself
        from tests.native.test_agent_plans import full_plan

        yield json.dumps(full_plan()).encode()
        yield b'{"undo":"node","path":"/a","write_b64":"AAEC/w==","set":"1","verify":"word"}'
        yield b'{"undo":"command","argv":["a"],"env":{"A":"b"},"timeout_ms":1}'
        return
    yield (
        b'\0+{"event":"plan-start","plan_id":"p1"}\n+{"event":"run","run_id":"r1","seq":0}\n'
        b'+{"event":"run","run_id":"r2"}\ncut'
    )
    yield (
        b'\1+{"undo":"open","boot_id":"b","token":"t"}\n+{"undo":"kept"}\n+{"undo":"hold","path":"/x"}\n'
        b'+{"undo":"node","path":"/a","write_b64":"AAEC/w==","before":"1\\n","set":"1","verify":"word","verify_ms":3,'
        b'"given":true}\n+{"undo":"command","argv":["a"],"env":{"A":"b"},"timeout_ms":1,"survives_reboot":true}\n'
        b'+{"undo":"program","name":"n","pid":3,"start_time":4,"exe":"/x","exe_device":1,"exe_inode":2,"by_exe":true}\n'
        b'+{"undo":"keeper","name":"n","pid":3,"start_time":4,"exe":"/x"}\n'
    )
    yield b'\2{"holder":"h","expires":12,"boot_id":"b","pid":1,"start_time":2}'
    yield (
        b'\3{"pid":1,"start_time":2,"boot_id":"b","exe_device":1,"exe_inode":3,"plan_id":"p","out":"/o",'
        b'"state":"ended","runs_done":1,"runs_total":2}'
    )
