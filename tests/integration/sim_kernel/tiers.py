"""Plays the same writes and reads on a virtual machine and on a virtual kernel, and compares the answers."""

import dataclasses
import re
import shlex
from dataclasses import dataclass

from devicelab.transports.base import Transport
from tests.unit.sim_kernel_board import MESSAGES, Bench, known

CPU = "/sys/devices/system/cpu"
GOVERNORS = ("powersave", "userspace", "performance", "schedutil")

# A write says "ok" or what went wrong; a read is tried again until it is what the virtual kernel answers, since a real
# kernel settles some things a moment later.
_SCRIPT = """
w() {
  said=$(printf '%s\\n' "$2" | dd of="$1" 2>&1 | head -n 1)
  case $said in dd:*) echo "!${said##*: }";; *) echo "=ok";; esac
}
r() {
  for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    if said=$(cat "$1" 2>&1); then said="=$said"; else said="!${said##*: }"; fi
    [ "$said" = "$2" ] && break
    sleep 0.1
  done
  echo "$said"
}
"""


@dataclass(frozen=True)
class Step:
    """One line of a suite: ``W path <- value``, ``R path`` or ``T seconds``."""

    line: str
    do: str
    path: str = ""
    value: str = ""

    @property
    def where(self) -> str:
        return self.path if self.path.startswith("/") else f"{CPU}/{self.path}"


def steps(text: str) -> list[Step]:
    """The steps of a suite; its answers are left out."""
    found = []
    for line in text.splitlines():
        if match := re.fullmatch(r"W (\S+) <- (.*) : (?:ok|ERR .*)", line):
            found.append(Step(line, "W", match[1], match[2]))
        elif match := re.fullmatch(r"R (\S+) = .*", line):
            found.append(Step(line, "R", match[1]))
        elif match := re.fullmatch(r"T (\S+)", line):
            found.append(Step(line, "T", value=match[1]))
    return found


def virtual(kind: str, suite: list[Step], kernel: str | None = None) -> list[str]:
    """The virtual kernel's answers; with ``kernel``, those of the same board with that release and its governors."""
    spec = known(kind)
    if kernel:
        policies = tuple(dataclasses.replace(p, governors=GOVERNORS, governor="schedutil") for p in spec.policies)
        spec = dataclasses.replace(spec, kernel=kernel, policies=policies)
    bench = Bench(spec)
    answers = []
    for step in suite:
        if step.do == "T":
            bench.wait(float(step.value))
            answers.append("")
        elif step.do == "W":
            answers.append(bench.w(step.path, step.value))
        else:
            bench.wait(0.05)
            answers.append(bench.r(step.path))
    return answers


def real(device: Transport, suite: list[Step], expected: list[str]) -> list[str]:
    """The machine's answers to the same steps."""
    names = {name: text for text, name in MESSAGES.items()}
    lines = [_SCRIPT]
    for step, want in zip(suite, expected, strict=True):
        if step.do == "T":
            lines.append(f"sleep {step.value}; echo =")
        elif step.do == "W":
            lines.append(shlex.join(["w", step.where, step.value]))
        else:
            lines.append(shlex.join(["r", step.where, f"!{names[want]}" if want in names else f"={want}"]))
    done = device.run(["sh"], stdin="\n".join(lines).encode(), timeout_s=300)
    # Nodes of several lines are not part of suites, so a line is an answer.
    said = done.stdout.decode().splitlines()
    assert len(said) == len(suite), done.stdout + done.stderr
    return [MESSAGES.get(text[1:], text[1:]) if text.startswith("!") else text[1:] for text in said]


def by_chance(step: Step) -> bool:
    """Does the load of the moment decide it: a frequency, or which of the idle cores is isolated?"""
    return step.path.endswith(("scaling_cur_freq", "/isolate"))
