"""Figures that a correct training does not produce."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import correlation, linear_regression

from study.lint.context import Context, TrialRecord
from study.lint.finding import Finding, Severity, listed
from study.lint.leads import mean
from study.plans.names import field_of

LOSSES = ("train_loss", "val_loss", "test_loss")
WORDS = {"train_loss": "training loss", "val_loss": "validation loss", "test_loss": "test loss"}
FEWEST = 3  # epochs, or runs, before a figure's course is judged
LEAST_ERROR = 0.001  # share of wrong answers; fewer are not measured by thousands of images


def _last_loss(trial: TrialRecord, kind: str) -> float | None:
    """Return a trial's loss at its end: of the best epoch, or of the last that tells it."""
    loss = getattr(trial, kind, None)
    if loss is None:
        losses = [epoch[kind] for epoch in trial.history if epoch.get(kind) is not None]
        loss = losses[-1] if losses else None
    return float(loss) if loss is not None and math.isfinite(loss) else None


def _setting(trial: TrialRecord, field: str) -> object:
    """Return a setting of a trial, under whatever name it was imported."""
    for settings in (trial.config, trial.params):
        for name, level in settings.items():
            if field_of(name) == field:
                return level
    return None


@dataclass(frozen=True)
class _Measured:
    """A run's loss, and the accuracy on the same images, or the nearest that is known."""

    batch: float  # size
    loss: float
    accuracy: float


def _loss_scale(context: Context) -> Iterator[Finding]:
    """Find losses in inverse proportion to the batch size.

    A sum of batch means, divided by the number of images, is the mean loss over the batch size.
    Fitted is log(loss) = a + b log(batch size); a loss of this kind has b = -1 and fits closely.
    """
    for kind in LOSSES:
        runs = _measured(context, kind)
        sizes = sorted({run.batch for run in runs})
        if len(runs) < FEWEST or len(sizes) < 2 or _errors_explain(runs, sizes[0], sizes[-1]):
            continue
        x = [math.log(run.batch) for run in runs]
        y = [math.log(run.loss) for run in runs]
        if len(set(y)) < 2:
            continue
        slope = linear_regression(x, y).slope
        if abs(slope + 1) > 0.15 or correlation(x, y) > -0.95:
            continue
        ends = [f"{_mean_loss(runs, size):.3g} at {size:g}" for size in (sizes[0], sizes[-1])]
        product = mean([run.batch * run.loss for run in runs])
        yield Finding(
            "loss-scale",
            "error",
            "results",
            f"{WORDS[kind]} falls in proportion to the batch size ({', '.join(ends)}; loss times "
            f"batch size is always about {product:.2g}): a sum of batch means was divided by the "
            "number of images. Losses of different batch sizes cannot be compared; divide by the "
            "number of batches.",
        )


def _measured(context: Context, kind: str) -> list[_Measured]:
    runs = []
    for trial in context.finished:
        batch, loss = _setting(trial, "batch_size"), _last_loss(trial, kind)
        accuracy = _accuracy_of(trial, kind)
        number = isinstance(batch, int | float) and not isinstance(batch, bool) and batch > 0
        if number and loss is not None and loss > 0 and accuracy is not None:
            runs.append(_Measured(float(batch), loss, accuracy))  # type: ignore[arg-type]
    return runs


def _mean_loss(runs: Sequence[_Measured], size: float) -> float:
    return mean(run.loss for run in runs if run.batch == size)


def _errors_explain(runs: Sequence[_Measured], smallest: float, largest: float) -> bool:
    """Whether answers get better by so much that losses may fall by as much, on one scale.

    A cross entropy is about in proportion to the share of wrong answers: where that falls by half
    of the loss's fall or more, as a ratio, nothing is amiss.
    """
    first, last = (
        max(LEAST_ERROR, 1 - mean(run.accuracy for run in runs if run.batch == size))
        for size in (smallest, largest)
    )
    fall = math.log(_mean_loss(runs, smallest) / _mean_loss(runs, largest))
    return math.log(first / last) >= fall / 2


def _softmax_loss(context: Context) -> Iterator[Finding]:
    """Find cross entropies that were given probabilities instead of logits.

    Of C probabilities, cross entropy takes the softmax once more: its least value, for a certain
    and right answer, is log(e + C - 1) - 1, and it rises by about the error rate. A plain cross
    entropy at a high accuracy is far below, on the images of training at the latest: of an
    overfitted network the validation loss alone is high.
    """
    classes = _classes(context)
    if classes is None:
        return
    floor = math.log(math.e + classes - 1) - 1
    if _least_loss(context) < floor - 0.001:
        return
    for kind in LOSSES:
        pairs = _losses_and_accuracies(context, kind)
        lowest = min((loss for loss, _ in pairs), default=0.0)
        best = max((accuracy for _, accuracy in pairs), default=0.0)
        suspect = all(loss <= floor + (1 - accuracy) + 0.15 for loss, accuracy in pairs)
        if not suspect or best < 0.7:
            continue
        yield Finding(
            "softmax-loss",
            "error",
            "results",
            f"{WORDS[kind]} is never below {lowest:.3f} although accuracy reaches "
            f"{100 * best:.1f} %: with softmax in front of a cross entropy that has its own, "
            f"{classes} classes cannot go below log(e + {classes - 1}) - 1 = {floor:.3f}. Give the "
            "loss the logits; gradients are far too small like this.",
        )


def _losses_and_accuracies(context: Context, kind: str) -> list[tuple[float, float]]:
    return [
        (loss, accuracy)
        for trial in context.finished
        if not _setting(trial, "label_smoothing")
        and (loss := _last_loss(trial, kind)) is not None
        and (accuracy := _accuracy_of(trial, kind)) is not None
    ]


def _least_loss(context: Context) -> float:
    """Return the lowest loss of any kind, run and epoch."""
    losses = [
        figure
        for trial in context.finished
        for kind in LOSSES
        for figure in (getattr(trial, kind, None), *(epoch.get(kind) for epoch in trial.history))
        if isinstance(figure, int | float) and math.isfinite(figure)
    ]
    return min(losses, default=math.inf)


def _classes(context: Context) -> int | None:
    if context.facts is not None:
        return len(context.facts.classes)
    return 10 if context.plan.get("dataset") is None else None  # most small data sets have ten


def _accuracy_of(trial: TrialRecord, kind: str) -> float | None:
    """Return the accuracy on the images of a loss, or the one that is compared."""
    name = kind.replace("loss", "accuracy")
    if name == "test_accuracy" and trial.test_accuracy is not None:
        return trial.test_accuracy
    course = [epoch[name] for epoch in trial.history if epoch.get(name) is not None]
    return float(course[-1]) if name == "train_accuracy" and course else trial.value


def _not_training(context: Context) -> Iterator[Finding]:
    """Find runs that never get better than chance, or whose figures never move.

    So does a network whose optimiser was built on the parameters of another one.
    """
    runs = [trial for trial in context.trials if _courses(trial)]
    still: Mapping[str, list[str]] = {"chance": [], "flat": []}
    for trial in runs:
        course = _courses(trial)
        if context.facts is not None and _at_chance(course, len(context.facts.classes)):
            still["chance"].append(trial.label)
        elif context.ours is None and _flat(course):
            still["flat"].append(trial.label)
    for kind, labels in still.items():
        if labels:
            yield _stands_still(context, kind, labels, len(runs))


def _stands_still(context: Context, kind: str, labels: Sequence[str], runs: int) -> Finding:
    told = {
        "chance": "never leaves chance: after every epoch about as many answers are right as "
        f"by guessing among {len(context.facts.classes) if context.facts else 0} classes",
        "flat": "does not move: its loss and accuracy are those of the first epoch throughout",
    }[kind]
    severity: Severity = "error" if len(labels) == runs else "warning"
    advice = "Check that the optimiser has this model's own parameters, and the learning rate."
    if context.ours is not None:
        severity, advice = "note", "A learning rate that is much too high does this."
    names = listed(list(dict.fromkeys(labels)))
    message = f"{len(labels)} of {runs} runs: training {told} ({names}). {advice}"
    return Finding("not-training", severity, "results", message)


def _courses(trial: TrialRecord) -> dict[str, list[float]]:
    """Return the figures that are there for at least three epochs."""
    names = ("train_loss", "train_accuracy", "val_accuracy", "test_accuracy")
    courses = {
        name: [float(e[name]) for e in trial.history if isinstance(e.get(name), int | float)]
        for name in names
    }
    return {name: course for name, course in courses.items() if len(course) >= FEWEST}


def _at_chance(courses: Mapping[str, Sequence[float]], classes: int) -> bool:
    told = [courses[name] for name in ("train_accuracy", "val_accuracy") if name in courses]
    return bool(told) and max(map(max, told)) < 1 / classes + 0.03


def _flat(courses: Mapping[str, Sequence[float]]) -> bool:
    loss = courses.get("train_loss")
    accuracies = [course for name, course in courses.items() if name != "train_loss"]
    if loss is not None and max(loss) - min(loss) > 0.005 * abs(mean(loss)):
        return False
    trained = any(max(course) > 0.99 for course in accuracies)  # there is nothing left to learn
    moving = any(max(course) - min(course) > 0.01 for course in accuracies)
    return not trained and not moving and (loss is not None or bool(accuracies))


CHECKS: tuple[Callable[[Context], Iterator[Finding]], ...] = (
    _loss_scale,
    _softmax_loss,
    _not_training,
)
