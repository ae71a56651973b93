"""The networks of the reference projects compute what their projects wrote."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from tests.support.networks import (
    ACTIVATIONS,
    CLASSES,
    SIDE,
    assert_same_network,
    batch,
    load_in_order,
    one,
    wear_in,
)
from trainer import checkpoint
from trainer.architectures.mobilenet import SETTINGS
from trainer.config import ARCHITECTURE_FIELDS, TrainConfig
from trainer.data import ImageData
from trainer.export import export, read_classifier
from trainer.torchvision_compat import torchvision


def check(reference: nn.Module, side: int = SIDE, **fields: Any) -> None:
    """Compare our network with the one of a project."""
    network = one(side, **fields)
    wear_in(network)
    load_in_order(reference, network.state_dict())
    assert_same_network(network, reference, batch(side=side))


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_convnet3_is_that_of_plscoggers(pooling: str, activation: str) -> None:
    layers: list[nn.Module] = []
    for inputs, outputs in [(1, 8), (8, 16), (16, 32)]:
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        layers.append(ACTIVATIONS[activation]())
        layers.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
        layers.append(nn.BatchNorm2d(outputs))
    layers += [nn.Dropout2d(0.2), nn.Flatten(), nn.Linear(32 * 9, CLASSES)]
    fields: dict[str, Any] = {
        "width": 8,
        "conv_bias": True,
        "pooling": pooling,
        "activation": activation,
    }
    check(nn.Sequential(*layers), architecture="convnet3", **fields)


def test_lenet_is_two_convolutions_and_three_linear_layers() -> None:
    reference = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 320),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(320, 100),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(100, CLASSES),
    )
    check(reference, architecture="lenet", activation="relu")


@pytest.mark.parametrize("batchnorm", [True, False])
@pytest.mark.parametrize("side", [28, 8])
def test_vgg_like_is_that_of_serge_m(batchnorm: bool, side: int) -> None:
    def step(inputs: int, outputs: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(outputs)] if batchnorm else []
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), *norm]

    reference = nn.Sequential(
        *step(1, 32),
        *step(32, 32),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        *step(32, 64),
        *step(64, 64),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear((side // 2) ** 2 * 64, 512),
        nn.ReLU(),
        *([nn.BatchNorm1d(512)] if batchnorm else []),
        nn.Dropout(0.5),
        nn.Linear(512, CLASSES),
    )
    fields: dict[str, Any] = {"conv_bias": True, "activation": "relu", "batchnorm": batchnorm}
    check(reference, side, architecture="vgg_like", **fields)


def test_vgg_like_drops_half_as_much_after_its_blocks_as_before_its_classifier() -> None:
    layers = dict(one(8, architecture="vgg_like", dropout=0.5).named_children())
    scales = [layers[f"dropout{i}"].scale.item() for i in range(3)]  # type: ignore[operator]
    assert scales == pytest.approx([1 / 0.75, 1 / 0.75, 1 / 0.5])


def test_toy_is_shihvictors_first_network_without_its_softmax() -> None:
    reference = nn.Sequential(
        nn.Conv2d(1, 1, 3),
        nn.ReLU(),
        nn.Conv2d(1, 1, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(576, 64),
        nn.ReLU(),
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, CLASSES),
    )
    check(reference, architecture="toy", activation="relu")


@pytest.mark.parametrize("batchnorm", [True, False])
def test_conv_pairs_is_shihvictors_v1_5_5_without_its_softmax(batchnorm: bool) -> None:
    side = 8
    layers: list[nn.Module] = []
    for inputs, outputs in [(1, 32), (32, 64), (64, 128)]:
        layers.append(nn.Conv2d(inputs, outputs, 3, padding="same"))
        layers.append(nn.Conv2d(outputs, outputs, 3, padding="same"))
        layers += [nn.BatchNorm2d(outputs)] if batchnorm else []
        layers.append(nn.ReLU())
    layers.append(nn.Flatten())
    for inputs, outputs in [(side * side * 128, 256), (256, 64)]:
        layers.append(nn.Linear(inputs, outputs))
        layers += [nn.BatchNorm1d(outputs)] if batchnorm else []
        layers.append(nn.ReLU())
    layers.append(nn.Linear(64, CLASSES))
    fields: dict[str, Any] = {"conv_bias": True, "activation": "relu", "batchnorm": batchnorm}
    check(nn.Sequential(*layers), side, architecture="conv_pairs", **fields)


@pytest.mark.parametrize("side", [28, 8])
def test_resnet18_is_torchvisions_with_one_channel_and_ten_classes(side: int) -> None:
    theirs = torchvision().models.resnet18()
    theirs.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    theirs.fc = nn.Linear(512, CLASSES)
    wear_in(theirs)
    ours = one(side, architecture="resnet18", activation="gelu", stem="3x3")  # it reads neither
    ours.load_state_dict(theirs.state_dict())  # by name
    assert_same_network(ours, theirs, batch(side=side))


def residual_network(
    stem: list[nn.Module], widths: list[int], strides: list[int], blocks: int
) -> nn.Sequential:
    """A ResNet of torchvision's blocks."""
    block = torchvision().models.resnet.BasicBlock
    layers = OrderedDict(zip(["conv1", "bn1", "relu", "maxpool"], stem, strict=False))
    inputs = widths[0]
    for stage, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
        shortcut = None
        if stride != 1 or inputs != width:
            projection = nn.Conv2d(inputs, width, 1, stride=stride, bias=False)
            shortcut = nn.Sequential(projection, nn.BatchNorm2d(width))
        first = block(inputs, width, stride, shortcut)
        rest = [block(width, width) for _ in range(blocks - 1)]
        layers[f"layer{stage}"] = nn.Sequential(first, *rest)
        inputs = width
    layers["avgpool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers["fc"] = nn.Linear(inputs, CLASSES)
    return nn.Sequential(layers)


def small_stem(channels: int, *, bias: bool) -> list[nn.Module]:
    return [nn.Conv2d(1, channels, 3, padding=1, bias=bias), nn.BatchNorm2d(channels), nn.ReLU()]


def imagenet_stem(channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(1, channels, 7, stride=2, padding=3, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]


@pytest.mark.parametrize("side", [28, 8])
@pytest.mark.parametrize("stem", ["3x3", "7x7"])
def test_resnet_like_is_that_of_serge_m_with_either_stem(stem: str, side: int) -> None:
    layers = small_stem(64, bias=True) if stem == "3x3" else imagenet_stem(64)
    strides = [2, 2, 2] if stem == "3x3" else [1, 2, 2]
    reference = residual_network(layers, [64, 128, 256], strides, blocks=2)
    fields: dict[str, Any] = {"conv_bias": True, "activation": "relu", "stem": stem}
    check(reference, side, architecture="resnet_like", **fields)


@pytest.mark.parametrize(("architecture", "blocks"), [("resnet20", 3), ("resnet32", 5)])
def test_the_cifar_resnets_are_those_of_he_et_al(architecture: str, blocks: int) -> None:
    reference = residual_network(small_stem(16, bias=False), [16, 32, 64], [1, 2, 2], blocks)
    check(reference, 8, architecture=architecture, activation="relu", conv_bias=True)


@pytest.mark.parametrize("side", [28, 8])
def test_mobilenet_v2_is_torchvisions_with_the_settings_of_serge_m(side: int) -> None:
    settings = [list(setting) for setting in SETTINGS]
    models = torchvision().models
    theirs = models.MobileNetV2(num_classes=CLASSES, inverted_residual_setting=settings)
    theirs.features[0][0] = nn.Conv2d(1, 32, 3, stride=2, padding=1, bias=False)
    check(theirs, side, architecture="mobilenet_v2")


SMALL: dict[str, Any] = {"head": "gap", "pool_steps": "2", "block": "basic"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        *({"architecture": architecture} for architecture in ARCHITECTURE_FIELDS),
        {**SMALL, "squeeze_excite": True},
    ],
    ids=str,
)
def test_every_network_is_the_same_in_onnx(
    fields: dict[str, Any], digits: ImageData, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"activation": "prelu", "residual": True, "width": 8}
    config = TrainConfig(dataset="digits", **common, **fields)
    network = one(8, **config.to_dict()).float()
    wear_in(network)
    weights = tmp_path / "best.safetensors"
    about = {"config": config.to_dict(), "result": {}, "dataset": digits.describe()}
    checkpoint.write(weights, network.state_dict(), about)
    onnx = export(weights, tmp_path / "out")[-1]
    classifier = read_classifier(weights)
    session = onnxruntime.InferenceSession(str(onnx))
    for size in (1, 7):
        images = torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(size))
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(logits, classifier(images).numpy(), rtol=1e-3, atol=1e-4)
