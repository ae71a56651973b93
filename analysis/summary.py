"""What a study found, in plain words: the five questions of a reader, answered from its figures.

What matters most, by how much, how sure that is, what it costs, and what was not proven. Every
number in a sentence is one of the tables'; nothing is claimed that the correction does not allow.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from analysis.inference_cost import typical
from analysis.progress import Progress
from analysis.search_table import SearchTable
from analysis.statistics.candidates import Candidate
from analysis.statistics.effects import Effect, Row
from analysis.statistics.factorial import Anova, Term
from analysis.statistics.paired import Difference, paired_difference
from analysis.statistics.power import ALPHA, detectable
from analysis.statistics.rows import baseline_level, same
from analysis.tables import FEWEST_PAIRS, Table, verdict
from analysis.text import percent, printable
from analysis.trials import Study, Trial, finished, known
from fmnist_common.text import duration, level_text, variant_label

NAMED = 6  # things that a sentence lists; more are counted
TOLD = 3  # effects of a kind that have a sentence of their own
ALIKE = 0.05  # costs whose ratio is so close to 1 are about the same

MATTERS = "What matters most"
MUCH = "By how much"
SURE = "How sure"
COSTS = "What it costs"
UNPROVEN = "What was not proven"
MISSING = "What is missing"


@dataclass(frozen=True)
class Answer:
    """The answer to one question, sentence by sentence."""

    question: str
    sentences: list[str]


@dataclass(frozen=True)
class Summary:
    """A study in a sentence or two, and the answers."""

    headline: str
    answers: list[Answer]


def summarise(study: Study, trials: Sequence[Trial], table: Table | SearchTable) -> Summary:
    """Answer a reader's questions about a study of any design, however far it is."""
    now, missing = table.progress, _missing(table.progress, trials)
    if not finished(trials):
        return Summary(_nothing(now), _answers({MISSING: missing}))
    if isinstance(table, SearchTable):
        headline, answers = _search(table, trials)
    elif not study.plan:
        headline, answers = _foreign(now)
    else:
        headline, answers = _design(study, table, trials)
    return Summary(headline, _answers({**answers, MISSING: missing}))


def _answers(found: Mapping[str, Iterable[str]]) -> list[Answer]:
    told = {question: [text for text in texts if text] for question, texts in found.items()}
    return [Answer(question, texts) for question, texts in told.items() if texts]


def _nothing(now: Progress) -> str:
    if not now.counts:
        return "Nothing has been run yet."
    states = listed([f"{number:,} {word}" for word, number in now.counts.items()])
    return f"No trial has finished yet: {states}."


def _missing(now: Progress, trials: Sequence[Trial]) -> list[str]:
    sentences = []
    if now.missing:
        sentences.append(
            f"{count(now.missing, 'trial')} of {now.planned:,} {are(now.missing)} missing."
        )
    failed = [trial for trial in trials if trial.state == "FAIL"]
    if failed:
        reasons = list(dict.fromkeys(t.failure_reason for t in failed if t.failure_reason))
        why = f": {some([printable(reason) for reason in reasons], 'reason')}" if reasons else ""
        sentences.append(f"{count(len(failed), 'trial')} failed{why}.")
    running = now.counts.get("running", 0)
    if running:
        sentences.append(f"{count(running, 'trial')} {are(running)} still running.")
    return sentences


Answers = dict[str, list[str]]


def _design(study: Study, table: Table, trials: Sequence[Trial]) -> tuple[str, Answers]:
    effects = [effect for effect in table.effects if not effect.is_reference]
    compared = [effect for effect in effects if effect.delta is not None]
    costs = [*_cost_of_best(table, trials), *_cost_of_study(trials)]
    if not compared:
        return _nothing_compared(table, effects), {COSTS: costs}
    proven = sorted(
        (one for one in compared if verdict(one) in ("better", "worse")),
        key=lambda one: -abs(one.delta or 0.0),
    )
    return _headline(study, compared, proven), {
        MATTERS: [*_matters(study, compared, proven), *_interactions(table)],
        MUCH: _how_much(study, proven),
        SURE: _how_sure(study, table, compared),
        COSTS: costs,
        UNPROVEN: _not_proven(effects),
    }


def _nothing_compared(table: Table, effects: Sequence[Effect]) -> str:
    reached = (
        f" It reaches {_accuracy(table.baseline, table.progress.objective)}."
        if table.baseline.n
        else ""
    )
    if not effects:
        return f"The study varies nothing: it measures the baseline alone.{reached}"
    if table.baseline.n:
        return f"Only the baseline has finished: there is nothing to compare it with yet.{reached}"
    return "Nothing can be compared yet: no two variants that belong together have finished."


def _headline(study: Study, compared: Sequence[Effect], proven: Sequence[Effect]) -> str:
    words = {verdict(effect) for effect in compared}
    if words == {"identical"}:
        return "No change made any difference at all."
    if words <= {"too few", "identical"}:
        return (
            f"Too few seeds for any claim: it takes {FEWEST_PAIRS}, and what looks like a "
            "difference may be chance."
        )
    if not proven:
        return "No change was proven to matter: chance may explain every difference."
    first = proven[0]
    does = "gains" if (first.delta or 0.0) > 0 else "costs"
    sentence = (
        f"{printable(first.factor)} matters most: {printable(level_text(first.level))} {does} "
        f"{_size(first.delta)} points of {study.compared} compared with "
        f"{_reference(study, first)}."
    )
    best = next((one for one in proven if verdict(one) == "better"), None)
    if best is first:
        return sentence
    if best is None:
        factorial = study.plan.get("design") == "factorial"
        than = "the baseline's levels" if factorial else "the baseline"
        return f"{sentence} Nothing was proven better than {than}."
    return f"{sentence} The largest proven gain: {_level(best)}, {_signed(best.delta)} points."


def _matters(study: Study, compared: Sequence[Effect], proven: Sequence[Effect]) -> list[str]:
    if not proven:
        largest = max(compared, key=lambda one: abs(one.delta or 0.0))
        if not largest.delta:
            return []
        return [
            "Nothing for certain. The largest difference seen, "
            f"{_signed(largest.delta)} points for {_level(largest)} compared with "
            f"{_reference(study, largest)}"
            f"{_bounds(largest.delta_low, largest.delta_high)}, is not proven."
        ]
    factors = list(dict.fromkeys(printable(one.factor) for one in proven))
    if len(factors) == 1:
        return [f"{factors[0]}: no other factor has a proven effect."]
    return [f"In this order: {some(factors)}."]


def _how_much(study: Study, proven: Sequence[Effect]) -> list[str]:
    sentences = []
    for word, does in (("better", "raises"), ("worse", "lowers")):
        own = [one for one in proven if verdict(one) == word]
        for effect in own[:TOLD]:
            bounds = sorted(abs(b) for b in (effect.delta_low, effect.delta_high) if b is not None)
            interval = _bounds(*bounds, sign=False) if len(bounds) == 2 else ""
            sentences.append(
                f"{_level(effect)} {does} {study.compared} by {_size(effect.delta)} points "
                f"compared with {_reference(study, effect)}{interval}."
            )
        more = [_level(one) for one in own[TOLD:]]
        if more:
            sentences.append(f"Also proven {word}: {some(more)}.")
    return sentences


def _how_sure(study: Study, table: Table, compared: Sequence[Effect]) -> list[str]:
    sentences = []
    pairs = sorted({effect.compared for effect in compared if effect.paired})
    if pairs:
        over = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
        thing = "pair" if study.plan.get("design") == "factorial" else "seed"
        sentences.append(
            "A difference is taken between trainings that have all else in common, over "
            f"{over} {thing}{'' if pairs == [1] else 's'}."
        )
    unpaired = [effect for effect in compared if not effect.paired]
    if unpaired:
        sentences.append(
            f"{count(len(unpaired), 'difference')} {are(len(unpaired))} not paired, as fewer than "
            "two seeds are in common."
        )
    tested = sum(effect.p_holm is not None for effect in compared)
    if tested > 1:
        sentences.append(
            f"The chance of any false claim among all {tested} comparisons is at most 5 % (Holm's "
            "correction)."
        )
    smallest = detectable_difference(table)
    if smallest is not None:
        sentences.append(
            f"By the usual spread of its differences, the study proves a true one of "
            f"{percent(smallest)} points in 4 of 5 cases; smaller ones are missed more often."
        )
    sentences += _unconfirmed(table, compared)
    few = sum(verdict(effect) == "too few" for effect in compared)
    if few:
        have = "has" if few == 1 else "have"
        sentences.append(
            f"{count(few, 'comparison')} {have} fewer than {FEWEST_PAIRS} pairs: no claim is made."
        )
    return sentences


def detectable_difference(table: Table) -> float | None:
    """Return the true difference that the study proves with 80 % chance, a fraction.

    By the usual spread of its paired differences, as the first of all comparisons under Holm's
    correction. None where there are too few pairs to judge by, and for factorials, whose pairs
    differ by interactions and not by chance alone.
    """
    if table.design == "factorial":
        return None
    pairs = max((effect.compared for effect in table.effects if effect.paired), default=0)
    if pairs < FEWEST_PAIRS or table.spread is None:
        return None
    family = sum(effect.p_holm is not None for effect in table.effects)
    smallest = detectable(pairs, ALPHA / max(1, family))
    return None if smallest is None else smallest * table.spread


def _interactions(table: Table) -> list[str]:
    """Name the factors of a factorial whose effects do not just add up."""
    if not isinstance(table.anova, Anova):
        return []
    pairs = [term for term in table.anova.terms if len(term.factors) == 2 and _proven(term)]
    if not pairs:
        return []
    names = [printable(" × ".join(term.factors)) for term in pairs]
    return [
        f"Effects do not just add up: proven interaction{'s' * (len(names) > 1)} of {some(names)}."
    ]


def _unconfirmed(table: Table, compared: Sequence[Effect]) -> list[str]:
    """Say where the analysis of variance does not find what a paired difference shows."""
    if not isinstance(table.anova, Anova):
        return []
    found = {term.factors: _proven(term) for term in table.anova.terms}
    names = dict.fromkeys(
        printable(effect.factor)
        for effect in compared
        if verdict(effect) in ("better", "worse") and found.get((effect.factor,)) is False
    )
    if not names:
        return []
    return [
        f"The analysis of variance, which tests interactions too, does not confirm "
        f"{some(list(names))}."
    ]


def _proven(term: Term) -> bool:
    return term.p_holm is not None and term.p_holm <= ALPHA


def _not_proven(effects: Sequence[Effect]) -> list[str]:
    words = [(effect, verdict(effect)) for effect in effects]
    unsettled = [effect for effect, word in words if word in ("not proven", "too few")]
    sentences = []
    if unsettled:
        its = "their differences" if len(unsettled) > 1 else "its difference"
        sentences.append(
            f"{len(unsettled):,} of {count(len(effects), 'level')}: chance may explain {its}, "
            "which does not mean that there is none."
        )
        settled = {effect.factor for effect, word in words if word in ("better", "worse")}
        untouched = dict.fromkeys(one.factor for one in unsettled if one.factor not in settled)
        if untouched:
            sentences.append(f"Without any proven effect: {some(list(map(printable, untouched)))}.")
    identical = [_level(effect) for effect, word in words if word == "identical"]
    if identical:
        was = "was" if len(identical) == 1 else "were"
        sentences.append(f"{some(identical)} {was} exactly as good, seed by seed.")
    absent = [_level(effect) for effect, word in words if word == "not run"]
    if absent:
        have = "has" if len(absent) == 1 else "have"
        sentences.append(f"{some(absent)} {have} no finished trial.")
    return sentences


def _cost_of_best(table: Table, trials: Sequence[Trial]) -> list[str]:
    best, done = table.progress.best, finished(trials)
    base = [trial for trial in done if trial.variant is not None and not trial.changes]
    if best is None or not base:
        return []
    own = [trial for trial in done if trial.label == best.variant]
    if best.variant == base[0].label:
        return [f"The baseline has the highest mean {table.progress.objective} of all variants."]
    of = [one for one in table.effects if same(one.changes, own[0].changes) and not one.against]
    doubt = ", which is not proven better than the baseline"
    if any(verdict(one) == "better" for one in of):
        doubt = ""
    elif not of:  # a cell of a factorial, or a step of the path
        doubt = "; the combination itself was not tested against the baseline"
    seeds = ", a single run" if best.n == 1 else ""
    return [
        f"{printable(best.variant)} has the highest mean {table.progress.objective} of all "
        "variants, "
        f"{percent(best.mean)} %{seeds}{doubt}.{_ratios(own, base)}"
    ]


def _ratios(own: Sequence[Trial], base: Sequence[Trial]) -> str:
    """Say how the costs of a variant compare with the baseline's, in a sentence.

    Seconds and latency are measured, and vary with what else the machine does: where trials of both
    lie among each other there is no clear difference.
    """
    differing, alike, unclear = [], [], []
    for name, thing in (
        ("parameters", "parameters"),
        ("seconds", "training time"),
        ("latency_ms", "latency"),
    ):
        here, there = typical(own, name), typical(base, name)
        if here is None or not there:
            continue
        ratio = here / there
        ours, theirs = known(own, name), known(base, name)
        if abs(ratio - 1) < ALIKE:
            alike.append(thing)
        elif min(ours) > max(theirs) or max(ours) < min(theirs):
            differing.append(
                f"{f'{ratio:.2g}' if ratio < 10 else f'{ratio:,.0f}'} times the {thing}"
            )
        else:
            unclear.append(thing)
    words = differing + ([f"about the same {listed(alike)}"] if alike else [])
    clauses = [listed(words)] if words else []
    if unclear:
        clauses.append(f"no clear difference in {listed(unclear)}")
    return f" Compared with the baseline it has {', and '.join(clauses)}." if clauses else ""


def _cost_of_study(trials: Sequence[Trial]) -> list[str]:
    known = [trial.seconds for trial in trials if trial.seconds is not None]
    if not known:
        return []
    devices = list(dict.fromkeys(printable(trial.device) for trial in trials if trial.device))
    on = f" on {some(devices)}" if devices else ""
    wall = wall_seconds(trials)
    # An imported trial ends when it begins.
    within = f", within {duration(wall)} of wall time" if wall >= 0.1 else ""
    return [f"{count(len(known), 'training')} took {duration(sum(known))} in all{on}{within}."]


def wall_seconds(trials: Iterable[Trial]) -> float:
    """Return how long at least one of the trials was running; pauses between runs do not count."""
    spans = sorted(
        (trial.started, trial.completed)
        for trial in trials
        if trial.started is not None and trial.completed is not None
    )
    total = 0.0
    until: datetime | None = None
    for start, end in spans:
        first = start if until is None else max(start, until)
        total += max(0.0, (end - first).total_seconds())
        until = end if until is None else max(end, until)
    return total


def _search(table: SearchTable, trials: Sequence[Trial]) -> tuple[str, Answers]:
    best, base = table.candidates[0], table.baseline
    name = printable(best.variant)
    gain = None if base is None or base is best else _between(trials, base, best)
    headline = (
        f"The best of {count(len(table.candidates), 'finished candidate')} is {name}, with "
        f"{_accuracy(best, table.progress.objective)}."
    )
    return headline, {
        MATTERS: _important(table),
        MUCH: [_gain(name, base, best, gain)],
        SURE: _how_sure_of(table, name),
        COSTS: [_cost_of(best, base), _epochs(table), *_cost_of_study(trials)],
        UNPROVEN: _rivals(table, trials, gain),
    }


def _important(table: SearchTable) -> list[str]:
    found = table.importances.parameters
    if not found:
        return []
    share = found[0].ped_anova
    sentences = [
        f"{printable(found[0].parameter)}, with {percent(share.share, 0)} % of the importance "
        f"(PED-ANOVA, 95 % interval {percent(share.low, 0)} to {percent(share.high, 0)} %)."
    ]
    rest = [
        f"{printable(one.parameter)} ({percent(one.ped_anova.share, 0)} %)" for one in found[1:3]
    ]
    return [*sentences, *([f"Then {listed(rest)}."] if rest else [])]


def _gain(name: str, base: Candidate | None, best: Candidate, gain: Difference | None) -> str:
    if base is None:
        return "The baseline has not finished: there is nothing to compare with."
    if base is best:
        return "No candidate is ranked above the baseline."
    if gain is None or gain.delta is None:
        return ""
    word = "better" if gain.delta > 0 else "worse"
    return (
        f"{name} is {_size(gain.delta)} points {word} than the baseline, over "
        f"{count(gain.n, 'seed')}{_bounds(gain.low, gain.high)}."
    )


def _how_sure_of(table: SearchTable, name: str) -> list[str]:
    best, curse = table.candidates[0], table.curse
    sentences = []
    if best.n == 1:
        sentences.append(f"{name} ran on a single seed: it may just have been lucky.")
    elif best.val_accuracy_low is not None and best.val_accuracy_high is not None:
        high = min(1.0, best.val_accuracy_high)  # Student's t knows no end
        sentences.append(
            f"The 95 % interval of its mean is {percent(best.val_accuracy_low)} to "
            f"{percent(high)} %."
        )
    if curse is not None and curse.candidates > 1:
        sentences.append(
            f"It was picked out of {curse.candidates:,} candidates: luck alone may explain up to "
            f"{percent(curse.overestimate)} points, so {percent(curse.corrected)} % is the careful "
            "estimate."
        )
    return [*sentences, *([table.importances.warning] if table.importances.warning else [])]


def _cost_of(best: Candidate, base: Candidate | None) -> str:
    words = []
    if best.parameters is not None:
        than = ""
        if base is not None and base is not best and base.parameters:
            ratio = best.parameters / base.parameters
            times = f"{ratio:.2g}" if ratio < 10 else f"{ratio:,.0f}"
            than = (
                ", about as many as the baseline,"
                if abs(ratio - 1) < ALIKE
                else f", {times} times those of the baseline,"
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
            delta = "" if rival.delta is None else f" ({_signed(rival.delta)} points)"
            sentences.append(
                f"That {name} is better than the second, {printable(others[0].variant)}{delta}."
            )
    return sentences


def _between(trials: Sequence[Trial], one: Candidate, other: Candidate) -> Difference:
    """Return other minus one, paired by seed."""

    def values(own: Candidate) -> dict[int | None, float]:
        rows = [trial for trial in finished(trials) if trial.label == own.variant]
        return {trial.seed: trial.value for trial in rows if trial.value is not None}

    return paired_difference(values(one), values(other))


def _excludes_zero(found: Difference) -> bool:
    if found.n < FEWEST_PAIRS or found.low is None or found.high is None:
        return False
    return found.low > 0 or found.high < 0


def _foreign(now: Progress) -> tuple[str, Answers]:
    assert now.best is not None  # a trial has finished
    headline = (
        f"The best is {printable(now.best.variant)}, with {now.objective} {now.best.mean:.6g}."
    )
    return headline, {
        SURE: [
            "This study has no plan of fmnist-study, so no baseline and no planned seeds: no "
            "difference can be judged."
        ]
    }


def _accuracy(row: Row, compared: str) -> str:
    mean = percent(row.val_accuracy_mean)
    over = "on a single seed" if row.n == 1 else f"the mean of {row.n} trials"
    return f"{mean} % {compared}, {over}"


def _level(effect: Effect) -> str:
    return printable(f"{effect.factor} = {level_text(effect.level)}")


def _reference(study: Study, effect: Effect) -> str:
    """Name what a level is compared with: another level, the baseline, or a variant."""
    if effect.factor in study.plan.get("factors", {}) and effect.changes.keys() == {effect.factor}:
        return printable(level_text(baseline_level(study.plan, effect.factor)))
    return printable(variant_label(effect.against)) if effect.against else "the baseline"


def _bounds(low: float | None, high: float | None, *, sign: bool = True) -> str:
    if low is None or high is None:
        return ""
    words = _signed if sign else _size
    return f" (95 % interval {words(low)} to {words(high)})"


def _signed(fraction: float | None) -> str:
    return f"{100 * (fraction or 0.0):+.2f}".replace("-", "−")


def _size(fraction: float | None) -> str:
    return f"{100 * abs(fraction or 0.0):.2f}"


def count(number: int, thing: str) -> str:
    """Write a number of things: 1 trial, 1,200 trials."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def are(number: int) -> str:
    """Return the verb that goes with so many things."""
    return "is" if number == 1 else "are"


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def some(words: Sequence[str], thing: str = "", most: int = NAMED) -> str:
    """Join words; of too many, name the first and count the rest."""
    if len(words) <= most:
        return listed(words)
    more = len(words) - most + 1
    other = f"{more:,} other {thing}s" if thing else f"{more:,} others"
    return listed([*words[: most - 1], other])
