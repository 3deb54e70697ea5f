"""Which settings of a large grid to try next: Optuna proposes, from what was measured so far."""

import random
from collections.abc import Mapping, Sequence

from devicelab.errors import ConfigError
from devicelab.experiment import racing
from devicelab.experiment.claims import Cells, level_text
from devicelab.experiment.racing import Proposer, Values
from devicelab.ground import extras
from devicelab.model.experiment import Level

# Settings that are tried together: fewer make better use of what is known, more need fewer plans.
_BATCH = 6
# Of the trials this share is drawn blindly at first.
_BLIND = 0.3
# Proposals that may repeat what was tried before one gives up.
_TRIES = 200


def from_optuna(cells: Cells, trials: int, seed: int) -> Proposer:
    """Tries some settings drawn by the seed, then what a tree-structured Parzen estimator proposes, batch by batch.

    Numbers among the levels are ordered, words are not. Each batch starts anew from what is measured (how far each
    setting is behind the best, blocks taken out), so the same data give the same proposals on any host.

    Raises:
        ConfigError: Optuna is not installed.
    """
    require_optuna(len(cells))
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    cells = dict(sorted(cells.items()))  # a campaign that goes on has them in another order
    factors = _factors(cells)
    by_levels = {_key(levels, factors): cell for cell, levels in cells.items()}
    first = batches(trials)[0]

    proposed: dict[tuple[tuple[str, ...], int], tuple[str, ...]] = {}

    def propose(values: Values, tried: tuple[str, ...]) -> tuple[str, ...]:
        """Asked again and again for what is past, with the same data."""
        asked = (tried, sum(map(len, values.values())))
        if asked not in proposed:
            proposed[asked] = propose_anew(values, tried)
        return proposed[asked]

    def propose_anew(values: Values, tried: tuple[str, ...]) -> tuple[str, ...]:
        if not tried:
            return tuple(random.Random(f"{seed}/search").sample(sorted(cells), min(first, len(cells))))  # noqa: S311
        left = min(_BATCH, trials - len(tried), len(cells) - len(tried))
        now = racing.standing({cell: row for cell, row in values.items() if row})
        if left <= 0 or not now.cells:
            return ()
        sampler = optuna.samplers.TPESampler(
            seed=seed + len(tried), n_startup_trials=1, multivariate=True, constant_liar=True
        )
        study = optuna.create_study(sampler=sampler)
        space = {name: _distribution(levels) for name, levels in factors.items()}
        for cell, behind in zip(now.cells, now.behind, strict=True):
            at = {name: _index(cells[cell].get(name), levels) for name, levels in factors.items()}
            params = {name: _param(number, factors[name]) for name, number in at.items()}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=float(behind)))
        found: list[str] = []
        for _ in range(_TRIES):
            asked = study.ask(space)
            levels = {name: factors[name][int(number)] for name, number in asked.params.items()}
            cell = by_levels.get(_key(levels, factors), "")
            if cell and cell not in tried and cell not in found:
                found.append(cell)
                if len(found) == left:
                    break
            elif cell not in found:
                study.tell(asked, state=optuna.trial.TrialState.FAIL)  # tried or excluded
        return tuple(found)

    def _distribution(levels: Sequence[Level | None]) -> "optuna.distributions.BaseDistribution":
        if _ordered(levels):
            return optuna.distributions.IntDistribution(0, len(levels) - 1)
        return optuna.distributions.CategoricalDistribution([str(number) for number in range(len(levels))])

    return propose


def require_optuna(cells: int) -> None:
    """Nothing, where Optuna is there.

    Raises:
        ConfigError: it is not.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"searching {cells} combinations needs Optuna", hint=f"{extras.install('search')}, or fewer levels"
        ) from error


def batches(trials: int) -> tuple[int, ...]:
    """How many settings are tried together, one batch after the other, if none is proposed twice."""
    first = max(2, min(trials, round(_BLIND * trials)))
    rest = range(first, trials, _BATCH)
    return (first, *(min(_BATCH, trials - done) for done in rest))


def _factors(cells: Cells) -> dict[str, list[Level | None]]:
    """Words with more than one level, and their levels: numbers in order, then words as they come."""
    words = dict.fromkeys(word for levels in cells.values() for word in levels)
    found: dict[str, list[Level | None]] = {}
    for word in words:
        levels = list({_text(one.get(word)): one.get(word) for one in cells.values()}.values())
        if len(levels) > 1:
            found[word] = sorted(levels, key=float) if _numbers(levels) else levels  # type: ignore[arg-type]
    return found


def _numbers(levels: Sequence[Level | None]) -> bool:
    return all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)


def _ordered(levels: Sequence[Level | None]) -> bool:
    return _numbers(levels) and len(levels) > 2


def _param(number: int, levels: Sequence[Level | None]) -> int | str:
    return number if _ordered(levels) else str(number)


def _index(level: Level | None, levels: Sequence[Level | None]) -> int:
    return [_text(one) for one in levels].index(_text(level))


def _key(levels: Mapping[str, Level | None], factors: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(_text(levels.get(word)) for word in factors)


def _text(level: Level | None) -> str:
    return "" if level is None else level_text(level)
