"""The test images that a network is most wrong about."""

import base64
from typing import Any

import torch

from trainer.networks import Evaluation, Networks

MOST = 24  # images that are kept: 25 kB of JSON at 28 x 28 pixels


def misclassified(networks: Networks, test: Evaluation, most: int = MOST) -> list[dict[str, Any]]:
    """Find the test images that a network took for another class with the most confidence.

    Args:
        networks: one.
        test: what it made of the test set.
        most: how many images at most.

    Returns:
        The most confident first, JSON-ready: `index` in the test set, `label`, `predicted`,
        `probability` of `predicted`, `pixels` (base64 of [C, H, W]), and `channels` if C is not 1.
    """
    labels, images = networks.data.test_labels, networks.data.test_images
    wrong = torch.nonzero(test.predicted[:, 0] != labels)  # [M, 1]
    if not len(wrong):
        return []
    predicted = test.predicted[wrong[:, 0]]  # [M, 1]
    logits = torch.cat([values[:, 0] for _, values in networks.logits(images, wrong)])  # [M, C]
    probability = logits.double().softmax(1).gather(1, predicted)[:, 0]
    chosen = probability.argsort(descending=True, stable=True)[:most]
    worst = []
    for place in chosen.tolist():
        index = int(wrong[place, 0])
        answer = {"predicted": int(predicted[place, 0]), "probability": float(probability[place])}
        pixels = base64.b64encode(images[index].cpu().numpy().tobytes()).decode()
        channels = {"channels": networks.data.channels} if networks.data.channels > 1 else {}
        entry = {"index": index, "label": int(labels[index]), **answer, "pixels": pixels}
        worst.append({**entry, **channels})
    return worst
