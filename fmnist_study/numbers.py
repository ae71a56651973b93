"""The statistics on numbers from anywhere: accuracies by variant and seed."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import fields
from numbers import Real
from typing import TYPE_CHECKING, Any

from analysis.designs import results
from analysis.statistics.paired import Difference, paired_difference
from analysis.trials import Study, Trial
from fmnist_study.tables import Effects
from study.plans.checks import check_negligible
from trainer.errors import UserError, choose

if TYPE_CHECKING:
    import pandas

# By seed: a mapping, or a pandas Series by its index; anything else is of seeds 0, 1, ...
Values = Mapping[Any, float] | Iterable[float]
_EMPTY: Mapping[str, Any] = {
    "params": {}, "distributions": {}, "values": (), "intermediate": {}, "changes": {},
    "config": {}, "history": [], "inference": {}, "confusion": {}, "reused": {},
}  # fmt: skip


def ablation(
    values: "Mapping[str, Values] | pandas.DataFrame",
    *,
    baseline: str = "baseline",
    negligible: float | None = None,
    strict: bool = False,
) -> Effects:
    """Estimate what each variant changes, compared with a baseline and paired by seed.

    Args:
        values: variant -> accuracies, fractions of 1; a sequence is of seeds 0, 1, ...; of a
            DataFrame, a column for each variant, and the index are the seeds.
        baseline: the variant that the others are compared with.
        negligible: a difference that would not matter, in points of accuracy.
        strict: judge every comparison by its own values alone, and correct by Holm.

    Raises:
        UserError: there is no such baseline, a value is no accuracy, or a seed is there twice.
    """
    if not hasattr(values, "items"):
        kind = type(values).__name__
        raise UserError(f"values: is {kind}; must be a mapping of variants to accuracies by seed")
    if hasattr(values, "columns"):
        _check_columns("values", values)
    check_negligible(negligible)
    by_variant = {name: _by_seed(name, given) for name, given in values.items()}
    if not by_variant:
        raise UserError("values: has no variants")
    if baseline not in list(by_variant):
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
        UserError: a record lacks a key, a value is no accuracy, or a cell is there twice.
    """
    runs, names = _runs(records, value, seed)
    levels = {name: _levels(name, runs) for name in names}
    _check_cells(runs, [seed, *names])
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
    if hasattr(records, "columns"):
        records = _of_frame(records)
    if isinstance(records, Mapping) or not hasattr(records, "__iter__"):
        raise UserError(f"records: is {type(records).__name__}; must be a list of runs")
    runs = []
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise UserError(
                f"records[{number}] = {_shown(record)}: must be a mapping of names to values"
            )
        runs.append(dict(record))
    names = list(dict.fromkeys(name for run in runs for name in run if name not in (value, seed)))
    if not runs or not names:
        raise UserError("records: has no factors; each needs accuracy, seed and a level of each")
    for number, run in enumerate(runs):
        for key in (value, seed, *names):
            if key not in run:
                raise UserError(f"records[{number}]: lacks {key!r}")
            if key != value and not _is_level(run[key]):
                raise UserError(f"records[{number}]: {key} = {run[key]!r} is no level")
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"records: factor {name!r} must be called by a word")
    return runs, names


def _of_frame(frame: "pandas.DataFrame") -> list[dict[Any, Any]]:
    """Return a frame's rows, each with every column."""
    _check_columns("records", frame)
    for name in frame.columns:
        if lacking := [str(label) for label in frame.index[frame[name].isna()]]:
            raise UserError(f"records: column {name!r} has no value in row {lacking[0]}")
    rows: list[dict[Any, Any]] = frame.to_dict("records")
    return rows


def _check_columns(what: str, frame: "pandas.DataFrame") -> None:
    for name, is_again in zip(frame.columns, frame.columns.duplicated(), strict=True):
        if is_again:
            raise UserError(f"{what}: column {name!r} is there twice")


def _is_level(level: Any) -> bool:
    """Whether runs can be told apart by it: it is no list, and not NaN, which equals nothing."""
    return isinstance(level, Hashable) and not (isinstance(level, Real) and math.isnan(level))


def _levels(name: str, runs: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return a factor's levels, as they come; 1 and true would be taken for the same."""
    levels: dict[Any, Any] = {}
    for run in runs:
        first = levels.setdefault(run[name], run[name])
        if _is_truth(first) != _is_truth(run[name]):
            raise UserError(f"records: {name}: {first!r} and {run[name]!r} are equal: use words")
    return list(levels)


def _is_truth(level: Any) -> bool:
    return type(level).__name__ in ("bool", "bool_")  # Python's and NumPy's


def _check_cells(runs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    """Check that each cell has one run for each seed, as pairs are of one run each."""
    first: dict[Hashable, int] = {}
    for number, run in enumerate(runs):
        before = first.setdefault(tuple(run[key] for key in keys), number)
        if before != number:
            cell = ", ".join(f"{key} = {run[key]!r}" for key in keys)
            raise UserError(
                f"records[{number}]: is the same cell as records[{before}], {cell}: "
                "give each run its own seed, or name what differs as a factor"
            )


def compare(first: Values, second: Values) -> Difference:
    """Estimate the second less the first, paired by seed where they have seeds in common.

    Args:
        first, second: accuracies, fractions of 1; a sequence is of seeds 0, 1, ...

    Returns:
        `delta` with its 95 % interval `low` to `high`, `p_value`, `n`, and whether it is `paired`.

    Raises:
        UserError: a value is no accuracy.
    """
    by_seed = _by_seed("first", first), _by_seed("second", second)
    _numbered([*by_seed[0], *by_seed[1]])
    return paired_difference(*by_seed)


def _by_seed(name: str, given: Values) -> dict[Hashable, float]:
    if isinstance(given, (str, bytes, Set)) or not hasattr(given, "__iter__"):
        raise UserError(
            f"{name} = {_shown(given)}: must be a list of accuracies, or a mapping by seed"
        )
    pairs = given.items() if hasattr(given, "items") else enumerate(given)
    values: dict[Hashable, float] = {}
    for seed, value in pairs:
        if not _is_level(seed):
            raise UserError(f"{name}: {seed!r} is no seed")
        if seed in values:
            raise UserError(f"{name}: seed {seed!r} is there twice")
        values[seed] = _accuracy(name, value)
    return values


def _numbered(seeds: Iterable[Any]) -> dict[Hashable, int]:
    """Number seeds in their order, as those of a plan are; they may be any numbers, or words."""
    different = list(dict.fromkeys(seeds))
    try:
        return {seed: number for number, seed in enumerate(sorted(different))}
    except TypeError as error:
        raise UserError(
            f"seeds {', '.join(map(repr, different))}: give numbers or words, not both"
        ) from error


def _accuracy(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {_shown(value)} is no number") from error
    if not (math.isfinite(number) and 0 <= number <= 1):
        raise UserError(f"{name}: {value!r} is no accuracy: give fractions, from 0 to 1")
    return number


def _shown(value: object) -> str:
    """Write any value in a line, and not in more."""
    return " ".join(repr(value).split())[:80]


def _effects(
    plan: dict[str, Any],
    cells: Iterable[tuple[dict[str, Any], dict[str, Any], Any, float]],
    strict: bool,
) -> Effects:
    """Return the table of a plan's cells: changes, params, seed, accuracy."""
    cells = list(cells)
    seeds = _numbered(seed for _, _, seed, _ in cells)
    trials = [
        _trial(number, changes, params, seeds[seed], value)
        for number, (changes, params, seed, value) in enumerate(cells)
    ]
    plan = {key: value for key, value in plan.items() if value is not None} | {"seeds": len(seeds)}
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
