"""What is kept beside a run, and the names of files that it is written to."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.errors import StoreError
from devicelab.store import Store
from devicelab.store.export import file_stem
from tests import labdata


def test_what_is_kept_belongs_to_its_run_alone_and_the_newest_stands(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        first, second = (labdata.fill(store, labdata.experiment(repetitions=1)) for _ in range(2))
        run, neighbour, *_ = store.results(first).runs()["run_id"]
        printed = store.results(first).output(run, "measure")
        store.keep_output(first, run, "trace", b"old")
        store.keep_output(first, neighbour, "trace", b"its own")
        store.keep_output(first, run, "trace", b"new")
        results = store.results(first)
        assert results.output(run, "trace") == b"new"
        assert results.output(neighbour, "trace") == b"its own"
        assert results.output(run, "measure") == printed
        assert printed
        others = results.runs()["run_id"].tolist()[2:]
        assert [results.output(other, "trace") for other in others] == [b""] * len(others)
        theirs = store.results(second).runs()["run_id"][0]
        for campaign, unknown in ((first, "no-such-run"), (first, theirs), (second, run)):
            with pytest.raises(StoreError, match="has no run"):
                store.keep_output(campaign, unknown, "trace", b"x")
        with pytest.raises(StoreError):
            store.keep_output("no-such-campaign", run, "trace", b"x")
        assert store.check().problems == ()


@given(st.text(max_size=200))
def test_any_name_becomes_part_of_a_file_name(name: str) -> None:
    stem = file_stem(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}", stem)
    assert file_stem(stem) == stem


@pytest.mark.parametrize(("length", "kept"), [(79, 79), (80, 80), (81, 80)])
def test_a_long_name_is_cut_where_file_systems_still_take_it(length: int, kept: int) -> None:
    assert file_stem("x" * length) == "x" * kept
    assert file_stem("../" + "x" * length) == "x" * kept
    assert file_stem("a b/c.d_e") == "a-b-c.d_e"
    assert file_stem("...") == "unnamed"
