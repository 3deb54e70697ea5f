"""Kernel launch overhead: does the best K move with load and clocks, and does a K that adapts keep its speed-up?"""

from devicelab.analyses import _klo_cross, _klo_data, _klo_figures, _klo_findings
from devicelab.analyses._klo_checklist import checklist
from devicelab.analyses.base import Figure
from devicelab.model.experiment import Finding
from devicelab.model.results import Results


def analyse(results: Results) -> tuple[Finding, ...]:
    """The lab's checklist first, then what every condition shows, then how far clocks carry."""
    data = _klo_data.load(results)
    return (*checklist(data), *_klo_findings.findings(results, data), *_klo_cross.findings(results, data))


def figures(results: Results) -> tuple[Figure, ...]:
    """K curves, T_prod, cross tables, decomposition, one inference."""
    return tuple(_klo_figures.figures(results, _klo_data.load(results)))
