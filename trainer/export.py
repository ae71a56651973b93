"""A trained network for use elsewhere: weights, config, and an ONNX file of plain images."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer import atomic, checkpoint
from trainer.config import TrainConfig, normalization_constants
from trainer.errors import UserError
from trainer.models import build


class Classifier(nn.Module):
    """Images [N, 1, H, W] with pixels in [0, 1] -> logits [N, classes].

    The normalisation of training is inside, so nobody has to repeat it.

    Args:
        config: what was trained.
        state: the weights of one member.
        data: what `ImageData.describe` says of the data set, with its `normalisation`.
    """

    def __init__(self, config: TrainConfig, state: dict[str, Tensor], data: dict[str, Any]) -> None:
        super().__init__()
        # Every weight comes from the checkpoint: nobody needs the pretrained ones here.
        own = config.replace(pretrained=False)
        self.network = build([own], data["side"], len(data["classes"]))
        self.network.load_state_dict(state, strict=False)
        missing = set(dict(self.network.named_parameters())) - set(state)
        if missing:
            raise UserError(f"checkpoint: lacks {', '.join(sorted(missing))}")
        mean, std = data["normalisation"]
        self.mean, self.std = normalization_constants(config.normalization, (mean, std))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits[:, 0]


def read_classifier(weights: Path) -> tuple[Classifier, dict[str, Any]]:
    """Read a checkpoint (`.safetensors` with its `.json`) as a classifier, and what it is.

    Raises:
        UserError: files are missing, damaged, or do not fit together.
    """
    state, about = checkpoint.read(weights)
    config = TrainConfig.from_dict(about["config"])
    return Classifier(config, {k: v.float() for k, v in state.items()}, about["dataset"]), about


def export(weights: Path, folder: Path) -> list[Path]:
    """Write `model.safetensors`, `model.json` and `model.onnx` of a checkpoint to a folder.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    state, about = checkpoint.read(weights)
    classifier, _ = read_classifier(weights)
    target = folder / "model.safetensors"
    del about["sha256"]
    about.pop("confused", None)  # images of the report page, no part of the network
    checkpoint.write(target, state, about)
    side = about["dataset"]["side"]
    with warnings.catch_warnings():
        # torch's exporter calls parts of torch that torch has deprecated.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            classifier,
            (torch.zeros(2, 1, side, side),),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    atomic.write_atomically(folder / "model.onnx", program.model_proto.SerializeToString())
    return [target, target.with_suffix(".json"), folder / "model.onnx"]
