"""Kernel launch overhead: does the best K move with load and clocks, and does a K that adapts keep its speed-up?"""

from devicelab.analyses.base import Figure
from devicelab.analyses.klo import cross, findings
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo import figures as klo_figures
from devicelab.analyses.klo.checklist import checklist
from devicelab.model.experiment import Finding
from devicelab.model.results import Results


def analyse(results: Results) -> tuple[Finding, ...]:
    """The lab's checklist first, then what every condition shows, then how far clocks carry."""
    data = klo_data.load(results)
    return (*checklist(data), *findings.findings(results, data), *cross.findings(results, data))


def figures(results: Results) -> tuple[Figure, ...]:
    """K curves, T_prod, cross tables, decomposition, one inference."""
    return tuple(klo_figures.figures(results, klo_data.load(results)))
