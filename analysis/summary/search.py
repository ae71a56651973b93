"""What a search found, in plain words."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.quantity import ACCURACY, Quantity
from analysis.statistics.candidates import Candidate
from analysis.statistics.effects import FEWEST_PAIRS
from analysis.statistics.paired import Difference, paired_difference
from analysis.summary import costs
from analysis.summary.answers import COSTS, MATTERS, MUCH, SURE, UNPROVEN, Sentences, reached_by
from analysis.summary.costs import ALIKE, times
from analysis.tables.search import SearchTable
from analysis.text import percent, printable
from analysis.trials import Trial, finished
from analysis.wording import count, listed
from fmnist_common.text import duration


def answers(
    plan: Mapping[str, Any], table: SearchTable, trials: Sequence[Trial]
) -> tuple[str, Sentences]:
    """Return the headline and the sentences on a search with a finished candidate."""
    best, base = table.candidates[0], table.baseline
    name = printable(best.variant)
    gain = None if base is None or base is best else _between(trials, base, best)
    headline = (
        f"The best of {count(len(table.candidates), 'finished candidate')} is {name}, with "
        f"{reached_by(best, table.quantity)}."
    )
    return headline, {
        MATTERS: _important(table),
        MUCH: [_gain(table.quantity, name, base, best, gain)],
        SURE: _how_sure(table, name),
        COSTS: [_cost_of(best, base), _epochs(table), *costs.of_study(plan, trials)],
        UNPROVEN: _rivals(table, trials, gain),
    }


def _important(table: SearchTable) -> list[str]:
    method, parameters = table.importances.ranked_by, table.importances.parameters
    shares = [
        (importance.parameter, share)
        for importance in parameters
        if (share := importance.by(method)) is not None
    ]
    if not shares:
        return []
    (first, share), *others = shares[:3]
    sentences = [
        f"{printable(first)}, with {percent(share.share, 0)} % of the importance "
        f"({method}, 95 % interval {percent(share.low, 0)} to {percent(share.high, 0)} %)."
    ]
    rest = [f"{printable(parameter)} ({percent(other.share, 0)} %)" for parameter, other in others]
    return [*sentences, *([f"Then {listed(rest)}."] if rest else [])]


def _gain(
    quantity: Quantity,
    name: str,
    base: Candidate | None,
    best: Candidate,
    gain: Difference | None,
) -> str:
    if base is None and quantity != ACCURACY:
        return ""  # results of others have no baseline
    if base is None:
        return "The baseline has not finished: there is nothing to compare with."
    if base is best:
        return "No candidate is ranked above the baseline."
    if gain is None or gain.delta is None:
        return ""
    word = "better" if (quantity.gain(gain.delta) or 0.0) > 0 else "worse"
    return (
        f"{name} is {quantity.gap(gain.delta)} {word} than the baseline, over "
        f"{count(gain.n, 'seed')}{quantity.bounds(gain.low, gain.high)}."
    )


def _how_sure(table: SearchTable, name: str) -> list[str]:
    best, curse = table.candidates[0], table.curse
    sentences = []
    if best.n == 1:
        sentences.append(f"{name} ran on a single seed: it may just have been lucky.")
    elif best.val_accuracy_low is not None and best.val_accuracy_high is not None:
        sentences.append(
            f"The 95 % interval of its mean is {table.quantity.number(best.val_accuracy_low)} to "
            f"{table.quantity.amount(best.val_accuracy_high)}."
        )
    if curse is not None and curse.candidates > 1:
        sentences.append(
            f"It was picked out of {curse.candidates:,} candidates: luck alone may explain up to "
            f"{table.quantity.gap(curse.overestimate)}, so "
            f"{table.quantity.amount(curse.corrected)} is the careful "
            "estimate."
        )
    return [*sentences, *([table.importances.warning] if table.importances.warning else [])]


def _cost_of(best: Candidate, base: Candidate | None) -> str:
    words = []
    if best.parameters is not None:
        than = ""
        if base is not None and base is not best and base.parameters:
            ratio = best.parameters / base.parameters
            than = (
                ", about as many as the baseline,"
                if abs(ratio - 1) < ALIKE
                else f", {times(ratio)} times those of the baseline,"
            )
        words.append(f"has {best.parameters:,} parameters{than}")
    if best.seconds is not None:
        words.append(f"takes {duration(best.seconds)} a training")
    if not words:
        return ""
    return f"{printable(best.variant)} {' and '.join(words).rstrip(',')}."


def _epochs(table: SearchTable) -> str:
    cost = table.epochs
    if cost is None or not cost.full:
        return ""
    saved = (
        f" Pruning saved {cost.saved_by_pruning:,}, "
        f"{100 * cost.saved_by_pruning / cost.full:.0f} % of training every candidate in full."
        if cost.saved_by_pruning
        else ""
    )
    return f"The search spent {count(cost.spent + cost.replicates, 'epoch')}.{saved}"


def _rivals(table: SearchTable, trials: Sequence[Trial], gain: Difference | None) -> list[str]:
    best, *others = table.candidates
    name = printable(best.variant)
    sentences = []
    if gain is not None and not _excludes_zero(gain):
        sentences.append(f"That {name} is better than the baseline.")
    if others and others[0] is not table.baseline:
        rival = _between(trials, others[0], best)
        if not _excludes_zero(rival):
            delta = (
                "" if rival.delta is None else f" ({table.quantity.gap(rival.delta, sign=True)})"
            )
            sentences.append(
                f"That {name} is better than the second, {printable(others[0].variant)}{delta}."
            )
    return sentences


def _between(trials: Sequence[Trial], reference: Candidate, candidate: Candidate) -> Difference:
    """Return candidate minus reference, paired by seed."""

    def values(of: Candidate) -> dict[int | None, float]:
        rows = [trial for trial in finished(trials) if trial.label == of.variant]
        return {trial.seed: trial.value for trial in rows if trial.value is not None}

    return paired_difference(values(reference), values(candidate))


def _excludes_zero(difference: Difference) -> bool:
    if difference.n < FEWEST_PAIRS or difference.low is None or difference.high is None:
        return False
    return difference.low > 0 or difference.high < 0
