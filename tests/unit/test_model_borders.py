"""The nouns at their bounds: what is the last that is taken, and the first that is not."""

import hashlib
import json
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab import boards
from devicelab.errors import ConfigError
from devicelab.model import campaign, glossary, tree
from devicelab.model import temperature as heat
from devicelab.model.experiment import Finding, Tenant, _finite, in_order
from devicelab.model.journal import _SHOWN, Flag, LiveSample, ProgramResult, parse_line, seal_line
from devicelab.model.night import Farm, JobEntry, Share
from devicelab.model.results import without_traced, without_valid_run
from devicelab.model.schedule import MadeFor, Scheduled
from devicelab.model.tree import Node, SnapshotReader, SnapshotTooLargeError, Tree, cpu_list, parse_snapshot, whole
from tests import nightdata

# --- temperatures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "degrees"),
    [
        *((0, 0.0), (1, 1.0), (150, 150.0), (151, 15.1), (1500, 150.0), (1501, None), (1999, None), (2000, 2.0)),
        *((150_000, 150.0), (150_001, None), (-1, -1.0), (-30, -30.0), (-31, None), (-151, -15.1), (-300, -30.0)),
        *((-301, None), (-2000, -2.0), (-30_000, -30.0), (-30_001, None), (None, None)),
    ],
)
def test_a_single_reading_is_believed_within_the_limits_of_silicon(reading: int | None, degrees: float | None) -> None:
    assert heat.celsius(reading) == degrees


@pytest.mark.parametrize(
    ("readings", "degrees"),
    [
        ((-30_001, -29), (None, -29.0)),
        ((-30_000, -29), (-30.0, -0.029)),
        ((150_001, 150_001, 45), (None, None, 45.0)),
        ((150_000, 150_000, 45), (150.0, 150.0, None)),
        ((0, -5), (0.0, -5.0)),
        ((1, -5), (1.0, None)),
        ((1, 45), (1.0, 45.0)),
        ((0, 45), (None, 45.0)),
        ((None, 45, None), (None, 45.0, None)),
        ((None, None), (None, None)),
        ((200_000, -40_000), (None, None)),
        ((), ()),
    ],
)
def test_readings_of_a_zone_have_one_unit_and_those_above_nothing_speak_for_it(
    readings: tuple[int | None, ...], degrees: tuple[float | None, ...]
) -> None:
    assert heat.series_c(readings) == degrees


@pytest.mark.parametrize(("charge", "monitor"), [(-1, False), (0, True), (100, True), (101, False)])
def test_a_charge_is_a_percentage(charge: int, monitor: bool) -> None:
    assert heat.is_battery_monitor("soc", charge) is monitor
    assert heat.is_battery_monitor("socd", charge)
    assert not heat.is_battery_monitor("cpu", charge)


@given(st.integers(-400_000, 400_000))
def test_the_least_that_is_believed_of_a_zone_is_believed_beside_its_reading_and_less_is_not(reading: int) -> None:
    least = heat.lowest_believed(reading)
    if heat.celsius(reading) is not None and heat.units_per_degree(least) == heat.units_per_degree(reading):
        assert heat.series_c((reading, least))[1] is not None
        assert heat.series_c((reading, reading, least - 1))[2] is None
    assert [heat.lowest_believed(one) for one in (2, 1, 0, -150, -151, -2000)] == [1, 1, -30, -30, -300, -30_000]


# --- nodes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("0", 0), (" 7\n", 7), ("9" * 18, int("9" * 18)), ("9" * 19, None), ("-1", None), ("-0", None), ("", None)),
        *((None, None), ("+1", None), ("1.0", None), ("1 2", None), ("1-", None), ("٣", None)),
    ],
)
def test_a_whole_number_is_digits_and_not_too_many(text: str | None, number: int | None) -> None:
    assert whole(text) == number


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        *(
            ("", ()),
            ("0", (0,)),
            ("0-3,7", (0, 1, 2, 3, 7)),
            ("3 1 2", (1, 2, 3)),
            ("5-5", (5,)),
            ("1-2,2-3", (1, 2, 3)),
        ),
        *(("4095", (4095,)), ("4096", None), ("0-4096", None), ("3-1", None), ("a", None), ("1-b", None), ("-1", None)),
        *(("1-2-3", None), ("x-1", None)),
    ],
)
def test_a_list_of_cpus_is_as_the_kernel_writes_it(text: str, cpus: tuple[int, ...] | None) -> None:
    held = Tree([Node(path="/online", text=f"{text}\n")])
    if cpus is None:
        with pytest.raises(ValueError, match="not a CPU list"):
            cpu_list(text)
    else:
        assert cpu_list(text) == cpus
    assert held.cpus("/online") == (cpus or (0,))
    assert held.cpus("/absent") == (0,)


def test_a_list_of_cpus_that_is_none_is_not_repeated_at_length() -> None:
    with pytest.raises(ValueError, match="not a CPU list") as told:
        cpu_list("x" * 300)
    assert str(told.value) == f"not a CPU list: {'x' * 200!r}"


def test_nodes_are_read_as_texts_words_and_numbers() -> None:
    held = Tree(
        [
            Node(path="/a", text=" 3, -2 x 0x1 5\n"), Node(path="/b", text=" \n"), Node(path="/c", errno=13),
            Node(path="/d", text="none"),
        ]
    )  # fmt: skip
    assert (held.text("/a"), held.words("/a")) == ("3, -2 x 0x1 5", ("3,", "-2", "x", "0x1", "5"))
    assert (held.numbers("/a"), held.number("/a")) == ((3, -2, 5), 3)
    for path in ("/b", "/c", "/e"):
        assert (held.text(path), held.words(path), held.numbers(path), held.number(path)) == (None, (), (), None)
    assert (held.number("/d"), len(held), list(held)) == (None, 4, ["/a", "/b", "/c", "/d"])


@given(st.sets(st.integers(0, 10**25), min_size=1, max_size=12), st.sets(st.text("xyz", min_size=1), max_size=3))
def test_paths_come_in_the_order_of_their_numbers_digits_before_letters(numbers: set[int], words: set[str]) -> None:
    names = [*map(str, numbers), *words]
    held = Tree([Node(path=f"/s/cpu{name}/f") for name in sorted(names, key=hash)])
    assert held.glob("/s/cpu*/f") == tuple(
        f"/s/cpu{name}/f" for name in [*map(str, sorted(numbers)), *sorted(words)]
    ) == held.glob("/s/cpu*/f")  # fmt: skip


def test_a_star_matches_within_a_folder_and_every_part_has_to_fit() -> None:
    held = Tree([Node(path=path) for path in ("/a/b10/c", "/a/b9/c", "/a/b9/d", "/a/b9", "/a/b9/c/e", "/x/b9/c", "/c")])
    assert held.glob("/a/b*/c") == ("/a/b9/c", "/a/b10/c")
    assert held.glob("/*/b9/*") == ("/a/b9/c", "/a/b9/d", "/x/b9/c")
    assert held.glob("/nothing*") == held.glob("/a/b?/") == ()


# --- snapshots -----------------------------------------------------------------------------------------------------


def line(path: str, text: str = "x") -> bytes:
    return json.dumps({"path": path, "text": text}).encode() + b"\n"


def test_a_snapshot_in_pieces_is_the_same_as_in_one() -> None:
    data = b"".join(line(f"/n{n}", str(n) * 500_000) for n in range(5)) + line("/last")[:-1]
    assert len(data) > 2 << 20
    whole_tree = parse_snapshot(data)
    assert [node.text for node in whole_tree.values()] == [*(str(n) * 500_000 for n in range(5)), "x"]
    short = b"".join(line(f"/n{n}") for n in range(4))
    for size in (1, 7, len(short) - 1):
        reader = SnapshotReader()
        for at in range(0, len(short), size):
            reader.feed(short[at : at + size])
        assert dict(reader.tree()) == dict(parse_snapshot(short))


def test_a_snapshot_has_bytes_lines_and_nodes_up_to_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def fed(*pieces: bytes) -> int:
        reader = SnapshotReader()
        for piece in pieces:
            reader.feed(piece)
        return len(reader.tree())

    monkeypatch.setattr(tree, "_MAX_NODE", 1 << 20)
    assert fed(b" " * (1 << 19), b" " * (1 << 19)) == 0
    with pytest.raises(SnapshotTooLargeError, match=r"a line of more than 1 MiB"):
        fed(b" " * (1 << 19), b" " * ((1 << 19) + 1))
    assert fed(b" " * (1 << 20) + b"\n", b" " * (1 << 20)) == 0
    monkeypatch.setattr(tree, "_MAX_SNAPSHOT", 3 << 20)
    monkeypatch.setattr(tree, "_MAX_NODE", 4 << 20)
    assert fed(b" " * (3 << 19), b" " * (3 << 19)) == 0
    with pytest.raises(SnapshotTooLargeError, match="a snapshot of more than 3 MiB"):
        fed(b" " * (3 << 19), b" " * ((3 << 19) + 1))
    monkeypatch.setattr(tree, "_MAX_LINES", 3)
    assert fed(line("/a") + b"\n", b"") == 1
    assert fed(line("/a"), line("/b"), line("/c")[:-1]) == 3
    with pytest.raises(SnapshotTooLargeError, match="a snapshot of more than 3 lines"):
        fed(line("/a"), line("/b"), line("/c"))
    with pytest.raises(ValueError, match=r"^snapshot line 3 is not a node: ") as told:
        fed(line("/a") + b"\n", b'{"path": 5, "text": "' + b"x" * 900 + b'", "what": 1, "why": 2}\n')
    assert len(str(told.value)) <= len("snapshot line 3 is not a node: ") + 500


# --- journal -------------------------------------------------------------------------------------------------------

SAMPLE: dict[str, Any] = {"event": "sample", "run_id": "größe", "t_ns": 5}


def sealed(text: str) -> bytes:
    body = text.removesuffix("}").encode()
    return body + b',"line_sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}'


def test_a_line_is_sealed_byte_for_byte_as_the_agent_does_it() -> None:
    plain = '{"event":"sample","run_id":"größe","t_ns":5}'
    assert seal_line(SAMPLE) == sealed(plain) + b"\n"
    assert parse_line(sealed(plain)) == parse_line(seal_line(SAMPLE)) == LiveSample.model_validate(SAMPLE)
    for cut in (sealed(plain)[:-1], sealed(plain)[:-1] + b"]", sealed(plain)[1:], b"x" + sealed(plain), b""):
        with pytest.raises(ValueError, match=r"journal line (is cut|does not fit its checksum)"):
            parse_line(cut)


@pytest.mark.parametrize("number", [-(1 << 63) - 1, -(1 << 63), (1 << 63) - 1, 1 << 63, 10**20, 10**400])
def test_a_number_of_a_journal_has_64_bits(number: int) -> None:
    text = seal_line({**SAMPLE, "t_ns": number})
    if -(1 << 63) <= number < 1 << 63:
        event = parse_line(text)
        assert isinstance(event, LiveSample)
        assert event.t_ns == number
    else:
        with pytest.raises(ValueError, match="more than 64 bits"):
            parse_line(text)


@pytest.mark.parametrize(("text", "whole_"), [(r"\ud83d\ude00", True), (r"\ud83d", False), (r"\uDE00x", False)])
def test_half_a_surrogate_pair_is_no_text(text: str, whole_: bool) -> None:
    given_ = sealed('{"event":"sample","run_id":"' + text + '","t_ns":5}')
    if whole_:
        assert parse_line(given_).run_id == "😀"  # type: ignore[union-attr]
    else:
        with pytest.raises(ValueError, match="not an event"):
            parse_line(given_)


@pytest.mark.parametrize("wrong", [1, _SHOWN - 1, _SHOWN, _SHOWN + 1])
def test_complaints_about_a_line_are_told_or_counted(wrong: int) -> None:
    with pytest.raises(ValueError, match="not an event") as told:
        parse_line(seal_line({**SAMPLE, "busy": {str(n): "x" for n in range(wrong)}}))
    assert (f"{wrong} fields are wrong" in str(told.value)) is (wrong >= _SHOWN)


@pytest.mark.parametrize(("names", "taken"), [(4096, True), (4097, False)])
def test_no_device_has_more_cpus_than_a_map_of_them_holds(names: int, taken: bool) -> None:
    text = seal_line({**SAMPLE, "busy": dict.fromkeys(map(str, range(names)), 1)})
    if taken:
        assert len(parse_line(text).busy) == names  # type: ignore[union-attr]
    else:
        with pytest.raises(ValueError, match="4097 names, 4096 are the most"):
            parse_line(text)


def test_output_comes_as_text_or_as_bytes_and_fits_its_checksum() -> None:
    def output(**how: Any) -> bytes:
        return ProgramResult(name="p", role="measure", pid=1, **how).output()

    digest = hashlib.sha256(b"x\xff").hexdigest()
    assert (output(), output(stdout="ä"), output(stdout="ignored", stdout_b64="eP8=")) == (b"", "ä".encode(), b"x\xff")
    assert output(stdout_b64="eP8=", stdout_sha256=digest) == b"x\xff"
    for how in ({"stdout": "x"}, {"stdout_b64": "eA=="}, {}):
        with pytest.raises(ValueError, match="checksum"):
            output(**how, stdout_sha256=digest)


# --- campaigns, cells, shares, words --------------------------------------------------------------------------------


def test_an_id_tells_the_second_in_which_it_was_made() -> None:
    assert campaign.new_id(1_800_000_000_999_999_999, tail="3f2a") == "20270115-080000-3f2a"
    for drawn in (campaign.new_id(), campaign.new_id(1_800_000_000_000_000_000)):
        assert campaign.ID.fullmatch(drawn)
        assert len(drawn.rpartition("-")[2]) == 6
    assert campaign.new_id() > "20261101"


@pytest.mark.parametrize(
    ("runs", "invalid", "bad"), [(0, 0, False), (1, 0, False), (1, 1, True), (2, 1, True), (3, 1, False), (5, 3, True)]
)
def test_a_campaign_is_unreliable_from_half_of_its_runs_on(runs: int, invalid: int, bad: bool) -> None:
    assert campaign.unreliable(runs, invalid) is bad


def test_a_length_of_time_is_seconds_and_never_less_than_nothing() -> None:
    spans = ((5, 5), (5, 6), (5, 4), (5, None), (0, 1_000_000_001))
    assert [campaign.lasted_s(*span) for span in spans] == [0.0, 1e-9, None, None, 1.000000001]


@pytest.mark.parametrize(
    ("level", "finite"),
    [
        *((1.5, True), (float("inf"), False), (float("nan"), False), ("inf", True), (3, True), ([], True)),
        *(([1.0, "x"], True), ((1.0, float("nan")), False), ([[1.0], [float("inf"), 2.0]], False)),
    ],
)
def test_a_level_is_a_number_wherever_it_stands(level: Any, finite: bool) -> None:
    assert _finite(level) is finite


def test_findings_are_read_answer_first_then_checks_then_the_rest_as_they_were() -> None:
    found = [
        Finding(analysis=analysis, claim=claim, verdict="info", answer=claim == "d")
        for analysis, claim in (("load", "a"), ("checks", "b"), ("klo", "c"), ("load", "d"), ("checks", "e"))
    ]
    assert [one.claim for one in in_order(found)] == ["d", "b", "e", "a", "c"]


def test_a_tenant_s_identity_has_later_keys_only_where_they_are_given() -> None:
    plain = Tenant(name="a", workload="w")
    assert not {"laxity_ms", "utilization_pct"} & json.loads(plain.identity()).keys()
    for name in ("laxity_ms", "utilization_pct"):
        assert json.loads(plain.model_copy(update={name: 5}).identity())[name] == 5


RUNS = pd.DataFrame(
    {
        "cell_id": ["p", "p", "q", "r"], "valid": [False, True, False, False],
        "flags": [(Flag(code="traced", detail=""), Flag(code="hot", detail="")), (Flag(code="traced", detail=""),),
                  (Flag(code="hot", detail=""),), (Flag(code="traced", detail=""),)],
    }
)  # fmt: skip


def test_a_run_for_the_tracer_alone_counts_for_nothing() -> None:
    assert without_traced(RUNS).index.tolist() == [1, 2]
    assert without_traced(RUNS[:0]).empty


@pytest.mark.parametrize(
    ("searched", "of_those", "named"),
    [(False, False, "qrs"), (False, True, "qr"), (True, False, "qr"), (True, True, "qr")],
)
def test_cells_without_a_valid_run_are_named(searched: bool, of_those: bool, named: str) -> None:
    def results(runs: pd.DataFrame) -> Any:
        return SimpleNamespace(runs=lambda: runs, experiment=SimpleNamespace(search="s" if searched else None))

    cells: Any = [SimpleNamespace(cell_id=name, label=lambda name=name: name) for name in "pqrs"]
    assert "".join(without_valid_run(results(RUNS), cells, of_those_run=of_those)) == named
    empty = without_valid_run(results(pd.DataFrame()), cells, of_those_run=of_those)
    assert "".join(empty) == ("" if searched or of_those else "pqrs")


@pytest.mark.parametrize("alarm", ["called", "established"])
@pytest.mark.parametrize("established", [False, True])
@pytest.mark.parametrize("word", ["regression", "improvement", "too noisy"])
def test_a_farm_is_alarmed_by_regressions_or_by_established_ones_alone(
    word: Any, established: bool, alarm: Any
) -> None:
    farm = Farm(name="f", jobs=(JobEntry(experiment="quick", devices="a"),), alarm=alarm)
    one = nightdata.verdict(nightdata.History(), 0, verdict=word, established=established)
    assert farm.alarms(one) is (word == "regression" and (established or alarm == "called"))


def test_a_share_says_how_many_cells_how_often_and_why() -> None:
    texts = [
        Share(times=times, cells=cells, why="w").text() for times, cells in ((0, ("a",)), (1, ()), (2, ("a", "b")))
    ]
    assert texts == ["1 cell at rest: w", "0 cells once: w", "2 cells twice: w"]


def test_what_a_schedule_was_made_for_is_one_text_or_a_table() -> None:
    made = MadeFor(network="n", clocks={"/c": 1.5})
    assert json.loads(made.as_text()) == {"network": "n", "clocks": {"/c": 1.5}}
    for given_ in (made, made.as_text(), made.model_dump()):
        assert Scheduled.model_validate({"made_for": given_}).made_for == made
    assert Scheduled().made_for is None


def test_words_of_units_ratios_and_verdicts() -> None:
    units = {"1": "", "pct": "%", "ns": "ns", "x idle": "times that when idle", "x load A": "times that with load A"}
    assert {unit: glossary.unit_words(unit) for unit in units} == units
    assert [glossary.times(base, "K") for base in ("none", "idle", "x")] == [
        "times K when idle", "times K when idle", "times K with x",
    ]  # fmt: skip
    assert (glossary.shown_verdict("pass"), glossary.shown_verdict("odd")) == ("✓ pass", "odd")
    named = (
        ("response_p999_ns", "ns"),
        ("response_p9999_ns", "ns"),
        ("a_p_p50", "1"),
        ("x_J", "J"),
        ("energy_kj", "k·J"),
    )
    assert [glossary.figure_words(*one) for one in named] == [
        "response time P999", "response_p9999", "a_p P50", "x_J", "energy, gross",
    ]  # fmt: skip


# --- kinds of boards -----------------------------------------------------------------------------------------------


def test_a_user_s_board_is_told_from_our_own_and_one_that_cannot_be_read_is_left_out_and_said(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text(
        'title = "Mine"\n[recognise]\npriority = 99\nnodes = ["/a", "/b"]\n'
        'props."ro.x" = ["1", "2"]\nprops."ro.y" = ["3"]'
    )
    (tmp_path / "worse.toml").write_text('title = "W"\n[recognise]\npriority = 98\nprops."ro.x" = ["1"]')
    (tmp_path / "broken.toml").write_text("titel = 1")
    own, ours = boards._files(), {path.stem: (path,) for path in tmp_path.glob("*.toml")}
    monkeypatch.setattr(boards.registry, "toml_files", lambda *_: {**own, **ours})
    monkeypatch.setattr(boards.registry, "toml_file", lambda _, kind, __: {**own, **ours}[kind][0])
    left: list[tuple[str, ...]] = []
    monkeypatch.setattr(boards.registry, "leave_out", lambda *what: left.append(what))
    assert set(boards.kinds()) - set(boards.own_kinds()) == {"mine", "worse", "broken"}
    assert set(boards.own_kinds()) == set(own)
    both, nodes = {"ro.x": "2", "ro.y": "3"}, Tree([Node(path="/a"), Node(path="/b")])
    assert boards.recognise(both, nodes).kind == "mine"
    assert [(kind, "titel: no such key" in why, str(tmp_path) in why) for _, kind, _, why in left] == [
        ("broken", True, False)
    ]
    for props, held in (({**both, "ro.y": "4"}, nodes), ({"ro.x": "2"}, nodes), (both, Tree([Node(path="/a")]))):
        assert boards.recognise(props, held).kind == boards.ANDROID
    assert boards.recognise({"ro.x": "1", "ro.y": "3"}, nodes).kind == "mine"
    assert boards.recognise({"ro.x": "1"}, nodes).kind == "worse"
    assert boards.recognise({"os.id": "x", "ro.z": "1"}, Tree()).kind == boards.ANDROID
    monkeypatch.setattr(boards, "FOLDER", tmp_path)
    with pytest.raises(ConfigError):
        boards.globs()
