"""The benchmarks as rows of one table: how each is run and what it is compared with."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _opencl_drivers as drivers
from benchmarks import _readers as readers
from benchmarks._readers import Figure
from tests import postgres

DEVLIB = "DEVICELAB_DEVLIB"
"""Environment variable: the Python of an environment with devlib, which is no dependency."""


@dataclass(frozen=True)
class Benchmark:
    """One script.

    Attributes:
        name: of the script, without ``.py``.
        title: what it is about.
        quick: arguments of the short form.
        full: arguments of the whole form.
        read: figures out of what it printed.
        peer: what it is compared with.
        how: how to read it.
        missing: why it cannot run here, or nothing.
        quiet: the figures mean something only on a machine with nothing else to do.
    """

    name: str
    title: str
    quick: tuple[str, ...]
    full: tuple[str, ...]
    read: Callable[[str], list[Figure]]
    peer: str
    how: str
    missing: Callable[[], str] = lambda: ""
    quiet: bool = False


def _devlib() -> str:
    python = os.environ.get(DEVLIB)
    return "" if python and shutil.which(python) else f"{DEVLIB} names no Python with devlib==1.3.4"


def _stress() -> str:
    return "" if shutil.which("stress-ng") else "stress-ng is not installed"


def _opencl() -> str:
    with tempfile.TemporaryDirectory() as name:
        drivers.prepare(Path(name))
        return "" if drivers.rusticl(Path(name)) else drivers.NEEDED


_DEVLIB_ARGUMENT = ("--devlib", f"${DEVLIB}")

BENCHMARKS = (
    Benchmark(
        "startup",
        "Start of the command line",
        ("--rounds", "5"),
        (),
        readers.startup,
        "the smallest Typer program",
        "CPU time, so other work matters little, and modules compiled as pip leaves them; at most 1.15 is the goal. "
        "Loading 24 modules of commands costs more than one; that the garbage collector leaves alone what they made, "
        "as it does not there, is worth as much. Goals in seconds are for a machine on which the small program takes "
        "0.11 s",
    ),
    Benchmark(
        "adb_commands",
        "Commands to adb daemons with manners of their own",
        ("--commands", "200"),
        (),
        readers.adb_commands,
        "none lost, none slower than a second",
        "through the real adb server; `early-close` loses what comes for a program that has ended, `never-close` has "
        "only a terminal and leaves its streams open",
    ),
    Benchmark(
        "pinning",
        "Pinning every CPU policy, proven",
        ("--rounds", "2"),
        (),
        readers.every(
            readers.columns("streams", "adb streams"),
            readers.columns("seconds", "on a virtual board", " s"),
            readers.columns("with 100 ms a stream", "with 100 ms for each stream, as on a phone", " s"),
        ),
        "one adb call for each read and write (devlib's way), connected already",
        "below 1: devicelab needs less; its streams do not grow with the nodes. Two thirds of ours without latency "
        "are the first look at the device, by its shell; the peer is connected and has looked",
    ),
    Benchmark(
        "orchestration",
        "Cost of orchestration",
        (*_DEVLIB_ARGUMENT, "--runs", "3", "--seconds", "2"),
        _DEVLIB_ARGUMENT,
        readers.every(
            readers.columns("streams, whole job", "adb streams of a job"),
            readers.columns("streams opened in the runs", "streams opened in the runs"),
            readers.columns("a run beyond its programmed time, %", "a run beyond its programmed time", " %"),
        ),
        "devlib 1.3.4 doing the same job",
        "6 streams, none in the runs and 0.3 % beyond the programmed time are the goals. devlib pins and loads once, "
        "we in every run; what is left between two runs is the simulated sysfs, which Python answers "
        "([profile](results/orchestration.md)). Where others use the machine, with real-time priority (`chrt -r 1`)",
        _devlib,
        quiet=True,
    ),
    Benchmark(
        "agent_disturbance",
        "What the agent takes, and what of it is noticed",
        ("--rounds", "6", "--inferences", "100"),
        ("--rounds", "12", "--inferences", "300"),
        readers.disturbance,
        "the same without samples",
        "`klo` with the emulated GPU (simulated), native, windows of a second; 0.05 % of a core and a ratio within "
        "0.5 % of 1 are the goals. Where the interval of two runs without samples is wider than that, the machine does "
        "not carry the question. Ten nodes and /proc/stat are 25 µs of work while caches are warm (0.025 %); "
        "the rest is that they are not, beside a program that uses them. Where others use the machine, with real-time "
        "priority (`chrt -r 1`)",
        quiet=True,
    ),
    Benchmark(
        "first_result",
        "First run after `devicelab sweep`",
        (*_DEVLIB_ARGUMENT, "--rounds", "1"),
        _DEVLIB_ARGUMENT,
        readers.first_result,
        "connect and set-up by devlib 1.3.4",
        "warm, 20 ms a round trip put in front of a virtual board (simulated); 3 s and half of devlib's are the goals. "
        "Python and its libraries depend on this machine's load; SQLAlchemy is loaded while the device is looked at; "
        "devlib's imports are not counted",
        _devlib,
        quiet=True,
    ),
    Benchmark(
        "layer_overhead",
        "What the OpenCL layer adds to an enqueue",
        ("--rounds", "3"),
        (),
        readers.every(
            readers.columns("the layer itself", "on a driver that does nothing; the limit is 1 µs", " ns"),
            readers.columns("host timing", "on this machine's OpenCL, against host times alone", " ns"),
            readers.columns("host and device timing", "the same, against host and device times", " ns"),
        ),
        "intel/opencl-intercept-layer (a build of it in DEVICELAB_INTERCEPT)",
        "the layer records host and device times; most of its part on a real driver is that driver's own cost of them",
    ),
    Benchmark(
        "k_on_drivers",
        "K on a driver that follows it (Rusticl)",
        ("--random", "1"),
        (),
        readers.every(
            readers.columns(
                "predicted K over manual K, %", "predicted K over the K of brute force, median of networks", " %"
            ),
            readers.columns("dynamic over the best constant K, %", "dynamic over the best constant K, the same", " %"),
            readers.columns("static schedule over the best constant K, %", "static schedule over the same", " %"),
        ),
        "the K that brute force finds",
        "judged by runs that nothing was chosen from; 2 % and 1 % are the goals, below 0 is faster than any constant K",
        _opencl,
        quiet=True,
    ),
    Benchmark(
        "load_accuracy",
        "Accuracy of CPU load",
        ("--quick",),
        (),
        readers.load,
        "stress-ng `--cpu-load`",
        "points between the wanted use and the CPU time that the kernel counted for the load's processes, from half a "
        "second after their start; 0.3 points and a ratio below 1 are the goals; see the results on load accuracy",
        _stress,
        quiet=True,
    ),
    Benchmark(
        "dispatch_lateness",
        "Lateness of open-loop requests",
        ("--json", "--seconds", "2", "--rounds", "1"),
        ("--json",),
        readers.dispatch,
        "a bare loop that sleeps and spins on the same core",
        "200 µs on an idle core, or 1.5 times the bare loop, is the goal",
        quiet=True,
    ),
    Benchmark(
        "tenant_windows",
        "Fixed cost of a window of GPU tenants",
        (),
        (),
        readers.tenant_windows,
        "a start for each window",
        "From campaigns of `dual_model` on an H200 (docs/results/priority-h200.md), brought here as bundles; 2 s a "
        "window is the goal. What is left of a start is torch itself (3 s), warming up, and the end of the processes",
        missing=lambda: "it reads campaigns that a GPU measured: see its script, and `--read`",
    ),
    Benchmark(
        "analysis_speed",
        "Speed of the launch model",
        ("--rounds", "1"),
        (),
        readers.every(
            readers.columns("curve", "makespan of every constant K (peer: plain Python)", " ms"),
            readers.columns("schedule", "best schedule (peer: plain Python)", " ms"),
            readers.columns("fit", "fit of costs (peer: SciPy)", " ms"),
        ),
        "the same formulas in plain Python, and `scipy.optimize.least_squares`",
        "CPU time, results compared; here the ratio is the peer's by ours: above 1 we are faster",
    ),
    Benchmark(
        "report_scale",
        "Speed of reports",
        ("--samples", "200000"),
        (),
        readers.report,
        "reading the same samples from the store",
        "one million samples; CPU time of a process of its own with the imports, 2 s is the goal. By a profile "
        "matplotlib takes nearly half of it, for eighteen figures with 66 panels, the imports a sixth, findings with "
        "all reading a fifth; ten million samples take 480 MiB. The machine was two to three times slower that day "
        "(a bare Typer program took 342 ms): only ratios compare with earlier tables",
    ),
    Benchmark(
        "store_scale",
        "Store with a million runs",
        ("--runs", "25000"),
        (),
        readers.store,
        "a store of 5000 runs",
        "a ratio near 1: size does not matter; history is that of the same ten nights (rows of before December: every "
        "run of an experiment, twenty times as many); a commit is one fdatasync, some thirty writes into the log, and "
        "Python: by a profile of 300 commits a fifth of it for the run's blobs, a tenth in SQLite, most of the rest in "
        "SQLAlchemy around nine statements",
    ),
    Benchmark(
        "growth",
        "How cost grows with the work",
        ("--quick",),
        ("--plots", "docs/pictures"),
        readers.growth,
        "n log n between the two largest sizes, a tenth more for noise",
        "CPU time in processes of their own; below 1 a fixed part still counts; the plots are in "
        "[pictures/growth.svg](pictures/growth.svg)",
    ),
    Benchmark(
        "farm_makespan",
        "Makespan of a night",
        ("--boards", "3", "--runs", "3", "--seconds", "2"),
        ("--runs", "60"),
        readers.makespan,
        "settle and hold times of the busiest board",
        "1.10 is the goal with 50 boards",
        quiet=True,
    ),
    Benchmark(
        "farm_scale",
        "A thousand boards",
        ("--boards", "40", "--hosts", "4", "--runs", "1"),
        (),
        readers.scale,
        "the longest of all work by all boards and one board's own",
        "simulated boards and clock, the product's conductor and database; 1.05 is the goal",
        lambda: "" if postgres.TOOLS is not None else "no PostgreSQL server is installed",
    ),
    Benchmark(
        "nights_accuracy",
        "Judging nights",
        ("--nights", "60", "--cells", "20", "--seeds", "1", "--skip-store"),
        (),
        readers.nights,
        "simple rules on the same histories",
        "simulated histories with known truth; see the results on nights",
    ),
    Benchmark(
        "sequential",
        "Campaigns that stop when decided",
        ("--campaigns", "40", "--races", "60", "--searches", "3"),
        (),
        readers.sequential,
        "fixed-n intervals looked at as often, and every setting run as often",
        "planted truth, looked at after every block; 95 % held, 1 % of alarms, a ratio of 0.6 in runs and 0.25 in "
        "races are the goals",
    ),
    Benchmark(
        "search_truth",
        "Searches on devices",
        ("emulated",),
        (),
        readers.search_truth,
        "brute force on the same device (each K 8 times, each setting of four factors 6 times)",
        "what searches found is compared with the best by brute force in runs that neither was chosen by; ratios of "
        "0.25 for K and 0.2 for four factors are the goals; where others use the machine, with real-time priority "
        "(`chrt -r 1`, `--busy`)",
        _opencl,
        quiet=True,
    ),
)
