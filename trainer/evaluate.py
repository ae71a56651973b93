"""A trained network and its data again: the same figures as when it was trained, and more.

A checkpoint names the content of its data set, so that nothing else is ever evaluated by mistake.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer import checkpoint, latency
from trainer import device as devices
from trainer.config import TrainConfig
from trainer.data import ImageData
from trainer.errors import UserError
from trainer.networks import Networks
from trainer.results import Inference, State


@dataclass(frozen=True)
class Trained:
    """The weights of a trial, and what they are."""

    path: Path
    config: TrainConfig
    state: State
    dataset: Mapping[str, Any]  # as `ImageData.describe` says
    result: Mapping[str, Any]  # as `Result.to_dict` says


@dataclass(frozen=True)
class Evaluated:
    """What a trained network makes of its test set, and how fast."""

    test_accuracy: float
    confusion: list[list[int]]  # images by [true class][predicted class]
    classes: tuple[str, ...]
    parameters: int
    precision: str  # of the accuracy: that of the training
    device: str  # where
    inference: Inference  # in the precision that is usual there


def read(weights: Path, expected: str | None = None) -> Trained:
    """Read a checkpoint: `NAME.safetensors` with its `NAME.json`.

    Args:
        weights: the file.
        expected: the SHA-256 that it must have, where somebody else remembers it too.

    Raises:
        UserError: a file is missing or damaged, or does not say what a trial's says.
    """
    state, about = checkpoint.read(weights, expected)
    described = weights.with_suffix(".json")
    values = part(described, about, "config", {})
    dataset = part(described, about, "dataset", {"name": str, "sha256": str})
    figures = {"precision": str, "val_accuracy": float, "test_accuracy": float}
    result = part(described, about, "result", figures)
    try:
        config = TrainConfig.from_dict(values)
    except UserError as error:
        raise UserError(f"checkpoint {described}: {error}") from error
    return Trained(weights, config, state, dataset, result)


def part(path: Path, about: Mapping[str, Any], name: str, keys: Mapping[str, type]) -> Any:
    """Return a part of a checkpoint's description that has these keys, of these types.

    Raises:
        UserError: it has not.
    """
    values = about.get(name)
    if not isinstance(values, dict):
        raise UserError(f"checkpoint {path}: lacks {name!r}")
    for key, kind in keys.items():
        if not isinstance(values.get(key), kind):
            raise UserError(f"checkpoint {path}: {name!r} lacks {key!r}")
    return values


def restore(trained: Trained, data: ImageData, device: torch.device) -> Networks:
    """Return the network, ready to predict as it did when it was trained: in its precision then.

    Raises:
        UserError: the data is not what it was trained on, or the weights are another network's.
    """
    if trained.dataset["sha256"] != data.sha256:
        raise UserError(
            f"checkpoint {trained.path}: was trained on {trained.dataset['name']} with SHA-256 "
            f"{trained.dataset['sha256']}, the data here is {data.name} with {data.sha256}"
        )
    config = trained.config.replace(precision=trained.result["precision"])
    networks = Networks([config], data, device, start=False)
    expected, given = (
        {name: tuple(tensor.shape) for name, tensor in state.items()}
        for state in (networks.state(0), trained.state)
    )
    differing = sorted(
        name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name)
    )
    if differing:
        raise UserError(
            f"checkpoint {trained.path}: its weights are not those of its config: "
            f"{', '.join(differing)}"
        )
    networks.load_state(0, trained.state)
    return networks


def probabilities(networks: Networks, images: Tensor) -> NDArray[np.float64]:
    """Return the softmax probabilities of one network for images [N, C*H*W], shape [N, C]."""
    every = torch.arange(len(images), device=networks.device)[:, None]
    logits = torch.cat(
        [values[:, 0] for _, values in networks.logits(images.to(networks.device), every)]
    )
    # In double precision, where no two different logits become the same probability.
    shares: NDArray[np.float64] = logits.double().softmax(1).cpu().numpy()
    return shares


def evaluate(trained: Trained, data: ImageData, device: torch.device) -> Evaluated:
    """Evaluate a trained network on the test set, and time it.

    Raises:
        UserError: as `restore`.
    """
    networks = restore(trained, data, device)
    test = networks.test()
    return Evaluated(
        test_accuracy=test.accuracy[0],
        confusion=networks.confusion(test),
        classes=data.classes,
        parameters=networks.parameters,
        precision=networks.precision,
        device=devices.describe(device),
        inference=latency.inference(
            networks.network, trained.config, (data.side, data.channels), device
        ),
    )
