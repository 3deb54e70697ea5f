"""The case that plug-ins are tried on: this computer's nodes, a run of which nothing is known, no runs at all."""

import contextlib
import platform
import tempfile
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from devicelab import boards, knobs
from devicelab.device import toolchain
from devicelab.experiment import plan
from devicelab.ground import toml
from devicelab.model.device import Facts
from devicelab.model.experiment import Experiment
from devicelab.model.journal import RunRecord
from devicelab.model.results import Results
from devicelab.model.tree import Node

_VALUES = ("x", "/x", 1, 1000, 0.5, True, ("x",))


def sample(model: type[BaseModel]) -> tuple[Any, list[str]]:
    """Parameters of a workload: its defaults, and made-up values (or a field's ``examples``) where there is none."""
    values, wrong = {}, []
    for name, field in model.model_fields.items():
        if field.is_required():
            fitting = [
                value for value in (*(field.examples or ()), *_VALUES, *_literals(field)) if _takes(field, value)
            ]
            if fitting:
                values[name] = fitting[0]
            else:
                wrong.append(f"Params.{name} has no default, and no value could be made up: give Field(examples=[...])")
    if wrong:
        return None, wrong
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        return None, [
            f"Params takes none of the values that were made up ({toml.explain(error, model)}): give examples"
        ]


def _literals(field: FieldInfo) -> tuple[object, ...]:
    return typing.get_args(field.annotation)


def _takes(field: FieldInfo, value: object) -> bool:
    annotation: Any = field.annotation
    try:
        create_model("One", value=(annotation, field))(value=value)
    except ValidationError:
        return False
    return True


def record() -> RunRecord:
    """A finished run of which nothing else is known."""
    return RunRecord(
        event="run", run_id="0" * 16, seq=0, status="done", t_start_ns=1, t_end_ns=2_000_000_001, t_unix_ns=3
    )


@cache
def here() -> Facts:
    """This computer as a device, as far as reading its nodes tells; no agent is needed for that."""
    paths = {path for pattern in knobs.globs() for path in Path("/").glob(pattern.lstrip("/"))}
    nodes = tuple(Node(path=str(path), text=text) for path in sorted(paths) if (text := _text(path)) is not None)
    return Facts(
        name="local",
        address="local:",
        board=boards.load(boards.LINUX),
        abi=toolchain.host_abi() or "x86_64",
        os="linux",
        kernel=platform.release(),
        boot_id="",
        root="none",
        dir=tempfile.gettempdir(),
        nodes=nodes,
    )


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode(errors="replace")
    except OSError:
        return None


@contextlib.contextmanager
def empty_results() -> Iterator[Results]:
    """A stored campaign that has no runs yet."""
    from devicelab.store import Store

    experiment = Experiment(name="empty", question="Nothing was measured.", factors={"load": ("none",)})
    with tempfile.TemporaryDirectory(prefix="devicelab-") as folder, Store.open(Path(folder) / "empty.sqlite") as store:
        campaign = store.begin_campaign(
            experiment=experiment, facts=here(), cells=plan.cells(experiment), command="", binaries=(), plan_json=None
        )
        yield store.results(campaign)
