"""The statistics on numbers from anywhere: accuracies by variant and seed."""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from analysis.designs import results
from analysis.statistics.paired import Difference, paired_difference
from analysis.trials import Study, Trial
from fmnist_study.tables import Effects
from trainer.errors import UserError, choose

if TYPE_CHECKING:
    import pandas

Values = Mapping[Any, float] | Iterable[float]  # by seed, or of seeds 0, 1, ...
_EMPTY: Mapping[str, Any] = {
    "params": {}, "distributions": {}, "values": (), "intermediate": {}, "changes": {},
    "config": {}, "history": [], "inference": {}, "confusion": {}, "reused": {},
}  # fmt: skip


def ablation(
    values: Mapping[str, Values],
    *,
    baseline: str = "baseline",
    negligible: float | None = None,
    strict: bool = False,
) -> Effects:
    """Estimate what each variant changes, compared with a baseline and paired by seed.

    Args:
        values: variant -> accuracies, fractions of 1; a sequence is of seeds 0, 1, ...
        baseline: the variant that the others are compared with.
        negligible: a difference that would not matter, in points of accuracy.
        strict: judge every comparison by its own values alone, and correct by Holm.

    Raises:
        UserError: there is no such baseline, or a value is no accuracy.
    """
    by_variant = {name: _by_seed(name, given) for name, given in values.items()}
    if baseline not in by_variant:
        raise UserError(choose("baseline", baseline, list(by_variant)))
    others = [name for name in by_variant if name != baseline]
    plan = {
        "name": "values", "design": "ablation", "baseline": {"variant": baseline},
        "factors": {"variant": others}, "negligible": negligible,
    }  # fmt: skip
    changed = {name: {} if name == baseline else {"variant": name} for name in by_variant}
    cells = [
        (changed[name], {"variant": name}, seed, value)
        for name, of_variant in by_variant.items()
        for seed, value in of_variant.items()
    ]
    return _effects(plan, cells, strict)


def factorial(
    records: "Iterable[Mapping[str, Any]] | pandas.DataFrame",
    *,
    value: str = "accuracy",
    seed: str = "seed",
    strict: bool = False,
) -> Effects:
    """Estimate the main effects of a factorial's factors, and analyse its variance.

    Args:
        records: a run each: its accuracy (a fraction of 1), its seed, and a level for each factor,
            which are all other keys. A factor's first level is what its others are compared with.
        value: the key of the accuracy.
        seed: the key of the seed.
        strict: judge every comparison by its own values alone, and correct by Holm.

    Raises:
        UserError: a record lacks a key, or a value is no accuracy.
    """
    runs, names = _runs(records, value, seed)
    levels = {name: list(dict.fromkeys(run[name] for run in runs)) for name in names}
    base = {name: of_factor[0] for name, of_factor in levels.items()}
    plan = {"name": "values", "design": "factorial", "baseline": base, "factors": levels}
    cells = [
        (
            {name: run[name] for name in names if run[name] != base[name]},
            {name: run[name] for name in names},
            run[seed],
            _accuracy("records", run[value]),
        )
        for run in runs
    ]
    return _effects(plan, cells, strict)


def _runs(records: Any, value: str, seed: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the records, each with every key, and the names of their factors."""
    if hasattr(records, "to_dict"):
        records = records.to_dict("records")
    runs = [dict(record) for record in records]
    names = list(dict.fromkeys(name for run in runs for name in run if name not in (value, seed)))
    if not runs or not names:
        raise UserError("records: has no factors; each needs accuracy, seed and a level of each")
    for number, run in enumerate(runs):
        for key in (value, seed, *names):
            if key not in run:
                raise UserError(f"records[{number}]: lacks {key!r}")
    return runs, names


def compare(first: Values, second: Values) -> Difference:
    """Estimate the second less the first, paired by seed where they have seeds in common.

    Args:
        first, second: accuracies, fractions of 1; a sequence is of seeds 0, 1, ...

    Returns:
        `delta` with its 95 % interval `low` to `high`, `p_value`, `n`, and whether it is `paired`.

    Raises:
        UserError: a value is no accuracy.
    """
    return paired_difference(_by_seed("first", first), _by_seed("second", second))


def _by_seed(name: str, given: Values) -> dict[Hashable, float]:
    pairs = given.items() if isinstance(given, Mapping) else enumerate(given)
    return {seed: _accuracy(name, value) for seed, value in pairs}


def _accuracy(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {value!r} is no number") from error
    if not (math.isfinite(number) and 0 <= number <= 1):
        raise UserError(f"{name}: {value!r} is no accuracy: give fractions, from 0 to 1")
    return number


def _effects(
    plan: dict[str, Any],
    cells: Iterable[tuple[dict[str, Any], dict[str, Any], Any, float]],
    strict: bool,
) -> Effects:
    """Return the table of a plan's cells: changes, params, seed, accuracy."""
    trials = [_trial(number, *cell) for number, cell in enumerate(cells)]
    seeds = len({trial.seed for trial in trials})
    plan = {key: value for key, value in plan.items() if value is not None} | {"seeds": seeds}
    study = Study(0, "values", ("MAXIMIZE",), plan, {}, {}, None, len(trials))
    return Effects(results(study, trials, strict=strict).table)


def _trial(
    number: int, changes: dict[str, Any], params: dict[str, Any], seed: Any, value: float
) -> Trial:
    given = {
        "number": number, "state": "COMPLETE", "changes": changes, "params": params, "seed": seed,
        "value": value, "values": (value,), "variant": _label(changes),
    }  # fmt: skip
    rest = {field.name: _EMPTY.get(field.name) for field in fields(Trial)}
    return Trial(**{**rest, **given})


def _label(changes: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={level}" for name, level in changes.items()) or "baseline"
