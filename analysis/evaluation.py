"""A trained network on its test set, for people: accuracy, classes, mistakes, speed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from analysis.inference_cost import Inference
from analysis.statistics.proportions import Proportion, share
from analysis.table_formats import WRITERS, Block, Page
from analysis.text import percent, printable


@dataclass(frozen=True)
class Mistakes:
    """What the counts of a confusion matrix say."""

    test: Proportion
    classes: list[Proportion]  # of the images of each class


def mistakes(confusion: Sequence[Sequence[int]]) -> Mistakes:
    """Sum up a confusion matrix of shape (C, C): row = true class, column = predicted class."""
    right = [row[label] for label, row in enumerate(confusion)]
    return Mistakes(
        share(sum(right), sum(map(sum, confusion))),
        [share(number, sum(row)) for number, row in zip(right, confusion, strict=True)],
    )


def as_dict(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> dict[str, Any]:
    """Return what a confusion matrix says, JSON-ready. Accuracies are fractions."""
    counted = mistakes(confusion)
    return {
        "test_images": counted.test.images,
        "test_accuracy": counted.test.accuracy,
        "test_accuracy_low": counted.test.low,
        "test_accuracy_high": counted.test.high,
        "classes": [
            {"name": name, **asdict(part)}
            for name, part in zip(classes, counted.classes, strict=True)
        ],
        "confusion": confusion,
    }


def render(
    title: str,
    facts: Sequence[str],
    confusion: Sequence[Sequence[int]],
    classes: Sequence[str],
    inference: Inference,
) -> str:
    """Write it as text.

    Args:
        title, facts: what network this is, and where it was evaluated.
        confusion: test images, shape (C, C): row = true class, column = predicted class.
        classes: the C names.
        inference: as a trial's attribute.
    """
    counted = mistakes(confusion)
    # The columns of the matrix are numbers, for lack of room.
    names = [
        name if name == str(number) else f"{number} {printable(name)}"
        for number, name in enumerate(classes)
    ]
    per_class: dict[str, list[str]] = {
        "class": [*names, "all"],
        "images": [f"{part.images:,}" for part in [*counted.classes, counted.test]],
        "right %": [percent(part.accuracy) for part in [*counted.classes, counted.test]],
        "95 % interval": [
            f"[{percent(part.low)}, {percent(part.high)}]"
            for part in [*counted.classes, counted.test]
        ],
    }
    matrix = {"class": names} | {
        str(column): [str(row[column]) for row in confusion] for column in range(len(classes))
    }
    speed = [
        (device, size, figures)
        for device, sizes in inference.items()
        for size, figures in sizes.items()
    ]
    latency = {
        "device": [device for device, _, _ in speed],
        "batch": [size for _, size, _ in speed],
        "p50 ms": [f"{figures['p50_ms']:.3f}" for _, _, figures in speed],
        "p95 ms": [f"{figures['p95_ms']:.3f}" for _, _, figures in speed],
        "images/s": [f"{figures['images_per_second']:,.0f}" for _, _, figures in speed],
    }
    page = Page(
        title=printable(title),
        facts=[printable(fact) for fact in facts],
        blocks=[
            Block("test accuracy by true class", per_class, labels=1),
            Block("test images by true class (row) and predicted class (column)", matrix, labels=1),
            Block("an answer of the network", latency, labels=1),
        ],
        notes=[
            "Intervals: Wilson (1927), of the luck of the test images alone.",
            "Latency: median and 95th percentile of 5 to 30 passes after a warm-up, each until "
            "its logits are computed, in the precision of trainings there; images/s by the median.",
        ],
    )
    return WRITERS["text"](page)
