"""What KLO findings have in common."""

from devicelab.analyses import _findings, _stats
from devicelab.analyses.klo.condition import Condition, compared
from devicelab.model.experiment import Finding, Verdict

MEANINGFUL = 0.02  # a ratio of times closer to 1 does not matter
NEAR_ENOUGH = 0.05  # a policy that costs so much more than the measured best K is still good


def within(claim: str, effect: _stats.Interval, remark: str) -> Finding:
    """Whether a ratio of times to the measured best K's is at most 1.05; the finding gives the excess in percent."""
    verdict: Verdict = "inconclusive"
    if effect.low is None or effect.high is None:
        verdict = "insufficient n"
    elif effect.high <= 1 + NEAR_ENOUGH:
        verdict = "yes"
    elif effect.low > 1 + NEAR_ENOUGH:
        verdict = "no"
    excess = effect.map(lambda ratio: (ratio - 1) * 100)
    return _findings.make("klo", claim, verdict, excess, unit="% extra time", reasons=(remark,) if remark else ())


def listed(ks: tuple[int, ...]) -> str:
    """``K = 2, 4, 8``."""
    return f"K = {', '.join(map(str, ks))}"


def used(place: Condition, found: Condition) -> str:
    """The K found in one condition as it is used in another: the best of those run, where the very best was not."""
    taken = found.chosen_k
    if taken is not None and taken not in place.ks:
        return f"{taken} (not measured here)"
    return str(taken) if taken == found.constant_k else f"{taken} (of all K {found.constant_k}, which was not run)"


def shown_good(condition: Condition, k: int) -> bool:
    """Whether a K is shown to cost at most 5% more than any other that was measured, so than the best of them."""
    each = [compared(condition.total(other), condition.total(k)) for other in condition.ks if other != k]
    return all(one.high is not None and one.high <= 1 + NEAR_ENOUGH for one in each)


def unfit(condition: Condition) -> str:
    """Why nothing is concluded from a fit."""
    residual = 0.0 if condition.profile is None else condition.profile.fit.residual_pct
    return f"the fit does not describe what was measured: its median residual is {residual:.0f}%"
