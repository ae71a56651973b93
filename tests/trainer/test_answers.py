"""Test-time flip averaging, and averaged weights: one network from validation to export."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.support.trainings import small
from trainer import checkpoint, latency
from trainer.config import TrainConfig
from trainer.data import ImageData
from trainer.ensemble import votes
from trainer.evaluate import evaluate, probabilities, read, restore
from trainer.export import export, read_classifier
from trainer.networks import Networks
from trainer.results import Result
from trainer.train import train

CPU = torch.device("cpu")
FLIPPED = small(test_time_flip=True, ema=0.9)


@pytest.fixture(scope="module")
def flipped(digits: ImageData) -> Result:
    (result,) = train([FLIPPED], digits)
    return result


@pytest.fixture(scope="module")
def weights(flipped: Result, digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert flipped.state is not None
    path = tmp_path_factory.mktemp("flipped") / "best.safetensors"
    about = {"config": FLIPPED.to_dict(), "result": flipped.to_dict()}
    checkpoint.write(path, flipped.state, {**about, "dataset": digits.describe()})
    return path


def plain_logits(config: TrainConfig, result: Result, data: ImageData, images: Tensor) -> Tensor:
    """What the network itself makes of images, in one pass: [N, classes]."""
    assert result.state is not None
    once = Networks.trained(config.replace(test_time_flip=False), result.state, data, CPU)
    every = torch.arange(len(images))[:, None]
    return torch.cat([logits[:, 0] for _, logits in once.logits(images, every)])


def by_hand(result: Result, data: ImageData) -> Tensor:
    """The mean of the logits of the test images and of their mirror images."""
    mirrored = data.test_images.view(-1, data.side, data.side).flip(2).reshape(-1, data.side**2)
    both = [plain_logits(FLIPPED, result, data, x) for x in (data.test_images, mirrored)]
    return (both[0] + both[1]) / 2


def test_a_flipped_answer_is_the_mean_of_image_and_mirror_image(
    flipped: Result, digits: ImageData
) -> None:
    assert flipped.state is not None
    networks = Networks.trained(FLIPPED, flipped.state, digits, CPU)
    every = torch.arange(len(digits.test_images))[:, None]
    parts = [logits[:, 0] for _, logits in networks.logits(digits.test_images, every)]

    expected = by_hand(flipped, digits)

    torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-5, atol=1e-5)
    right = (expected.argmax(1) == digits.test_labels).double().mean().item()
    assert flipped.test_accuracy == pytest.approx(right, abs=1e-9)
    assert not torch.allclose(
        plain_logits(FLIPPED, flipped, digits, digits.test_images), expected, atol=1e-3
    )


def test_the_flip_changes_evaluations_and_nothing_of_the_training(
    flipped: Result, digits: ImageData
) -> None:
    (plain,) = train([FLIPPED.replace(test_time_flip=False)], digits)

    for epoch, other in zip(plain.history, flipped.history, strict=True):
        assert epoch.train_loss == other.train_loss
        assert epoch.val_loss != other.val_loss


class Probe(nn.Module):
    """Notes the images that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return x.flatten(1)


def test_the_timed_answer_has_both_passes() -> None:
    passes = {}
    for flip in (False, True):
        probe = Probe()
        latency.inference(probe, small(test_time_flip=flip), (8, 1), CPU)
        passes[flip] = probe.seen
    first, second = passes[True][:2]
    assert torch.equal(first.flip(3), second)
    assert not torch.equal(first, second)
    assert torch.equal(passes[False][0], passes[False][1])


def test_an_exported_network_answers_as_it_was_tested(
    weights: Path, flipped: Result, digits: ImageData, tmp_path: Path
) -> None:
    model, described, onnx = export(weights, tmp_path)

    session = onnxruntime.InferenceSession(str(onnx))
    images = digits.test_images.view(-1, 1, 8, 8).numpy().astype(np.float32) / 255
    (logits,) = session.run(["logits"], {"images": images})

    np.testing.assert_allclose(logits, by_hand(flipped, digits).numpy(), rtol=1e-3, atol=1e-3)
    about = session.get_modelmeta()
    assert about.custom_metadata_map["test_time_flip"] == "true"
    assert "mirror image" in about.description
    said: dict[str, Any] = json.loads(described.read_text())
    assert "mirror image" in said["logits"]
    # The weights are the averaged ones: those that were validated and tested.
    assert flipped.state is not None
    stored, _ = checkpoint.read(model)
    assert stored.keys() == flipped.state.keys()
    assert all(torch.equal(stored[name], flipped.state[name]) for name in stored)


def test_an_exported_network_without_the_flip_says_so(
    weights: Path, digits: ImageData, tmp_path: Path
) -> None:
    state, about = checkpoint.read(weights)
    about["config"]["test_time_flip"] = False
    checkpoint.write(tmp_path / "once.safetensors", state, about)

    _, described, onnx = export(tmp_path / "once.safetensors", tmp_path / "out")

    meta = onnxruntime.InferenceSession(str(onnx)).get_modelmeta()
    assert meta.custom_metadata_map["test_time_flip"] == "false"
    assert "mirror" not in meta.description + json.loads(described.read_text())["logits"]
    images = digits.test_images.view(-1, 1, 8, 8)[:9] / 255
    with torch.no_grad():
        once = read_classifier(tmp_path / "once.safetensors")(images)
        twice = read_classifier(weights)(images)
    assert not torch.allclose(once, twice, atol=1e-3)


def test_evaluation_and_ensembles_answer_with_the_flip(
    weights: Path, flipped: Result, digits: ImageData
) -> None:
    trained = read(weights)

    assert evaluate(trained, digits, CPU).test_accuracy == flipped.test_accuracy
    expected = by_hand(flipped, digits).double().softmax(1).numpy()
    shares = probabilities(restore(trained, digits, CPU), digits.test_images)
    np.testing.assert_allclose(shares, expected, atol=1e-5)
    asked = votes([trained, trained], digits, CPU, forest=False)
    np.testing.assert_allclose(asked.test[1], expected, atol=1e-5)
