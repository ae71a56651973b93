"""Several trained networks, and maybe a random forest, asked about the same images.

The forest is the companion of the LeNet notebook's network: it errs elsewhere than a network does.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.config import TrainConfig
from trainer.data import ImageData, split
from trainer.errors import UserError
from trainer.evaluate import Trained, probabilities, restore

TREES = 100


@dataclass(frozen=True)
class Votes:
    """What the members make of the images, in their order: probabilities (m, n, c)."""

    test: NDArray[np.float64]
    test_labels: NDArray[np.int64]  # (n,)
    shared: NDArray[np.float64]  # of the training set's images that validated every member
    shared_labels: NDArray[np.int64]
    forest_bytes: int | None  # with a forest, the last member


def same_data(members: Sequence[Trained]) -> str:
    """Return the name of the data set that all members were trained on.

    Raises:
        UserError: they were trained on different ones.
    """
    first = members[0]
    for other in members:
        if other.dataset["sha256"] != first.dataset["sha256"]:
            raise UserError(
                f"checkpoint {other.path}: was trained on {other.dataset['name']}, and "
                f"{first.path} on another data set, {first.dataset['name']}"
            )
    return str(first.dataset["name"])


def votes(
    members: Sequence[Trained], data: ImageData, device: torch.device, *, forest: bool
) -> Votes:
    """Ask every member about the test images, and about those that none was trained on.

    Args:
        members: networks, the best one first.
        data: what they were trained on, on the CPU.
        device: where they are asked.
        forest: whether a random forest is trained on the first member's split and asked too.

    Raises:
        UserError: as `trainer.evaluate.restore`.
    """
    shared = torch.from_numpy(shared_validation([member.config for member in members], data))
    asked = [data.test_images, data.train_images[shared]]
    answers = []
    for member in members:
        network = restore(member, data, device)
        answers.append([probabilities(network, images) for images in asked])
    size = None
    if forest:
        trees = Forest(members[0].config, data)
        answers.append([trees.probabilities(images) for images in asked])
        size = trees.size
    test, validation = (np.stack(parts) for parts in zip(*answers, strict=True))
    return Votes(
        test, data.test_labels.numpy(), validation, data.train_labels[shared].numpy(), size
    )


def shared_validation(configs: Sequence[TrainConfig], data: ImageData) -> NDArray[np.int64]:
    """Return the indices of the training set's images that validated every one of these trainings.

    Each seed draws its own split, so these are the only ones that none of them was trained on.
    """
    parts = [split(data, config)[1].numpy() for config in configs]
    shared: NDArray[np.int64] = reduce(np.intersect1d, parts)
    return shared


class Forest:
    """scikit-learn's random forest on the raw pixels of one training's own training images.

    Args:
        config: the training whose split is used: neither validation nor test images are seen.
        data: the data set, on the CPU.
    """

    def __init__(self, config: TrainConfig, data: ImageData) -> None:
        from sklearn.ensemble import RandomForestClassifier

        train, _ = split(data, config)
        self.classes = len(data.classes)
        self.forest = RandomForestClassifier(n_estimators=TREES, random_state=0, n_jobs=-1)
        self.forest.fit(data.train_images[train].numpy(), data.train_labels[train].numpy())

    def probabilities(self, images: Tensor) -> NDArray[np.float64]:
        """Return the mean of the trees' class frequencies for images [N, H*W], shape [N, C]."""
        shares = np.zeros((len(images), self.classes))
        if len(images):  # scikit-learn refuses to predict nothing
            # A class without a training image has no column of its own.
            shares[:, self.forest.classes_] = self.forest.predict_proba(images.numpy())
        return shares

    @cached_property
    def size(self) -> int:
        """Bytes of the forest as Python writes it."""
        return len(pickle.dumps(self.forest))
