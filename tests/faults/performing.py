"""A trial from its start to its verdict: strike, mend, come back, and look whether anything was lost or left behind."""

import contextlib
import re
import time
from dataclasses import dataclass, field

from devicelab.errors import LabError
from devicelab.model.campaign import ENDED, CampaignInfo
from devicelab.store import Store
from tests.benches import finished, stored, wait_for
from tests.faults.databases import Postgres
from tests.faults.scene import Scene
from tests.faults.sites import BoardSite, Calm, Look, Site, SmallDisk, forget_plans
from tests.faults.trials import KINDS, Trial

_DONE = (0, 6)
_RETURN_S = 60.0
_CHARGER_S = 15.0
_CHARGER = re.compile(r"/sys/class/power_supply/[^/]+/(?:input_suspend|batt_slate_mode|(?:battery_)?charging_enabled)")


@dataclass
class Outcome:
    """What came of a trial.

    Attributes:
        moment_s: when it struck, seconds after the start of the sweep.
        struck: the sweep was still going on.
        code: exit code of the disturbed sweep; minus the signal that killed it.
        stored_before: runs in the store when the fault was over, of ``planned``.
        resumed: ``--resume`` completed the campaign.
        violations: every promise that was not kept.
    """

    trial: Trial
    moment_s: float = 0.0
    struck: bool = False
    code: int = 0
    stored_before: int = 0
    planned: int = 0
    resumed: bool = False
    violations: list[str] = field(default_factory=list)
    took_s: float = 0.0

    def __str__(self) -> str:
        t = self.trial
        board = f" {t.board}" if t.transport == "adb" else ""
        came = (
            f"{self.stored_before} of {self.planned} stored, then {'resumed' if self.resumed else 'nothing to resume'}"
        )
        verdict = "held" if not self.violations else "VIOLATION"
        struck = "" if self.struck else " (came too late)"
        line = (
            f"{t.seed}:{t.number}@{self.moment_s:g} {t.kind} on {t.transport}{board}{struck}: "
            f"exit code {self.code}, {came}: {verdict}, {self.took_s:.0f} s"
        )
        return "\n    ".join([line, *self.violations])


def perform(site: Site, trial: Trial, disk: SmallDisk, postgres: Postgres | None) -> Outcome:
    """Do one trial and look at what is left."""
    began = time.monotonic()
    outcome = Outcome(trial)
    scene = Scene(site, trial, disk, postgres)
    try:
        Performance(scene, outcome).play()
    except (AssertionError, LabError) as error:
        outcome.violations.append(f"{type(error).__name__}: {error}; the last command said: {site.said()}")
    finally:
        with contextlib.suppress(LabError, AssertionError):
            scene.mend()
        scene.close()
    outcome.took_s = time.monotonic() - began
    return outcome


class Performance:
    """The acts of a trial; what is wrong goes into its outcome."""

    def __init__(self, scene: Scene, outcome: Outcome) -> None:
        self.scene, self.outcome = scene, outcome
        self.site, self.trial = scene.site, scene.trial
        self.kind = KINDS[self.trial.kind]

    def play(self) -> None:
        """All acts."""
        if isinstance(self.site, BoardSite):
            self.site.disturb(self.trial.number)
        before = self.site.look()
        if before.plans:
            self._complain(f"found before: plans {before.plans}")
        began = time.monotonic()
        host = self.scene.disturb()
        code = finished(host)
        outcome = self.outcome
        took_s = time.monotonic() - began
        self.scene.mend()
        if not self.scene.struck and code in _DONE and self.site.calm is not None:
            # The machine has become faster since the measure was taken.
            self.site.calm = self.site.calm.scaled(took_s)
        outcome.code, outcome.struck, outcome.moment_s = code, self.scene.struck, self.scene.moment_s
        self._judge_ending(code)
        rebooted = self.trial.kind == "reboot" and outcome.struck and isinstance(self.site, BoardSite)
        expected = self.site.fresh if rebooted and isinstance(self.site, BoardSite) else before.tree
        if self.trial.kind == "both-killed" and outcome.struck:
            self._judge_charger(before.tree)
        found = self._look()
        if code in (*_DONE, 130):
            # These give the device back by themselves.
            self.judge_device(found, expected, "before anybody came back", plans=code != 130)
        self._come_back()
        self.judge_store(found.journalled)
        left = self._look()
        self.judge_device(left, expected, "at the end", plans=self.kind.whole)
        self._forget(left)

    def _complain(self, what: str) -> None:
        self.outcome.violations.append(what)

    def _judge_ending(self, code: int) -> None:
        said = self.site.last_words()
        done_without_a_store = not self.kind.whole and self.outcome.struck and code in _DONE
        if not self.kind.fits(code) or (not self.outcome.struck and code not in _DONE) or done_without_a_store:
            self._complain(f"exit code {code}: {said[-600:]}")
        wanted = self.kind.says.get(code)
        if wanted is not None and re.search(wanted, said) is None:
            self._complain(f"exit code {code} without the reason ({wanted}): {said[-600:]}")
        self._no_traceback(said)

    def _no_traceback(self, said: str) -> None:
        if "Traceback (most recent call last)" in said:
            self._complain(f"a traceback: {said[max(0, said.index('Traceback') - 300) :][:2500]}")

    def _look(self) -> Look:
        """The device is back soon after the fault is over."""
        deadline = time.monotonic() + _RETURN_S
        while True:
            try:
                return self.site.look()
            except LabError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def command(self, *words: str, board: bool = True, codes: tuple[int, ...] = _DONE) -> int:
        code = self.site.run(*words, board=board)
        said = self.site.last_words()
        if code not in codes:
            self._complain(f"{' '.join(words[:1] + words[-1:])}: exit code {code}: {said[-600:]}")
        self._no_traceback(said)
        return code

    def _campaign(self) -> CampaignInfo | None:
        if not self.scene.exists():
            return None
        with Store.open(self.scene.store) as store:
            campaigns = store.campaigns()
        assert len(campaigns) <= 1, f"{len(campaigns)} campaigns are stored"
        return campaigns[0] if campaigns else None

    def _judge_charger(self, expected: dict[str, tuple[int, str | None]]) -> None:
        """A charger that was kept away comes back before anybody does."""
        kept = [path for path in expected if _CHARGER.fullmatch(path)]

        def away() -> list[str]:
            tree = self._look().tree
            return [path for path in kept if tree.get(path) != expected[path]]

        if not wait_for(lambda: not away(), _CHARGER_S):
            self._complain(f"nobody came back, and neither did the charger: {away()}")

    def _come_back(self) -> None:
        campaign = self._campaign()
        if campaign is not None:
            self.outcome.stored_before, self.outcome.planned = campaign.runs_done, campaign.runs_planned
        if self.trial.visitor == "restore" or campaign is None:
            # New work, and somebody who only restores, have to wait for an agent that goes on alone.
            assert wait_for(lambda: not self.site.agents()), "the agent does not end"
        if self.trial.visitor == "restore":
            self.command("restore", codes=(0,))
        if campaign is None:
            self.command(*self.scene.sweep)
        elif campaign.status in ENDED:  # also "unreliable": a busy machine may flag half of the runs
            if campaign.runs_done != campaign.runs_planned:
                self._complain(f"complete with {campaign.runs_done} of {campaign.runs_planned} runs")
            report = ("report", campaign.campaign, "--store", self.scene.store)
            self.command(*report, "--to", str(self.scene.folder / "again.html"), board=False, codes=(0,))
        else:
            self._resume()

    def _resume(self) -> None:
        words = (*self.scene.sweep, "--resume")
        assert self.site.calm is not None
        if self.trial.again is not None:
            host = self.site.start(*words)
            host.join(self.site.calm.moment_s(self.trial.again))
            if host.is_alive():
                host.kill()
            code = finished(host)
            if code in _DONE:
                self.outcome.resumed = True
                return
            if code != -9:
                self._complain(f"sweep --resume: exit code {code}: {self.site.last_words()[-600:]}")
            campaign = self._campaign()
            if campaign is not None and campaign.status in ENDED:
                self.outcome.resumed = True
                return
        self.outcome.resumed = self.command(*words) in _DONE

    def judge_store(self, journalled: dict[str, int]) -> None:
        runs, planned = stored(self.scene.store)
        self.outcome.planned = planned
        if len(runs) != planned or len(set(runs)) != planned:
            self._complain(f"{len(runs)} runs stored ({len(set(runs))} different), {planned} were planned")
        if self.kind.whole:
            with Store.open(self.scene.store) as store:
                frame = store.results(store.campaigns()[0].campaign).runs()
            times = dict(zip(frame["run_id"], frame["t_unix_ns"], strict=True))
            for run_id, t_unix_ns in journalled.items():
                if times.get(run_id) != t_unix_ns:
                    self._complain(f"run {run_id} was journalled at {t_unix_ns}, stored is {times.get(run_id)}")
        self.command("store", "check", "--store", self.scene.store, board=False, codes=(0,))

    def judge_device(
        self, look: Look, expected: dict[str, tuple[int, str | None]], when: str, *, plans: bool = True
    ) -> None:
        for what, names in (("loads", ("overhead", "klo")), ("agents", ("agent",))):
            if not wait_for(lambda names=names: not self.site.programs(*names), 5.0):  # type: ignore[misc]
                self._complain(f"{when}: {what} are alive: {self.site.programs(*names)}")
        status = look.status
        if status.alive or status.holder or status.pending:
            self._complain(f"{when}: not free: {status}")
        if plans and look.plans:
            self._complain(f"{when}: plans are left: {look.plans}")
        for path in sorted(expected.keys() | look.tree.keys()):
            if expected.get(path) != look.tree.get(path):
                self._complain(f"{when}: {path}: {expected.get(path)} before, {look.tree.get(path)} after")

    def _forget(self, look: Look) -> None:
        """Nobody will ask for the plans of a campaign whose store was deleted; the next trial begins clean."""
        if look.plans:
            forget_plans(self.site.entry)


def calm(site: Site, disk: SmallDisk, trial: Trial) -> list[str]:
    """Take the measure of an undisturbed sweep; what is wrong with it."""
    outcome = Outcome(trial)
    for _ in range(2):  # the first one pushes the programs
        scene = Scene(site, trial, disk, None)
        performance = Performance(scene, outcome)
        try:
            before = site.look()
            bytes_before = site.traffic() if isinstance(site, BoardSite) else 0
            began_unix_ns, began = time.time_ns(), time.monotonic()
            performance.command(*scene.sweep)
            all_s = time.monotonic() - began
            passed = site.traffic() - bytes_before if isinstance(site, BoardSite) else 0
            performance.judge_store({})
            performance.judge_device(site.look(), before.tree, "after an undisturbed sweep")
            with Store.open(scene.store) as store:
                (campaign,) = store.campaigns()
            site.calm = Calm(((campaign.ended_unix_ns or began_unix_ns) - began_unix_ns) / 1e9, all_s, passed)
        finally:
            scene.close()
    return outcome.violations
