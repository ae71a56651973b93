"""Figures that a correct training does not produce."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import correlation, linear_regression

from study.lint.context import Case, Result, mean
from study.lint.finding import Finding
from study.plans.names import field_of

LOSSES = ("train_loss", "val_loss", "test_loss")
WORDS = {"train_loss": "training loss", "val_loss": "validation loss", "test_loss": "test loss"}
FEWEST = 3  # epochs, or runs, before a figure's course is judged
ALIKE = 0.03  # accuracies that differ by so little do not explain a loss that doubles


def _last_loss(trial: Result, kind: str) -> float | None:
    """Return a trial's loss at its end: of the best epoch, or of the last that tells it."""
    own = getattr(trial, kind, None)
    if own is None:
        known = [epoch[kind] for epoch in trial.history if epoch.get(kind) is not None]
        own = known[-1] if known else None
    return float(own) if own is not None and math.isfinite(own) else None


def _setting(trial: Result, field: str) -> object:
    """Return a setting of a trial, under whatever name it was imported."""
    for settings in (trial.config, trial.params):
        for name, level in settings.items():
            if field_of(name) == field:
                return level
    return None


def _loss_scale(case: Case) -> Iterator[Finding]:
    """Find losses in inverse proportion to the batch size.

    A sum of batch means, divided by the number of images, is the mean loss over the batch size.
    Fitted is log(loss) = a + b log(batch size); a loss of this kind has b = -1 and fits closely.
    """
    for kind in LOSSES:
        points = []
        for trial in case.finished:
            batch, loss = _setting(trial, "batch_size"), _last_loss(trial, kind)
            number = isinstance(batch, int | float) and not isinstance(batch, bool) and batch > 0
            if number and loss is not None and loss > 0 and trial.value is not None:
                points.append((float(batch), loss, trial.value))  # type: ignore[arg-type]
        sizes = sorted({batch for batch, _, _ in points})
        if len(points) < FEWEST or len(sizes) < 2 or not _equally_accurate(points):
            continue
        x = [math.log(batch) for batch, _, _ in points]
        y = [math.log(loss) for _, loss, _ in points]
        if len(set(y)) < 2:
            continue
        slope = linear_regression(x, y).slope
        if abs(slope + 1) > 0.15 or correlation(x, y) > -0.95:
            continue
        means = {size: mean([own for batch, own, _ in points if batch == size]) for size in sizes}
        ends = [f"{means[size]:.3g} at {size:g}" for size in (sizes[0], sizes[-1])]
        product = mean([batch * loss for batch, loss, _ in points])
        yield Finding(
            "loss-scale",
            "error",
            "results",
            f"{WORDS[kind]} falls in proportion to the batch size ({', '.join(ends)}; loss times "
            f"batch size is always about {product:.2g}): a sum of batch means was divided by the "
            "number of images. Losses of different batch sizes cannot be compared; divide by the "
            "number of batches.",
        )


def _equally_accurate(points: Sequence[tuple[float, float, float]]) -> bool:
    groups: dict[float, list[float]] = defaultdict(list)
    for batch, _, accuracy in points:
        groups[batch].append(accuracy)
    means = [mean(own) for own in groups.values()]
    return max(means) - min(means) < ALIKE


def _softmax_loss(case: Case) -> Iterator[Finding]:
    """Find cross entropies that were given probabilities instead of logits.

    Of C probabilities, cross entropy takes the softmax once more: its least value, for a certain
    and right answer, is log(e + C - 1) - 1, and it rises by about the error rate. A plain cross
    entropy at a high accuracy is far below.
    """
    classes = _classes(case)
    if classes is None:
        return
    floor = math.log(math.e + classes - 1) - 1
    for kind in LOSSES:
        pairs = []
        for trial in case.finished:
            loss = _last_loss(trial, kind)
            accuracy = _accuracy_of(trial, kind)
            smoothed = kind == "train_loss" and _setting(trial, "label_smoothing")
            if loss is not None and accuracy is not None and not smoothed:
                pairs.append((loss, accuracy))
        lowest = min((loss for loss, _ in pairs), default=0.0)
        best = max((accuracy for _, accuracy in pairs), default=0.0)
        suspect = all(
            floor - 0.001 <= own <= floor + (1 - accuracy) + 0.15 for own, accuracy in pairs
        )
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


def _classes(case: Case) -> int | None:
    if case.facts is not None:
        return len(case.facts.classes)
    return 10 if case.plan.get("dataset") is None else None  # most small data sets have ten


def _accuracy_of(trial: Result, kind: str) -> float | None:
    """Return the accuracy on the images of a loss, or the one that is compared."""
    name = kind.replace("loss", "accuracy")
    if name == "test_accuracy" and trial.test_accuracy is not None:
        return trial.test_accuracy
    known = [epoch[name] for epoch in trial.history if epoch.get(name) is not None]
    return float(known[-1]) if name == "train_accuracy" and known else trial.value


def _not_training(case: Case) -> Iterator[Finding]:
    """Find runs that never get better than chance, or whose figures never move.

    So does a network whose optimiser was built on the parameters of another one.
    """
    runs = [trial for trial in case.trials if _courses(trial)]
    still: Mapping[str, list[str]] = {"chance": [], "flat": []}
    for trial in runs:
        course = _courses(trial)
        if case.facts is not None and _at_chance(course, len(case.facts.classes)):
            still["chance"].append(trial.label)
        elif case.ours is None and _flat(course):
            still["flat"].append(trial.label)
    for kind, labels in still.items():
        if not labels:
            continue
        told = {
            "chance": "never leaves chance: after every epoch about as many answers are right as "
            f"by guessing among {len(case.facts.classes) if case.facts else 0} classes",
            "flat": "does not move: its loss and accuracy are those of the first epoch throughout",
        }[kind]
        names = ", ".join(dict.fromkeys(labels[:3])) + (" and others" if len(labels) > 3 else "")
        advice = (
            "A learning rate that is much too high does this."
            if case.ours is not None
            else "Check that the optimiser has this model's own parameters, and the learning rate."
        )
        all_of_them = len(labels) == len(runs)
        yield Finding(
            "not-training",
            "note" if case.ours is not None else "error" if all_of_them else "warning",
            "results",
            f"{len(labels)} of {len(runs)} runs: training {told} ({names}). {advice}",
        )


def _courses(trial: Result) -> dict[str, list[float]]:
    """Return the figures that are there for at least three epochs."""
    names = ("train_loss", "train_accuracy", "val_accuracy", "test_accuracy")
    found = {
        name: [float(e[name]) for e in trial.history if isinstance(e.get(name), int | float)]
        for name in names
    }
    return {name: own for name, own in found.items() if len(own) >= FEWEST}


def _at_chance(courses: Mapping[str, Sequence[float]], classes: int) -> bool:
    known = [courses[name] for name in ("train_accuracy", "val_accuracy") if name in courses]
    return bool(known) and max(map(max, known)) < 1 / classes + 0.03


def _flat(courses: Mapping[str, Sequence[float]]) -> bool:
    loss = courses.get("train_loss")
    accuracies = [own for name, own in courses.items() if name != "train_loss"]
    if loss is not None and max(loss) - min(loss) > 0.005 * abs(mean(loss)):
        return False
    trained = any(max(own) > 0.99 for own in accuracies)  # there is nothing left to learn
    moving = any(max(own) - min(own) > 0.01 for own in accuracies)
    return not trained and not moving and (loss is not None or bool(accuracies))


CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    _loss_scale,
    _softmax_loss,
    _not_training,
)
