"""The plan parser against everything a plan may and may not be, and against a fuzzer."""

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from agent_tools import Bench, load, one_run, plan, shell
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from devicelab.ground.registry import data_dir
from devicelab.model.plan import Command, Gate, Plan, Probe, Sampling, Witness, Write
from tests.fuzz import native


def full_plan() -> dict[str, Any]:
    """Every member the format has, with a value."""
    env = {"A": "1"}
    write = Write(path="/dev/null", value="1", why="w", expect="1", restore="0", verify="none")
    command = Command(do=("true",), undo=("true",), why="w", env=env)
    programs = (
        load(cpus=(0,), nice=1, cgroups=("/dev/null",), env=env, env_scrub=("B",)),
        shell("true", barrier=False),
    )
    run = one_run(
        *programs,
        steps=(write, command),
        gates=(Gate(path="/dev/null", max_value=1, min_value=0, flat_within=1, timeout_ms=1, why="w"),),
        probes=(Probe(cpus=(0,), why="w"),),
        witnesses=(Witness(name="w", argv=("true",), env=env),),
        sampling=Sampling(nodes=("/proc/uptime",), around=("/proc/uptime",)),
    )
    data = json.loads(plan(run, setup=(write,)).to_json())
    assert isinstance(data, dict)
    return data


def check(bench: Bench, text: bytes) -> str:
    """What the agent says to a plan, without executing it: the state is a file, so that a good plan ends there."""
    path = bench.root / "plan.json"
    path.write_bytes(text)
    (bench.root / "file").touch()
    done = bench.call("run", path, "--state", bench.root / "file", "--out", bench.root / "out")
    said = done.stderr.decode()
    assert done.returncode in {2, 4}, said
    assert (done.returncode == 2) == ("plan invalid:" in said), said
    return "" if done.returncode == 4 else said


def test_every_member_of_the_format_is_understood(bench: Bench) -> None:
    assert check(bench, json.dumps(full_plan()).encode()) == ""
    assert check(bench, Plan.model_validate(full_plan()).to_json().encode()) == ""
    told = bench.run(Plan.model_validate(full_plan()))
    assert told.end.reason == "complete"


def test_members_with_a_default_may_be_left_out(bench: Bench) -> None:
    data = json.loads(Plan.model_validate(full_plan()).model_dump_json(exclude_defaults=True))
    for step in (*data["runs"][0]["steps"], *data["setup"]):
        step["kind"] = "command" if "do" in step else "write"
    assert check(bench, json.dumps(data).encode()) == ""


def places(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in items for place in places(item, (*at, key)))]


def put(data: Any, at: tuple[str | int, ...], value: Any) -> Any:
    changed = copy.deepcopy(data)
    if not at:
        return value
    inner = changed
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return changed


def accepted_by_the_model(text: str) -> bool:
    try:
        Plan.model_validate_json(text, strict=False)
    except (ValidationError, ValueError):
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("odd", [None, True, 7, -1, 1.5, "", "x", "\0", [], {}, [None], {"x": 1}, 10**30])
def test_a_wrong_value_anywhere_is_refused_with_its_place(plain_bench: Bench, odd: Any) -> None:
    data = full_plan()
    for place in places(data):
        text = json.dumps(put(data, place, odd))
        said = check(plain_bench, text.encode())
        if not accepted_by_the_model(text) and not said:
            # The model refuses types more than values; what it takes for a number the agent may have as text never.
            pytest.fail(f"taken, though the model does not: {odd!r} at {place}")
        if said:
            assert "$" in said or "not JSON" in said, said


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ((), [], r"\$: expected an object"),
        (("plan_version",), 2, r"\$\.plan_version: is not between 1 and 1"),
        (("holder",), "", r"\$\.holder: is empty"),
        (("extra",), 1, r"\$\.extra: there is no such member"),
        (("runs", 0, "extra"), 1, r"\$\.runs\[0\]\.extra: there is no such member"),
        (("runs", 0, "steps", 0, "path"), "relative", r"\$\.runs\[0\]\.steps\[0\]\.path: expected an absolute path"),
        (("runs", 0, "steps", 0, "path"), "/a\0b", r"\.path: holds a zero byte"),
        (("runs", 0, "steps", 0, "kind"), "wriite", r"\.kind: is none of the known words"),
        (("runs", 0, "steps", 0, "verify"), "exactly", r"\.verify: is none of the known words"),
        (("runs", 0, "steps", 1, "do"), [], r"\.do: names no program"),
        (("runs", 0, "steps", 1, "env"), {"A=B": "x"}, r"\.env: holds a name that no variable can have"),
        (("runs", 0, "programs", 0, "role"), "loaded", r"\$\.runs\[0\]\.programs\[0\]\.role: is none"),
        (("runs", 0, "programs", 0, "cpus"), [4096], r"\.cpus\[0\]: is not between 0 and 4095"),
        (("runs", 0, "programs", 0, "cpus"), [], r"\.cpus: names no CPU"),
        (("runs", 0, "programs", 0, "nice"), 20, r"\.nice: is not between -20 and 19"),
        (("runs", 0, "programs", 0, "argv", 1), 1000, r"\.argv\[1\]: expected a string"),
        (("runs", 0, "programs", 1, "name"), "load", r"\.programs\[1\]: a program of that name stands before it"),
        (("runs", 0, "settle_ms"), -1, r"\$\.runs\[0\]\.settle_ms: is not between"),
        (("runs", 0, "settle_ms"), 1.5, r"\.settle_ms: expected an integer"),
        (("runs", 0, "hold_ms"), 10**15, r"\.hold_ms: is not between"),
        (("runs",), {}, r"\$\.runs: expected a list"),
        (("runs", 0), None, r"\$\.runs\[0\]: expected an object"),
    ],
)
def test_a_refusal_names_the_place_and_the_reason(
    plain_bench: Bench, place: tuple[str | int, ...], value: Any, reason: str
) -> None:
    said = check(plain_bench, json.dumps(put(full_plan(), place, value)).encode())
    assert re.search(reason, said), said


def test_a_missing_member_is_named(plain_bench: Bench) -> None:
    data = full_plan()
    del data["runs"][0]["run_id"]
    assert "$.runs[0].run_id: is missing" in check(plain_bench, json.dumps(data).encode())


def test_a_comma_too_many_between_runs_is_refused(plain_bench: Bench) -> None:
    text = json.dumps(full_plan()).encode()
    assert text.endswith(b"}]}")
    assert "not JSON: line 1" in check(plain_bench, text[:-2] + b",]}")


def test_two_runs_of_one_name_are_refused(plain_bench: Bench) -> None:
    data = full_plan()
    data["runs"] *= 2
    assert "$.runs[1].run_id: an earlier run has the same" in check(plain_bench, json.dumps(data).encode())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "ends too early"),
        (b"{", "in quotes"),
        (b"{}{}", "text behind the value"),
        (b'{"runs":[}', "line 1"),
        (b'{"runs":[],"runs":[]}', "stands twice"),
        (b'{"plan_version":1,"plan_version":1}', "stands twice"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":"\n"}', "control character"),
        (b'{"a":01}', "starts with 0"),
        (b'{"a":1e}', "digits"),
        (b'{"a":"\\x"}', "escape"),
        (b'{"a":"', "does not end"),
        (b"[" * 1_000_000, "deep"),
        (b'{"runs":[' + b"[" * 1_000_000 + b"]}", "line 1"),
        (b'{"a":' * 100_000, "deep"),
        (b"[" + b"1," * 2_000_000 + b"1]", "too many values"),
        (b"\x00", "expected a value"),
        (b"\xef\xbb\xbf{}", "expected a value"),
        (b"NaN", "expected a value"),
        (b'\n\n{"a":tru}', "line 3"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(bench: Bench, text: bytes, reason: str) -> None:
    said = check(bench, text)
    assert "not JSON" in said
    assert reason in said, said


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_plan_with_any_byte_changed_is_taken_or_refused(plain_bench: Bench, data: st.DataObject) -> None:
    text = bytearray(json.dumps(full_plan()).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    said = check(plain_bench, bytes(text))
    if not said:  # what the agent takes, the model takes
        assert accepted_by_the_model(bytes(text).decode())


def test_strings_with_every_escape_arrive(bench: Bench) -> None:
    words = ('"\\/\b\f\n\r\t', "äöü€𝄞\x7f", "\u2028")
    text = plan(one_run(shell('printf "%s" "$@"'))).to_json()
    data = json.loads(text)
    data["runs"][0]["programs"][0]["argv"] += ["sh", *words]
    data["runs"][0]["programs"][0]["env"] = {"LANG": "C.UTF-8"}
    path = bench.out(Plan.model_validate(data))
    path.mkdir(parents=True)
    (path / "plan.json").write_text(json.dumps(data, ensure_ascii=True))
    done = bench.call("run", path / "plan.json", "--state", bench.state, "--out", path)
    assert done.returncode == 0
    assert bench.told(Plan.model_validate(data)).record.programs[0].output() == "".join(words).encode()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("clang++") is None, reason="clang is not installed")
def test_a_fuzzer_finds_no_bad_memory_access_in_the_parsers(tmp_path: Path) -> None:
    program = tmp_path / "plan_fuzz"
    flags = ["-std=c++17", "-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    source = data_dir("native") / "fuzz" / "plan_fuzz.cpp"
    built = subprocess.run(
        ["clang++", *flags, f"-I{data_dir('native')}", str(source), "-o", str(program)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "full").write_text(json.dumps(full_plan()))
    (corpus / "node").write_text('{"undo":"node","path":"/a","write_b64":"AAEC/w==","set":"1","verify":"word"}')
    (corpus / "command").write_text('{"undo":"command","argv":["a"],"env":{"A":"b"},"timeout_ms":1}')
    words = tmp_path / "words"
    names = sorted(set(re.findall(r'"([a-z_-]+)"', json.dumps(full_plan()))))
    words.write_text("".join(f'"\\"{name}\\":"\n' for name in names))
    # Executions and not seconds: a busy machine only takes longer.
    options = ("-runs=20000", "-timeout=60", "-max_len=8192", "-seed=1", f"-dict={words}")
    done = native.play(program, corpus, *options)
    assert done.returncode == 0, done.stderr[-4000:]
