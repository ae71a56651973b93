"""What an ablation or a factorial found, in plain words.

What matters most, by how much, how sure that is, what it costs, and what was not proven. Every
number in a sentence is one of the table's; nothing is claimed that the correction does not allow.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.quantity import ACCURACY, Quantity
from analysis.statistics.effects import FEWEST_PAIRS, Effect
from analysis.statistics.power import ALPHA
from analysis.statistics.rows import baseline_level
from analysis.summary import costs
from analysis.summary.answers import COSTS, MATTERS, MUCH, SURE, UNPROVEN, reached_by
from analysis.tables import looks
from analysis.tables.effect_figures import EffectFigures
from analysis.tables.effect_notes import only_in_test, unsupported
from analysis.text import printable
from analysis.trials import Trial
from analysis.verdicts import PROVEN
from analysis.wording import are, count, some
from fmnist_common.text import level_text, variant_label

TOLD = 3  # effects of a kind that have a sentence of their own
TINY = 0.0005  # a difference, as a fraction, that nobody would say matters, however sure it is

Plan = Mapping[str, Any]


def answers(
    plan: Plan, table: EffectFigures, trials: Sequence[Trial]
) -> tuple[str, dict[str, list[str]]]:
    """Return the headline and the sentences on a study with a finished trial."""
    effects = [effect for effect in table.effects if not effect.is_reference]
    compared = [effect for effect in effects if effect.delta is not None]
    cost = [*costs.of_best(table, trials), *costs.of_study(plan, trials)]
    if not compared:
        return _nothing_compared(table, effects), {COSTS: cost}
    proven = sorted(
        (effect for effect in compared if effect.claim in PROVEN),
        key=lambda effect: -abs(effect.delta or 0.0),
    )
    return _headline(plan, table, compared, proven), {
        MATTERS: [*_matters(plan, table.quantity, compared, proven), *_factors(table, proven)],
        MUCH: [*_how_much(plan, table, proven), *_negligible(table)],
        SURE: _how_sure(table, compared),
        COSTS: cost,
        UNPROVEN: _not_proven(table, effects),
    }


def _nothing_compared(table: EffectFigures, effects: Sequence[Effect]) -> str:
    reached = (
        f" It reaches {reached_by(table.baseline, table.quantity)}." if table.baseline.n else ""
    )
    lost = [effect for effect in effects if effect.failed and not effect.n]
    if lost and len(lost) == len(effects) and table.baseline.n:
        each = "The only other level" if len(lost) == 1 else f"Each of the {len(lost)} other levels"
        return f"{each} {lost[0].claim} on every seed.{reached}"
    if not effects:
        return f"The study varies nothing: it measures the baseline alone.{reached}"
    if table.baseline.n:
        return f"Only the baseline has finished: there is nothing to compare it with yet.{reached}"
    return "Nothing can be compared yet: no two variants that belong together have finished."


def _headline(
    plan: Plan, table: EffectFigures, compared: Sequence[Effect], proven: Sequence[Effect]
) -> str:
    words = {effect.claim for effect in compared}
    if words == {"identical"}:
        return "No change made any difference at all."
    if words <= {"too few", "identical"}:
        return (
            f"Too few seeds for any claim: it takes {FEWEST_PAIRS}, and what looks like a "
            "difference may be chance."
        )
    return _largest(plan, table, proven) if proven else _nothing_proven(table, words)


def _largest(plan: Plan, table: EffectFigures, proven: Sequence[Effect]) -> str:
    first = proven[0]
    quantity = table.quantity
    if quantity.is_accuracy and abs(first.delta or 0.0) < TINY:
        return (
            f"Nothing matters much: the largest proven difference, of {_level(first)}, is "
            f"{quantity.gap(first.delta)} of {quantity.name}."
        )
    rises = (first.delta or 0.0) > 0
    told = f"{'gains' if rises else 'costs'} {quantity.gap(first.delta)} of {quantity.name}"
    if quantity.lower_is_better or not quantity.unit:
        change = "raises" if rises else "lowers"
        told = f"{change} {quantity.name} by {quantity.gap(first.delta)}"
    sentence = (
        f"{printable(first.factor)} matters most: {printable(level_text(first.level))} {told} "
        f"compared with {_reference(plan, first)}."
    )
    best = next((effect for effect in proven if effect.claim == "better"), None)
    if best is first:
        return sentence
    if best is None:
        return f"{sentence} Nothing was proven better than {table.base}."
    doubt = ", which test accuracy does not show" if unsupported(best) else ""
    gain = table.quantity.gap(best.delta, sign=True)
    return f"{sentence} The largest proven gain: {_level(best)}, {gain}{doubt}."


def _nothing_proven(table: EffectFigures, words: set[str]) -> str:
    if table.negligible is not None and words <= {"negligible", "identical"}:
        return f"No change matters: each is proven to be within ±{_margin(table)} points."
    return "No change was proven to matter: chance may explain every difference."


def _margin(table: EffectFigures) -> str:
    return f"{100 * (table.negligible or 0.0):g}"


def _factors(table: EffectFigures, proven: Sequence[Effect]) -> list[str]:
    """Name the factors of which something matters, though no single level is proven."""
    settled = {effect.factor for effect in proven}
    names = [
        printable(test.factor)
        for test in table.factors
        if test.p_adjusted <= ALPHA and test.factor not in settled
    ]
    if not names:
        return []
    return [f"Of {some(names)} some level matters (F test), but it is not proven which."]


def _negligible(table: EffectFigures) -> list[str]:
    levels = [_level(effect) for effect in table.effects if effect.claim == "negligible"]
    if not levels:
        return []
    return [f"Proven negligible, within ±{_margin(table)} points: {some(levels)}."]


def _matters(
    plan: Plan, quantity: Quantity, compared: Sequence[Effect], proven: Sequence[Effect]
) -> list[str]:
    if not proven:
        sound = [effect for effect in compared if not effect.failed]
        largest = max(sound, key=lambda effect: abs(effect.delta or 0.0), default=None)
        if largest is None or not largest.delta:
            return []
        return [
            "Nothing for certain. The largest difference seen, "
            f"{quantity.gap(largest.delta, sign=True)} for {_level(largest)} compared with "
            f"{_reference(plan, largest)}"
            f"{quantity.bounds(largest.delta_low, largest.delta_high)}, is not proven."
        ]
    factors = list(dict.fromkeys(printable(effect.factor) for effect in proven))
    if len(factors) == 1:
        return [f"{factors[0]}: no other factor has a proven effect."]
    return [f"In this order: {some(factors)}."]


def _how_much(plan: Plan, table: EffectFigures, proven: Sequence[Effect]) -> list[str]:
    sentences = []
    quantity = table.quantity
    for word in PROVEN:
        effects = [effect for effect in proven if effect.claim == word]
        for effect in effects[:TOLD]:
            does = "raises" if (effect.delta or 0.0) > 0 else "lowers"
            ends = sorted(abs(b) for b in (effect.delta_low, effect.delta_high) if b is not None)
            interval = quantity.bounds(*ends, sign=False) if len(ends) == 2 else ""
            sentences.append(
                f"{_level(effect)} {does} {quantity.name} by {quantity.gap(effect.delta)} "
                f"compared with {_reference(plan, effect)}{interval}"
                f"{', which test accuracy does not show' if unsupported(effect) else ''}."
            )
        more = [_level(effect) for effect in effects[TOLD:]]
        if more:
            sentences.append(f"Also proven {word}: {some(more)}.")
    return sentences


def _how_sure(table: EffectFigures, compared: Sequence[Effect]) -> list[str]:
    sentences = _precision(table, compared)
    few = sum(effect.claim == "too few" for effect in compared)
    if few:
        have = "has" if few == 1 else "have"
        sentences.append(
            f"{count(few, 'comparison')} {have} fewer than {FEWEST_PAIRS} pairs: no claim is made."
        )
    amount = table.quantity.amount
    for name, collapse in table.named_collapses():
        sentences.append(
            f"A training collapsed: {name}, at {amount(collapse.value, 1)} where half of that "
            f"variant's reach {amount(collapse.median, 1)}."
        )
    return [*looks.told(table.looks), *sentences, *_in_test(compared)]


def _in_test(compared: Sequence[Effect]) -> list[str]:
    """Say where test data does not see what is proven, and where it sees more."""
    sentences = []
    for sees, words in (
        (unsupported, "Proven in validation, but test accuracy does not show it"),
        (only_in_test, "Not proven in validation, but test accuracy differs"),
    ):
        levels = [
            f"{_level(e)} ({ACCURACY.gap(e.test_delta, sign=True)})" for e in compared if sees(e)
        ]
        if levels:
            sentences.append(f"{words}: {some(levels)}.")
    return sentences


def _precision(table: EffectFigures, compared: Sequence[Effect]) -> list[str]:
    sentences = []
    pairs = sorted({effect.compared for effect in compared if effect.paired})
    if pairs:
        over = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
        sentences.append(
            "A difference is taken between trainings that have all else in common, over "
            f"{over} seed{'' if pairs == [1] else 's'}."
        )
    unpaired = [effect for effect in compared if not effect.paired]
    if unpaired:
        sentences.append(
            f"{count(len(unpaired), 'difference')} {are(len(unpaired))} not paired, as fewer than "
            "two seeds are in common."
        )
    sentences += _false_claims(table)
    smallest = table.detectable_difference()
    if smallest is not None:
        sentences.append(
            f"By the usual spread of its differences, the study proves a true one of about "
            f"{table.quantity.gap(smallest)} in 4 of 5 cases; smaller ones are missed more often."
        )
    return sentences


def _false_claims(table: EffectFigures) -> list[str]:
    if table.looks is not None:
        return ["The chance of any false claim, over all levels and looks, is about 5 %."]
    if table.family < 2:
        return []
    holm, dunnett = "is at most 5 % (Holm's correction)", "is about 5 % (Dunnett's test)"
    method = holm if table.strict else dunnett
    every = "both" if table.family == 2 else f"all {table.family}"
    return [f"The chance of any false claim among {every} comparisons {method}."]


def _not_proven(table: EffectFigures, effects: Sequence[Effect]) -> list[str]:
    words = [(effect, effect.claim) for effect in effects]
    unsettled = [effect for effect, word in words if word in ("not proven", "too few")]
    sentences = []
    if unsettled:
        its = "their differences" if len(unsettled) > 1 else "its difference"
        sentences.append(
            f"{len(unsettled):,} of {count(len(effects), 'level')}: chance may explain {its}, "
            f"which does not mean that there is none.{_at_most(table.quantity, unsettled)}"
        )
        settled = {effect.factor for effect, word in words if word in PROVEN}
        untouched = dict.fromkeys(e.factor for e in unsettled if e.factor not in settled)
        if untouched:
            sentences.append(f"{table.no_effect}: {some(list(map(printable, untouched)))}.")
    identical = [_level(effect) for effect, word in words if word == "identical"]
    if identical:
        was = "was" if len(identical) == 1 else "were"
        sentences.append(f"{some(identical)} {was} exactly as good, seed by seed.")
    absent = [_level(effect) for effect, word in words if word == "not run"]
    if absent:
        have = "has" if len(absent) == 1 else "have"
        sentences.append(f"{some(absent)} {have} no finished trial.")
    return sentences + _failed(effects)


def _at_most(quantity: Quantity, effects: Sequence[Effect]) -> str:
    """Say how large differences may be that are not proven."""
    ends = sorted(effect.bound for effect in effects if effect.bound is not None)
    if not ends:
        return ""
    first, last = quantity.number(ends[0]), quantity.number(ends[-1])
    points = " points" if quantity.unit == "%" else ""
    to = "" if first == last else f" to ±{last}"
    return f" {'It is' if len(effects) == 1 else 'They are'} at most ±{first}{to}{points}."


def _failed(effects: Sequence[Effect]) -> list[str]:
    """Say which levels diverged, and whose results are those of survivors."""
    sentences = []
    for word, does in (("diverged", "diverged"), ("failed", "failed")):
        levels = [_level(e) for e in effects if e.n == 0 and e.claim == word]
        if levels:
            sentences.append(f"{some(levels)} {does} on every seed.")
    partly = [e for e in effects if e.failed and e.n]
    names = [f"{_level(e)} ({e.failed} of {e.failed + e.n})" for e in partly]
    if names:
        sentences.append(
            f"Trainings of {some(names)} failed: what the others reach is no evidence that a level "
            "is better."
        )
    return sentences


def _level(effect: Effect) -> str:
    return printable(f"{effect.factor} = {level_text(effect.level)}")


def _reference(plan: Plan, effect: Effect) -> str:
    """Name what a level is compared with: another level, the baseline, or a variant."""
    if effect.factor in plan.get("factors", {}) and effect.changes.keys() == {effect.factor}:
        return printable(level_text(baseline_level(plan, effect.factor)))
    return printable(variant_label(effect.against)) if effect.against else "the baseline"
