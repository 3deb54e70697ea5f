"""Tables of kernels whose rows come in any order, and whose runs are texts or numbers, say the same."""

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses._production import t_prod
from devicelab.analyses.klo.tables import early_shares, in_order, quantities

KEYS = ["run_id", "inference", "kernel"]


def _table(seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    runs, inferences, kernels = 3, 4, 5
    rows = [(f"r{r}", i, k) for r in range(runs) for i in range(inferences) for k in range(kernels)]
    frame = pd.DataFrame(rows, columns=KEYS)
    queued = np.cumsum(rng.integers(1000, 9000, len(frame)))
    times = {"queued_ns": queued, "submit_ns": queued + 500, "start_ns": queued + 700, "end_ns": queued + 900}
    return frame.assign(batch=frame["kernel"] // 2, **times)


@pytest.mark.parametrize("numbered", [False, True])
def test_rows_in_any_order_give_the_same_quantities(numbered: bool) -> None:
    table = _table()
    mixed = table.sample(frac=1, random_state=3)
    if numbered:
        table, mixed = (
            one.assign(run_id=pd.Categorical(one["run_id"], categories=["r0", "r1", "r2"])) for one in (table, mixed)
        )
    got = quantities(mixed)
    if not numbered:  # in the order in which runs appear
        got = got.sort_values(KEYS, ignore_index=True)
    pd.testing.assert_frame_equal(got, quantities(table))


def test_a_table_in_order_is_not_copied() -> None:
    table = _table()
    assert np.shares_memory(in_order(table)["queued_ns"].to_numpy(), table["queued_ns"].to_numpy())
    backwards = table.iloc[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(in_order(backwards).sort_values(KEYS, ignore_index=True), table)


def test_runs_without_a_row_of_their_own_number_have_no_share() -> None:
    table = _table()
    kept = table.assign(run_id=pd.Categorical(table["run_id"])).query("run_id != 'r1'").reset_index(drop=True)
    batches = kept["batch"].to_numpy()
    texts = kept.assign(run_id=kept["run_id"].astype("str"))
    assert early_shares(kept, batches) == early_shares(texts, batches)
    assert "r1" not in early_shares(kept, batches)


def test_production_times_do_not_depend_on_the_order_of_rows() -> None:
    table = _table()
    want = t_prod(table)
    got = t_prod(table.sample(frac=1, random_state=5))
    assert {key: times.tolist() for key, times in got.items()} == {key: times.tolist() for key, times in want.items()}


@pytest.mark.parametrize(("submitted", "share"), [(199, 1.0), (200, 0.0), (201, 0.0)])
def test_a_kernel_submitted_before_the_last_of_its_batch_was_queued_is_early(submitted: int, share: float) -> None:
    """Two kernels in one batch, queued at 100 and 200: of the last one nothing can be told."""
    table = pd.DataFrame({"run_id": ["r"] * 2, "inference": [0, 0], "kernel": [0, 1], "queued_ns": [100, 200]})
    table = table.assign(submit_ns=[submitted, 210], start_ns=[300, 400], end_ns=[350, 450])
    assert early_shares(table, np.array([0, 0])) == {"r": share}
    assert early_shares(table, np.array([-1, -1])) == {}, "where it was flushed is not known"
    assert early_shares(table, np.array([0, 1])) == {}, "each is the last of its batch"


@pytest.mark.parametrize(("ended", "told"), [(299, True), (300, False), (301, False)])
def test_a_kernel_that_waited_for_the_one_before_tells_nothing(ended: int, told: bool) -> None:
    table = pd.DataFrame({"run_id": ["r"] * 3, "inference": [0] * 3, "kernel": [0, 1, 2], "queued_ns": [100, 200, 300]})
    table = table.assign(submit_ns=[310, 290, 310], start_ns=[120, 400, 500], end_ns=[ended, 450, 550])
    assert early_shares(table, np.array([0, 0, 0])) == {"r": 0.5 if told else 0.0}
