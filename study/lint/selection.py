"""What chose the figures."""

from collections.abc import Callable, Iterator

from study.lint.context import Context, TrialRecord
from study.lint.finding import Finding


def _of_the_source(context: Context) -> Iterator[Finding]:
    if context.source is None or context.source.get("selected_on") != "test":
        return
    yield Finding(
        "test-selection",
        "note",
        "source",
        f"Figures of {context.source['name']} are of epochs or runs that test accuracy chose, and "
        "so too good by an unknown amount. Ours are chosen by validation accuracy: expect them "
        "lower.",
    )


def _of_imported_results(context: Context) -> Iterator[Finding]:
    if context.imported is None or not context.finished:
        return
    selected, metric = context.imported.get("selected_on"), context.imported.get("metric")
    if selected == "test":
        yield Finding(
            "test-selection",
            "error",
            "results",
            f"{metric} is measured on test images and is the only figure that ranks these "
            f"{len(context.finished)} runs: the best of them was chosen by the figure that is then "
            "reported, which makes it too good. Choose by validation accuracy, and look at the "
            "test set once.",
        )
    elif selected == "training":
        yield Finding(
            "test-selection",
            "error",
            "results",
            f"{metric} is measured on training images: it ranks how well runs fit what they have "
            "seen, not how good they are. Compare a validation figure.",
        )
    elif selected is None:
        yield Finding(
            "test-selection",
            "warning",
            "results",
            f"The file does not say which images {metric} is measured on. If they are the test "
            "images, the best run's figure is too good: choose by validation accuracy instead.",
        )


def _best_test_epoch(context: Context) -> Iterator[Finding]:
    """Find runs whose test accuracy is that of their best epoch on the test set."""
    told_apart = [
        accuracies
        for trial in context.finished
        if (accuracies := _best_and_honest(trial)) is not None
    ]
    taken = [best for best, honest, reported in told_apart if best == reported != honest]
    if taken and len(taken) == len(told_apart):
        yield Finding(
            "test-selection",
            "error",
            "results",
            f"In all {len(taken)} runs that tell the two apart, the test accuracy is the highest "
            "of all epochs, not that of the epoch with the best validation accuracy: the test set "
            "chose the epoch. Take the test accuracy of the epoch that validation data chose.",
        )


def _best_and_honest(trial: TrialRecord) -> tuple[float, float, float] | None:
    """Return the best epoch's test accuracy, that of the epoch chosen honestly, and the run's.

    Honest is the best validation epoch, or the last one. None where they agree, or nothing tells.
    """
    epochs = [epoch for epoch in trial.history if epoch.get("test_accuracy") is not None]
    if len(epochs) < 2 or trial.test_accuracy is None:
        return None
    validated = [epoch for epoch in epochs if epoch.get("val_accuracy") is not None]
    chosen = max(validated, key=lambda epoch: float(epoch["val_accuracy"]), default=epochs[-1])
    best = max(float(epoch["test_accuracy"]) for epoch in epochs)
    honest = float(chosen["test_accuracy"])
    return None if best == honest else (best, honest, trial.test_accuracy)


OF_ANY_FIGURE: tuple[Callable[[Context], Iterator[Finding]], ...] = (_of_imported_results,)
CHECKS: tuple[Callable[[Context], Iterator[Finding]], ...] = (
    _of_the_source,
    _of_imported_results,
    _best_test_epoch,
)
