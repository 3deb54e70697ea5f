"""What is wrong with plug-ins: compared with the Protocol of their kind, then called on a real case.

Used for those from outside (``devicelab doctor --plugins``, and before a sweep that needs them) and, by the contract
tests, for all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from devicelab import boards, knobs
from devicelab.device import build, choose, toolchain
from devicelab.device.facts import open_device
from devicelab.errors import ConfigError, LabError, MeasurementError
from devicelab.experiment import files, loads, tenancy
from devicelab.ground import contract, registry
from devicelab.ground.finding import Claim
from devicelab.jobs.plugin_cases import empty_results, here, record, sample
from devicelab.knobs.base import Knob
from devicelab.model.device import Facts
from devicelab.model.experiment import Experiment, Level, Tenant
from devicelab.model.results import Results
from devicelab.schedulers.base import Place, Scheduler
from devicelab.transports.base import TransportKind
from devicelab.workloads.base import Context, OnGpu, OnPython, Workload

if TYPE_CHECKING:
    from devicelab.analyses.base import Analysis

# One of these is a level of nearly every knob; what a knob refuses, it refuses by a LabError.
_LEVELS: tuple[Level, ...] = ("min", "max", "on", "off", "none", "default", "stopped", 0, 1, 50, "no such level")
_OUTPUTS = (b"", b"\n", b"noise \xff\x00 17\n", b'{"tool": 3}\n[]\n')

_TENANTS = (
    Tenant(name="high", priority=2, workload="cpu_tenant"),
    Tenant(name="low", priority=1, workload="cpu_tenant", copies=2),
)

_RESERVED = frozenset((*loads.WORDS, *tenancy.WORDS))
_NOTHING: Any = object()


@dataclass(frozen=True)
class Examined:
    """A plug-in or TOML file from outside.

    Attributes:
        kind, name: as in "knob fan".
        where: a file, or an entry point with what offers it.
        problems: what is wrong, a sentence each that says what to change.
        note: what was not tried, and how to.
    """

    kind: str
    name: str
    where: str
    problems: tuple[str, ...]
    note: str = ""


class _Tried:
    """Calls functions of a plug-in and keeps what was wrong with the answers."""

    def __init__(self, protocol: type) -> None:
        self._protocol = protocol
        self.problems: list[str] = []

    def call(self, plugin: object, name: str, *args: object, may: type[LabError] = LabError) -> Any:
        """The answer, or ``_NOTHING`` where there is none that could be used."""
        hint = contract.returns(self._protocol, name)
        shown = ", ".join(_shown(arg) for arg in args)
        try:
            answer = getattr(plugin, name)(*args)
        except may:
            return _NOTHING
        except Exception as error:  # noqa: BLE001 - a plug-in of somebody else's may do anything
            told = f"{name}({shown}) failed: {type(error).__name__}: {error}"
            self.problems.append(f"{told}: return {contract.shown(hint)} or raise {may.__name__} (devicelab.errors)")
            return _NOTHING
        wrong = contract.mismatch(answer, hint, f"what {name}({shown}) returned")
        if wrong is not None:
            self.problems.append(wrong)
            return _NOTHING
        return answer


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str | bytes | int | float) else type(value).__name__
    return text if len(text) < 40 else f"{text[:36]}..."


def knob(family: Knob, facts: Facts) -> tuple[str, ...]:
    """A knob family on a device: whether it applies, its steps for some levels, what did not hold in an empty run."""
    tried = _Tried(registry.protocol("knobs"))
    fits = tried.call(family, "applies", facts) is True
    for word in family.WORDS:
        if word in _RESERVED:
            tried.problems.append(f"the word {word!r} means something else already: choose another")
        for want in _LEVELS if fits else ():
            if tried.call(family, "plan", word, want, facts) is not _NOTHING:
                tried.call(family, "prove", word, want, facts, record())
                if family.plan(word, want, facts) != family.plan(word, want, facts):
                    tried.problems.append(f"plan({word!r}, {want!r}) plans otherwise each time: make it pure")
    return tuple(dict.fromkeys(tried.problems))


def workload(one: Workload, facts: Facts) -> tuple[str, ...]:
    """A workload: its command line for made-up parameters, and what it reads from outputs that mean nothing."""
    tried = _Tried(registry.protocol("workloads"))
    for name in sorted({*one.NATIVE} - {*build.programs(), *build.libraries()}):
        tried.problems.append(f"NATIVE names {name!r}: there is no native/{name}.cpp")
    for file in one.FILES:
        if not registry.script(file).is_file():
            tried.problems.append(f"FILES names {file!r}: there is no such file")
        if Path(file).name in build.programs():
            tried.problems.append(f"FILES names {file!r}: a native program is called so on devices; rename the file")
    params, unknown = sample(one.Params)
    if unknown:
        tried.problems += unknown
        return tuple(tried.problems)
    line = tried.call(one, "command", params, Context(simulated=facts.simulated))
    if line is not _NOTHING and not line.argv:
        tried.problems.append("command() gives an empty argv: name the program to run")
    if line is not _NOTHING and Context().python in line.argv and not isinstance(one, OnPython):
        tried.problems.append("command() runs context.python: say so by PYTHON = True, so that it is looked for first")
    for output in _OUTPUTS:
        tried.call(one, "parse", output, params, may=MeasurementError)
    if isinstance(one, OnGpu) and not isinstance(one.needs_gpu(params), bool):
        tried.problems.append("needs_gpu() returns no bool")
    return tuple(dict.fromkeys(tried.problems))


def scheduler(one: Scheduler, facts: Facts) -> tuple[str, ...]:
    """A scheduler: what it does for two tenants, and what it sees in a run of which nothing is known."""
    tried = _Tried(registry.protocol("schedulers"))
    for variant in ("", "no such variant"):
        treatment = tried.call(one, "treat", variant, _TENANTS, Place(facts))
        tried.call(one, "verify", variant, _TENANTS, record())
        if treatment is not _NOTHING:
            for name in sorted({tenant.name for tenant in _TENANTS} - set(treatment.tenants)):
                tried.problems.append(f"treat() says nothing of tenant {name!r}: give every tenant a TenantTreatment")
    return tuple(dict.fromkeys(tried.problems))


def transport(kind: TransportKind, name: str) -> tuple[str, ...]:
    """A transport: what it sees attached, and that an address of another kind is none of its own."""
    tried = _Tried(registry.protocol("transports"))
    if name != kind.SCHEME:
        tried.problems.append(f"SCHEME is {kind.SCHEME!r} and the plug-in is called {name!r}: call both the same")
    try:
        kind.connect(f"not-{name}:x").close()
        tried.problems.append(f"connect('not-{name}:x') connects: raise ConfigError for an address of another kind")
    except LabError:
        pass
    except Exception as error:  # noqa: BLE001 - a plug-in of somebody else's may do anything
        told = f"connect('not-{name}:x') failed: {type(error).__name__}: {error}"
        tried.problems.append(f"{told}: raise ConfigError for an address of another kind")
    seen = tried.call(kind, "discover")
    for one in seen if seen is not _NOTHING else ():
        if not one.address.startswith(f"{name}:"):
            tried.problems.append(f"discover() gives the address {one.address!r}: begin it with '{name}:'")
    tried.call(kind, "listed_as", f"{name}:x")
    return tuple(dict.fromkeys(tried.problems))


def analysis(one: "Analysis", results: Results) -> tuple[str, ...]:
    """An analysis of a campaign; with one that has no runs it has little to say, and says that."""
    from devicelab.analyses.base import Drawing  # with pandas

    tried = _Tried(registry.protocol("analyses"))
    tried.call(one, "analyse", results)
    if isinstance(one, Drawing):
        drawn = _Tried(Drawing)
        drawn.call(one, "figures", results)
        tried.problems += drawn.problems
    return tuple(tried.problems)


def problems(kind: str, name: str, plugin: Any, facts: Facts | None = None) -> tuple[str, ...]:
    """All that is wrong with a plug-in, a sentence each that says what to change; called if it has what it needs.

    ``facts`` are of the device to try it on; of this computer where none are given.
    """
    found = registry.shape(kind, plugin)
    if found:
        return found
    if kind == "transports":
        return transport(plugin, name)
    if kind == "analyses":
        with empty_results() as results:
            return analysis(plugin, results)
    checks: dict[str, Callable[[Any, Facts], tuple[str, ...]]]
    checks = {"knobs": knob, "workloads": workload, "schedulers": scheduler}
    return checks[kind](plugin, facts or here())


def facts_of(board: str | None) -> Facts:
    """Facts to try plug-ins on: of the device that ``--board`` means, of this computer's nodes without it.

    Raises:
        LabError: the device cannot be chosen or reached.
    """
    if board is None:
        return here()
    device = open_device(choose.choose(board))
    device.transport.close()
    return device.facts


def examine(facts: Facts | None = None) -> tuple[Examined, ...]:
    """Everything from outside the package: plug-ins of every kind, commands, and the user's TOML files.

    ``facts`` are of the device to try them on; of this computer where none are given.
    """
    found: list[Examined] = []
    for kind in (*registry.CONTRACTS, "cli"):
        named, strays = registry.claims(kind)
        for name, claims in named.items():
            for claim in claims:
                if not claim.own:
                    others = [other.where for other in claims if other is not claim]
                    taken = (f"{' and '.join(others)} has that name too: rename one",) if others else ()
                    wrong, note = _one(kind, claim, facts or here())
                    found.append(Examined(registry.noun(kind), name, claim.where, (*taken, *wrong), note))
        found += [Examined(registry.noun(kind), Path(one.where).stem, one.where, (one.why,)) for one in strays]
    return (*found, *_toml_files())


def _one(kind: str, claim: Claim, facts: Facts) -> tuple[tuple[str, ...], str]:
    plugin, wrong = registry.load(kind, claim)
    if wrong or kind == "cli":
        return wrong, ""
    wrong = problems(kind, claim.name, plugin, facts)
    untried = kind == "knobs" and not wrong and not cast("Knob", plugin).applies(facts)
    note = f"it does not apply to {facts.name}: plan and prove were not tried (--board names a device)"
    return wrong, note if untried else ""


def _toml_files() -> Iterator[Examined]:
    readers: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "boards": (boards.FOLDER, boards.read),
        "experiments": (registry.data_dir("experiments"), lambda path: files.load(str(path))),
        "toolchains": (registry.data_dir("toolchains"), toolchain.read),
    }
    for kind, (own, read) in readers.items():
        for name, paths in registry.toml_files(kind, own).items():
            for path in paths:
                if path.parent != own.resolve():
                    others = " and ".join(str(other) for other in paths if other != path)
                    taken = (f"{others} has that name too: rename one",) if others else ()
                    yield Examined(registry.noun(kind), name, str(path), (*taken, *_said(read, path)))


def _said(read: Callable[[Path], object], path: Path) -> tuple[str, ...]:
    try:
        read(path)
    except LabError as error:
        return (str(error),)
    return ()


def vouch(experiment: Experiment) -> None:
    """The plug-ins from outside that an experiment names keep their contract; they are called on a case first.

    Raises:
        ConfigError: one does not: better now than in the middle of the night.
    """
    words = {*experiment.factors, *experiment.set}
    families = {name for word, names in knobs.words().items() if word in words for name in names.split("|")}
    legs = experiment.factors.get("scheduler", ()) if experiment.tenants else ()
    named = {
        "knobs": families,
        "workloads": set(experiment.workloads),
        "schedulers": {tenancy.parse_leg(leg).scheduler for leg in legs},
        "analyses": set(experiment.analyses),
    }
    for kind, names in named.items():
        for name in sorted(names - set(registry.own_names(kind))):
            wrong = problems(kind, name, registry.module(kind, name))
            if wrong:
                raise ConfigError(
                    f"{registry.noun(kind)} {name!r} breaks its contract: {'; '.join(wrong)}",
                    hint="devicelab doctor --plugins checks all that come from outside",
                )
