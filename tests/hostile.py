"""Texts a hostile device may hand us, and a campaign that is full of them."""

import pandas as pd

from devicelab.analyses.base import Figure
from devicelab.model.device import Board
from devicelab.model.experiment import Finding
from devicelab.model.journal import Flag
from devicelab.model.measurement import Measurement, Metric
from devicelab.store import Store
from tests import labdata

SCRIPT = "<script>document.title='owned'</script>"
IMAGE = "\"'><img src=http://evil.invalid/x.png onerror=\"document.title='owned'\">"
SVG = "</text></svg><svg onload=\"document.title='owned'\">"
TEMPLATE = "{{ 7 * 7 }}{% for a in b %}"
CONTROL = "\x00\x01\x1b[31m\u202e\ufffe"
MATH = "$\\frac{1}{0}$ $x_$"
EVERY = f"{SCRIPT} {IMAGE} {SVG} {TEMPLATE} {CONTROL} {MATH} javascript:alert(1) ]]> &amp;"


def campaign(store: Store) -> str:
    """Hostile text wherever a device, a file or a program has a say."""
    of = labdata.experiment(
        name=EVERY,
        question=EVERY,
        factors={"load": ("none", EVERY), "k": (1, 4), EVERY: ("a", EVERY)},
        set={},
        repetitions=2,
    )
    board = Board(kind="k" + SCRIPT, title=EVERY)
    begun = labdata.begin(store, of, name=EVERY, address=EVERY, board=board, kernel=EVERY, props={"PRETTY_NAME": EVERY})
    for seq, (cell, repetition) in enumerate((cell, r) for cell in labdata.cells(of) for r in range(2)):
        given = labdata.measurement(seq)
        measurement = Measurement(
            tables=given.tables,
            metrics={**given.metrics, EVERY: Metric(1.0, EVERY)},
            info={EVERY: EVERY, "driver": EVERY},
            simulated=True,
        )
        identity = labdata.run_id(begun, cell, repetition) + (SCRIPT if seq == 0 else "")
        flags = [Flag(code="x" + SCRIPT, detail=EVERY)] if seq % 4 == 3 else []
        store.commit_run(
            begun, cell, labdata.record(identity, seq), repetition=repetition, measurements={EVERY: measurement},
            flags=flags,
        )  # fmt: skip
    store.add_findings(begun, [Finding(analysis=EVERY, claim=EVERY, verdict="fail", unit=EVERY, reasons=(EVERY,))])
    store.finish_campaign(begun, "interrupted", EVERY)
    return begun


def figures() -> tuple[Figure, ...]:
    """A figure full of such text, and one that cannot be drawn."""

    def draw(canvas: object) -> None:
        axes = canvas.subplots()  # type: ignore[attr-defined]
        axes.plot([1, 2], [3, 4], label=EVERY)
        axes.set_title(EVERY)
        axes.set_xlabel(EVERY)
        axes.legend()

    def fail(_canvas: object) -> None:
        raise RuntimeError(EVERY)

    data = labdata.measurement(1).tables["inferences"]
    frame = pd.DataFrame({EVERY: data["total_ns"]})
    return (Figure(EVERY, EVERY, EVERY, frame, draw), Figure("fails", EVERY, EVERY, frame, fail))
