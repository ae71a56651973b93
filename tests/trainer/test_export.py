"""A trained network for use elsewhere."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from trainer import checkpoint
from trainer.config import TrainConfig
from trainer.data import ImageData
from trainer.errors import UserError
from trainer.export import export, read_classifier
from trainer.train import train


@pytest.fixture(scope="module")
def weights(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TrainConfig(
        dataset="digits", width=8, depth=3, residual=True, epochs=4, batch_size=32, precision="fp32"
    )
    (result,) = train([config], digits)
    assert result.state is not None
    path = tmp_path_factory.mktemp("checkpoint") / "best.safetensors"
    about = {"config": config.to_dict(), "result": result.to_dict(), "dataset": digits.describe()}
    checkpoint.write(path, result.state, about)
    return path


def test_a_read_classifier_has_the_accuracy_that_was_measured(
    weights: Path, digits: ImageData
) -> None:
    classifier, about = read_classifier(weights)
    images = digits.test_images.view(-1, 1, 8, 8) / 255
    with torch.no_grad():
        right = classifier(images).argmax(1) == digits.test_labels
    assert right.float().mean().item() == pytest.approx(about["result"]["test_accuracy"], abs=1e-6)


def test_the_exported_network_computes_what_pytorch_computes_for_any_batch(
    weights: Path, tmp_path: Path
) -> None:
    model, config, onnx = export(weights, tmp_path / "out")
    classifier, _ = read_classifier(model)
    session = onnxruntime.InferenceSession(str(onnx))
    for size in (1, 7):
        images = torch.rand(size, 1, 8, 8)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(logits, classifier(images).numpy(), rtol=1e-4, atol=1e-5)
    assert json.loads(config.read_text())["config"]["depth"] == 3


def test_damaged_weights_are_not_exported(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    copy.write_bytes(damaged)
    copy.with_suffix(".json").write_text(weights.with_suffix(".json").read_text())
    with pytest.raises(UserError, match="SHA-256"):
        export(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()
