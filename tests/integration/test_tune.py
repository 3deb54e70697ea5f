"""A search for a scheduler on this computer, through the real agent: its rounds, and that the last one judges."""

from functools import partial
from pathlib import Path

import pytest

from devicelab.analyses import priority
from devicelab.jobs import tune
from devicelab.jobs.rounds import run_to_end
from devicelab.store import Store
from tests import tenantlab
from tests.tenantdata import experiment

pytestmark = pytest.mark.slow


def test_rounds_follow_each_other_and_the_last_one_judges_the_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "SCREENINGS", 1)
    monkeypatch.setattr(tune, "_run_s", lambda *_: 1.0)
    changes = {"foreign_pct": 100.0, "foreign_core_pct": 100.0, "settle_s": 0.0, "sample_hz": 0, "duration_s": 0.4}
    base = experiment(factors={"scheduler": ("native",)}, **changes)
    base = base.model_copy(
        update={"tenants": tuple(one.model_copy(update={"arrivals": "fixed:200"}) for one in base.tenants)}
    )
    # A bound that nothing breaks: what is judged is the way, not this machine.
    what = tune.asked(base, "low.throughput", ("high.p50_ratio < 1000",), ("nice:19",), 34)
    with Store.open(tmp_path / "store.sqlite") as store:
        step, last = run_to_end(partial(tune.next_step, base, what), tenantlab.entry(tmp_path), store, ())
        assert last is not None
        assert step.why.endswith("has its certificate")
        rounds = [store.results(info.campaign) for info in sorted(store.campaigns(), key=lambda one: one.campaign)]
        tunings = [one.experiment.tuning for one in rounds]
        assert all(tuning is not None for tuning in tunings)
        assert [len(tuning.after) for tuning in tunings if tuning] == list(range(len(rounds)))
        assert [bool(tuning.chosen) for tuning in tunings if tuning] == [False] * (len(rounds) - 1) + [True]
        answer = priority.ANSWERS["certificate"](rounds[-1])
        assert (answer.verdict, answer.n) == ("yes", rounds[-1].experiment.repetitions)
