"""Ranges of numbers that end where the best level lies."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from study.lint.context import Context
from study.lint.finding import Finding
from study.lint.leads import Accuracies, lead, mean
from study.lint.levels import Entry, entries
from study.plans.names import field_of
from study.plans.plan import Level

SHOWN = 0.00005  # accuracies are shown in hundredths of a point
WHOLE_FROM_1 = ("kernel_size", "depth", "width", "batch_size", "epochs")  # 1 is their least

Ends = tuple[list[Any], list[Any]]  # numeric levels in order; those ends that are no bound


def _edges(context: Context) -> Iterator[Finding]:
    tables = dict.fromkeys([*context.factors, *(str(row.factor) for row in context.rows)])
    ranges = [
        (factor, field, levels)
        for factor in tables
        for levels in [entries(context, factor)]
        for field in [_one_field(context, factor, levels)]
        if field is not None
    ]
    ours = {
        factor: {entry.level: entry.accuracies for entry in levels if entry.accuracies}
        for factor, _, levels in ranges
    }
    # Each end that could be the best is compared with its neighbour.
    looked_at = sum(len(_ends(ours[factor], field)[1]) for factor, field, _ in ranges)
    for factor, field, levels in ranges:
        yield from _edge_of_ours(
            context, factor, _ends(ours[factor], field), ours[factor], looked_at
        )
        theirs = {entry.level: entry.reported for entry in levels if entry.reported is not None}
        yield from _edge_of_theirs(context, factor, _ends(theirs, field), theirs)


def _one_field(context: Context, factor: str, levels: Sequence[Entry]) -> str | None:
    """Return the only field that a table's rows differ in; a factor is one by itself."""
    if factor in context.factors:
        return field_of(factor)
    base = context.baseline
    differing = {
        name
        for a, b in itertools.combinations([entry.changes for entry in levels], 2)
        for name in {*a, *b}
        if a.get(name, base.get(name)) != b.get(name, base.get(name))
    }
    return differing.pop() if len(differing) == 1 else None


def _ends(levels: Mapping[Any, Any], field: str) -> Ends:
    """Return numeric levels in order, and those of the two ends that are no natural bound."""
    ordered = sorted(
        level for level in levels if isinstance(level, int | float) and not isinstance(level, bool)
    )
    if len(ordered) < len(levels) or len(ordered) < 3:
        return [], []
    low, high = ordered[0], ordered[-1]
    bounded_below = low == 0 or (low == 1 and field in WHOLE_FROM_1)
    bounded_above = high == 1 and low >= 0 and any(level != int(level) for level in ordered)
    return ordered, [*([] if bounded_below else [low]), *([] if bounded_above else [high])]


def _edge_of_ours(
    context: Context,
    factor: str,
    ends: Ends,
    accuracies: Mapping[Level, Accuracies],
    looked_at: int,
) -> Iterator[Finding]:
    at_end = _at_end(ends, {level: mean(runs.values()) for level, runs in accuracies.items()})
    if at_end is None:
        return
    best, neighbour = at_end
    ahead = lead(accuracies[best], accuracies[neighbour], looked_at)
    sure = "" if ahead.is_proven else " Chance may explain its lead."
    repeated = context.source is not None  # whose levels these are
    yield Finding(
        "edge-of-range",
        "warning" if ahead.is_proven and not repeated else "note",
        f"factors.{factor}" if factor in context.factors else f"variants of {factor}",
        _edge_message(factor, best, ends, f"{neighbour:g} by {ahead}.{sure}"),
    )


def _edge_of_theirs(
    context: Context, factor: str, ends: Ends, reported: Mapping[Level, float]
) -> Iterator[Finding]:
    at_end = _at_end(ends, reported)
    if at_end is None or context.source is None:
        return
    best, neighbour = at_end
    ahead = f"{neighbour:g} by {100 * (reported[best] - reported[neighbour]):.2f} points."
    message = _edge_message(factor, best, ends, ahead)
    yield Finding("edge-of-range", "note", "source", f"{context.source['name']}: {message}")


def _at_end(ends: Ends, accuracies: Mapping[Any, float]) -> tuple[float, float] | None:
    """Return the best level and its neighbour, if the best is an end and ahead of that."""
    ordered, open_ends = ends
    best = max(ordered, key=lambda level: accuracies[level], default=None)
    if best is None or best not in open_ends:
        return None
    neighbour = ordered[1] if best == ordered[0] else ordered[-2]
    return (best, neighbour) if accuracies[best] - accuracies[neighbour] > SHOWN else None


def _edge_message(factor: str, best: float, ends: Ends, ahead: str) -> str:
    ordered = ends[0]
    side, more = ("lowest", "lower") if best == ordered[0] else ("highest", "higher")
    return (
        f"the best {factor}, {best:g}, is the {side} of the {len(ordered)} tried, ahead of {ahead} "
        f"The optimum may lie beyond: try {more} levels before calling it the best."
    )


def _edge_of_search(context: Context) -> Iterator[Finding]:
    """Find parameters of a search's winner that are at the end of their range."""
    search = context.ours.search if context.ours is not None else None
    if search is None or len(search.objectives) > 1 or not context.finished:
        return
    winner = max(
        context.by_variant.values(),
        key=lambda runs: (len(runs), mean(trial.value or 0.0 for trial in runs)),
    )[0]
    for parameter in search.space:
        level = winner.params.get(parameter.name)
        if isinstance(level, bool) or not isinstance(level, int | float):
            continue
        bounds = dict.fromkeys(parameter.levels or (parameter.low, parameter.high))
        if not parameter.levels:
            # Within a twentieth of the range, by ratio where it is searched so.
            level = _nearest_end(level, parameter.low, parameter.high, log=parameter.log)
            bounds[(parameter.low + parameter.high) / 2] = None  # some inner level
        _, ends = _ends(bounds, field_of(parameter.name))
        if level in ends:
            yield Finding(
                "edge-of-range",
                "note",
                f"search.space.{parameter.name}",
                f"the best candidate's {parameter.name}, {winner.params[parameter.name]:.4g}, is "
                f"at the end of what was searched, {min(bounds):g} to {max(bounds):g}: the optimum "
                "may lie beyond. Widen the range, and see whether the winner moves.",
            )


def _nearest_end(level: float, low: float, high: float, *, log: bool) -> float:
    """Return the end of a range that a level is within a twentieth of, else the level."""
    scale: Callable[[float], float] = math.log if log else float
    share = (scale(level) - scale(low)) / (scale(high) - scale(low)) if high > low else 0.5
    return low if share < 0.05 else high if share > 0.95 else level


CHECKS: tuple[Callable[[Context], Iterator[Finding]], ...] = (_edges, _edge_of_search)
