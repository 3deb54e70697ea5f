"""Commands that look: snapshot, follow, version; and what wrong words get."""

import json
import os
import subprocess
from pathlib import Path
from typing import IO

import pytest
from agent_tools import Bench, load, one_run, plan, until

from devicelab.model.tree import Tree, parse_snapshot

pytestmark = pytest.mark.slow


def snapshot(bench: Bench, *patterns: object) -> Tree:
    done = bench.call("snapshot", "-", stdin="\n".join(map(str, patterns)).encode())
    assert done.returncode == 0, done.stderr.decode()
    return parse_snapshot(done.stdout)


def test_version_says_what_it_understands(bench: Bench) -> None:
    said = json.loads(bench.call("version").stdout)
    assert said["plan_version"] == 1
    assert said["agent_version"]


def test_a_snapshot_has_texts_modes_and_links(bench: Bench) -> None:
    root = bench.root / "nodes"
    bench.node("a1", "one\n")
    bench.node("a2", "two\n")
    bench.node("b", "three\n")
    (root / "readonly").write_text("x")
    (root / "readonly").chmod(0o444)
    (root / "link").symlink_to("b")
    (root / "nowhere").symlink_to("nothing")
    (root / "dir").mkdir()
    os.mkfifo(root / "fifo")
    tree = snapshot(bench, root / "a*", root / "b", root / "*", "", "relative/*", "/no/such/*")
    assert tree.text(f"{root}/a1") == "one"
    assert tree.glob(f"{root}/a*") == (f"{root}/a1", f"{root}/a2")
    assert tree[f"{root}/b"].writable is True
    assert tree[f"{root}/readonly"].writable is False
    assert tree[f"{root}/readonly"].mode == 0o444
    assert (tree[f"{root}/link"].kind, tree[f"{root}/link"].target) == ("link", "b")
    assert tree.text(f"{root}/link") == "three"
    assert (tree[f"{root}/nowhere"].kind, tree[f"{root}/nowhere"].text) == ("link", None)
    assert tree[f"{root}/dir"].kind == "dir"
    assert tree[f"{root}/fifo"].text is None


def test_a_star_does_not_cross_a_slash_and_two_stars_take_a_subtree(bench: Bench) -> None:
    root = bench.root / "nodes"
    (root / "x" / "y" / "z").mkdir(parents=True)
    (root / "x" / "y" / "z" / "deep").write_text("d")
    (root / "x" / "top").write_text("t")
    (root / "x" / "out").symlink_to("/")
    assert set(snapshot(bench, root / "x" / "*")) == {f"{root}/x/{name}" for name in ("y", "top", "out")}
    wanted = {f"{root}/x/{name}" for name in ("y", "top", "out", "y/z", "y/z/deep")}
    assert set(snapshot(bench, root / "x" / "**")) == wanted
    assert set(snapshot(bench, f"{root}/*/*/z/deep")) == {f"{root}/x/y/z/deep"}


def test_a_loop_of_links_ends(bench: Bench) -> None:
    root = bench.root / "nodes"
    (root / "loop").symlink_to("loop")
    (root / "up").symlink_to("..")
    assert set(snapshot(bench, root / "**")) == {f"{root}/loop", f"{root}/up"}


def test_bytes_that_are_no_text_and_large_files_are_bounded(bench: Bench) -> None:
    root = bench.root / "nodes"
    (root / "binary").write_bytes(b"a\xffb\xed\xa0\x80\x00")
    (root / "large").write_bytes(b"x" * 200_000)
    tree = snapshot(bench, root / "*")
    assert tree[f"{root}/binary"].text == "a�b���\0"
    assert len(tree[f"{root}/large"].text or "") == 65536


def test_names_of_any_bytes_give_valid_lines(bench: Bench) -> None:
    root = bench.root / "nodes"
    (root / 'quote"back\\slash\nnewline').write_text("x")
    Path(os.fsdecode(bytes(root) + b"/\xff")).write_text("y")
    assert len(snapshot(bench, root / "*")) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's rights")
def test_writable_is_said_for_the_user_who_asks(bench: Bench) -> None:
    node = bench.node("a", "x\n")
    for path in [bench.root, *bench.root.parents]:
        if path != Path("/") and "pytest" in str(path):
            path.chmod(0o755)
    done = subprocess.run(
        bench.argv("snapshot", "-"), input=node.encode(), capture_output=True, check=True, user=65534, group=65534
    )
    assert parse_snapshot(done.stdout)[node].writable is False


def test_real_nodes_of_this_machine_can_be_read(bench: Bench) -> None:
    tree = snapshot(bench, "/sys/devices/system/cpu/*", "/proc/sys/kernel/*", "/sys/class/thermal/thermal_zone*/type")
    assert tree.text("/sys/devices/system/cpu/present")


def following(bench: Bench, *words: object) -> tuple["subprocess.Popen[bytes]", IO[bytes]]:
    """`agent follow` on its own, and what it prints."""
    process = subprocess.Popen(bench.argv("follow", *words), stdout=subprocess.PIPE)
    bench.started.append(process)  # type: ignore[arg-type]
    assert process.stdout is not None
    return process, process.stdout


def test_follow_hands_over_what_is_appended_until_nobody_listens(bench: Bench) -> None:
    path = bench.root / "log"
    process, output = following(bench, path, 3)
    path.write_bytes(b"abcdef")
    assert os.read(output.fileno(), 100) == b"def"
    with path.open("ab") as file:
        file.write(b"more")
    assert os.read(output.fileno(), 100) == b"more"
    output.close()
    assert process.wait(30) == 0


def test_follow_can_wait_for_whole_lines(bench: Bench) -> None:
    path = bench.root / "log"
    path.write_bytes(b"one\ntw")
    process, output = following(bench, path, 0, "--lines")
    assert os.read(output.fileno(), 100) == b"one\n"
    with path.open("ab") as file:
        file.write(b"o\n")
    assert os.read(output.fileno(), 100) == b"two\n"
    output.close()
    process.wait(30)


def test_a_part_of_a_line_that_was_taken_back_does_not_end_the_following_of_lines(bench: Bench) -> None:
    path = bench.root / "log"
    path.write_bytes(b"one\ntwo, of which no more than")
    process, output = following(bench, path, 0, "--lines")
    assert os.read(output.fileno(), 100) == b"one\n"
    os.truncate(path, 4)
    with path.open("ab") as file:
        file.write(b"2\n")
    assert os.read(output.fileno(), 100) == b"2\n"
    output.close()
    process.wait(30)


def test_follow_tells_when_the_file_was_cut(bench: Bench) -> None:
    path = bench.root / "log"
    path.write_bytes(b"0123456789\n")
    process = subprocess.Popen(bench.argv("follow", path, 0), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    bench.started.append(process)  # type: ignore[arg-type]
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 100) == b"0123456789\n"
    os.truncate(path, 5)
    assert process.wait(30) == 4
    process.stdout.close()
    assert process.stderr is not None
    assert b"shorter" in process.stderr.read()
    process.stderr.close()


def test_follow_hands_over_large_files_whole(bench: Bench) -> None:
    path = bench.root / "large"
    data = os.urandom(3_000_000)
    path.write_bytes(data)
    process, output = following(bench, path, 0)
    assert output.read(len(data)) == data
    output.close()
    assert process.wait(30) == 0


def test_follow_with_a_state_ends_with_its_agent(bench: Bench) -> None:
    wanted = plan(one_run(load(), hold_ms=60_000))
    agent = bench.start(wanted)
    until(bench.loads, "the load")
    follow = subprocess.Popen(
        bench.argv("follow", bench.journal(wanted), 0, "--state", bench.state), stdout=subprocess.PIPE
    )
    bench.started.append(follow)  # type: ignore[arg-type]
    assert follow.stdout is not None
    said = os.read(follow.stdout.fileno(), 10)
    agent.kill()
    agent.wait()
    said += follow.communicate(timeout=30)[0]
    assert said == bench.journal(wanted).read_bytes()
    assert follow.returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        [], ["nonsense"], ["run"], ["run", "plan"], ["run", "plan", "--state", "x"], ["status"], ["restore"],
        ["follow", "x"], ["follow", "x", "-1"], ["follow", "x", "y"], ["version", "x"], ["stop", "--state"],
        ["stop", "--state", "x", "--timeout-ms", "0"], ["restore", "x", "--state", "y"], ["snapshot"],
        ["status", "--state", "x", "--odd"],
    ],
)  # fmt: skip
def test_wrong_words_get_the_usage_or_a_reason(bench: Bench, words: list[str]) -> None:
    done = bench.call(*words)
    assert done.returncode in {2, 4}
    assert done.stderr
    assert done.stdout == b""
