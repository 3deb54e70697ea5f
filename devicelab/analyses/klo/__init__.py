"""Kernel launch overhead: does the best K move with load and clocks, and does a K that adapts keep its speed-up?"""

from devicelab.analyses.base import Figure
from devicelab.analyses.klo import cross, findings, production
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo import figures as klo_figures
from devicelab.analyses.klo.checklist import checklist
from devicelab.model.experiment import Finding
from devicelab.model.results import Results


def _constant_k(results: Results) -> Finding:
    found = checklist(klo_data.load(results))
    if found:
        return found[0].model_copy(update={"quantity": "constant_k"})
    reason = "no cell with a load"
    return Finding(
        analysis="klo",
        claim="Does the constant K under load differ from the constant K when idle?",
        verdict="insufficient n",
        reasons=(reason,),
        quantity="constant_k",
    )


def _k_carried(results: Results) -> Finding:
    return cross.carried(klo_data.load(results))


ANSWERS = {"constant_k": _constant_k, "k_carried": _k_carried}


def analyse(results: Results) -> tuple[Finding, ...]:
    """The lab's checklist first, then what every condition shows, then how far clocks carry."""
    data = klo_data.load(results)
    return (
        *checklist(data),
        *findings.findings(results, data),
        *production.findings(data),
        *cross.findings(results, data),
    )


def figures(results: Results) -> tuple[Figure, ...]:
    """K curves, T_prod, cross tables, decomposition, one inference."""
    return tuple(klo_figures.figures(results, klo_data.load(results)))
