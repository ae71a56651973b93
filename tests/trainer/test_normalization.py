"""A config's own normalisation, wherever its network sees an image."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from trainer import checkpoint
from trainer.bank import Bank
from trainer.config import TrainConfig
from trainer.data import ImageData
from trainer.export import export, read_classifier
from trainer.train import train

LEVELS = ["dataset", "none", "0.286/0.126"]


def small(normalization: str, **changes: object) -> TrainConfig:
    values = {"dataset": "digits", "width": 4, "batch_size": 32, "precision": "fp32"}
    return TrainConfig.from_dict({**values, "normalization": normalization, **changes})


def test_each_member_trains_and_is_evaluated_on_its_own_pixels(digits: ImageData) -> None:
    bank = Bank([small(level, seed=3) for level in LEVELS], digits, torch.device("cpu"))
    seen: list[Tensor] = []

    def look(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0].detach().clone())

    bank.network.register_forward_pre_hook(look)
    batch = bank.order(1)[0]
    bank.train_step(0, batch)
    bank.validate()
    for x, indices in zip(seen[:2], (batch, bank.val_indices[: len(seen[1])]), strict=True):
        pixels = digits.train_images[indices].view(len(x), 3, 8, 8) / 255
        for k, (mean, std) in enumerate([*digits.normalisation, (0.0, 1.0), (0.286, 0.126)]):
            torch.testing.assert_close(x[:, k], (pixels[:, k] - mean) / std, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalization", LEVELS)
def test_an_exported_network_normalises_as_its_training_did(
    digits: ImageData, tmp_path: Path, normalization: str
) -> None:
    config = small(normalization, epochs=2)
    (result,) = train([config], digits)
    assert result.state is not None
    about = {"config": config.to_dict(), "result": {}, "dataset": digits.describe()}
    checkpoint.write(tmp_path / "best.safetensors", result.state, about)
    files = export(tmp_path / "best.safetensors", tmp_path / "out")
    classifier = read_classifier(tmp_path / "best.safetensors")
    images = digits.test_images.view(-1, 1, 8, 8) / 255
    session = onnxruntime.InferenceSession(str(files[-1]))
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, classifier(images).numpy(), rtol=1e-3, atol=1e-4)
    right = logits.argmax(1) == digits.test_labels.numpy()
    assert right.mean() == pytest.approx(result.test_accuracy, abs=0.003)
    assert right.mean() > 0.5
