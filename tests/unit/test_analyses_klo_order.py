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
