"""A short seeded selection of faults: each kind once. ``python -m tests.faults --n 1000`` does as many as wanted."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults import campaign
from tests.faults.sites import Calm, SmallDisk
from tests.faults.trials import KINDS, Trial, draw, pairs
from tests.faults.workshop import impossible

pytestmark = [pytest.mark.sim, pytest.mark.sshd, pytest.mark.slow]

_SEED = 1
# About what an undisturbed sweep of two runs takes. When a fault strikes depends on it, what has to hold does not.
_USUAL = Calm(runs_s=1.4, all_s=1.8, bytes=1_500_000)
_CHEAPEST = ("local", "ssh", "adb")


def _selection() -> list[Trial]:
    chosen: dict[str, Trial] = {}
    for number in range(len(pairs())):
        trial = draw(_SEED, number)
        cheapest = next(transport for transport in _CHEAPEST if transport in KINDS[trial.kind].transports)
        if trial.transport == cheapest and not impossible(trial.kind):
            chosen[trial.kind] = replace(trial, board="note10", again=None, visitor="resume", repetitions=1)
    return list(chosen.values())


def test_every_kind_of_fault_has_its_turn() -> None:
    assert {trial.kind for trial in _selection()} == {kind for kind in KINDS if not impossible(kind)}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("transport", _CHEAPEST)
def test_nothing_is_lost_or_left_behind_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    monkeypatch.delenv("ANDROID_ADB_SERVER_PORT", raising=False)
    try:
        with contextlib.closing(SmallDisk(tmp_path / "disk", "1m")):
            pass
    except OSError as error:
        pytest.skip(str(error))
    trials = [trial for trial in _selection() if trial.transport == transport]
    outcomes = campaign.run(trials, jobs=min(3, len(trials)), assumed=_USUAL)
    assert len(outcomes) == len(trials)
    bad = [outcome for outcome in outcomes if outcome.violations]
    assert not bad, "\n".join(map(str, bad))


def test_a_trial_can_be_done_again_from_its_line() -> None:
    trial = draw(7, 23)
    assert campaign._only("7:23") == trial
    assert campaign._only("7:23@1.25") == replace(trial, moment_s=1.25)
    assert draw(7, 23) == trial != draw(8, 23)


@pytest.mark.parametrize("text", ["7", "7:x", "7:23@", "7:23@-1", ":", "7:23 "])
def test_what_names_no_trial_is_refused(text: str) -> None:
    with pytest.raises(SystemExit, match="not a trial"):
        campaign._only(text)
