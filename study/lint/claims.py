"""Conclusions against figures: claims that they contradict, ranges that end too early."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmnist_common.text import level_text
from study.lint.context import ROUNDING, Case, Values, lead, mean
from study.lint.finding import Finding
from study.plans.names import field_of
from study.plans.plan import Level

SHOWN = 0.00005  # accuracies are shown in hundredths of a point
WHOLE_FROM_1 = ("kernel_size", "depth", "width", "batch_size", "epochs")  # 1 is their least


Ends = tuple[list[Any], list[Any]]  # numeric levels in order; those ends that are no bound


@dataclass(frozen=True)
class Entry:
    """A level of a factor: what it changes, its accuracies here, and the one reported."""

    level: Level
    changes: Mapping[str, Level]
    values: Values
    reported: float | None


def _entries(case: Case, factor: str) -> list[Entry]:
    """List a factor's levels, the baseline's or the compared one among them."""
    if factor in case.factors:
        if case.design == "factorial":
            return _marginal(case, factor)
        levels = list(case.factors[factor])
        base = case.baseline.get(factor)
        if base not in levels:
            levels.insert(0, base)
        places = [(level, {} if level == base else {factor: level}) for level in levels]
    else:
        places = [
            (row.level, dict(row.variant.changes)) for row in case.rows if row.factor == factor
        ]
    return [
        Entry(level, changes, case.values(changes), case.reported(changes))
        for level, changes in places
    ]


def _marginal(case: Case, factor: str) -> list[Entry]:
    """List a factorial's levels with all their cells, paired by seed and the other levels."""
    groups: dict[Level, dict[Hashable, float]] = defaultdict(dict)
    for trial in case.finished:
        others = tuple((name, repr(own)) for name, own in trial.params.items() if name != factor)
        if trial.value is not None:
            groups[trial.params.get(factor)][frozenset(others), trial.seed] = trial.value
    theirs = _reported_margins(case, factor)
    return [
        Entry(level, {}, groups.get(level, {}), theirs.get(level)) for level in case.factors[factor]
    ]


def _reported_margins(case: Case, factor: str) -> Mapping[Level, float]:
    """Average the reported cells of each level, if the source has a figure for every cell."""
    cells: dict[Level, list[float]] = defaultdict(list)
    for own in case.plan.get("reported", ()):
        if "test_accuracy" in own:
            cells[own["changes"].get(factor, case.baseline.get(factor))].append(
                own["test_accuracy"]
            )
    told = sum(map(len, cells.values()))
    complete = case.ours is not None and told == case.ours.variant_count
    return {level: mean(own) for level, own in cells.items()} if complete else {}


# Claims.


def _contradicted(case: Case) -> Iterator[Finding]:
    source = case.source["name"] if case.source else "the plan"
    for number, claim in enumerate(case.plan.get("claims", ()), 1):
        if "best" not in claim or "factor" not in claim:
            continue
        entries = _entries(case, claim["factor"])
        claimed = next(
            (own for own in entries if level_text(own.level) == level_text(claim["best"])), None
        )
        if claimed is None:
            continue
        said = f"{source} claims: {claim['text']}."
        found = [*_by_their_figures(entries, claimed), *_by_ours(entries, claimed)]
        if found:
            yield Finding(
                "contradicted-claim", "note", f"claims.{number}", f"{said} {' '.join(found)}"
            )


def _by_their_figures(entries: Sequence[Entry], claimed: Entry) -> Iterator[str]:
    known = [own for own in entries if own.reported is not None]
    if claimed.reported is None or len(known) < 2:
        return
    ordered = sorted(known, key=lambda own: own.reported or 0.0)
    best = ordered[-1]
    if best.reported is None or best.reported - claimed.reported < ROUNDING:
        return
    rank = "the lowest of all" if ordered[0] is claimed else "not the highest"
    yield (
        f"By its own table, {level_text(claimed.level)} has {100 * claimed.reported:.2f} %, {rank} "
        f"{len(known)}; {level_text(best.level)} has {100 * best.reported:.2f} %."
    )


def _by_ours(entries: Sequence[Entry], claimed: Entry) -> Iterator[str]:
    """Contradict a claim only where a difference is proven."""
    if not claimed.values:
        return
    others = [own for own in entries if own is not claimed and own.values]
    best = max(others, key=lambda own: mean(own.values.values()), default=None)
    if best is None:
        return
    ahead = lead(best.values, claimed.values)
    if ahead.is_proven():
        yield f"By our results, {level_text(best.level)} is ahead of it by {ahead}."


# Ranges.


def _edges(case: Case) -> Iterator[Finding]:
    tables = dict.fromkeys([*case.factors, *(str(row.factor) for row in case.rows)])
    ranges = [
        (factor, field, entries)
        for factor in tables
        for entries in [_entries(case, factor)]
        for field in [_one_field(case, factor, entries)]
        if field is not None and _ends({own.level: None for own in entries}, field)[0]
    ]
    for factor, field, entries in ranges:
        ours = {own.level: own.values for own in entries if own.values}
        yield from _edge_of_ours(case, factor, _ends(ours, field), ours, looked_at=len(ranges))
        theirs = {own.level: own.reported for own in entries if own.reported is not None}
        yield from _edge_of_theirs(case, factor, _ends(theirs, field), theirs)


def _one_field(case: Case, factor: str, entries: Sequence[Entry]) -> str | None:
    """Return the only field that a table's rows differ in; a factor is one by itself."""
    if factor in case.factors:
        return field_of(factor)
    pairs = itertools.combinations([own.changes for own in entries], 2)
    differing = {
        name
        for a, b in pairs
        for name in {*a, *b}
        if a.get(name, case.baseline.get(name)) != b.get(name, case.baseline.get(name))
    }
    return differing.pop() if len(differing) == 1 else None


def _ends(levels: Mapping[Any, Any], field: str) -> Ends:
    """Return numeric levels in order, and those of the two ends that are no natural bound."""
    known = [own for own in levels if isinstance(own, int | float) and not isinstance(own, bool)]
    ordered = sorted(known)
    if len(known) < len(levels) or len(ordered) < 3:
        return [], []
    low, high = ordered[0], ordered[-1]
    bounded_below = low == 0 or (low == 1 and field in WHOLE_FROM_1)
    bounded_above = high == 1 and low >= 0 and any(own != int(own) for own in ordered)
    return ordered, [*([] if bounded_below else [low]), *([] if bounded_above else [high])]


def _edge_of_ours(
    case: Case, factor: str, ends: Ends, values: Mapping[Level, Values], *, looked_at: int
) -> Iterator[Finding]:
    found = _at_end(ends, {level: mean(own.values()) for level, own in values.items()})
    if found is None:
        return
    best, neighbour = found
    ahead = lead(values[best], values[neighbour])
    proven = ahead.is_proven(looked_at)
    sure = "" if proven else " Chance may explain its lead."
    yield Finding(
        "edge-of-range",
        "warning" if proven else "note",
        f"factors.{factor}" if factor in case.factors else f"variants of {factor}",
        _edge_message(factor, best, ends, f"{neighbour:g} by {ahead}.{sure}"),
    )


def _edge_of_theirs(
    case: Case, factor: str, ends: Ends, values: Mapping[Level, float]
) -> Iterator[Finding]:
    found = _at_end(ends, values)
    if found is None or case.source is None:
        return
    best, neighbour = found
    ahead = f"{neighbour:g} by {100 * (values[best] - values[neighbour]):.2f} points."
    message = _edge_message(factor, best, ends, ahead)
    yield Finding("edge-of-range", "note", "source", f"{case.source['name']}: {message}")


def _at_end(ends: Ends, values: Mapping[Any, float]) -> tuple[float, float] | None:
    """Return the best level and its neighbour, if the best is an end and ahead of that."""
    ordered, open_ends = ends
    best = max(ordered, key=lambda level: values[level], default=None)
    if best is None or best not in open_ends:
        return None
    neighbour = ordered[1] if best == ordered[0] else ordered[-2]
    return (best, neighbour) if values[best] - values[neighbour] > SHOWN else None


def _edge_message(factor: str, best: float, ends: Ends, ahead: str) -> str:
    ordered = ends[0]
    side, more = ("lowest", "lower") if best == ordered[0] else ("highest", "higher")
    return (
        f"the best {factor}, {best:g}, is the {side} of the {len(ordered)} tried, ahead of {ahead} "
        f"The optimum may lie beyond: try {more} levels before calling it the best."
    )


def _edge_of_search(case: Case) -> Iterator[Finding]:
    """Find parameters of a search's winner that are at the end of their range."""
    search = case.ours.search if case.ours is not None else None
    if search is None or len(search.objectives) > 1 or not case.finished:
        return
    winner = max(
        case.by_variant.values(),
        key=lambda own: (len(own), mean(trial.value or 0.0 for trial in own)),
    )[0]
    for own in search.space:
        level = winner.params.get(own.name)
        if isinstance(level, bool) or not isinstance(level, int | float):
            continue
        bounds = dict.fromkeys(own.levels or (own.low, own.high))
        if not own.levels:
            # Within a twentieth of the range, by ratio where it is searched so.
            level = _nearest_end(level, own.low, own.high, log=own.log)
            bounds[(own.low + own.high) / 2] = None  # some inner level
        _, ends = _ends(bounds, field_of(own.name))
        if level in ends:
            yield Finding(
                "edge-of-range",
                "note",
                f"search.space.{own.name}",
                f"the best candidate's {own.name}, {winner.params[own.name]:.4g}, is at the end of "
                f"what was searched, {min(bounds):g} to {max(bounds):g}: the optimum may lie "
                "beyond. Widen the range, and see whether the winner moves.",
            )


def _nearest_end(level: float, low: float, high: float, *, log: bool) -> float:
    """Return the end of a range that a level is within a twentieth of, else the level."""
    scale: Callable[[float], float] = math.log if log else float
    share = (scale(level) - scale(low)) / (scale(high) - scale(low)) if high > low else 0.5
    return low if share < 0.05 else high if share > 0.95 else level


CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (_contradicted, _edges, _edge_of_search)
