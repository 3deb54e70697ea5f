"""What tests of whole campaigns share: their pages are complete but for the drawing of figures.

Drawing is a third of such a test's CPU time and nobody looks at it there: what figures show, and that they can be
drawn, is tested with the analyses and the report, and whole pages with the tutorial and the documented commands.
"""

import pytest

from devicelab.report import svg

_BLANK = '<svg xmlns="http://www.w3.org/2000/svg" width="1pt" height="1pt" viewBox="0 0 1 1"/>'


@pytest.fixture(autouse=True)
def _figures_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process and those it forks."""
    monkeypatch.setattr(svg, "draw", lambda _figure: _BLANK)
