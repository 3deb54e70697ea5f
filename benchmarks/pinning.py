"""From the command to the proven pin of every CPU policy, beside one adb call for each node, as devlib does it.

    python benchmarks/pinning.py [--kind note10] [--rounds 5]

Both pin every policy of one virtual board to its lowest frequency and prove it, then give it back; rounds take turns.

- "devicelab": ``devicelab.jobs.pin.pin`` on a board that has the agent already: connects, reads what the device is,
  plans, has the agent write, verify and journal everything, and hears that it held.
- "a call a node": connected already and told what to write; for each write the node is read (to be restored), written
  and read back, each by one adb command, which is what devlib's ``read_value`` and ``write_value`` do.

Streams tell more than seconds: on a phone a stream costs about 100 ms, on a virtual board almost nothing. devicelab's
do not grow with the number of nodes. The last line has both with 100 ms for each stream added.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.device.facts import open_device
from devicelab.device.lab import DeviceEntry
from devicelab.jobs import pin
from devicelab.transports._root import wrap as as_root
from virtualboards import lifecycle

_STREAM_S = 0.1


def ours(entry: DeviceEntry) -> float:
    """Seconds of one pin."""
    start = time.monotonic()
    done = pin.pin(entry, {"cpu": "min"})
    if not done.steps or not all(step.held for step in done.steps):
        raise SystemExit("the pin did not hold")
    return time.monotonic() - start


def theirs(entry: DeviceEntry) -> float:
    """Seconds of the same writes, a command each; they are taken back afterwards."""
    device = open_device(entry)
    try:
        steps = [step for one in pin.settings_for({"cpu": "min"}, device.facts).values() for step in one.steps]
        undo = []

        def command(*words: str) -> str:
            done = device.transport.run(as_root(device.facts.root, list(words)))
            if done.exit_code != 0:
                raise SystemExit(done.stderr.decode())
            return done.stdout.decode().strip()

        write = 'printf %s "$2" >"$1"'
        before = _streams(entry.name)
        start = time.monotonic()
        for step in steps:
            undo.append((step.path, command("cat", step.path)))
            command("sh", "-c", write, "sh", step.path, step.value)
            if command("cat", step.path) != step.value:
                raise SystemExit(f"{step.path} did not take {step.value}")
        spent = time.monotonic() - start
        theirs.streams = _streams(entry.name) - before  # type: ignore[attr-defined]
        for path, value in reversed(undo):
            command("sh", "-c", write, "sh", path, value)
        return spent
    finally:
        device.transport.close()


def _streams(name: str) -> int:
    return int(lifecycle.ask(name, {"do": "stats"})["streams"])


def main() -> int:
    """One table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default="note10")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    board = lifecycle.up(args.kind, abi="x86_64")[0]
    try:
        entry = DeviceEntry(name=board.name, address=f"adb:{board.serial}")
        open_device(entry).transport.close()  # puts the agent there
        times: tuple[list[float], list[float]] = ([], [])
        streams = 0
        for _ in range(args.rounds):
            before = _streams(board.name)
            times[0].append(ours(entry))
            streams = _streams(board.name) - before
            pin.give_back(entry)
            times[1].append(theirs(entry))
    finally:
        lifecycle.down([board.name])
    mine, other = (statistics.median(part) for part in times)
    their_streams = theirs.streams  # type: ignore[attr-defined]
    print(f"{args.rounds} rounds on a virtual board of kind {args.kind}; load average {load:.1f} at the start")
    print(f"{'':<22}{'devicelab':>12}{'a call a node':>15}{'ratio':>8}")
    print(f"{'streams':<22}{streams:>12}{their_streams:>15}{streams / their_streams:>8.3f}")
    print(f"{'seconds':<22}{mine:>12.3f}{other:>15.3f}{mine / other:>8.3f}")
    phone = (mine + _STREAM_S * streams, other + _STREAM_S * their_streams)
    print(f"{'with 100 ms a stream':<22}{phone[0]:>12.2f}{phone[1]:>15.2f}{phone[0] / phone[1]:>8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
