"""Images of three channels, of odd sides: augmented alike, trained in banks as alone."""

from pathlib import Path

import pytest
import torch

from tests.support.pictures import class_folders
from trainer.architectures import ARCHITECTURES
from trainer.augment import Augmentation
from trainer.bank import Bank
from trainer.config import AUGMENTATIONS, TrainConfig
from trainer.data import ImageData, load
from trainer.models import describe
from trainer.train import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    folder = tmp_path_factory.mktemp("colours")
    return load(f"folder:{class_folders(folder, classes=3, each=20, side=19)}")


def config(**fields: object) -> TrainConfig:
    given = {"width": 4, "batch_size": 8, "precision": "fp64", "epochs": 1, "conv_bias": False}
    return TrainConfig.from_dict({**given, **fields})


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture_takes_three_channels(colours: ImageData, architecture: str) -> None:
    grey, three = (
        describe(config(architecture=architecture), 19, 3, channels) for channels in (1, 3)
    )
    assert three.parameters > grey.parameters
    pixels = torch.zeros(2, 3, 19, 19, dtype=torch.float64)
    bank = Bank([config(architecture=architecture)], colours, CPU)
    bank.network.eval()
    assert bank.network(pixels).shape == (2, 1, 3)


@pytest.mark.parametrize("augmentation", ["none", "+".join(AUGMENTATIONS)])
@pytest.mark.parametrize("architecture", ["convnet", "resnet20", "mobilenet_v2", "toy"])
def test_a_member_of_a_bank_is_what_it_is_alone(
    colours: ImageData, architecture: str, augmentation: str
) -> None:
    configs = [
        config(architecture=architecture, augmentation=chosen, seed=seed)
        for seed, chosen in enumerate((augmentation, "none", augmentation))
    ]
    bank = Bank(configs, colours, CPU)
    together = [bank.train_step(i, batch)[0] for i, batch in enumerate(bank.order(1)[:3])]
    for k, single in enumerate(configs):
        alone = Bank([single], colours, CPU)
        losses = [alone.train_step(i, batch)[0, 0] for i, batch in enumerate(alone.order(1)[:3])]
        expected = torch.stack([losses_of[k] for losses_of in together])
        torch.testing.assert_close(torch.stack(losses), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ["flip", "erase", "translate", "crop", "rotate"])
def test_what_happens_to_an_image_happens_to_all_its_channels(kind: str) -> None:
    grey = torch.randint(0, 256, (16, 2, 11, 11), dtype=torch.uint8)
    members = [config(augmentation=kind, seed=seed) for seed in (0, 1)]
    step = torch.tensor(3, dtype=torch.int32)
    one = Augmentation(members, 11, CPU, torch.float64)(grey, step)
    three = Augmentation(members, 11, CPU, torch.float64, 3)(grey.repeat_interleave(3, 1), step)
    assert torch.equal(three, one.repeat_interleave(3, 1))
    assert not torch.equal(one, grey / 255)


def test_the_worst_mistakes_are_kept_in_colour(colours: ImageData) -> None:
    (result,) = train([config(learning_rate=1e-6)], colours)
    assert result.misclassified
    assert all(mistake["channels"] == 3 for mistake in result.misclassified)


def test_a_colour_png_is_what_was_given(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    from analysis.misclassified import png

    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 5), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(png(pixels.tobytes(), 5, 3))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")).transpose(2, 0, 1), pixels)
