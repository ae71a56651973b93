"""torchvision's sets: however they are asked for their parts."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.support.pictures import pictures
from trainer.data import load
from trainer.errors import UserError


def eurosat(root: Path, classes: int = 3) -> None:
    """Write what torchvision takes for EuroSAT: class folders, without a split."""
    images, labels = pictures(classes, 5, 8)
    for place, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / "eurosat" / "2750" / f"Land{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{place}.png")


def test_a_set_without_parts_has_its_test_images_drawn(tmp_path: Path) -> None:
    eurosat(tmp_path)
    data = load("torchvision:EuroSAT", tmp_path)
    assert (data.shape, data.classes) == ((8, 3, 3), ("Land0", "Land1", "Land2"))
    assert torch.bincount(data.test_labels).tolist() == [1, 1, 1]
    assert "no test images" in data.notes[0]


@pytest.mark.real
@pytest.mark.slow
def test_torchvisions_fashion_mnist_is_ours(fashion_mnist_dir: Path, tmp_path: Path) -> None:
    ours = load("fashion-mnist", fashion_mnist_dir)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in fashion_mnist_dir.rglob("*.gz"):
        shutil.copy(file, raw)  # where torchvision may unpack them
    theirs = load("torchvision:FashionMNIST", tmp_path, download=True)
    assert (theirs.sha256, theirs.classes) == (ours.sha256, ours.classes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CIFAR11", "torchvision = 'CIFAR11': choose from"),
        ("CIFAR10", "torchvision says: Dataset not found"),
        ("SVHN", "torchvision says: Dataset not found"),
        ("EMNIST/greek", "torchvision says: Unknown value 'greek'"),
        ("SVHN/other", "SVHN has no variants"),
        ("FakeData", "unexpected keyword argument"),
    ],
)
def test_what_is_not_here_is_said_in_a_line(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load(f"torchvision:{name}", tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
