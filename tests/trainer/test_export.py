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
    classifier, about = read_classifier(weights), checkpoint.read(weights)[1]
    images = digits.test_images.view(-1, 1, 8, 8) / 255
    with torch.no_grad():
        right = classifier(images).argmax(1) == digits.test_labels
    assert right.float().mean().item() == pytest.approx(about["result"]["test_accuracy"], abs=1e-6)


def test_the_exported_network_computes_what_pytorch_computes_for_any_batch(
    weights: Path, tmp_path: Path
) -> None:
    model, config, onnx = export(weights, tmp_path / "out")
    classifier = read_classifier(model)
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


def test_the_exported_file_says_what_its_pixels_are(
    weights: Path, tmp_path: Path, digits: ImageData
) -> None:
    _, described, file = export(weights, tmp_path / "out")
    session = onnxruntime.InferenceSession(str(file))
    about = session.get_modelmeta()
    assert "pixels in [0, 1]" in about.description
    assert about.custom_metadata_map["pixel_range"] == "[0, 1]"
    said = json.loads(about.custom_metadata_map["images"])
    assert said == json.loads(described.read_text())["images"]
    assert said["shape"] == ["batch", 1, 8, 8]
    low, high = said["range"]
    assert json.loads(about.custom_metadata_map["classes"]) == list(digits.classes)
    # Who does what it says has the accuracy of the training.
    pixels = digits.test_images.view(-1, 1, 8, 8).numpy().astype(np.float32)
    images = low + pixels / 255 * (high - low)
    (logits,) = session.run(["logits"], {"images": images})
    right = float((logits.argmax(1) == digits.test_labels.numpy()).mean())
    assert right == pytest.approx(checkpoint.read(weights)[1]["result"]["test_accuracy"], abs=3e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"side": "8"},
        {"side": 3.5},
        {"side": None},
        {"side": 28},
        {"classes": 3},
        {"classes": ["a"]},
        {"normalisation": None},
        {"normalisation": [1]},
        {"normalisation": "xy"},
        {"normalisation": ["a", "b"]},
        {"normalisation": [0.3, 0]},
        {"normalisation": [float("nan"), 1]},
    ],
    ids=str,
)
def test_a_description_that_no_classifier_fits_is_one_line(
    weights: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    state, about = checkpoint.read(weights)
    checkpoint.write(
        tmp_path / "x.safetensors", state, {**about, "dataset": {**about["dataset"], **change}}
    )
    with pytest.raises(UserError) as caught:
        export(tmp_path / "x.safetensors", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "model.onnx").exists()
