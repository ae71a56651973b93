"""What a source concludes about a factor, against the results: better, worse, no effect."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from fmnist_common.text import level_text
from study.lint.context import Context
from study.lint.finding import Finding
from study.lint.leads import Accuracies, Lead, lead, mean

Levels = Mapping[str, Accuracies]  # level, as text -> values by what pairs them; more is better


def _conclusions(context: Context) -> Iterator[Finding]:
    """Contradict a claim only where the opposite is proven."""
    source = context.source["name"] if context.source else "the author"
    for number, claim in enumerate(context.plan.get("claims", ()), 1):
        check = next((candidate for word, candidate in _CHECKS.items() if word in claim), None)
        if check is None or claim.get("factor") not in _varied(context):
            continue
        levels = _levels(context, claim["factor"], claim.get("with", {}))
        against = check(context, claim, levels)
        if against is not None:
            where = "".join(
                f", where {name} is {level_text(level)}"
                for name, level in claim.get("with", {}).items()
            )
            yield Finding(
                "contradicted-claim",
                "note",
                f"claims.{number}",
                f"{source} claims: {claim['text']}. By these results{where}, {against}.",
            )


def _varied(context: Context) -> set[str]:
    return {name for trial in context.finished for name in trial.params}


def _levels(context: Context, factor: str, given: Mapping[str, Any]) -> Levels:
    """Return a factor's values by level, paired by seed and all other settings."""
    groups: dict[str, dict[Hashable, float]] = defaultdict(dict)
    for trial in context.finished:
        fits = all(
            name in trial.params and level_text(trial.params[name]) == level_text(level)
            for name, level in given.items()
        )
        level = trial.params.get(factor)
        if fits and level is not None and trial.value is not None:
            others = frozenset((n, repr(value)) for n, value in trial.params.items() if n != factor)
            groups[level_text(level)][others, trial.seed] = context.sign * trial.value
    return groups


def _of_an_order(context: Context, claim: Mapping[str, Any], levels: Levels) -> str | None:
    """Contradict `better` or `worse` by a proven difference the other way."""
    word = "better" if "better" in claim else "worse"
    claimed = level_text(claim[word])
    others = [level_text(claim["than"])] if "than" in claim else [n for n in levels if n != claimed]
    others = [name for name in others if name in levels]
    if claimed not in levels:
        return None
    for other in others:
        first, second = (other, claimed) if word == "better" else (claimed, other)
        ahead = lead(levels[first], levels[second])
        if ahead.is_proven(len(others)):
            return f"{first} is ahead of {second} by {_text(context, ahead)}"
    return None


def _of_no_effect(context: Context, claim: Mapping[str, Any], levels: Levels) -> str | None:
    """Contradict `no_effect` by a proven difference of any two levels."""
    ordered = sorted(levels, key=lambda name: mean(levels[name].values()), reverse=True)
    pairs = [(a, b) for n, a in enumerate(ordered) for b in ordered[n + 1 :]]
    for first, second in pairs:
        ahead = lead(levels[first], levels[second])
        if ahead.is_proven(len(pairs)):
            return f"{first} is ahead of {second} by {_text(context, ahead)}"
    return None


def _text(context: Context, ahead: Lead) -> str:
    if context.is_accuracy:
        return str(ahead)
    is_bounded = ahead.low is not None and ahead.high is not None
    interval = f" [{ahead.low:.4g}, {ahead.high:.4g}]" if is_bounded else ""
    return f"{ahead.mean:.4g}{f' {context.unit}' if context.unit else ''}{interval}"


def _of_the_best(context: Context, claim: Mapping[str, Any], levels: Levels) -> str | None:
    """Contradict `best`; of accuracies, `claims.py` does, which knows reported figures too."""
    return None if context.is_accuracy else _of_an_order(context, {"better": claim["best"]}, levels)


_CHECKS: Mapping[str, Callable[[Context, Mapping[str, Any], Levels], str | None]] = {
    "best": _of_the_best,
    "better": _of_an_order,
    "worse": _of_an_order,
    "no_effect": _of_no_effect,
}
CHECKS: tuple[Callable[[Context], Iterator[Finding]], ...] = (_conclusions,)
