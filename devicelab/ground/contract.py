"""Whether a plug-in has what the Protocol of its kind asks for: members, parameters, annotations, values."""

import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def problems(plugin: object, protocol: type) -> tuple[str, ...]:
    """What a plug-in lacks or has otherwise than its Protocol, a sentence each that says what to change.

    Nothing of it is called. Parameters are compared by name and order (an underscore in front says "not used" and does
    not count), annotations only where the plug-in has them.
    """
    found: list[str] = []
    for name, hint in typing.get_type_hints(protocol, include_extras=True).items():
        if not hasattr(plugin, name):
            found.append(f"it has no {name}{_near(name, plugin)}: define {name}: {shown(hint)}")
        elif wrong := mismatch(getattr(plugin, name), hint, name):
            found.append(wrong)
    for name, wanted in functions(protocol).items():
        found += _function(name, wanted, plugin)
    return tuple(found)


def functions(protocol: type) -> dict[str, Callable[..., Any]]:
    """The functions a Protocol asks for, by name, those of its bases too."""
    found: dict[str, Callable[..., Any]] = {}
    for base in reversed(protocol.__mro__):
        if getattr(base, "_is_protocol", False):
            found |= {
                name: member
                for name, member in vars(base).items()
                if inspect.isfunction(member) and not name.startswith("_")
            }
    return found


def returns(protocol: type, name: str) -> Any:
    """What a function of a Protocol returns, as annotated."""
    return typing.get_type_hints(functions(protocol)[name], include_extras=True)["return"]


def _function(name: str, wanted: Callable[..., Any], plugin: object) -> list[str]:
    given = getattr(plugin, name, None)
    write = f"write `def {name}({', '.join(_wanted(wanted))}) -> {shown(_return_hint(wanted))}`"
    if given is None:
        return [f"it has no {name}(){_near(name, plugin)}: {write}"]
    if not callable(given):
        return [f"{name} is {_short(given)} and no function: {write}"]
    if inspect.iscoroutinefunction(given) or inspect.isgeneratorfunction(given):
        return [f"{name} is {'a generator' if inspect.isgeneratorfunction(given) else 'async'}: {write}"]
    found = []
    try:
        signature = inspect.signature(given)
    except (TypeError, ValueError):
        return []  # of a C extension: only a call tells
    if not _accepts(signature, _wanted(wanted)):
        found.append(f"{name} takes ({', '.join(signature.parameters)}): {write}")
    try:
        hint = typing.get_type_hints(given, include_extras=True).get("return", Any)
    except Exception as error:  # noqa: BLE001 - whatever an annotation of somebody else's does when it is read
        return [*found, f"the annotations of {name} cannot be read ({error}): import what they name"]
    if not _fits(hint, _return_hint(wanted)):
        found.append(f"{name} is annotated to return {shown(hint)}: {write}")
    return found


def _wanted(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)[1:]


def _return_hint(function: Callable[..., Any]) -> Any:
    return typing.get_type_hints(function, include_extras=True).get("return", Any)


def _accepts(signature: inspect.Signature, wanted: Sequence[str]) -> bool:
    """It can be called with these parameters by position, and they mean what they are called."""
    parameters = signature.parameters.values()
    positional = [one for one in parameters if one.kind in _POSITIONAL]
    rest = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters)
    names = [one.name.lstrip("_") for one in positional[: len(wanted)]]
    if names != [name.lstrip("_") for name in wanted[: len(names)]] or (len(names) < len(wanted) and not rest):
        return False
    more = [one for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    return all(one.default is not inspect.Parameter.empty for one in (*positional[len(wanted) :], *more))


def _fits(given: Any, wanted: Any) -> bool:
    """A function annotated to return ``given`` may stand where ``wanted`` is expected."""
    if given == wanted or Any in {given, wanted}:
        return True
    alternatives = (Union, types.UnionType)
    if get_origin(wanted) in alternatives:
        parts = get_args(given) if get_origin(given) in alternatives else (given,)
        return all(any(_fits(part, one) for one in get_args(wanted)) for part in parts)
    if isinstance(given, type) and isinstance(wanted, type) and not get_args(given):
        return _has_all(given, wanted) if _protocol(wanted) else issubclass(given, wanted)
    return False


def mismatch(value: object, hint: Any, where: str) -> str | None:
    """How a value differs from what its annotation says, a sentence; ``None`` if it does not.

    Looks into tuples, mappings and the fields of dataclasses. True and False are no numbers.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return mismatch(value, args[0], where)
    if hint is Any or (origin in {Union, types.UnionType} and not all(mismatch(value, one, where) for one in args)):
        return None
    if origin in {Union, types.UnionType} or not _is(value, origin or hint):
        return f"{where} is {_short(value)} ({type(value).__name__}): {shown(hint)} is expected"
    return next(filter(None, (mismatch(*part) for part in _parts(value, hint, where))), None)


def _is(value: object, kind: Any) -> bool:
    if kind is type(None):
        return value is None
    if kind is type or not isinstance(kind, type):
        return isinstance(value, type) if kind is type else True
    if kind in {int, float} and isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, int | float)
    return _has_all(value, kind) if _protocol(kind) else isinstance(value, kind)


def _parts(value: Any, hint: Any, where: str) -> list[tuple[object, Any, str]]:
    origin, args = get_origin(hint), get_args(hint)
    if origin is type:
        fits = isinstance(args[0], type) and issubclass(value, args[0])
        return [] if fits else [(value, types.NoneType, where)]
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return [(item, args[0], f"{where}[{place}]") for place, item in enumerate(value)]
    if origin in {Mapping, dict} or (isinstance(origin, type) and issubclass(origin, Mapping)):
        keys = [(key, args[0], f"a key of {where}") for key in value]
        return [*keys, *((item, args[1], f"{where}[{key!r}]") for key, item in value.items())]
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        return [(getattr(value, one.name), hints[one.name], f"{where}.{one.name}") for one in dataclasses.fields(hint)]
    return []


def _has_all(thing: object, protocol: type) -> bool:
    return all(hasattr(thing, name) for name in functions(protocol))


def _protocol(kind: Any) -> bool:
    return bool(getattr(kind, "_is_protocol", False))


def shown(hint: Any) -> str:
    """An annotation for people: without the modules its names come from."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return shown(args[0])
    if origin in {Union, types.UnionType}:
        return " | ".join(map(shown, args))
    if origin is not None:
        inner = ", ".join("..." if one is Ellipsis else shown(one) for one in args)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    return "None" if hint is types.NoneType else getattr(hint, "__name__", str(hint))


def _near(name: str, plugin: object) -> str:
    members = vars(plugin) if hasattr(plugin, "__dict__") else {}
    others = [other.lower() for other, value in members.items() if other[0] != "_" and not isinstance(value, type)]
    near = difflib.get_close_matches(name.lower(), others, n=1)
    return f" (is {near[0]!r} meant to be it?)" if near else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
