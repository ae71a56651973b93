"""What chose the figures, and how many runs are behind each."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median

from study.lint.context import ENOUGH, Case, Result, mean, standard_error
from study.lint.finding import Finding, Severity

# Of the difference of two accuracies on as many images each, two standard errors wide.
TWO_ERRORS = 2 * math.sqrt(2)


def _of_the_source(case: Case) -> Iterator[Finding]:
    if case.source is None or case.source.get("selected_on") != "test":
        return
    yield Finding(
        "test-selection",
        "note",
        "source",
        f"Figures of {case.source['name']} are of epochs or runs that test accuracy chose, and so "
        "too good by an unknown amount. Ours are chosen by validation accuracy: expect them lower.",
    )


def _of_imported_results(case: Case) -> Iterator[Finding]:
    if case.imported is None or not case.finished:
        return
    selected, metric = case.imported.get("selected_on"), case.imported.get("metric")
    if selected == "test":
        yield Finding(
            "test-selection",
            "error",
            "results",
            f"{metric} is measured on test images and is the only figure that ranks these "
            f"{len(case.finished)} runs: the best of them was chosen by the figure that is then "
            "reported, which makes it too good. Choose by validation accuracy, and look at the "
            "test set once.",
        )
    elif selected is None:
        yield Finding(
            "test-selection",
            "warning",
            "results",
            f"The file does not say which images {metric} is measured on. If they are the test "
            "images, the best run's figure is too good: choose by validation accuracy instead.",
        )


def _best_test_epoch(case: Case) -> Iterator[Finding]:
    """Find runs whose test accuracy is that of their best epoch on the test set."""
    telling = [own for trial in case.finished if (own := _best_and_honest(trial)) is not None]
    taken = [best for best, honest, reported in telling if best == reported != honest]
    if taken and len(taken) == len(telling):
        yield Finding(
            "test-selection",
            "error",
            "results",
            f"In all {len(taken)} runs that tell the two apart, the test accuracy is the highest "
            "of all epochs, not that of the epoch with the best validation accuracy: the test set "
            "chose the epoch. Take the test accuracy of the epoch that validation data chose.",
        )


def _best_and_honest(trial: Result) -> tuple[float, float, float] | None:
    """Return the best epoch's test accuracy, that of the epoch chosen honestly, and the run's.

    Honest is the best validation epoch, or the last one. None where they agree, or nothing tells.
    """
    epochs = [own for own in trial.history if own.get("test_accuracy") is not None]
    if len(epochs) < 2 or trial.test_accuracy is None:
        return None
    validated = [own for own in epochs if own.get("val_accuracy") is not None]
    chosen = max(validated, key=lambda own: float(own["val_accuracy"]), default=epochs[-1])
    best = max(float(own["test_accuracy"]) for own in epochs)
    honest = float(chosen["test_accuracy"])
    return None if best == honest else (best, honest, trial.test_accuracy)


def _source_runs(case: Case) -> Iterator[Finding]:
    if case.source is None or case.source.get("runs", ENOUGH) >= ENOUGH:
        return
    runs, images = case.source["runs"], case.source.get("test_images")
    figures = [
        own["test_accuracy"] for own in case.plan.get("reported", ()) if "test_accuracy" in own
    ]
    behind = "one run" if runs == 1 else f"{runs} runs" if runs else "an unknown number of runs"
    message = f"Behind each figure of {case.source['name']} is {behind}"
    if images and len(figures) > 1:
        error = standard_error(median(figures), images)
        near = sum(max(figures) - own < TWO_ERRORS * error for own in figures) - 1
        message += (
            f". A test of {images:,} images at {100 * median(figures):.1f} % has a binomial "
            f"standard error of {100 * error:.2f} points: {near} of the {len(figures) - 1} figures "
            "below its best are within two standard errors of a difference "
            f"({100 * TWO_ERRORS * error:.2f} points) of it"
        )
    yield Finding("single-run", "note", "source", f"{message}. Trust only large differences.")


def _planned_runs(case: Case) -> Iterator[Finding]:
    """Find too few replicates: planned ones, or those of an imported file."""
    seeds = case.plan.get("seeds")
    if case.imported is not None or not isinstance(seeds, int) or seeds >= ENOUGH:
        return
    settings, fix = f"{seeds} seed{'s' if seeds > 1 else ''}", f"Run at least {ENOUGH} (--seeds)"
    images = case.facts.test_images if case.facts else 10_000
    scale = (
        f"a single test of {images:,} images at 93 % has a binomial standard error of "
        f"{100 * standard_error(0.93, images):.2f} points, and training adds to it"
    )
    yield Finding(
        "single-run", *_gravity(case.design, seeds, "plan"), f"{settings}: {scale}. {fix}."
    )


def _gravity(design: str | None, runs: int, where: str) -> tuple[Severity, str]:
    """Return how bad so few runs are. Other designs than ablations average over their cells."""
    return ("error" if design == "ablation" and runs < 2 else "warning"), where


def _counted_runs(case: Case) -> Iterator[Finding]:
    counts = Counter({name: len(own) for name, own in case.by_variant.items()})
    few = [name for name, count in counts.items() if count < ENOUGH]
    if case.imported is None or not few or len(counts) < 2:
        return
    typical = int(median(counts.values()))
    message = (
        f"{len(few)} of {len(counts)} settings have fewer than {ENOUGH} runs"
        f" ({'mostly one' if typical == 1 else f'typically {typical}'}), so nothing says how much "
        "of a difference is chance"
    )
    yield Finding(
        "single-run",
        *_gravity(case.design, typical, "results"),
        f"{message}{_crowd(case)}. Repeat {'the best' if case.design == 'search' else 'each'} with "
        f"{ENOUGH} seeds or more.",
    )


def _crowd(case: Case) -> str:
    """Say how many settings the noise of single figures cannot tell from the best."""
    if case.facts is None or len(case.by_variant) < 2:
        return ""
    means = sorted(
        (mean(trial.value or 0.0 for trial in own) for own in case.by_variant.values()),
        reverse=True,
    )
    width = TWO_ERRORS * standard_error(means[0], case.facts.test_images)
    near = sum(means[0] - own < width for own in means[1:])
    if not near:
        return ""
    return (
        f". The best leads the next by {100 * (means[0] - means[1]):.2f} points, and {near} of the "
        f"{len(means) - 1} others lie within two standard errors of a difference between tests of "
        f"{case.facts.test_images:,} images ({100 * width:.2f} points)"
    )


def _unfinished(case: Case) -> Iterator[Finding]:
    """Find variants of ours that have fewer runs than were planned, and too few."""
    if case.ours is None or case.ours.search is not None or not case.trials:
        return
    variants = case.ours.variants
    few = sum(len(case.by_variant.get(own.label, ())) < ENOUGH for own in variants)
    if case.ours.seeds < ENOUGH or not few:
        return
    running = any(trial.state == "RUNNING" for trial in case.trials)
    yield Finding(
        "single-run",
        "note" if running else "warning",
        "results",
        f"{few} of {len(variants)} variants have fewer than {ENOUGH} finished runs so far, of "
        f"{case.ours.seeds} planned. "
        + ("The study is running." if running else "Run the study again: it goes on where it was."),
    )


CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    _of_the_source,
    _of_imported_results,
    _best_test_epoch,
    _source_runs,
    _planned_runs,
    _counted_runs,
    _unfinished,
)
