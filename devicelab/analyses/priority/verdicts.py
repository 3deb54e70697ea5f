"""Every target of every tenant in every shared leg, judged."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from devicelab.analyses import _stats
from devicelab.analyses.priority.data import Key, Leg, Service, leg_of, legs, shared
from devicelab.analyses.priority.figure_of import basis, figure_of
from devicelab.experiment import targets
from devicelab.model.experiment import Tenant, Verdict
from devicelab.model.results import Results

# Native has to raise the important tenant's latency by so much before a scheduler can be told from none.
HURT = 1.10

NATIVE = "native"


@dataclass(frozen=True)
class Judged:
    """A target in a leg: the figure with its interval, the verdict and what it rests on.

    Attributes:
        got: ``NOTHING`` if the leg has no valid run.
        verdict: ``pass fail inconclusive``, "insufficient n", "invalid", "cannot tell here"; for native sharing, which
            makes no promise, ``yes`` and ``no`` instead of pass and fail.
    """

    tenant: str
    leg: Leg
    target: targets.Target
    got: _stats.Interval
    verdict: Verdict
    reasons: tuple[str, ...]


def important_of(tenants: tuple[Tenant, ...]) -> Tenant:
    """The tenant a scheduler is there for: the one of the highest priority (the first of several)."""
    return max(tenants, key=lambda tenant: tenant.priority)


def hurts(results: Results, services: Mapping[Key, Service], figure: str = "p99_ratio") -> dict[str, _stats.Interval]:
    """By pressure: a latency of the important tenant under native sharing over the same alone."""
    important = important_of(results.experiment.tenants).name
    found = {}
    for scheduler, pressure in legs(results):
        if scheduler == NATIVE:
            service = services.get((important, NATIVE, pressure))
            found[pressure] = _stats.NOTHING if service is None else figure_of(service, figure, services)
    return found


def whether_it_hurts(hurt: _stats.Interval) -> Verdict:
    """Whether native sharing hurts the important tenant: "no" is shown as well as "yes", by the whole interval."""
    answers: dict[Verdict, Verdict] = {"pass": "no", "fail": "yes"}
    verdict = _stats.kept(hurt.low, hurt.high, lambda ratio: ratio <= HURT)
    return answers.get(verdict, verdict)


def discriminates(hurt: _stats.Interval | None) -> bool:
    """Whether native sharing visibly hurt the important tenant."""
    return hurt is not None and whether_it_hurts(hurt) == "yes"


def judged(results: Results, services: Mapping[Key, Service]) -> Iterator[Judged]:
    """The targets of every tenant in every leg in which tenants ran together."""
    hurt = {figure: hurts(results, services, figure) for figure in ("p50_ratio", "p99_ratio")}
    missing = left_out(results)
    for leg in legs(results):
        if not shared(leg):
            continue
        for tenant in results.experiment.tenants:
            service = services.get((tenant.name, *leg))
            for target in targets.of(tenant):
                why = missing.get(leg, ())
                if service is None:
                    yield Judged(tenant.name, leg, target, _stats.NOTHING, "invalid", why or ("no run",))
                    continue
                got = figure_of(service, target.figure, services)
                verdict, reasons = _stats.kept(got.low, got.high, target.keeps), [basis(target.figure, service)]
                if leg[0] == NATIVE:
                    answers: dict[Verdict, Verdict] = {"pass": "yes", "fail": "no"}
                    verdict = answers.get(verdict, verdict)
                elif verdict == "fail" and (missed := _missed_by_native(leg[1], tenant, target, services)) is not None:
                    verdict = "cannot tell here"
                    reasons.insert(0, missed)
                elif verdict == "pass" and not discriminates(hurt[moved := _moved(target.figure)].get(leg[1])):
                    verdict = "cannot tell here"
                    reasons.insert(0, _not_told(hurt[moved].get(leg[1]), moved.partition("_")[0].upper()))
                if target.figure == "share_pct":
                    reasons += above_alone(got)
                yield Judged(tenant.name, leg, target, got, verdict, (*reasons, *why))


# Percent; a share closer to 100 is nothing to remark.
_ALL_THERE_IS = 101

# Figures that a scheduler can only take away from: nothing keeps the device busier than native sharing does.
_NATIVE_IS_THE_MOST = frozenset(("gpu_use_pct",))


def _missed_by_native(
    pressure: str, tenant: Tenant, target: targets.Target, services: Mapping[Key, Service]
) -> str | None:
    """Why a broken target says nothing of a scheduler: native sharing misses it as well, so the load is too small."""
    native = services.get((tenant.name, NATIVE, pressure))
    if native is None or target.figure not in _NATIVE_IS_THE_MOST:
        return None
    got = figure_of(native, target.figure, services)
    if _stats.kept(got.low, got.high, target.keeps) != "fail":
        return None
    return f"native sharing misses it too ({_shown(got)}): these tenants do not ask for so much"


def above_alone(share: _stats.Interval) -> tuple[str, ...]:
    """What a share of more than all there is means."""
    if not share.estimate > _ALL_THERE_IS:
        return ()
    if share.low is None:
        return ("above 100%: with so few repetitions that may be chance",)
    if share.low > _ALL_THERE_IS:
        return ("above 100%: alone it got less, as where its pauses let clocks fall; read it as nothing lost",)
    return ("above 100% by no more than chance: nothing is lost",)


def _shown(got: _stats.Interval) -> str:
    return f"{got.estimate:.3g}" + ("" if got.low is None or got.high is None else f" [{got.low:.3g}, {got.high:.3g}]")


def _not_told(hurt: _stats.Interval | None, what: str) -> str:
    """Why a scheduler cannot be told from none: native sharing does not hurt, or nobody knows whether it does."""
    if hurt is None or not hurt.known:
        return f"whether native sharing hurts the important tenant's {what} here is not known"
    times = f"{_shown(hurt)} times standalone"
    if whether_it_hurts(hurt) == "inconclusive":
        return f"whether native sharing hurts the important tenant's {what} here cannot be told: {times}"
    return f"native sharing does not visibly hurt the important tenant's {what} here: {times}"


def _moved(figure: str) -> str:
    """Which latency native sharing has to move before a target can tell a scheduler from none: a median its own."""
    return "p50_ratio" if "p50" in figure else "p99_ratio"


def left_out(results: Results) -> dict[Leg, tuple[str, ...]]:
    """What speaks against the invalid runs of each leg, most frequent first."""
    counts: dict[Leg, Counter[str]] = {}
    bad: Counter[Leg] = Counter()
    total: Counter[Leg] = Counter()
    for run in results.runs().to_dict("records"):
        leg = leg_of(run)
        total[leg] += 1
        if not run["valid"]:
            bad[leg] += 1
            said = {f"{flag.code}: {flag.detail}"[:300] for flag in run["flags"]} or {"could not be performed"}
            counts.setdefault(leg, Counter()).update(sorted(said))
    return {
        leg: (f"{bad[leg]} of {total[leg]} runs are invalid", *(text for text, _ in count.most_common(3)))
        for leg, count in counts.items()
    }
