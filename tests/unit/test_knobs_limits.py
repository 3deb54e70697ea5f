"""The order in which a floor and a ceiling are written, against what kernels of two generations answer."""

from dataclasses import dataclass, field

import pytest
from board_trees import CPU, facts
from hypothesis import given
from hypothesis import strategies as st

from devicelab import knobs
from devicelab.knobs import _limits
from devicelab.model.plan import Write

TABLE = (710400, 825600, 940800, 1612800, 2016000, 2419200)
LOW, HIGH = TABLE[0], TABLE[-1]


@dataclass
class Kernel:
    """Requests of the user and what heat and boosts make of them.

    ``strict``: a request with floor > ceiling is EINVAL (to 5.3); later kernels take it and clamp.
    """

    strict: bool
    floor: int
    ceiling: int
    heat: int = HIGH
    boost: int = LOW
    refused: list[str] = field(default_factory=list)

    def shown(self) -> tuple[int, int]:
        """Effective limits: (floor, ceiling)."""
        ceiling = min(max(self.ceiling, self.boost if self.strict else LOW), self.heat)
        return min(max(self.floor, self.boost), ceiling), ceiling

    def write(self, step: Write, text: str) -> None:
        value = int(text)
        floor, ceiling = (value, self.ceiling) if step.path == "floor" else (self.floor, value)
        if self.strict and floor > ceiling:
            self.refused.append(f"{step.path} <- {value} (floor {self.floor}, ceiling {self.ceiling})")
            return
        self.floor, self.ceiling = floor, ceiling


points = st.sampled_from(TABLE)


@given(
    strict=st.booleans(),
    requests=st.tuples(points, points).map(sorted),
    heat=points,
    boost=points,
    target=points,
    cools=st.booleans(),
)
def test_no_kernel_refuses_a_pin_or_its_undo_from_any_state(
    strict: bool, requests: list[int], heat: int, boost: int, target: int, cools: bool
) -> None:
    kernel = Kernel(strict, *requests, heat=heat, boost=boost)
    floor, ceiling = kernel.shown()
    hot = "thermal-cpufreq-1 at 3" if heat < HIGH else None
    steps = _limits.pin(_limits.Limits("p", "kHz", "floor", "ceiling", floor, ceiling, LOW, HIGH, hot), target)
    for step in steps:
        kernel.write(step, step.value)
    assert kernel.refused == []
    assert (kernel.floor, kernel.ceiling) == (target, target)
    if cools:
        kernel.heat = HIGH
    for step in reversed(steps):
        assert step.restore is not None
        kernel.write(step, step.restore)
    assert kernel.refused == []
    assert kernel.floor == floor
    assert kernel.ceiling == (HIGH if hot else ceiling)


@given(requests=st.tuples(points, points).map(sorted), target=points)
def test_without_heat_or_boost_the_undo_is_exact(requests: list[int], target: int) -> None:
    kernel = Kernel(True, *requests)
    steps = _limits.pin(_limits.Limits("p", "kHz", "floor", "ceiling", *kernel.shown(), LOW, HIGH, None), target)
    for step in steps:
        kernel.write(step, step.value)
    for step in reversed(steps):
        kernel.write(step, step.restore or "")
    assert [kernel.floor, kernel.ceiling] == requests


def test_runs_that_get_hot_in_between_do_not_leave_the_phone_slow() -> None:
    """The undo says what was read when it was cool, not what each hot run would read before its writes."""
    steps = knobs.setting("cpu", "4:max", facts("sm8150")).steps
    ceiling = next(step for step in steps if step.kind == "write" and step.path.endswith("scaling_max_freq"))
    assert ceiling.restore == "2419200"
    assert ceiling.verify == "at-most"


def test_a_ceiling_that_reads_lower_for_heat_stops_no_run_but_a_refused_one_does() -> None:
    steps = knobs.setting("cpu", "4:1612800", facts("sm8150")).steps
    by_name = {step.path.rsplit("/", 1)[-1]: step for step in steps if step.kind == "write"}
    assert by_name["scaling_max_freq"].required
    assert by_name["scaling_max_freq"].verify == "at-most"
    assert not by_name["scaling_min_freq"].required
    assert by_name["scaling_min_freq"].verify == "first-int"


def test_a_ceiling_in_odd_hz_may_read_back_rounded_to_khz() -> None:
    odd = _limits.Limits("gpu", "Hz", "floor", "ceiling", 124999998, 799999987, 124999998, 799999987)
    ceiling, floor = _limits.pin(odd, 666666656)
    assert (ceiling.value, ceiling.expect, ceiling.verify) == ("666666656", "666667000", "at-most")
    assert (floor.value, floor.expect, floor.verify) == ("666666656", None, "at-most")
    even = _limits.pin(odd, 666667000)
    assert [(step.expect, step.verify) for step in even] == [(None, "at-most"), (None, "first-int")]


def test_limits_that_cannot_be_read_are_written_without_read_back() -> None:
    folder = f"{CPU}/cpufreq/policy4"
    device = facts("sm8150", change={f"{folder}/scaling_min_freq": None, f"{folder}/scaling_max_freq": None})
    steps = knobs.setting("cpu", "4:1612800", device).steps
    assert {step.verify for step in steps if step.kind == "write"} == {"none"}
    assert all(step.restore for step in steps if step.kind == "write")


@pytest.mark.parametrize("tree", ["sm8150", "sm8250", "exynos9825", "server"])
@pytest.mark.parametrize("want", ["min", "max"])
def test_every_write_says_why(tree: str, want: str) -> None:
    steps = knobs.setting("cpu", want, facts(tree)).steps
    assert steps
    assert all("policy" in step.why and "kHz" in step.why for step in steps)
