"""Schedulers for tests: tenants, what witnesses say when all is well, and short ways to treat and verify."""

from collections.abc import Sequence
from typing import Any

from devicelab.ground import registry
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.schedulers.base import Place, Treatment
from tests.tenantdata import place, record

THREE = (
    Tenant(name="A", priority=3, workload="torch_model", params={"model": "vit_b_16"}, deadline_ms=100),
    Tenant(name="B", priority=2, workload="torch_model", params={"model": "mobilenet_v2"}),
    Tenant(name="C", priority=1, workload="torch_model", params={"model": "resnet50"}, copies=2),
)
PIDS = {"A": 11, "B": 12, "C": 13, "C#2": 14}
GPU = place("nvidia-server", {"xsched": "/opt/xsched", "hami": "/opt/hami"})
MIG = [f"MIG-{n}0000000-0000-0000-0000-000000000000" for n in (1, 2, 3)]

CUS = (("A", "0-9"), ("B", "10-19"), ("C", "20-79"), ("C#2", "20-79"))

# A variant that makes sense, for each scheduler, and what its witnesses say when all is well.
GOOD: dict[str, tuple[str, dict[str, str]]] = {
    "native": ("", {f"maps {name}": "looked\n" for name in PIDS}),
    "nice": (
        "",
        {f"nice {n}": f"nice {v}\n" for n, v in (("A", 0), ("B", 10), ("C", 19), ("C#2", 19))}
        | {f"session {n}": f"/autogroup-7 nice {v}\n" for n, v in (("A", 0), ("B", 10), ("C", 19), ("C#2", 19))},
    ),
    "mps": ("", {"mps clients": "server 5\n" + "".join(f"client {pid}\n" for pid in PIDS.values())}),
    "green": ("40", {"mps clients": "server 5\n" + "".join(f"client {pid}\n" for pid in PIDS.values())}),
    "mps_static": (
        "4",
        {
            "mps clients": "server 5\n" + "".join(f"client {pid}\n" for pid in PIDS.values()),
            "mps partitions": "first GPU-7/Dx\nrest GPU-7/Ex\n",
        }
        | {f"environ {n}": f"CUDA_MPS_SM_PARTITION=GPU-7/{'E' if n == 'A' else 'D'}x\n" for n in PIDS},
    ),
    "hami": (
        "50",
        {f"maps {n}": "looked\n" if n == "A" else "/opt/hami/libvgpu.so\nlooked\n" for n in PIDS}
        | {f"environ {n}": "CUDA_DEVICE_SM_LIMIT=50\n" for n in PIDS if n != "A"},
    ),
    "stream_priority": ("", {}),
    "xsched": (
        "HPF",
        {
            "xserver": "policy HPF\n"
            + "".join(f"process {p} priority {n}\n" for p, n in zip(PIDS.values(), (3, 2, 1, 1), strict=True))
            + "".join(f"XQueue from process {p} created\n" for p in PIDS.values())
            + "server alive\n"
        },
    ),
    "mig": (
        ",".join(MIG),
        {"gpus": "".join(f"  MIG 1g.10gb Device 0: (UUID: {one})\n" for one in MIG)}
        | {f"environ {n}": f"CUDA_VISIBLE_DEVICES={MIG[i]}\n" for n, i in (("A", 0), ("B", 1), ("C", 2), ("C#2", 2))},
    ),
    "cu_mask": (
        "0-9,10-19,20-79",
        {f"environ {n}": f"HSA_CU_MASK=0:{part}\n" for n, part in CUS},
    ),
}  # fmt: skip
SMS = {name: (80, "0-79") if name == "A" else (52, "0-51") for name in PIDS}
STREAMS = {
    name: f'{{"tool":"torch_tenant","stream_priority":{-1 if name == "A" else 0},'
    f'"sm_total":132,"sm_asked":{count},"sm_granted":{count},"sm_ids":"{ids}","threads":1}}\n'
    for name, (count, ids) in SMS.items()
}


def treat(name: str, variant: str, tenants: Sequence[Tenant] = THREE, where: Place = GPU) -> Treatment:
    return registry.scheduler(name).treat(variant, tenants, where)


def verify(name: str, variant: str, seen: RunRecord, tenants: Sequence[Tenant] = THREE) -> tuple[Flag, ...]:
    return registry.scheduler(name).verify(variant, tenants, seen)


def good(name: str, **changes: Any) -> RunRecord:
    return record(PIDS, {**GOOD[name][1], **changes.pop("witnesses", {})}, stdout=STREAMS, **changes)
