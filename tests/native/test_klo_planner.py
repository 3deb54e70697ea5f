"""klo's model and planner in C++ against the Python model."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from devicelab.analyses.klo import model as klo_model
from devicelab.ground import registry
from tests.compilers import host_compiler

Ask = Callable[[Sequence[str]], list[str]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Answers of the driver, one a question."""
    compiler = host_compiler()
    driver = tmp_path_factory.mktemp("driver") / "driver"
    source = Path(__file__).with_name("klo_model_driver.cpp")
    flags = (
        "-std=c++17",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    )
    subprocess.run([*compiler.argv, *flags, f"-I{registry.data_dir('native')}", source, "-o", driver], check=True)

    def answers(questions: Sequence[str]) -> list[str]:
        done = subprocess.run([driver], input="\n".join(questions) + "\n", capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    return answers


def _numbers(*parts: object) -> str:
    return " ".join(" ".join(map(repr, np.asarray(part, dtype=float).ravel().tolist())) for part in parts)


def _case(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = int(rng.integers(20, 90))
    p = rng.lognormal(np.log(20e3), 0.5, n)
    g = rng.lognormal(np.log(20e3) + rng.uniform(-0.8, 0.8), 0.6, n)
    return p, g, rng.uniform((3e3, 5e3, 3e3, 0), (30e3, 60e3, 30e3, 4e3))


@pytest.mark.parametrize(
    ("n", "p", "g", "costs", "expected"),
    [
        (10, 10, 20, (5, 0, 15, 0), {1: 350, 2: 285, 5: 270, 10: 305}),
        (10, 20, 10, (5, 0, 15, 0), {1: 260, 2: 245, 5: 260, 10: 305}),
        (7, 10, 20, (5, 30, 15, 0), {1: 275, 3: 235, 7: 245}),
        # F = 1 and f = 2: flushes of 1, 2 and 4 kernels cost 3, 5 and 9.
        (4, 10, 30, (1, 0, 0, 2), {1: 133, 2: 145, 4: 169}),
    ],
)
def test_the_known_makespans(
    ask: Ask, n: int, p: float, g: float, costs: tuple[float, ...], expected: dict[int, float]
) -> None:
    base = f"{n} {_numbers(costs, [p] * n, [g] * n)}"
    questions = []
    for k in expected:
        batches = klo_model.constant_batches(n, k)
        questions.append(f"makespan {base} {len(batches)} {' '.join(map(str, batches))}")
    assert list(map(float, ask(questions))) == list(expected.values())


def test_makespan_and_best_constant_agree_with_the_python_model(ask: Ask) -> None:
    rng = np.random.default_rng(1)
    questions, makespans, best = [], [], []
    for _ in range(50):
        p, g, costs = _case(rng)
        batches = klo_model.constant_batches(p.size, int(rng.integers(1, p.size + 1)))
        base = f"{p.size} {_numbers(costs, p, g)}"
        questions += [f"makespan {base} {len(batches)} {' '.join(map(str, batches))}", f"best {base}"]
        model = klo_model.LaunchCosts(*map(float, costs))
        makespans.append(klo_model.simulate(p, g, model, batches).makespan_ns)
        best.append(klo_model.best_constant(p, g, model)[0])
    answers = ask(questions)
    assert list(map(float, answers[::2])) == pytest.approx(makespans, rel=1e-12)
    assert list(map(int, answers[1::2])) == best


def _over_the_best(ask: Ask, change: Callable[[np.ndarray], np.ndarray], noise: float) -> np.ndarray:
    """How far the planner's makespans are above the best schedule made with hindsight, in percent."""
    rng = np.random.default_rng(7)
    questions, best = [], []
    for _ in range(100):
        p, g, costs = _case(rng)
        real = change(p * rng.lognormal(0, noise, p.size))
        questions.append(f"dynamic {p.size} {_numbers(costs, p, g, real)}")
        best.append(klo_model.best_schedule(real, g, klo_model.LaunchCosts(*map(float, costs)))[1])
    answers = ask(questions)
    for question, answer in zip(questions, answers, strict=True):
        assert sum(map(int, answer.split()[1:])) == int(question.split()[1])
    return 100 * (np.array([float(answer.split()[0]) for answer in answers]) / np.array(best) - 1)


def _doubled_half_way(p: np.ndarray) -> np.ndarray:
    return np.where(np.arange(p.size) < p.size // 2, p, 2 * p)


def test_the_planner_stays_near_the_best_schedule(ask: Ask) -> None:
    over = _over_the_best(ask, lambda p: p, noise=0.1)
    assert np.median(over) < 2
    assert np.quantile(over, 0.9) < 4


def test_the_planner_follows_when_production_takes_twice_as_long_half_way(ask: Ask) -> None:
    assert np.median(_over_the_best(ask, _doubled_half_way, noise=0.1)) < 3


def test_the_planner_adapts_to_a_constant_slowdown(ask: Ask) -> None:
    assert np.median(_over_the_best(ask, lambda p: 3 * p, noise=0.1)) < 2


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("p", [0, 10])
@pytest.mark.parametrize("g", [0, 10])
def test_degenerate_inputs_give_a_whole_schedule(ask: Ask, n: int, p: float, g: float) -> None:
    (answer,) = ask([f"dynamic {n} {_numbers((0, 0, 0, 0), [p] * n, [g] * n, [p] * n)}"])
    assert sum(map(int, answer.split()[1:])) == n
