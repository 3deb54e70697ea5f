"""What KLO findings have in common."""

from devicelab.analyses import _findings, _stats
from devicelab.model.experiment import Finding, Verdict

MEANINGFUL = 0.02  # a ratio of times closer to 1 does not matter
NEAR_ENOUGH = 0.05  # a policy that costs so much more than the manual K is still good


def within(claim: str, effect: _stats.Interval, remark: str) -> Finding:
    """Whether a ratio of times to the manual K's is at most 1.05; the finding gives the excess in percent."""
    verdict: Verdict = "inconclusive"
    if effect.low is None or effect.high is None:
        verdict = "insufficient n"
    elif effect.high <= 1 + NEAR_ENOUGH:
        verdict = "yes"
    elif effect.low > 1 + NEAR_ENOUGH:
        verdict = "no"
    excess = effect.map(lambda ratio: (ratio - 1) * 100)
    return _findings.make("klo", claim, verdict, excess, unit="%", reasons=(remark,) if remark else ())


def listed(ks: tuple[int, ...]) -> str:
    """``K = 2, 4, 8``."""
    return f"K = {', '.join(map(str, ks))}"
