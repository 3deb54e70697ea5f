"""System traces on demand: a run performed once more while the system's own tracer records, beside those that count.

The tracer is started by a step of the run and ended by its undo, so that whoever undoes the run ends it, too. Which
tool there is the device's own shell finds out. Only a session of our own is ended: perfetto's by its key, an instance
of ftrace by its name, perf and simpleperf by pid and start time.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from devicelab.model.device import Facts
from devicelab.model.experiment import Experiment, Tracing
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command, Run, content_id
from devicelab.model.results import SYSTEM_TRACE

if TYPE_CHECKING:
    import pandas as pd

OUTPUT = SYSTEM_TRACE
"""Under this name a run's trace is stored beside what its programs printed."""

MOST = 8
"""Cells that are traced at most: those that were flagged most often, or the first ones."""

_TOOLS = {"android": "perfetto atrace ftrace simpleperf", "linux": "ftrace perf"}
_OF_PROGRAMS = ("perf", "simpleperf")
_WHOLE = ("perfetto", "atrace", "ftrace")
# A session that nobody ends ends by itself.
_LONGEST_S = 3600
_STOP_MS = 120_000

# $1: file, $2: KiB, $3: key, $4: seconds at most, $5: tools in the order in which they are tried, then the pids of the
# programs that perf and simpleperf record; without pids they record everything. The first tool that can be started is
# named on stdout and in FILE.tool; what the others said is on stderr. One that is at work already is left to it.
START = r"""
file=$1; kib=$2; key=$3; most=$4; tools=$5; shift 5
whom=-a; pids=$(IFS=,; echo "$*"); [ -z "$pids" ] || whom="-p $pids"
[ ! -f "$file.tool" ] || { echo "$(cat "$file.tool") is at work" >&2; exit 0; }
rm -f "$file" "$file.pid"
started() { # nothing for what has ended and was not waited for
  s=$(cat "/proc/$1/stat" 2>/dev/null) && set -- ${s##*)} && case $1 in [ZX]) ;; *) echo "${20}" ;; esac
}
tracing() {
  for t in /sys/kernel/tracing /sys/kernel/debug/tracing; do [ -d "$t/instances" ] && echo "$t" && return; done
}
recorder() {
  setsid "$@" </dev/null >/dev/null 2>"$file.log" & p=$!
  sleep 0.3; [ -d "/proc/$p" ] || { tail -c 300 "$file.log" >&2; return 1; }
  echo "$p $(started "$p")" >"$file.pid"
}
start_perfetto() {
  printf '%s\n' "buffers { size_kb: 16384 fill_policy: RING_BUFFER }" "write_into_file: true" \
    "file_write_period_ms: 1000" "max_file_size_bytes: $((kib * 1024))" "duration_ms: $((most * 1000))" \
    'data_sources { config { name: "linux.ftrace" ftrace_config { ftrace_events: "sched/sched_switch"' \
    'ftrace_events: "sched/sched_waking" ftrace_events: "power/cpu_frequency" ftrace_events: "power/cpu_idle"' \
    'ftrace_events: "power/gpu_frequency" ftrace_events: "thermal/*" } } }' \
    'data_sources { config { name: "linux.process_stats"' \
    'process_stats_config { scan_all_processes_on_start: true } } }' \
    'data_sources { config { name: "android.power" android_power_config { battery_poll_ms: 250' \
    'collect_power_rails: true } } }' |
    perfetto --txt -c - --detach="$key" -o "/data/misc/perfetto-traces/$key" >/dev/null
}
start_atrace() {
  t=$(tracing); [ "$(cat "$t/tracing_on" 2>/dev/null)" = 1 ] && echo "somebody else traces" >&2 && return 1
  atrace --async_start -c -b "$kib" sched freq idle gfx >/dev/null
}
start_ftrace() {
  t=$(tracing); [ -n "$t" ] && mkdir "$t/instances/$key" || return 1
  i=$t/instances/$key; n=$(ls -d "$i"/per_cpu/cpu* 2>/dev/null | wc -l)
  echo $((kib / (n > 0 ? n : 1) + 1)) >"$i/buffer_size_kb"; echo mono >"$i/trace_clock"
  for e in sched/sched_switch sched/sched_waking power/cpu_frequency power/cpu_idle; do
    [ -e "$i/events/$e/enable" ] && echo 1 >"$i/events/$e/enable"
  done
  echo 1 >"$i/tracing_on"
}
start_perf() { recorder perf record $whom -F 99 -o "$file" --max-size="${kib}K"; }
start_simpleperf() { recorder simpleperf record $whom -f 99 --size-limit "${kib}k" --duration "$most" -o "$file"; }
for tool in $tools; do
  [ "$tool" = ftrace ] || command -v "$tool" >/dev/null || continue
  echo "$tool $key" >"$file.tool"
  if "start_$tool"; then echo "$tool"; exit 0; fi
  rm -f "$file.tool"
done
echo "nothing here traces (tried: $tools)" >&2; exit 1
"""

# $1: file, $2: KiB. Ends what START started and nothing else, and leaves the trace in FILE.
STOP = r"""
file=$1; kib=$2
[ -f "$file.tool" ] && read -r tool key <"$file.tool" || exit 0
started() { # nothing for what has ended and was not waited for
  s=$(cat "/proc/$1/stat" 2>/dev/null) && set -- ${s##*)} && case $1 in [ZX]) ;; *) echo "${20}" ;; esac
}
case $tool in
perfetto)
  perfetto --attach="$key" --stop >/dev/null 2>&1
  cat "/data/misc/perfetto-traces/$key" >"$file" && rm -f "/data/misc/perfetto-traces/$key" ;;
atrace) atrace --async_stop -z >"$file" ;;
ftrace)
  for t in /sys/kernel/tracing /sys/kernel/debug/tracing; do
    i=$t/instances/$key; [ -d "$i" ] || continue
    echo 0 >"$i/tracing_on"; cat "$i/trace" | head -c $((kib * 1024)) >"$file"
    n=0; until rmdir "$i" 2>/dev/null || [ $n -ge 50 ]; do n=$((n + 1)); sleep 0.1; done
    [ ! -d "$i" ] || { echo "$i cannot be removed" >&2; exit 1; }
    break
  done ;;
perf|simpleperf)
  read -r p begun <"$file.pid"
  # What sh starts in the background ignores INT; both tools end in order at TERM.
  for signal in TERM KILL; do
    n=0; [ "$(started "$p")" = "$begun" ] && kill -$signal "$p"
    while [ "$(started "$p")" = "$begun" ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
  done ;;
esac
rm -f "$file.tool" "$file.pid" "$file.log"
"""


def cells(tracing: Tracing, runs: "pd.DataFrame") -> tuple[str, ...]:
    """Ids of the cells that are run once more with the tracer, by what is stored; ``MOST`` at most."""
    if runs.empty:
        return ()
    counted = runs.loc[~runs["valid"].astype(bool), "cell_id"].value_counts()
    if tracing.when == "flagged":
        return tuple(map(str, counted.index[:MOST]))
    return tuple(dict.fromkeys(map(str, runs["cell_id"])))[:MOST]


def run_id(campaign: str, cell_id: str) -> str:
    """Of a cell's traced run: there is one, however often a sweep is resumed."""
    return content_id(campaign, cell_id, OUTPUT)


def traced(run: Run, wanted: Tracing, facts: Facts, *, campaign: str, file: str) -> Run:
    """The run with a tracer; ``file`` is where the trace lies on the device at its end.

    What records the whole system starts with the run's first step. perf and simpleperf record the measured programs
    alone and start when those are there, if nothing else could be started before.
    """
    tools = (wanted.tool if wanted.tool != "auto" else _TOOLS[facts.os]).split()
    measured = tuple(f"{{pid:{one.name}}}" for one in run.programs if one.role == "measure")
    late = [tool for tool in tools if tool in _OF_PROGRAMS and measured]
    early = [tool for tool in tools if tool not in late]
    kib = str(wanted.most_mb * 1024)
    own = run_id(campaign, run.cell_id)

    def start(chosen: Sequence[str], whom: Sequence[str] = (), *, required: bool = True) -> Command:
        what = "the measured programs" if whom else "the system"
        return Command(
            do=("sh", "-c", START, "sh", file, kib, f"devicelab-{own}", str(_LONGEST_S), " ".join(chosen), *whom),
            undo=("sh", "-c", STOP, "sh", file, kib),
            why=f"a tracer records {what} ({', '.join(chosen)}: the first there is)",
            required=required,
            timeout_ms=_STOP_MS,
        )

    steps = (start(early, required=not late), *run.steps) if early else run.steps
    attached = (start(late, measured),) if late else ()
    return run.model_copy(update={"run_id": own, "steps": steps, "attached": (*run.attached, *attached)})


def tool_of(record: Mapping[str, Any]) -> str:
    """Which tool recorded a run, from its evidence; empty if none did."""
    steps = [step for step in record.get("steps") or () if START in (step.get("do") or ())]
    return _named(str(step.get("output") or "") for step in steps if step.get("held"))


def _named(outputs: Iterable[str]) -> str:
    """The tool that START named; what others said may stand before it."""
    lines = [line for output in outputs for line in output.splitlines() if line in {*_OF_PROGRAMS, *_WHOLE}]
    return lines[-1] if lines else ""


def flags(experiment: Experiment, record: RunRecord) -> Iterable[Flag]:
    """That the run was traced, with what: it enters no verdict unless the experiment says so."""
    tool = _named(step.output or "" for step in record.steps if step.do and START in step.do and step.held)
    counts = experiment.trace is not None and experiment.trace.counts
    detail = f"the system's tracer ({tool or 'none'}) recorded meanwhile, which costs time"
    return (Flag(code="traced", detail=detail, remark=counts),)


def costs(values: Mapping[str, Sequence[float]], with_tracer: Mapping[str, float]) -> list[float]:
    """By how many percent a cell's figure grew with the tracer, over the median of its runs without; a cell a value."""
    found = []
    for cell, value in with_tracer.items():
        plain = sorted(values.get(cell, ()))
        if plain and (middle := plain[len(plain) // 2]) > 0:
            found.append(100 * (value / middle - 1))
    return found
