"""What a design cannot tell apart."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fmnist_common.designs import VariantKey, variant_key
from fmnist_common.text import level_text
from study.lint.context import Context
from study.lint.finding import Finding, Severity, counted, listed
from study.plans.aliasing import alias_groups, near_aliases
from study.plans.names import field_of
from study.plans.plan import Level, Row
from study.plans.unread import unread_factors, unread_fields

# Settings that are tuned for another one, and so belong to its choice: an optimiser is compared at
# a learning rate that suits it.
_BELONGS = {"optimizer": frozenset({"learning_rate", "weight_decay", "momentum"})}

Changes = Mapping[str, Level]


# Of a plan.


def _mixed_rows(context: Context) -> Iterator[Finding]:
    """Find rows that are called after one setting, and change others with it."""
    composite: dict[str, list[Row]] = {}
    for row in context.rows:
        fields = _differing(context, row)
        if len(fields) < 2:
            continue
        name = field_of(str(row.factor))
        if name in fields and context.imported is None:
            yield from _mixed(context, row, name, fields)
        elif not _is_separated(context, row, fields):
            composite.setdefault(str(row.factor), []).append(row)
    for factor, rows in composite.items():
        widest = max(rows, key=lambda row: len(_differing(context, row)))
        fields = _differing(context, widest)
        where = "results" if context.imported is not None else f"variants of {factor}"
        yield Finding(
            "confounded",
            "note" if context.imported is None else "warning",
            where,
            f"{factor}: {counted(len(rows), 'row')} {'changes' if len(rows) == 1 else 'change'} "
            f"several things at once, such as {level_text(widest.level)} ({', '.join(fields)}): "
            "the difference belongs to all of them together. To tell them apart, add rows that "
            "change one at a time.",
        )


def _mixed(context: Context, row: Row, name: str, fields: Sequence[str]) -> Iterator[Finding]:
    others = [field for field in fields if field not in {name, *_BELONGS.get(name, ())}]
    place = f"{row.factor} {level_text(row.level)}"
    if not others:
        tuned = ", ".join(field for field in fields if field != name)
        yield Finding(
            "confounded",
            "note",
            f"variants of {row.factor}",
            f"{place} comes with its own {tuned}: the difference is between whole recipes, each "
            "tuned, not between two levels with all else equal.",
        )
        return
    reference = {field: level for field, level in row.variant.changes if field != name}
    apart = variant_key(reference) in context.variants
    fix = (
        f"Compare it with the row that has them too: against = {{ {_toml(reference)} }}."
        if apart
        else f"Change {name} alone, or add a row with {_toml(reference)} and compare with that."
    )
    severity: Severity = (
        "note" if context.is_reproduced(row.variant) else "warning" if apart else "error"
    )
    yield Finding(
        "confounded",
        severity,
        f"variants of {row.factor}",
        f"{place} also changes {', '.join(others)}: the difference may be of either. {fix}",
    )


def _differing(context: Context, row: Row) -> list[str]:
    """Name the fields in which a row differs from what it is compared with, if both read them."""
    changes, other = dict(row.variant.changes), dict(row.against.changes)
    absent = object()
    fields = [
        name
        for name in dict.fromkeys([*changes, *other])
        if changes.get(name, absent) != other.get(name, absent)
    ]
    if context.ours is None:
        return fields
    unread = [unread_fields(context.config(side)) for side in (changes, other)]
    return [name for name in fields if not any(name in names for names in unread)]


def _is_separated(context: Context, row: Row, fields: Sequence[str]) -> bool:
    """Whether variants lead from a row to what it is compared with, a single change each."""
    changes, other = dict(row.variant.changes), dict(row.against.changes)
    common = {name: level for name, level in other.items() if name not in fields}
    goal = variant_key({**common, **{name: changes[name] for name in fields if name in changes}})
    reached: set[VariantKey] = set()
    waiting: list[Changes] = [other]
    while waiting:
        here = waiting.pop()
        reached.add(variant_key(here))
        for name in fields:
            rest = {key: level for key, level in here.items() if key != name}
            for end in (changes, other):
                step = rest | ({name: end[name]} if name in end else {})
                is_there = variant_key(step) in context.variants or variant_key(step) == goal
                if is_there and variant_key(step) not in reached:
                    waiting.append(step)
    return goal in reached


def _unread(context: Context) -> Iterator[Finding]:
    """Find factors of our plan that the networks they vary do not read."""
    if context.ours is None:
        return
    searched = context.ours.search is not None
    for unread in unread_factors(context.ours):
        place = "search.space" if searched else "factors"
        yield Finding(
            "unread-factor",
            "warning",
            f"{place}.{unread.factor}" if searched or unread.factor in context.factors else "plan",
            f"{unread.message}. "
            + ("Leave it out" if searched else "Leave them out")
            + ", or change what would read it.",
        )


# Of results.


def _columns(context: Context) -> dict[str, list[Any]]:
    """Return the settings that vary among the finished runs of others, a level of each run."""
    if context.ours is not None or not context.finished:
        return {}
    runs = context.finished
    names = [name for name in runs[0].params if all(name in trial.params for trial in runs)]
    columns = {name: [trial.params[name] for trial in runs] for name in names}
    return {name: levels for name, levels in columns.items() if len(set(levels)) > 1}


def _together(context: Context) -> Iterator[Finding]:
    """Find columns of results that never change but together."""
    groups: list[Sequence[str]] = []
    if context.imported is not None:
        groups = list(context.imported.get("merged", {}).values())
    else:
        groups = [group for group in alias_groups(_columns(context)) if len(group) > 1]
    for group in groups:
        yield Finding(
            "confounded",
            "error",
            "results",
            f"{' and '.join(group)} change only together in {len(context.finished)} runs: an "
            "effect of one may as well be the other's. Run settings in which only one of them "
            "changes.",
        )


def _nearly_together(context: Context) -> Iterator[Finding]:
    """Find columns of results that hardly ever change but together."""
    aliases = near_aliases(_columns(context))
    if not aliases:
        return
    pairs = [f"{' and '.join(alias.names)}" for alias in aliases]
    widest = max(aliases, key=lambda alias: alias.runs - alias.exceptions)
    yield Finding(
        "confounded",
        "warning",
        "results",
        f"{listed(pairs)} change together in {widest.runs - widest.exceptions} of {widest.runs} "
        f"runs: only {counted(widest.exceptions, 'run')} could tell an effect of one from an "
        "effect of the other. Run more settings in which only one of them changes.",
    )


def _toml(changes: Changes) -> str:
    return ", ".join(
        f"{name} = {level_text(level) if not isinstance(level, str) else repr(level)}"
        for name, level in changes.items()
    )


CHECKS: tuple[Callable[[Context], Iterator[Finding]], ...] = (
    _mixed_rows,
    _unread,
    _together,
    _nearly_together,
)
