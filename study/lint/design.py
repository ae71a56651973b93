"""What a design cannot tell apart, and what its networks compute with."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fmnist_common.text import level_text
from study.lint.context import Case, Point, point
from study.lint.finding import Finding, Severity
from study.plans.aliasing import alias_groups
from study.plans.names import field_of, squeeze
from study.plans.plan import Level, Row
from trainer.config import ARCHITECTURE_FIELDS, FIELD_NAMES, TrainConfig, biased_under_batchnorm

# Settings that are tuned for another one, and so belong to its choice: an optimiser is compared at
# a learning rate that suits it.
_BELONGS = {"optimizer": frozenset({"learning_rate", "weight_decay", "momentum"})}
_NETWORK = frozenset().union(*ARCHITECTURE_FIELDS.values())
NEAR = 0.05  # relative: a constant that was rounded

Changes = Mapping[str, Level]


# Confounded factors.


def _mixed_rows(case: Case) -> Iterator[Finding]:
    """Find rows that are called after one setting, and change others with it."""
    composite: dict[str, list[Row]] = {}
    for row in case.rows:
        fields = _differing(case, row)
        if len(fields) < 2:
            continue
        name = field_of(str(row.factor))
        if name in fields and case.imported is None:
            yield from _mixed(case, row, name, fields)
        elif not _is_separated(case, row, fields):
            composite.setdefault(str(row.factor), []).append(row)
    for factor, rows in composite.items():
        widest = max(rows, key=lambda row: len(_differing(case, row)))
        fields = _differing(case, widest)
        where = "results" if case.imported is not None else f"variants of {factor}"
        yield Finding(
            "confounded",
            "note" if case.imported is None else "warning",
            where,
            f"{factor}: {_count(len(rows), 'row')} {'changes' if len(rows) == 1 else 'change'} "
            f"several things at once, such as {level_text(widest.level)} ({', '.join(fields)}): "
            "the difference belongs to all of them together. To tell them apart, add rows that "
            "change one at a time.",
        )


def _mixed(case: Case, row: Row, name: str, fields: Sequence[str]) -> Iterator[Finding]:
    others = [own for own in fields if own != name and own not in _BELONGS.get(name, ())]
    place = f"{row.factor} {level_text(row.level)}"
    if not others:
        tuned = ", ".join(own for own in fields if own != name)
        yield Finding(
            "confounded",
            "note",
            f"variants of {row.factor}",
            f"{place} comes with its own {tuned}: the difference is between whole recipes, each "
            "tuned, not between two levels with all else equal.",
        )
        return
    reference = {own: level for own, level in row.variant.changes if own != name}
    apart = point(reference) in case.variants
    fix = (
        f"Compare it with the row that has them too: against = {{ {_toml(reference)} }}."
        if apart
        else f"Change {name} alone, or add a row with {_toml(reference)} and compare with that."
    )
    severity: Severity = (
        "note" if case.is_reproduced(row.variant) else "warning" if apart else "error"
    )
    yield Finding(
        "confounded",
        severity,
        f"variants of {row.factor}",
        f"{place} also changes {', '.join(others)}: the difference may be of either. {fix}",
    )


def _differing(case: Case, row: Row) -> list[str]:
    """Name the fields in which a row differs from what it is compared with, if both read them."""
    own, other = dict(row.variant.changes), dict(row.against.changes)
    absent = object()
    fields = [
        name
        for name in dict.fromkeys([*own, *other])
        if own.get(name, absent) != other.get(name, absent)
    ]
    if case.ours is None:
        return fields
    read = [_read_by(case.config(changes)) for changes in (own, other)]
    return [name for name in fields if all(name in names for names in read)]


def _read_by(config: TrainConfig) -> frozenset[str]:
    """Name the fields that make a difference to this training."""
    unread = set(_NETWORK - ARCHITECTURE_FIELDS[config.architecture])
    if config.optimizer != "sgd":
        unread.add("momentum")
    if config.schedule != "step":
        unread |= {"step_epochs", "step_factor"}
    if config.schedule != "exponential":
        unread.add("exponential_factor")
    if config.early_stopping == "none":
        unread.add("patience")
    return frozenset(FIELD_NAMES) - unread


def _is_separated(case: Case, row: Row, fields: Sequence[str]) -> bool:
    """Whether variants lead from a row to what it is compared with, a single change each."""
    own, other = dict(row.variant.changes), dict(row.against.changes)
    common = {name: level for name, level in other.items() if name not in fields}
    goal = point({**common, **{name: own[name] for name in fields if name in own}})
    reached: set[Point] = set()
    waiting: list[Changes] = [other]
    while waiting:
        here = waiting.pop()
        reached.add(point(here))
        for name in fields:
            rest = {key: level for key, level in here.items() if key != name}
            for end in (own, other):
                step = rest | ({name: end[name]} if name in end else {})
                is_there = point(step) in case.variants or point(step) == goal
                if is_there and point(step) not in reached:
                    waiting.append(step)
    return goal in reached


def _together(case: Case) -> Iterator[Finding]:
    """Find columns of results that never change but together."""
    groups: list[Sequence[str]] = []
    if case.imported is not None:
        groups = list(case.imported.get("merged", {}).values())
    elif case.ours is None and case.finished:
        names = [n for n in case.finished[0].params if all(n in t.params for t in case.finished)]
        columns: dict[str, list[Any]] = {
            name: [trial.params[name] for trial in case.finished] for name in names
        }
        varied = {name: own for name, own in columns.items() if len(set(own)) > 1}
        groups = [group for group in alias_groups(varied) if len(group) > 1]
    for group in groups:
        yield Finding(
            "confounded",
            "error",
            "results",
            f"{' and '.join(group)} change only together in {len(case.finished)} runs: an effect "
            "of one may as well be the other's. Run settings in which only one of them changes.",
        )


# What networks are fed, and what they are made of.


def _variance_as_std(case: Case) -> Iterator[Finding]:
    if case.facts is None:
        return
    std = case.facts.std
    named = _normalizations(case)
    pairs = [(name, level) for name, levels in named.items() for level in levels]
    right = any(level == "dataset" or _near(level, name, std) for name, level in pairs)
    for name, level in pairs:
        if not _near(level, name, std**2):
            continue
        baseline = case.baseline.get(name) == level
        yield Finding(
            "variance-as-std",
            "error" if baseline else "note" if right else "warning",
            f"baseline.{name}" if baseline else name,
            f"{name} = {level_text(level)}{', the baseline,' if baseline else ''} divides pixels "
            f"by {_std_of(level, name)}: that is the variance of {case.plan['dataset']} "
            f"({std**2:.4f}), whose standard deviation is {std:.4f}. Inputs come out "
            f"{1 / std:.1f} times as large as meant; write {case.facts.mean:.4g}/{std:.4g}.",
        )


def _normalizations(case: Case) -> dict[str, list[Level]]:
    """Return the settings that are called after a normalisation, with the levels that occur."""
    found: dict[str, list[Level]] = {}
    places = [case.baseline, *({name: own} for name, all_ in case.factors.items() for own in all_)]
    places += [dict(row.variant.changes) for row in case.rows]
    if case.ours is not None and case.ours.search is not None:
        places += [{own.name: level} for own in case.ours.search.space for level in own.levels]
    for place in places:
        for name, level in place.items():
            named = field_of(name) == "normalization" or squeeze(name).endswith("std")
            if named and level not in found.setdefault(name, []):
                found[name].append(level)
    return found


def _std_of(level: Level, name: str) -> float | str | None:
    """Return the standard deviation that a level divides by, or the level's own word."""
    if isinstance(level, str):
        match = re.fullmatch(r"\s*[\d.]+\s*/\s*(\d*\.?\d+)\s*", level)
        return float(match[1]) if match else level
    number = isinstance(level, float | int) and not isinstance(level, bool)
    return float(level) if number and squeeze(name).endswith("std") else None  # type: ignore[arg-type]


def _near(level: Level, name: str, wanted: float) -> bool:
    own = _std_of(level, name)
    return isinstance(own, float) and abs(own - wanted) < NEAR * wanted


def _bias(case: Case) -> Iterator[Finding]:
    fields = ("architecture", "batchnorm", "conv_bias", "stem")
    found = {c.architecture for c in case.configs(*fields) if biased_under_batchnorm(c)}
    if found:
        yield Finding(
            "bias-under-batchnorm",
            "note",
            "plan",
            f"{', '.join(sorted(found))} {'keeps' if len(found) == 1 else 'keep'} a bias in "
            "convolutions directly under a batch norm, whose mean cancels it: parameters that do "
            "nothing. conv_bias = false leaves them out, unless a published count is to be met.",
        )


def _linear_pairs(case: Case) -> Iterator[Finding]:
    if any(config.architecture == "conv_pairs" for config in case.configs("architecture")):
        yield Finding(
            "no-nonlinearity",
            "note",
            "plan",
            "conv_pairs has two convolutions in a row with nothing nonlinear between them, which "
            "together compute no more than one of 5x5 could. It reproduces a published network; "
            "for a network of your own take convnet, which has an activation after each.",
        )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _toml(changes: Changes) -> str:
    return ", ".join(
        f"{name} = {level_text(level) if not isinstance(level, str) else repr(level)}"
        for name, level in changes.items()
    )


CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    _mixed_rows,
    _together,
    _variance_as_std,
    _bias,
    _linear_pairs,
)
