"""Which classes a network takes for which, and the images it is most wrong about."""

import base64
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from trainer.train import Bank, Evaluation

MOST = 24  # images that are kept: 25 kB of JSON at 28 x 28 pixels


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


def confused(bank: "Bank", test: "Evaluation", most: int = MOST) -> list[dict[str, Any]]:
    """Find the test images that a network took for another class with the most confidence.

    Args:
        bank: of one member.
        test: what it made of the test set.
        most: how many images at most.

    Returns:
        The most confident first, JSON-ready: `index` in the test set, `label`, `predicted`,
        `probability` of `predicted`, `pixels` (base64 of the grey values, row by row).
    """
    labels, images = bank.data.test_labels, bank.data.test_images
    wrong = torch.nonzero(test.predicted[:, 0] != labels)  # [M, 1]
    if not len(wrong):
        return []
    predicted = test.predicted[wrong[:, 0]]  # [M, 1]
    logits = torch.cat([own[:, 0] for _, own in bank.logits(images, wrong)])  # [M, C]
    probability = logits.double().softmax(1).gather(1, predicted)[:, 0]
    chosen = probability.argsort(descending=True, stable=True)[:most]
    return [
        {
            "index": index,
            "label": int(labels[index]),
            "predicted": int(predicted[place, 0]),
            "probability": float(probability[place]),
            "pixels": base64.b64encode(images[index].cpu().numpy().tobytes()).decode(),
        }
        for place in chosen.tolist()
        for index in [int(wrong[place, 0])]
    ]
