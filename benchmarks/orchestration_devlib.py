"""The job of ``orchestration.py`` done with devlib 1.3.4; runs under devlib's own Python, not devicelab's.

    python benchmarks/orchestration_devlib.py SERIAL LOAD_PROGRAM RUNS SECONDS

connects, sets up, snapshots, pins every CPU policy to its lowest frequency, pushes and starts the load, performs the
runs, ends the load and restores, by the calls devlib offers for that. Prints one JSON object on the last line: seconds
of each run and of the whole.
"""

import json
import sys
import time

from devlib import AndroidTarget

_LOAD = "overhead"


def main(serial: str, program: str, runs: int, seconds: float) -> None:
    """Do the job and print how long it took."""
    began = time.monotonic()
    target = AndroidTarget(
        connection_settings={"device": serial},
        modules=["hotplug", "cpufreq", "cpuidle", "hwmon"],  # its defaults less cgroups, which the job does not need
        connect=False,
        working_directory="/data/local/tmp/devlib-target",
        load_default_modules=False,
    )
    target.connect()
    target.setup()
    cpus = [domain[0] for domain in {tuple(target.cpufreq.get_related_cpus(cpu)) for cpu in target.list_online_cpus()}]
    before = {
        cpu: (
            target.cpufreq.get_governor(cpu),
            target.cpufreq.get_min_frequency(cpu),
            target.cpufreq.get_max_frequency(cpu),
        )
        for cpu in cpus
    }
    for cpu in cpus:
        lowest = min(target.cpufreq.list_frequencies(cpu))
        target.cpufreq.set_min_frequency(cpu, lowest)
        target.cpufreq.set_max_frequency(cpu, lowest)
    load = target.install(program, with_name=_LOAD)
    loading = target.background(f"{load} 1000 5000 40", as_root=True)
    spans = []
    for _ in range(runs):
        start = time.monotonic()
        target.execute(f"sleep {seconds:g}")
        spans.append(time.monotonic() - start)
    loading.cancel()
    for cpu, (_, low, high) in before.items():
        target.cpufreq.set_max_frequency(cpu, high)
        target.cpufreq.set_min_frequency(cpu, low)
    target.disconnect()
    print(json.dumps({"runs_s": spans, "job_s": time.monotonic() - began}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
