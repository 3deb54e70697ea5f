"""What a look at a device is judged by."""

from pathlib import Path
from time import time_ns

from devicelab.farm import health
from devicelab.model.night import Health, HealthRules
from devicelab.store import Store


def test_what_was_seen_before_the_newest_of_several_quarantines_binds_no_more(tmp_path: Path) -> None:
    wanted = HealthRules()
    with Store.open(tmp_path / "lab.sqlite") as store:
        store.quarantine("a", "the first")
        store.release("a")
        store.add_health(Health(device="a", ok=True, at_unix_ns=time_ns(), facts={"kernel": "between the two"}))
        assert health.rules_for(store, "a", wanted).last is not None
        store.quarantine("a", "the second")
        store.release("a")
        assert health.rules_for(store, "a", wanted).last is None
