"""A trained network for use elsewhere: weights, config, and an ONNX file of plain images."""

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer import atomic, checkpoint
from trainer.answers import answer
from trainer.config import TrainConfig, normalization_constants
from trainer.errors import UserError
from trainer.evaluate import part
from trainer.models import build
from trainer.module_bank import ModuleBank


class Classifier(nn.Module):
    """Images [N, C, H, W] with pixels in [0, 1] -> logits [N, classes].

    The normalisation of training is inside, so nobody has to repeat it, and so is the mean over the
    mirror image where the test had it (`test_time_flip`).

    Args:
        config: what was trained.
        state: the weights of one member.
        data: what `ImageData.describe` says of the data set, with its `normalisation`.

    Raises:
        UserError: weights are missing.
        ValueError, TypeError, KeyError, RuntimeError: the parts do not fit together.
    """

    def __init__(self, config: TrainConfig, state: dict[str, Tensor], data: dict[str, Any]) -> None:
        super().__init__()
        # Every weight comes from the checkpoint.
        self.channels = data.get("channels", 1)
        shape = data["side"], len(data["classes"]), self.channels
        self.network = build([config], *shape, start=False)
        network = self.network.module if isinstance(self.network, ModuleBank) else self.network
        network.load_state_dict(state, strict=False)
        missing = set(dict(network.named_parameters())) - set(state)
        if missing:
            raise UserError(f"lacks {', '.join(sorted(missing))}")
        pairs = data["normalisation"] if self.channels > 1 else [data["normalisation"]]
        trained = [(float(mean), float(std)) for mean, std in pairs]
        constants = torch.tensor(normalization_constants(config.normalization, trained))  # [C, 2]
        if not (len(constants) == self.channels and constants.isfinite().all()):
            raise ValueError(f"pixels cannot be normalised by {constants.tolist()}")
        if not (constants[:, 1] > 0).all():
            raise ValueError(f"pixels cannot be normalised by {constants.tolist()}")
        mean, std = constants[..., None, None].unbind(1)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.test_time_flip = config.test_time_flip
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        x = (images - self.mean) / self.std
        return answer(self.network, x, flip=self.test_time_flip)[:, 0]


def read_classifier(weights: Path) -> Classifier:
    """Read a checkpoint (`.safetensors` with its `.json`) as a classifier.

    Raises:
        UserError: files are missing, damaged, or do not fit together.
    """
    state, about = checkpoint.read(weights)
    values, data = (part(weights.with_suffix(".json"), about, n, {}) for n in ("config", "dataset"))
    single = {name: tensor.float() for name, tensor in state.items()}
    try:
        return Classifier(TrainConfig.from_dict(values), single, data)
    except UserError as error:
        raise UserError(f"checkpoint {weights}: {error}") from error
    # What the description says of the data set, or the weights themselves, are of another kind.
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"checkpoint {weights}: is no classifier ({reason})") from error


def export(weights: Path, folder: Path) -> list[Path]:
    """Write `model.safetensors`, `model.json` and `model.onnx` of a checkpoint to a folder.

    Both descriptions, in the ONNX file and beside it, say what the network takes and what it
    answers: `images` and `logits`.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    state, about = checkpoint.read(weights)
    classifier = read_classifier(weights)
    side, channels = about["dataset"]["side"], classifier.channels
    target = folder / "model.safetensors"
    del about["sha256"]
    about.pop("confused", None)  # images of the report page, no part of the network
    about["images"] = _images(channels, side)
    about["logits"] = _logits(classifier)
    checkpoint.write(target, state, about)
    model = _program(classifier, (channels, side, side)).model_proto
    _describe(model, about, classifier)
    atomic.write_atomically(folder / "model.onnx", model.SerializeToString())
    return [target, target.with_suffix(".json"), folder / "model.onnx"]


def _images(channels: int, side: int) -> dict[str, Any]:
    values = "grey values" if channels == 1 else "red, green and blue values"
    return {
        "shape": ["batch", channels, side, side],
        "type": "float32",
        "range": [0, 1],
        "meaning": f"{values} of 0 to 255, divided by 255; nothing else is to be subtracted or "
        "divided: the normalisation of the training is inside",
    }


def _logits(classifier: Classifier) -> str:
    """Say what comes out."""
    said = "no softmax was applied"
    if classifier.test_time_flip:
        said += (
            "; the mean of those of the image and of its mirror image, as in the test: "
            "test_time_flip is inside, at the cost of two passes"
        )
    return said


def _describe(model: Any, about: Mapping[str, Any], classifier: Classifier) -> None:
    """Say in an ONNX model what goes in and comes out."""
    images, classes = about["images"], about["dataset"]["classes"]
    _, channels, side, _ = images["shape"]
    model.doc_string = (
        f"images: float32 [batch, {channels}, {side}, {side}], pixels in "
        f"[0, 1]: {images['meaning']}. "
        f"logits: float32 [batch, {len(classes)}]; {about['logits']}."
    )
    for key, value in {
        "images": json.dumps(images),
        "classes": json.dumps(classes, ensure_ascii=False),
        "pixel_range": "[0, 1]",
        "test_time_flip": json.dumps(classifier.test_time_flip),
    }.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def _program(classifier: Classifier, shape: tuple[int, int, int]) -> Any:
    """Translate a classifier to ONNX, for any number of images."""
    with warnings.catch_warnings():
        # torch's exporter calls parts of torch that torch has deprecated.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            classifier,
            (torch.zeros(2, *shape),),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program
