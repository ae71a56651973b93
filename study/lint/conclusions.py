"""What a source concludes about a factor, against the results: better, worse, no effect."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from fmnist_common.text import level_text
from study.lint.context import Case, Lead, Values, lead, mean
from study.lint.finding import Finding

Levels = Mapping[str, Values]  # level, as text -> values by what pairs them; more is better


def _conclusions(case: Case) -> Iterator[Finding]:
    """Contradict a claim only where the opposite is proven."""
    source = case.source["name"] if case.source else "the author"
    for number, claim in enumerate(case.plan.get("claims", ()), 1):
        check = next((own for word, own in _CHECKS.items() if word in claim), None)
        if check is None or claim.get("factor") not in _varied(case):
            continue
        levels = _levels(case, claim["factor"], claim.get("with", {}))
        against = check(case, claim, levels)
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


def _varied(case: Case) -> set[str]:
    return {name for trial in case.finished for name in trial.params}


def _levels(case: Case, factor: str, given: Mapping[str, Any]) -> Levels:
    """Return a factor's values by level, paired by seed and all other settings."""
    groups: dict[str, dict[Hashable, float]] = defaultdict(dict)
    for trial in case.finished:
        fits = all(
            name in trial.params and level_text(trial.params[name]) == level_text(level)
            for name, level in given.items()
        )
        level = trial.params.get(factor)
        if fits and level is not None and trial.value is not None:
            others = frozenset((n, repr(own)) for n, own in trial.params.items() if n != factor)
            groups[level_text(level)][others, trial.seed] = case.sign * trial.value
    return groups


def _of_an_order(case: Case, claim: Mapping[str, Any], levels: Levels) -> str | None:
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
            return f"{first} is ahead of {second} by {_text(case, ahead)}"
    return None


def _of_no_effect(case: Case, claim: Mapping[str, Any], levels: Levels) -> str | None:
    """Contradict `no_effect` by a proven difference of any two levels."""
    ordered = sorted(levels, key=lambda name: mean(levels[name].values()), reverse=True)
    pairs = [(a, b) for n, a in enumerate(ordered) for b in ordered[n + 1 :]]
    for first, second in pairs:
        ahead = lead(levels[first], levels[second])
        if ahead.is_proven(len(pairs)):
            return f"{first} is ahead of {second} by {_text(case, ahead)}"
    return None


def _text(case: Case, ahead: Lead) -> str:
    if case.is_accuracy:
        return str(ahead)
    known = ahead.low is not None and ahead.high is not None
    interval = f" [{ahead.low:.4g}, {ahead.high:.4g}]" if known else ""
    return f"{ahead.mean:.4g}{f' {case.unit}' if case.unit else ''}{interval}"


def _of_the_best(case: Case, claim: Mapping[str, Any], levels: Levels) -> str | None:
    """Contradict `best`; of accuracies, `claims.py` does, which knows reported figures too."""
    return None if case.is_accuracy else _of_an_order(case, {"better": claim["best"]}, levels)


_CHECKS: Mapping[str, Callable[[Case, Mapping[str, Any], Levels], str | None]] = {
    "best": _of_the_best,
    "better": _of_an_order,
    "worse": _of_an_order,
    "no_effect": _of_no_effect,
}
CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (_conclusions,)
