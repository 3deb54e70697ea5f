"""Targets: what devices say. Journals, output of programs, properties, nodes, answers of the agent."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import Any, cast

from devicelab import boards, knobs
from devicelab.device import agent, runner
from devicelab.device.facts import Device
from devicelab.device.journal_reader import JournalReader
from devicelab.device.probe import parse_probe
from devicelab.errors import ConfigError
from devicelab.experiment import evidence, gauge, plan, programs
from devicelab.experiment.conditions import run_conditions
from devicelab.experiment.judge import judge
from devicelab.ground.registry import module
from devicelab.model.device import Board, Facts
from devicelab.model.experiment import Cell, Thermal
from devicelab.model.journal import RunRecord, seal_line
from devicelab.model.tree import Node, parse_snapshot
from devicelab.store.records import run_rows
from devicelab.transports.base import Completed
from tests import labdata, tenantdata
from tests.fuzz.target import Target, joined, parted, pieces
from tests.unit import board_trees

_MARK = b',"line_sha256":"'
_WORDS = ("cpu", "gpu", "governor", "cores", "isolation", "thermal", "membus", "cpuset", "uclamp", "idle_states")


# --- journal


def _sealed(data: bytes) -> bytes:
    """Lines that begin with "+" get their checksum here: nobody guesses one."""
    lines = []
    for line in data.split(b"\n"):
        if line.startswith(b"+{"):
            body = line[1:].rpartition(b"}")[0]
            lines.append(body + _MARK + hashlib.sha256(body).hexdigest().encode() + b'"}')
        else:
            lines.append(line)
    return b"\n".join(lines)


_EXPERIMENT = labdata.experiment(factors={"load": ("none",), "k": (1,), "cpu": ("min",), "cores": ("big",)})
_CELL = Cell(levels={"load": "none", "k": 1, "cpu": "min", "cores": "big", "gpu": "max"}, measured="klo")
_TENANTS = tenantdata.experiment(repetitions=1)
_PHONE = board_trees.facts("sm8150")


def _journal(data: bytes) -> None:
    reader = JournalReader()
    for chunk in pieces(data[:1] + _sealed(data[1:])):
        for event in reader.feed(chunk):
            if isinstance(event, RunRecord):
                _judge(event)


def _judge(record: RunRecord) -> None:
    """All that becomes of a run's record before and after it is stored."""
    measurements, flags = judge(record, _CELL, _EXPERIMENT, _PHONE)
    run_rows(record, 0, measurements, flags)
    for cell in plan.cells(_TENANTS)[:2]:
        programs.read(record, cell, _TENANTS, _PHONE)
    gauge.read(record)
    run_conditions(json.loads(record.model_dump_json()))


def _journal_seeds() -> Iterator[bytes]:
    record = labdata.record("r1", 1, stdout=KLO.decode()).model_dump(mode="json")
    start = {"event": "plan-start", "plan_id": "p", "agent_version": "1", "agent_pid": 3, "boot_id": "b"}
    lines = [
        {**start, "t_ns": 1, "t_unix_ns": 2, "flags": [{"code": "agent-busy", "detail": "x"}]},
        {"event": "run-start", "run_id": "r1", "seq": 0, "t_ns": 3},
        record,
        {"event": "sample", "run_id": "r1", "t_ns": 4, "busy": {"0": 1}, "total": {"0": None}, "nodes": {"/a": None}},
        {
            "event": "plan-end",
            "reason": "complete",
            "t_ns": 9,
            "runs_done": 1,
            "restore": [{"path": "/a", "held": True}],
        },
    ]
    for line in lines:
        yield b"\0+" + json.dumps(line).encode() + b"\n"
    yield b"\7" + b"".join(seal_line(line) for line in lines)
    nodes = {path: [node.text] * 2 for path, node in list(_PHONE.tree.items())[:60]}
    around = {path: node.text for path, node in _PHONE.tree.items()}
    record = {**record, "samples": {**record["samples"], "nodes": nodes}, "before": around, "after": around}
    yield b"\0+" + json.dumps(record).encode() + b"\n"
    tenants = [
        {"name": name, "role": "measure", "pid": 1, "stdout": TENANT.decode(), "exit_code": 0, "granted": [1]}
        for name in ("high", "low")
    ]
    yield b"\0+" + json.dumps({**record, "programs": tenants}).encode() + b"\n"


# --- output of programs

KLO = b"".join(
    json.dumps(line).encode() + b"\n"
    for line in (
        {
            "event": "header", "klo": 1, "backend": "emulated", "simulated": True, "platform": "p", "device": "d",
            "driver": "1", "extensions": "cl_khr_x", "network": "n", "kernels": 2, "policy": "constant", "k": 1,
        },
        {
            "event": "inference", "phase": "profiled", "total_ns": 90, "planning_ns": 0, "batches": [1, 1],
            "flush_ns": [3, 3], "queued_ns": [1, 2], "submit_ns": [3, 4], "start_ns": [5, 20], "end_ns": [9, 30],
        },
        {
            "event": "inference", "phase": "plain", "total_ns": 80, "planning_ns": 0, "batches": [1, 1],
            "flush_ns": [3, 3],
        },
        {"event": "end", "inferences": 2},
    )
)  # fmt: skip
TENANT = (
    b'{"tool":"torch_tenant","duration_s":4.0,"arrivals":"fixed:100","device":"cuda"}\n'
    b'{"requests":{"scheduled_ns":[0,10],"start_ns":[1,11],"end_ns":[9,19]}}\n'
    b'{"end":true,"requests":2,"dropped_scheduled_ns":[5]}\n'
)
_ACL_JSON = json.dumps(
    {
        "Version": "v23", "CL_DEVICE_VERSION": "2.0", "CommandLine": "x", "Iterations": "3",
        "tests": {"a": {"measurements": {
            **{f"OpenCLTimestamps/[{stamp}]node/kernel GWS[1,1] #{n}": {"raw": [n + at, ["4"], 5.5], "unit": "ns"}
               for n in (0, 1) for at, stamp in enumerate(("queued", "flushed", "start", "end"))},
            "OpenCLTimer/k GWS[1] #0": {"raw": [1, 2, 3], "unit": "us"},
            "Wall clock/Wall clock time": {"raw": ["1"], "unit": "s"},
        }}},
    }
).encode()  # fmt: skip
_ACL_TEXT = (
    b"Version = v20\nCommandLine = ./b\nIterations = 3\nRunning [0] 'a'\n"
    b"  OpenCLTimer/gemm GWS[3] #0:    AVG=2.5 ms, STDDEV=1 %, MIN=2 ms, , MAX=3 ms, , MEDIAN=2.4 ms\n"
    b"\x1b[32m  Wall clock/Wall clock time:    AVG=7.0 us\x1b[m\n"
)


def _parse(workload: str, **params: Any) -> Any:
    used = module("workloads", workload)
    given = used.Params.model_validate(params)
    return lambda data: used.parse(data, given)


_COMMANDS = {
    "jsonl": _parse("command", argv=["x"], output="jsonl"),
    "csv": _parse("command", argv=["x"], output="csv"),
    "kernels": _parse("command", argv=["x"], output="csv", columns=["queued_ns", "submit_ns", "start_ns", "end_ns"]),
    "regex": _parse("command", argv=["x"], output="regex", pattern=r"t=(?P<total_us>[0-9.]+) k=(?P<kernel>\S+)"),
    **{
        form: _parse("command", argv=["x"], output=form)
        for form in (
            "json",
            "tflite",
            "llama-bench",
            "ncnn",
            "mnn",
            "mnn-llm",
            "onnxruntime",
            "androidx",
            "mlperf",
        )
    },
}


def _command(data: bytes) -> None:
    form, _, output = data.partition(b"\n")
    _COMMANDS.get(form.decode("ascii", "replace"), _COMMANDS["csv"])(output)


def _command_seeds() -> tuple[bytes, ...]:
    return (
        b'jsonl\nhello\n{"queued_ns":1,"submit_ns":2,"start_ns":3,"end_ns":4,"kernel":0,"inference":0}\n{"a":"1e3"}\n',
        b"csv\ntotal_us,kernel,share_pct\n1,0,3.5\n2,1,4\n",
        b'kernels\nqueued_ns,submit_ns,start_ns,end_ns,"kernel"\n1,2,3,4,0\n1,2,3,4,1\n',
        b"regex\nt=1.5 k=0\nt=2 k=1\n",
        (
            b"tflite\nGraph: [/a.tflite]\ncount=2 first=5 curr=5 min=5 max=5 avg=5 std=0\n"
            b"Inference timings in us: Init: 1, First inference: 5, Warmup (avg): 5, Inference (avg): 5\n"
        ),
        b"ncnn\nloop_count = 8\n  a  min =    2.44  max =    2.51  avg =    2.46\n",
        b"mnn\nForward type: **CPU** thread=4**\n[ - ] a.mnn  max =   6.1 ms  min =   3.8 ms  avg =   4.0 ms\n",
        b'llama-bench\n[{"n_prompt": 5, "n_gen": 0, "avg_ns": 1e9, "avg_ts": 5, "samples_ns": [1000000000]}]\n',
        b"llama-bench\nn_prompt,n_gen,avg_ns,avg_ts\n5,0,1000000000,5\n",
        b"mnn-llm\n| model | test | t/s |\n| - | - | - |\n| a | pp5 | 1.00 \xc2\xb1 0.10 |\n",
        b"onnxruntime\nAverage inference time cost: 1.8 ms\nMin Latency: 0.0018 s\na,0.1,5,9,0\n",
        b'androidx\n{"benchmarks": [{"name": "a", "metrics": {"timeNs": {"runs": [1.5, 2]}}}]}\n',
        (
            b"mlperf\nMLPerf Results Summary\nScenario : SingleStream\nResult is : VALID\nMean latency (ns) : 5\n"
            b"Test Parameters Used\n"
        ),
        (
            b'mlperf\n:::MLLOG {"key": "result_validity", "value": "VALID"}\n'
            b':::MLLOG {"key": "result_99.90_percentile_latency_ns", "value": 5}\n'
        ),
    )


# --- facts and nodes


def _probe(data: bytes) -> None:
    basics = parse_probe(data.decode("utf-8", "replace"))
    boards.recognise(basics.props, _PHONE.tree)
    assert basics.android in {True, False}
    assert basics.abi
    assert basics.dir.startswith("/")


_PROBE = (
    b"machine=aarch64\nkernel=4.14.117\nroot=su-c\ndir=/data/local/tmp/devicelab\nboot_id=b\n--- props\n"
    b"[ro.product.cpu.abi]: [arm64-v8a]\n[ro.hardware]: [qcom]\n[ro.product.model]: [SM-N970F]\n--- os\n"
    b'ID="debian"\n--- sums\n' + b"a" * 64 + b"  agent\n"
)


def _facts_of(nodes: list[Node], board: Board | None = None) -> Facts:
    made = _PHONE.model_copy(update={"nodes": tuple(nodes), "board": board or _PHONE.board})
    made.__dict__.pop("tree", None)  # made from the nodes once
    return made


def _snapshot(data: bytes) -> None:
    try:
        tree = parse_snapshot(data)
    except ValueError:
        return  # its callers say which device
    _use(_facts_of(list(tree.values())), len(data))


def _nodes(data: bytes) -> None:
    """Parts "NUMBER:TEXT" replace the text of a node of a known board; the first part names the board."""
    name, *changes = parted(data)
    trees = tuple(board_trees.TREES)
    kind = name.decode("ascii", "replace")
    facts = board_trees.facts(kind if kind in trees else trees[sum(name) % len(trees)])
    nodes = list(facts.tree.values())
    for change in changes:
        number, _, text = change.partition(b":")
        if nodes and number.isdigit() and len(number) < 9:
            at = int(number) % len(nodes)
            nodes[at] = nodes[at].model_copy(update={"text": text.decode("utf-8", "replace")})
    _use(_facts_of(nodes, facts.board), len(data))


def _use(facts: Facts, chosen: int) -> None:
    """All that is made of a device's nodes; two of the words of knobs, since there are many."""
    boards.recognise(facts.props, facts.tree)
    for spec in ("big", "0-3"):
        _refused(knobs.resolve_cores, spec, facts)
    knobs.clusters(facts)
    evidence.sampled(facts)
    evidence.around(facts)
    gauge.nodes(facts)
    _refused(knobs.gates, Thermal(), facts)
    texts = {path: node.text for path, node in facts.tree.items()}
    record = labdata.record("r", 1).model_copy(
        update={
            "before": texts,
            "after": {path: (text or "")[::-1] for path, text in texts.items()},
            "samples": labdata.record("r", 1).samples.model_copy(
                update={"nodes": {p: (t, t) for p, t in texts.items()}}
            ),
        }
    )
    for word in (_WORDS[chosen % len(_WORDS)], _WORDS[chosen // len(_WORDS) % len(_WORDS)]):
        for level in ("min", "big", 1_000_000):
            _refused(knobs.setting, word, level, facts)
            _refused(knobs.prove, word, level, facts, record)
    run_conditions(json.loads(record.model_dump_json()))


def _refused(call: Any, *args: Any) -> None:
    with contextlib.suppress(ConfigError):
        call(*args)


def _snapshot_seeds() -> Iterator[bytes]:
    for name in board_trees.TREES:
        nodes = list(board_trees.facts(name).tree.values())
        yield b"".join(node.model_dump_json(exclude_defaults=True).encode() + b"\n" for node in nodes[:40])


def _node_seeds() -> Iterator[bytes]:
    for name in board_trees.TREES:
        facts = board_trees.facts(name)
        yield name.encode()
        for number, node in enumerate(facts.tree.values()):
            if number % 7 == 0:
                yield joined(name.encode(), f"{number}:{node.text}".encode())


# --- answers of the agent's other commands


class _Answering:
    """A transport whose every command says the same."""

    address = "adb:0123"

    def __init__(self, done: Completed) -> None:
        self._done = done

    def run(self, *_args: Any, **_kwargs: Any) -> Completed:
        return self._done


def _answers(data: bytes) -> None:
    code = data[0] % 9 if data else 0
    transport = cast("Any", _Answering(Completed(code, data[1:], b"said")))
    device = Device(cast("Any", None), transport, _PHONE, cast("Any", None), {})
    for call in (agent.status, agent.restore, lambda it: runner.plans_there(it, "20261122")):
        try:
            call(device)
        except Exception as error:
            if not hasattr(error, "exit_code"):
                raise


_ANSWERS = (
    b'\0{"lease":{"holder":"me","remaining_s":3.5},"agent":{"alive":true,"plan_id":"p"},"undo":{"pending":["a"]}}',
    b'\10{"failed":["/sys/a"]}',
    b'\3{"restored":[]}',
)

TARGETS = (
    Target(
        "journal", "agent's journal lines, and all that is judged and stored of a run", _journal, _journal_seeds,
        words=(b"+{", b"1e400", b"9" * 40, b'"stdout_b64":"AA=="', b"\\ud800", b"null"),
    ),
    Target("klo", "output of klo", _parse("klo"), lambda: (KLO,), words=(b"1e999", b"2305843009213693952", b"-1")),
    Target("acl", "output of Arm Compute Library's benchmarks", _parse("acl_benchmark", binary="/b"),
           lambda: (_ACL_JSON, _ACL_TEXT), words=(b"NaN", b"1e999", b" #0", b"AVG=", b"\x1b[32m")),
    Target("tenant", "output of tenants", _parse("torch_model", model="matmul"), lambda: (TENANT,), (b"1e999", b"NaN")),
    Target("command", "output of any program", _command, _command_seeds, words=(b"inf", b"1e308", b'"')),
    Target("load", "output of the load", _parse("overhead", sleep_us=1, inner_iter=1), lambda: (b"123\n",)),
    Target("probe", "properties and facts of a device", _probe, lambda: (_PROBE,), allowed=(ValueError,)),
    Target("snapshot", "nodes as the agent prints them, and what knobs make of them", _snapshot, _snapshot_seeds),
    Target("nodes", "texts of nodes (tables, limits, zones, CPU lists) of known boards", _nodes, _node_seeds,
           words=(b"--1", b"9" * 5000, b"0-", b"0-99999999", b"\xc2\xb2")),
    Target("answers", "answers of the agent's commands", _answers, lambda: _ANSWERS, words=(b"[]", b'"x"', b"1e999")),
)  # fmt: skip
