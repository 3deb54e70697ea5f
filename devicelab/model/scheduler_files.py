"""The files of installed schedulers, by checksum, as the device read them while the tenants were at work."""

import re

from devicelab.model.results import Results

_SUM = re.compile(r"([0-9a-f]{64})\s+(\S.{0,199})")
# A prefix holds a dozen files; a device may print what it likes.
_MOST = 100


def scheduler_files(results: Results) -> dict[str, dict[str, str]]:
    """By scheduler the SHA-256 of its files by name, as ``sha256sum`` printed them in a valid run of each leg."""
    sums: dict[str, dict[str, str]] = {}
    tried: set[str] = set()
    if not results.experiment.tenants:
        return sums
    for run in results.runs().to_dict("records"):
        leg = str(run.get("scheduler", ""))
        if leg in tried or not run["valid"]:
            continue
        tried.add(leg)
        for witness in results.evidence(str(run["run_id"])).get("witnesses", ()):
            name, _, what = str(witness.get("name", "")).rpartition(" ")
            if what == "files" and name:
                lines = str(witness.get("stdout", "")).splitlines()[:_MOST]
                told = (_SUM.fullmatch(line.strip()) for line in lines)
                sums.setdefault(name, {one[2].rpartition("/")[2]: one[1] for one in told if one})
    return sums
