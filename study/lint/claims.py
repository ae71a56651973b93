"""Conclusions that figures contradict: the claimant's own, or ours."""

from collections.abc import Callable, Iterator, Sequence

from fmnist_common.text import level_text
from study.lint.context import Context
from study.lint.finding import Finding
from study.lint.leads import ROUNDING, lead, mean
from study.lint.levels import Entry, entries


def _contradicted(context: Context) -> Iterator[Finding]:
    source = context.source["name"] if context.source else "the plan"
    for number, claim in enumerate(context.plan.get("claims", ()), 1):
        if "best" not in claim or "factor" not in claim:
            continue
        levels = entries(context, claim["factor"])
        best = level_text(claim["best"])
        claimed = next((entry for entry in levels if level_text(entry.level) == best), None)
        if claimed is None:
            continue
        against = [*_by_their_figures(levels, claimed), *_by_ours(levels, claimed)]
        if against:
            yield Finding(
                "contradicted-claim",
                "note",
                f"claims.{number}",
                f"{source} claims: {claim['text']}. {' '.join(against)}",
            )


def _by_their_figures(levels: Sequence[Entry], claimed: Entry) -> Iterator[str]:
    told = [entry for entry in levels if entry.reported is not None]
    if claimed.reported is None or len(told) < 2:
        return
    ordered = sorted(told, key=lambda entry: entry.reported or 0.0)
    best = ordered[-1]
    if best.reported is None or best.reported - claimed.reported < ROUNDING:
        return
    rank = "the lowest of all" if ordered[0] is claimed else "not the highest"
    yield (
        f"By its own table, {level_text(claimed.level)} has {100 * claimed.reported:.2f} %, {rank} "
        f"{len(told)}; {level_text(best.level)} has {100 * best.reported:.2f} %."
    )


def _by_ours(levels: Sequence[Entry], claimed: Entry) -> Iterator[str]:
    """Contradict a claim only where a difference is proven.

    The best of several rivals is looked at, and so each of them counts as a comparison.
    """
    rivals = [entry for entry in levels if entry is not claimed and entry.accuracies]
    if not claimed.accuracies or not rivals:
        return
    best = max(rivals, key=lambda entry: mean(entry.accuracies.values()))
    ahead = lead(best.accuracies, claimed.accuracies)
    if ahead.is_proven(len(rivals)):
        yield f"By our results, {level_text(best.level)} is ahead of it by {ahead}."


CHECKS: tuple[Callable[[Context], Iterator[Finding]], ...] = (_contradicted,)
