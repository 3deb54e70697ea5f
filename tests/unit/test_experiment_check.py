"""A typo in an experiment is told before a device is touched, with what was probably meant."""

from pathlib import Path

import pytest

from devicelab.errors import ConfigError
from devicelab.experiment import files

GOOD = """
question = "Does a background load slow hashing down?"
repetitions = 6
settle_s = 0.2
analyses = ["load", "placement"]
require = ["cpu"]

[factors]
load = ["none", "10 1000 20"]
placement = ["one-per-core"]

[measure]
workload = "command"

[measure.params]
argv = ["openssl", "speed", "-mr", "sha256"]
output = "regex"
pattern = 'sha256:(?P<bytes_per_s>[0-9.]+)'

[[checks]]
name = "the load costs less than 20 percent"
metric = "bytes_per_s"
where = { load = "10 1000 20" }
against = { load = "none" }
bound = "> -20 %"
"""


def load(folder: Path, text: str, *overrides: str) -> None:
    path = folder / "hash.toml"
    path.write_text(text)
    files.load(str(path), overrides)


def test_a_sound_experiment_is_taken(tmp_path: Path) -> None:
    load(tmp_path, GOOD)


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("repetitions = 6", "repetition = 6", "repetition: no such key, did you mean 'repetitions'?"),
        ("repetitions = 6", "repetitions = 0", "repetitions: at least 1 is expected (got 0)"),
        ("repetitions = 6", 'repetitions = "six"', "repetitions: a whole number is expected (got 'six')"),
        ("settle_s = 0.2", "settle_s = -1", "settle_s: at least 0 is expected (got -1)"),
        ("question =", "quest =", "question is missing"),
        ("load = [", "lod = [", "did you mean 'load'?"),
        ('["none", "10 1000 20"]', '"none"', "factors.load: a list is expected (got 'none')"),
        ('"10 1000 20"]', '"10 1000"]', "has 2 numbers instead of 3"),
        ('"placement"]', '"placment"]', "did you mean 'placement'?"),
        ('require = ["cpu"]', 'require = ["cpux"]', "no knob to require named 'cpux'"),
        ('workload = "command"', 'workload = "comand"', "did you mean 'command'?"),
        ("[measure]", "[measure]\ncors = 'big'", "measure.cors: no such key, did you mean 'cores'?"),
        ("argv =", "args =", "args: no such key, did you mean 'argv'?"),
        ('output = "regex"', 'output = "regexp"', "output: one of 'regex', 'jsonl', 'json', 'csv', 'none', "),
        ("where = { load", "where = { lod", "no factor of the experiment named 'lod'"),
        ('where = { load = "10 1000 20"', 'where = { load = "10 1000 2"', "no level of load named '10 1000 2'"),
        ('"> -20 %"', '"about 20 %"', "no bound: 'about 20 %'"),
        ('"> -20 %"', '"> -20 ms"', "a ratio has no unit 'ms'"),
    ],
)
def test_a_typo_is_named_with_what_was_probably_meant(tmp_path: Path, right: str, wrong: str, words: str) -> None:
    assert right in GOOD
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(right, wrong, 1))
    assert words in str(caught.value)


def test_an_override_with_a_typo_names_the_key_that_is_near(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'repetitions'"):
        load(tmp_path, GOOD, "repetition=1")


def test_a_check_may_name_a_level_that_an_override_leaves_out(tmp_path: Path) -> None:
    load(tmp_path, GOOD, 'load=["none"]')


TENANTS = """
question = "Does niceness help?"
analyses = ["priority"]

[factors]
scheduler = ["standalone", "native", "nice"]
pressure = [2, 16]
load = ["none"]

[[tenants]]
name = "high"
priority = 2
workload = "cpu_tenant"

[[tenants]]
name = "low"
priority = 1
workload = "cpu_tenant"
"""


def test_a_factor_that_tenants_analyses_would_pool_is_refused(tmp_path: Path) -> None:
    load(tmp_path, TENANTS)
    for override, word in (('load=["none", "10 1000 20"]', "load"), ('gpu=["min", "max"]', "gpu")):
        with pytest.raises(ConfigError, match=f"factors.{word}: .* repetitions of one leg") as caught:
            load(tmp_path, TENANTS, override)
        assert "a sweep for each level" in str(caught.value)
    load(tmp_path, TENANTS, 'load=["10 1000 20"]', "gpu=min")


@pytest.mark.parametrize("name", files.known())
def test_every_experiment_that_comes_with_devicelab_is_sound(name: str) -> None:
    files.load(name)
