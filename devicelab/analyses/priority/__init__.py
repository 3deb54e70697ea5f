"""Several tenants on one GPU (or CPU): does a scheduler give the important one its latency without starving others?

Judged per target of each tenant, with interval. Native sharing makes no promise, so for it the answer is "yes" or
"no"; a scheduler passes or fails. A leg without a valid run (its treatment was not seen, a tenant crashed) is
"invalid". Where native sharing does not hurt the important tenant, a scheduler that keeps its target is "cannot tell
here".
"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd

from devicelab.analyses import _frames, _stats
from devicelab.analyses._findings import known, make
from devicelab.analyses.base import Figure
from devicelab.analyses.priority import alone as tenants_alone
from devicelab.analyses.priority import certificate as certificates
from devicelab.analyses.priority import figures as priority_figures
from devicelab.analyses.priority import held_out
from devicelab.analyses.priority.data import Key, Leg, Service, is_alone, jain, legs, load, shared, standalone_of
from devicelab.analyses.priority.figure_of import basis, figure_of, unit_of
from devicelab.analyses.priority.verdicts import (
    HURT,
    NATIVE,
    Judged,
    above_alone,
    discriminates,
    hurts,
    important_of,
    judged,
    whether_it_hurts,
)
from devicelab.experiment import targets
from devicelab.model.experiment import STANDALONE, Finding, Tenant, Verdict
from devicelab.model.results import Results

_made = partial(make, "priority")


def analyse(results: Results) -> tuple[Finding, ...]:
    """Discrimination, targets, invalid legs, fairness, starvation and the schedulers' own overhead."""
    tenants = results.experiment.tenants
    if not tenants or results.runs().empty:
        return ()
    services = load(results)
    hurt = hurts(results, services)
    found = [
        _discrimination(what, got, important_of(tenants), pressure)
        for what, by_pressure in (("P99", hurt), ("P50", hurts(results, services, "p50_ratio")))
        for pressure, got in by_pressure.items()
    ]
    found += _least_pressure(hurt)
    found += [_target(one) for one in judged(results, services)]
    for leg in legs(results):
        if shared(leg):
            found += _fairness(services, tenants, leg)
    found += _overhead(services, tenants)
    found += _granted(services)
    found += _energy(services, tenants, legs(results))
    found += certificates.certificate(results, services)
    simulated = _frames.simulated(results)
    return tuple(finding.model_copy(update={"simulated": simulated}) for finding in found)


def answer(results: Results) -> Finding:
    """Whether a scheduler keeps every target of every tenant; where none but native sharing ran, whether that does.

    Yes if one scheduler keeps all of them, no if each that can be judged breaks one; where native sharing hurts
    nobody, "cannot tell here". Of several the one that keeps them was chosen by these data: then the earlier half of
    the repetitions chooses, and the later half judges what it chose.
    """
    tenants = results.experiment.tenants
    by_leg: dict[Leg, list[Judged]] = {}
    if tenants and not results.runs().empty:
        for one in judged(results, load(results)):
            by_leg.setdefault(one.leg, []).append(one)
    schedulers = {leg: every for leg, every in by_leg.items() if leg[0] != NATIVE} or by_leg
    claim = "Does a scheduler keep every target?"
    if not schedulers:
        nothing = ("no leg in which tenants with targets ran together",)
        return Finding(analysis="priority", claim=claim, verdict="insufficient n", reasons=nothing, quantity="targets")
    verdicts = {leg: _of_leg(every) for leg, every in schedulers.items()}
    said = [f"{scheduler}{_at(pressure)}: {one}" for (scheduler, pressure), one in verdicts.items()]
    if len(schedulers) > 1 and "yes" in verdicts.values() and (afresh := held_out.judged_afresh(results, schedulers)):
        leg, every = afresh
        schedulers, verdicts = {leg: every}, {leg: _of_leg(every)}
        said.append(f"{leg[0]}{_at(leg[1])} was chosen by the earlier half of the repetitions; the later half judges")
        if verdicts[leg] == "insufficient n":
            said.append(f"{2 * _stats.MIN_REPETITIONS} repetitions are the least for that, or a sweep of it alone")
    order: tuple[Verdict, ...] = ("yes", "inconclusive", "insufficient n", "cannot tell here", "no", "invalid")
    verdict = next(one for one in order if one in verdicts.values())
    leg = next(leg for leg, one in verdicts.items() if one == verdict)
    chief = _chief(schedulers[leg], important_of(tenants).name)
    reasons = [*said, f"the figure is {leg[0]}{_at(leg[1])}: {chief.tenant} {chief.target}", *chief.reasons]
    found = _made(claim, verdict, chief.got, unit=unit_of(chief.target.figure), reasons=reasons)
    return found.model_copy(update={"quantity": "targets", "comparison": f"scheduler {leg[0]} / {STANDALONE}"})


def _certified(results: Results) -> Finding:
    return certificates.answer(results, load(results))


def _served(results: Results) -> Finding:
    return tenants_alone.answer(results, load(results))


ANSWERS = {"targets": answer, "certificate": _certified, "served": _served}


def _of_leg(every: list[Judged]) -> Verdict:
    """All of a scheduler's targets as one: what is the least certain of them decides, a broken one at once."""
    words: dict[Verdict, Verdict] = {"pass": "yes", "fail": "no"}
    found = {words.get(one.verdict, one.verdict) for one in every}
    order: tuple[Verdict, ...] = ("invalid", "no", "insufficient n", "inconclusive", "cannot tell here", "yes")
    return next(one for one in order if one in found)


def _chief(every: list[Judged], important: str) -> Judged:
    """The target that decided, the important tenant's first."""
    verdict = _of_leg(every)
    words: dict[Verdict, Verdict] = {"yes": "pass", "no": "fail"}
    deciding = [one for one in every if one.verdict in {verdict, words.get(verdict, verdict)}]
    return min(deciding, key=lambda one: one.tenant != important)


def table(results: Results) -> pd.DataFrame:
    """One row a tenant, leg and pressure: every figure with its bounds, requests and repetitions."""
    services = load(results)
    rows = []
    for service in services.values():
        row: dict[str, object] = {"tenant": service.tenant, "leg": service.leg, "pressure": service.pressure}
        for figure in targets.FIGURES:
            got = figure_of(service, figure, services)
            row |= {figure: got.estimate, f"{figure} low": got.low, f"{figure} high": got.high}
        rows.append({**row, "requests": service.response_ns.size, "repetitions": service.repetitions})
    return pd.DataFrame(rows)


def figures(results: Results) -> tuple[Figure, ...]:
    """Latency by leg for every tenant, requests against the neighbours' work, throughput shares, the target table."""
    return tuple(priority_figures.figures(results, load(results)))


def _discrimination(what: str, hurt: _stats.Interval, important: Tenant, pressure: str) -> Finding:
    verdict = whether_it_hurts(hurt)
    reason = f"a scheduler can only be told from none where this surely exceeds {HURT}"
    return _made(
        f"does native sharing hurt {important.name} ({what} over standalone){_at(pressure)}?",
        verdict,
        hurt,
        unit=unit_of("p99_ratio"),
        reasons=() if verdict == "yes" else (reason,),
    )


def _least_pressure(hurt: Mapping[str, _stats.Interval]) -> list[Finding]:
    """With several pressures: the first, in the experiment's order, at which native sharing hurts."""
    if len(hurt) < 2:
        return []
    first = next((pressure for pressure, got in hurt.items() if discriminates(got)), None)
    said = f"at {first}" if first is not None else "at none of those that were tried"
    return [
        Finding(
            analysis="priority",
            claim=f"least pressure at which native sharing visibly hurts: {said}",
            verdict="info",
            n=len(hurt),
            reasons=(
                *(f"{pressure}: {_words(got)}" for pressure, got in hurt.items()),
                "chosen from these runs: whether a scheduler helps there is for a sweep at that pressure alone",
            ),
        )
    ]


def _words(hurt: _stats.Interval) -> str:
    if hurt.low is None or hurt.high is None:
        return "insufficient n"
    return f"P99 {hurt.estimate:.2f} times that alone [{hurt.low:.2f}, {hurt.high:.2f}]"


def _target(one: Judged) -> Finding:
    scheduler, pressure = one.leg
    claim = f"{scheduler}{_at(pressure)}: {one.tenant} {one.target}"
    return _made(claim, one.verdict, one.got, unit=unit_of(one.target.figure), reasons=one.reasons)


def _fairness(services: Mapping[Key, Service], tenants: tuple[Tenant, ...], leg: Leg) -> Iterator[Finding]:
    own = {tenant.name: services[tenant.name, *leg] for tenant in tenants if (tenant.name, *leg) in services}
    shares = {name: figure_of(service, "share_pct", services) for name, service in own.items()}
    if len(shares) < len(tenants) or not all(np.isfinite(share.estimate) for share in shares.values()):
        return
    where = f"{leg[0]}{_at(leg[1])}"
    repetitions = min(share.n for share in shares.values())
    copies = {name: int(service.by_run["copies"].max()) for name, service in own.items()}
    yield Finding(
        analysis="priority",
        claim=f"{where}: fairness (Jain's index over each copy's share of its standalone throughput)",
        verdict="info",
        estimate=known(jain(np.array([shares[name].estimate for name in shares for _ in range(copies[name])]))),
        n=repetitions,
        reasons=tuple(
            "; ".join((_share_of(name, share, copies[name]), *above_alone(share))) for name, share in shares.items()
        ),
    )
    lowest = min(tenants, key=lambda tenant: tenant.priority)
    yield _starvation(services, own[lowest.name], where)


def _share_of(name: str, share: _stats.Interval, copies: int) -> str:
    each = f", {copies} copies as against as many alone" if copies > 1 else ""
    return f"{name}: {share.estimate:.0f}% of its standalone throughput{each}"


def _starvation(services: Mapping[Key, Service], service: Service, where: str) -> Finding:
    """Seconds without a completion beyond those it has alone."""
    alone = standalone_of(services, service)
    got = service.figure("empty_seconds")
    usual = 0.0 if alone is None else float(alone.by_run["empty_seconds"].max())
    verdict: Verdict = "insufficient n"
    if got.low is not None and got.high is not None:
        verdict = "yes" if got.low > usual else "no" if got.high <= usual else "inconclusive"
    gap = service.figure("longest_gap_ms")
    reasons = [f"longest gap between completions: {gap.estimate:.0f} ms (median over runs)"]
    if usual:
        reasons.append(f"alone it has up to {usual:.0f} such seconds")
    claim = f"{where}: is {service.tenant}, the least important, starved (whole seconds without a completion)?"
    return _made(claim, verdict, got, unit="s", reasons=reasons)


def _overhead(services: Mapping[Key, Service], tenants: tuple[Tenant, ...]) -> Iterator[Finding]:
    """What a scheduler costs a tenant that is alone under it."""
    for service in services.values():
        if service.leg == STANDALONE or not is_alone(service.leg):
            continue
        tenant = next(one for one in tenants if one.name == service.tenant)
        figure = "share_pct" if tenant.arrivals == "continuous" else "p50_ratio"
        got = figure_of(service, figure, services)
        what = "throughput" if figure == "share_pct" else "P50"
        yield _made(
            f"{service.leg}{_at(service.pressure)}: own cost of the scheduler, {what} of {tenant.name} over standalone",
            "info" if np.isfinite(got.estimate) else "insufficient n",
            got,
            unit=unit_of(figure),
            reasons=(basis(figure, service),),
        )


def _granted(services: Mapping[Key, Service]) -> Iterator[Finding]:
    """The SMs of each tenant's green context, as the driver granted them."""
    for service in services.values():
        got = service.figure("sm_granted")
        if np.isfinite(got.estimate):
            asked, total = (service.figure(name).estimate for name in ("sm_asked", "sm_total"))
            yield Finding(
                analysis="priority",
                claim=f"{service.leg}{_at(service.pressure)}: SMs that {service.tenant} was granted",
                verdict="info",
                estimate=got.estimate,
                n=got.n,
                reasons=(f"asked for {asked:.0f} of the card's {total:.0f}; the driver rounds to its granularity",),
            )


def _energy(services: Mapping[Key, Service], tenants: tuple[Tenant, ...], every: tuple[Leg, ...]) -> Iterator[Finding]:
    """Joules a request of each tenant in each leg, where the driver's counter was read."""
    for leg in every:
        for tenant in tenants:
            service = services.get((tenant.name, *leg))
            if service is None:
                continue
            gross = figure_of(service, "joules_per_request", services)
            if not np.isfinite(gross.estimate):
                continue
            net = figure_of(service, "net_joules_per_request", services)
            idle = service.figure("card_idle_w").estimate
            reasons = ["the whole card's energy over this tenant's requests alone, gross of what it takes idle"]
            if np.isfinite(net.estimate):
                reasons.append(f"net of idle ({idle:.0f} W while loaded and at rest): {net.estimate:.3g} J")
            else:
                reasons.append("net of idle is not known: no pause between windows was long enough to read it")
            claim = f"{leg[0]}{_at(leg[1])}: energy a request of {tenant.name}, whole card"
            yield _made(claim, "info", gross, unit="J", reasons=reasons)


def _at(pressure: str) -> str:
    return f" at pressure {pressure}" if pressure else ""
