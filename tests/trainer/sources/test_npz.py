"""Archives of arrays: MedMNIST's and Keras' names, and everything that is no such archive."""

import contextlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pictures import pictures
from trainer import files
from trainer.data import load
from trainer.errors import UserError

IMAGES, LABELS = pictures(3, 6, 8, 1)


def saved(path: Path, **arrays: Any) -> str:
    np.savez(path / "pictures.npz", **arrays)
    return f"npz:{path / 'pictures.npz'}"


def medmnist(**changes: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for number, part in enumerate(("train", "val", "test")):
        images, labels = pictures(3, 6, 8, 3, seed=number)
        arrays |= {f"{part}_images": images, f"{part}_labels": labels[:, None].astype(np.uint8)}
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


def test_a_file_of_medmnist_is_read_as_it_is(tmp_path: Path) -> None:
    name = saved(tmp_path, **medmnist())
    data = load(name)
    assert (data.shape, data.validation) == ((8, 3, 3), 18)
    assert data.classes == ("0", "1", "2")
    images = torch.from_numpy(pictures(3, 6, 8, 3)[0]).permute(0, 3, 1, 2).flatten(1)
    assert torch.equal(data.trained_on, images)
    assert files.content(name, None, download=False) == data.sha256


def test_the_names_of_keras_and_plain_ones_are_read_too(tmp_path: Path) -> None:
    pair = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS}
    assert len(load(saved(tmp_path, **pair)).test_labels) == 18
    data = load(saved(tmp_path, images=IMAGES, labels=LABELS, classes=np.array(list("abc"))))
    assert data.classes == ("a", "b", "c")
    assert torch.bincount(data.test_labels).tolist() == [1, 1, 1]


def test_labels_are_words_or_numbers(tmp_path: Path) -> None:
    words = np.array(["wolf", "ape", "cat"])[LABELS]
    data = load(saved(tmp_path, images=IMAGES, labels=words))
    assert data.classes == ("ape", "cat", "wolf")
    numbers = load(saved(tmp_path, images=IMAGES, labels=LABELS))
    assert len(data.train_labels) == len(numbers.train_labels)
    rows = dict(zip(map(bytes, IMAGES.reshape(18, -1)), words, strict=True))
    for pixels, label in zip(data.train_images.flatten(1), data.train_labels, strict=True):
        assert data.classes[label] == rows[bytes(pixels.numpy())]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (medmnist(train_images=None), "has train_labels, but no train_images"),
        ({"a": IMAGES}, "has a; needs train_images and train_labels, or x_train"),
        (medmnist(train_images=IMAGES / 255), "train_images are float64 [18, 8, 8]; must be uint8"),
        (medmnist(train_images=np.zeros((18, 8, 8, 8), np.uint8)), "must be uint8 [N, H, W]"),
        (medmnist(train_labels=LABELS[:-1]), "train_images are 18, their labels [17]"),
        (medmnist(train_labels=np.eye(18, 14, dtype=int)), "whole numbers, or words, one for each"),
        (medmnist(train_labels=LABELS / 1), "whole numbers, or words, one for each"),
        (medmnist(train_labels=LABELS.astype(object)), "holds Python objects, which are not read"),
        (medmnist(test_labels=LABELS * 0), "class '1' has no test images; at least 1 are needed"),
        (medmnist(test_images=IMAGES), "test images are 8x8 pixels, 1 channel, training images"),
        (medmnist(test_labels=LABELS + 1), "class '3' has no training images"),
        ({"images": IMAGES, "labels": LABELS, "classes": np.array(["a", "b"])}, "labels go from 0"),
        ({"images": IMAGES, "labels": LABELS, "classes": np.array([1, 2, 3])}, "must be words [N]"),
        (
            {"x_train": IMAGES, "y_train": LABELS / 1},
            "y_train are float64 [18]; must be whole numbers, or words",
        ),
        (
            {"images": IMAGES, "labels": LABELS.astype(str), "classes": np.array(list("abc"))},
            "must be whole numbers, one for each",
        ),
        ({"images": IMAGES, "labels": np.array(list("ab\n"))[LABELS]}, "printable characters"),
        ({"images": IMAGES[:1], "labels": LABELS[:1]}, "has 1 image; at least 3 are needed"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        load(saved(tmp_path, **arrays))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_size_that_a_header_claims_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 8, 8), }"
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        for name, text in (("images", header % 10**9), ("labels", header[:-8] % 10**9 + b",), }")):
            padded = text + b" " * (118 - len(text) - 1) + b"\n"
            length = len(padded).to_bytes(2, "little")
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + length + padded)
    with pytest.raises(UserError, match=r"at most|too large|cannot be read"):
        load(f"npz:{tmp_path / 'bomb.npz'}")


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 2**16), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_archive_is_refused_or_read_and_never_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    name = saved(folder, images=IMAGES, labels=LABELS)
    content = bytearray((folder / "pictures.npz").read_bytes())
    place %= len(content)
    content[place] = value
    (folder / "pictures.npz").write_bytes(content[:place] if cut else content)
    with contextlib.suppress(UserError):
        assert len(load(name).classes) >= 2
