"""Captured phones: clusters and clocks as public dumps of real ones tell them.

``DEVICELAB_TEST_CPUINFO`` names the folder ``test/mock`` of a checkout of pytorch/cpuinfo (BSD-2-Clause): the trees of
about eighty phones, and what their clusters are. They are not part of devicelab.
"""

import os
import re
from pathlib import Path

import pytest

from devicelab.knobs import cpufreq, known
from devicelab.model.device import Board, Facts
from devicelab.model.tree import Node

CPU = "/sys/devices/system/cpu"
_FOLDER = os.environ.get("DEVICELAB_TEST_CPUINFO", "")
_LITERAL = r'"(?:[^"\\]|\\.)*"'
_FILE = re.compile(rf'\.path = "([^"]*)",\s*\.size = \d+,\s*\.content =((?:\s*{_LITERAL})+)')


def phones() -> list[Path]:
    headers = sorted(Path(_FOLDER).glob("*.h")) if _FOLDER else []
    return [header for header in headers if "/cpufreq/" in header.read_text()]


def tree(header: Path) -> dict[str, str]:
    text = re.sub(
        r"#if CPUINFO_ARCH_ARM64\n(.*?)#elif CPUINFO_ARCH_ARM\n.*?#endif", r"\1", header.read_text(), flags=re.DOTALL
    )
    files = {}
    for match in _FILE.finditer(text):
        pieces = (piece[1:-1] for piece in re.findall(_LITERAL, match[2]))
        files[match[1]] = "".join(piece.encode().decode("unicode_escape") for piece in pieces)
    return files


def told_clusters(source: str) -> list[set[int]]:
    """The clusters that cpuinfo's own test of this phone expects, in the kernel's numbers."""
    count = int(re.findall(r"ASSERT_EQ\((\d+), cpuinfo_get_processors_count", source)[0])

    def told(test: str, shape: str) -> dict[int, str]:
        body = "".join(re.findall(rf"TEST\(PROCESSORS, {test}\) {{(.*?)\n}}", source, re.DOTALL))
        found: dict[int, str] = {}
        cases: list[int] = []
        for line in body.splitlines():
            cases += map(int, re.findall(r"case (\d+):", line))
            if match := re.search(shape, line):
                found.update(dict.fromkeys(cases if "switch" in body else range(count), match[1]))
            if "break" in line:
                cases = []
        return found

    clusters = told("cluster", r"cpuinfo_get_cluster\((\d+|i / 2)\)")
    if "i / 2" in clusters.values():  # x86: pairs of threads, which are no clusters of unequal cores
        return [set(range(count))]
    numbers = told("linux_id", r"ASSERT_EQ\((i?(?: ?[-+]? ?\d+)?), cpuinfo_get_processor")
    groups: dict[str, set[int]] = {}
    for i in range(count):
        text = numbers.get(i, "i").replace(" ", "")
        shift = int(text.removeprefix("i") or 0)
        groups.setdefault(clusters.get(i, "0"), set()).add(i + shift if text.startswith("i") else shift)
    return list(groups.values())


def facts(header: Path) -> Facts:
    nodes = tuple(Node(path=path, text=text) for path, text in tree(header).items())
    return Facts(
        name=header.stem, address="adb:x", board=Board(kind="x", title="x"), abi="arm64-v8a", os="android", kernel="?",
        boot_id="b", root="none", dir="/d", nodes=nodes,
    )  # fmt: skip


@pytest.mark.skipif(not _FOLDER, reason="DEVICELAB_TEST_CPUINFO names no folder of captured phones")
@pytest.mark.parametrize("header", phones(), ids=lambda header: header.stem)
def test_a_captured_phone_is_what_its_dump_tells(header: Path) -> None:
    phone, files = facts(header), tree(header)
    every = known(phone).clusters
    assert sorted(cpu for cluster in every for cpu in cluster.cpus) == list(phone.cpus_present)
    policies = cpufreq.policies(phone)
    tops = {cpu: one.highest for one in policies for cpu in one.cpus}
    for told in told_clusters(header.with_suffix(".cc").read_text()):
        # No cluster of the phone's is torn, and two of them are one here only where nothing tells them apart.
        (ours,) = [set(cluster.cpus) for cluster in every if told & set(cluster.cpus)] or [set[int]()]
        assert told & set(phone.cpus_present) <= ours
        assert len({tops[cpu] for cpu in ours if cpu in tops}) <= 1
    fastest = [max(tops[cpu] or 0 for cpu in one.cpus if cpu in tops) for one in every if set(one.cpus) & tops.keys()]
    assert fastest == sorted(fastest)
    assert policies
    for one in policies:
        for end, ours_khz in (("min", one.lowest), ("max", one.highest)):
            node = f"cpuinfo_{end}_freq"
            said = {int(files[p]) for folder in one.dirs if (p := f"{folder}/{node}") in files and files[p].strip()}
            listed = [khz for folder in one.dirs for khz in _table(files, folder)]
            right = {max(listed) if end == "max" else min(listed)} if listed else said
            assert ours_khz in right or not right


def _table(files: dict[str, str], folder: str) -> list[int]:
    return [int(word) for word in files.get(f"{folder}/scaling_available_frequencies", "").split() if int(word) > 0]
