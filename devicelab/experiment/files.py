"""Reads experiments: a file or the name of one that comes with devicelab, with ``--set`` applied."""

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from devicelab.errors import ConfigError
from devicelab.ground import registry, toml
from devicelab.model.experiment import Experiment


def known() -> tuple[str, ...]:
    """Names of the experiments that come with devicelab and of those in the user's folders, sorted."""
    return tuple(registry.toml_files("experiments", registry.data_dir("experiments")))


def own() -> tuple[str, ...]:
    """Names of the experiments that come with devicelab, sorted."""
    return tuple(sorted(path.stem for path in registry.data_dir("experiments").glob("*.toml")))


def load(name: str, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in a file, or of a name.

    Args:
        name: path of a TOML file, or the name of one that comes with devicelab or lies in a folder of the user's.
        overrides: ``key=value`` texts; see ``override``.

    Raises:
        ConfigError: no such experiment, several files of that name, or something in it is wrong that can be told
            without a device (place and reason).
    """
    path = Path(name)
    if path.suffix != ".toml" and not path.is_file():
        path = registry.toml_file("experiments", name, registry.data_dir("experiments"))
    data = toml.read(path)
    if "tuning" in data:
        raise ConfigError(
            f"{path}: [tuning] is no part of a file", hint="`devicelab tune` makes the rounds of a search"
        )
    for text in overrides:
        override(data, text)
    if isinstance(data.get("push"), list):
        data["push"] = [str(path.parent.absolute() / name) if isinstance(name, str) else name for name in data["push"]]
    try:
        experiment = Experiment.model_validate({**data, "name": data.get("name") or path.stem})
    except ValidationError as error:
        problems = toml.explain(error, Experiment)
        raise ConfigError(f"{path}: {problems}", hint="docs/reference/experiments.md has every key") from error
    from devicelab.experiment.check import check  # completion lists experiments and needs none of this

    check(experiment, overridden={text.partition("=")[0].strip() for text in overrides})
    return experiment


def override(data: dict[str, Any], text: str) -> None:
    """Apply one ``key=value`` to an experiment's data, in place.

    The key is a dotted path (``measure.params.network``, ``tenants.high.arrivals``); the name of a factor alone
    stands for its levels. The value is read as TOML (``5``, ``[1, 2]``, ``true``, ``"text"``), else as plain text.
    ``repetitions`` fixes their number, and so takes a stop rule away.

    Raises:
        ConfigError: no ``=``, or the path leads nowhere.
    """
    key, mark, raw = text.partition("=")
    key, value = key.strip(), _value(raw.strip())
    if not mark or not key:
        raise ConfigError(f"--set {text!r}: write key=value, such as --set repetitions=2")
    factors = data.get("factors", {})
    fixed = data.get("set", {})
    if not isinstance(factors, dict) or not isinstance(fixed, dict):
        raise ConfigError("[factors] and [set] are tables of words and their levels")
    if key in factors:
        factors[key] = value if isinstance(value, list) else [value]
        return
    if key in fixed:
        if isinstance(value, list):
            del fixed[key]
            data.setdefault("factors", {})[key] = value
        else:
            fixed[key] = value
        return
    if key == "repetitions":
        data.pop("stop", None)
    *path, last = key.split(".")
    if not path and last not in Experiment.model_fields:
        _set_new_word(data, last, value)
        return
    place: Any = data
    for part in path:
        place = _step(place, part, text)
    if not isinstance(place, dict):
        raise ConfigError(f"--set {text!r}: {'.'.join(path)} has no keys")
    place[last] = value


def _set_new_word(data: dict[str, Any], word: str, value: object) -> None:
    """A word the file does not mention: a factor if several levels are given, else held at one."""
    near = difflib.get_close_matches(word, Experiment.model_fields, n=1, cutoff=0.85)
    if near:
        raise ConfigError(f"--set {word}: no key named {word!r}", hint=f"did you mean {near[0]!r}?")
    kind = "factors" if isinstance(value, list) else "set"
    data.setdefault(kind, {})[word] = value


def _step(place: object, part: str, text: str) -> object:
    if isinstance(place, list):
        named = [item for item in place if isinstance(item, dict) and item.get("name") == part]
        if len(named) == 1:
            return named[0]
        names = ", ".join(str(item.get("name")) for item in place if isinstance(item, dict))
        raise ConfigError(f"--set {text!r}: no entry named {part!r}; there are: {names}")
    if not isinstance(place, dict):
        raise ConfigError(f"--set {text!r}: nothing named {part!r} there")
    return place.setdefault(part, {})


def _value(raw: str) -> Any:
    try:
        return toml.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw
