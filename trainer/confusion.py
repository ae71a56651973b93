"""Which classes a network takes for which."""

import torch
from torch import Tensor


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> list[list[int]]:
    """Count the images of each class by what they were taken for.

    Args:
        predicted: the classes that the network chose, int64 [N].
        labels: the true classes, int64 [N].
        classes: C, the number of classes.

    Returns:
        C rows of C counts: row = true class, column = predicted class.
    """
    pairs = torch.bincount(labels * classes + predicted, minlength=classes * classes)
    counts: list[list[int]] = pairs.view(classes, classes).tolist()
    return counts
