"""A reader's questions about a study, and the sentences that answer them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.progress import Progress
from analysis.quantity import Quantity
from analysis.statistics.effects import Row
from analysis.text import printable
from analysis.trials import Trial, finished
from analysis.wording import are, count, listed, some

MATTERS = "What matters most"
MUCH = "By how much"
SURE = "How sure"
COSTS = "What it costs"
UNPROVEN = "What was not proven"
MISSING = "What is missing"

Sentences = Mapping[str, Iterable[str]]  # by question; empty sentences are left out


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


def summary(headline: str, sentences: Sentences) -> Summary:
    """Put a summary together, without the questions that nothing answers."""
    told = {question: [text for text in texts if text] for question, texts in sentences.items()}
    return Summary(headline, [Answer(question, texts) for question, texts in told.items() if texts])


def nothing_finished(now: Progress) -> str:
    """Say that there is no result yet, and what there is instead."""
    if not now.counts:
        return "Nothing has been run yet."
    states = listed([f"{number:,} {word}" for word, number in now.counts.items()])
    return f"No trial has finished yet: {states}."


def missing(now: Progress, trials: Sequence[Trial]) -> list[str]:
    """Say what is planned, failed or still running."""
    sentences = []
    if now.missing:
        sentences.append(
            f"{count(now.missing, 'trial')} of {now.planned:,} {are(now.missing)} missing."
        )
    results = {(trial.label, trial.seed) for trial in finished(trials)}
    failed = [trial for trial in trials if trial.state == "FAIL"]
    lost = [trial for trial in failed if (trial.label, trial.seed) not in results]
    if lost:
        sentences.append(f"{count(len(lost), 'trial')} failed{_reasons(lost)}.")
    running = now.counts.get("running", 0)
    if running:
        sentences.append(f"{count(running, 'trial')} {are(running)} still running.")
    again = [trial for trial in failed if (trial.label, trial.seed) in results]
    if again:
        told = f"{count(len(again), 'trial')} failed and succeeded when trained again"
        sentences += [*(["Nothing."] if not sentences else []), f"{told}{_reasons(again)}."]
    return sentences


def _reasons(failed: Sequence[Trial]) -> str:
    reasons = dict.fromkeys(printable(t.failure_reason) for t in failed if t.failure_reason)
    return f": {some(list(reasons), 'reason')}" if reasons else ""


def reached_by(row: Row, quantity: Quantity) -> str:
    """Say what a row reaches, over how many trials."""
    mean = quantity.amount(row.val_accuracy_mean)
    over = "on a single seed" if row.n == 1 else f"the mean of {row.n} trials"
    told = f"{mean} {quantity.name}" if quantity.unit else f"a {quantity.name} of {mean}"
    return f"{told}, {over}"
