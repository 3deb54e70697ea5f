"""What the OpenCL layer adds to an enqueue, beside another layer's host timing in front of the same program.

    python benchmarks/layer_overhead.py [--rounds 10] [--library /path/libOpenCL.so.1] [--peer /path/libOpenCL.so]

Two drivers: one in which every call does nothing (what is left is the layer itself; below 1000 ns is the goal), and
this machine's own OpenCL, where the queue with timestamps that the layer makes costs the driver time too. The peer is a
build of intel/opencl-intercept-layer with CLI_HostPerformanceTiming, and with CLI_DevicePerformanceTiming besides,
which records what the layer does. Rounds alternate; the median over rounds of each program's median is shown. The
library is named by its whole path: the peer would find itself by the short name.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from devicelab.device.build import build
from devicelab.device.toolchain import Compiler, find_compiler, host_abi, toolchains

_HERE = Path(__file__).parent
KERNELS = 100
LIMIT_NS = 1000


def compiled(folder: Path) -> tuple[Path, Path]:
    """The program and the driver that does nothing."""
    host = next(chain for chain in toolchains() if chain.name == "host")
    compiler = find_compiler(host, str(host_abi()))
    if not isinstance(compiler, Compiler):
        raise SystemExit(compiler.reason)
    program, driver = folder / "enqueue_loop", folder / "libnull.so"
    for flags, source, target in (
        ((), "enqueue_loop.cpp", program),
        (("-shared", "-fPIC"), "null_opencl.cpp", driver),
    ):
        argv = [*compiler.argv, "-std=c++17", "-O2", *flags, str(_HERE / source), "-o", str(target), "-ldl"]
        subprocess.run(argv, check=True)
    return program, driver


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--library", default=str(next(iter(sorted(Path("/usr/lib").glob("*/libOpenCL.so.1"))), "")))
    parser.add_argument("--peer", default=os.environ.get("DEVICELAB_INTERCEPT", ""))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        _measure(Path(name), args.rounds, args.library, args.peer)


def _measure(folder: Path, rounds: int, library: str, peer: str) -> None:
    program, null = compiled(folder)
    layer = str(build("opencl_layer", str(host_abi())).path)
    records = folder / "records"
    front = {"DEVICELAB_LAYER_OUT": str(records)}
    steered = {**front, "DEVICELAB_LAYER_K": "4"}
    quiet = {"CLI_OpenCLFileName": library, "CLI_SuppressLogging": "1", "CLI_DumpDir": str(folder)}
    host = {**quiet, "CLI_HostPerformanceTiming": "1"}
    ways: dict[str, tuple[str, dict[str, str], int]] = {
        "nothing, no layer": (str(null), {}, 2000),
        "nothing, layer, K = 4": (layer, {**steered, "DEVICELAB_LAYER_OPENCL_LIB": str(null)}, 2000),
        "OpenCL here, no layer": (library, {}, 300),
        "OpenCL here, its queue with timestamps": (library, {"ENQUEUE_LOOP_PROFILING": "1"}, 300),
        "OpenCL here, layer": (layer, {**front, "DEVICELAB_LAYER_OPENCL_LIB": library}, 300),
    }
    if peer:
        ways["OpenCL here, intercept layer, host timing"] = (peer, host, 300)
        both = {**host, "CLI_DevicePerformanceTiming": "1"}
        ways["OpenCL here, intercept layer, host and device timing"] = (peer, both, 300)
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (path, env, inferences) in ways.items():
            argv = [str(program), path, str(KERNELS), str(inferences)]
            done = subprocess.run(argv, env=os.environ | env, capture_output=True, text=True, timeout=120, check=False)
            records.unlink(missing_ok=True)
            if done.returncode == 0:
                taken[way].append(float(done.stdout.split()[-1]))
    print(f"{'driver and layer':<54}{'ns an enqueue':>14}{'added':>8}")
    bases: dict[str, float] = {}
    added: dict[str, float] = {}
    for way, values in taken.items():
        if not values:
            print(f"{way:<54}{'could not run':>14}")
            continue
        middle = statistics.median(values)
        base = bases.setdefault(way.partition(",")[0], middle)
        added[way] = middle - base
        print(f"{way:<54}{middle:>14.0f}{middle - base:>8.0f}")
    itself = added.get("nothing, layer, K = 4")
    if itself is not None:
        print(f"{'the layer itself':<54}{itself:>8.0f} {LIMIT_NS:>5}{itself / LIMIT_NS:>8.2f}")
    ours = added.get("OpenCL here, layer")
    for way, theirs in added.items():
        if "intercept" in way and ours is not None and theirs > 0:
            print(f"{way.rpartition('layer, ')[2]:<54}{ours:>8.0f} {theirs:>5.0f}{ours / theirs:>8.2f}")


if __name__ == "__main__":
    main()
