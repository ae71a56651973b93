"""Data sets as tensors: read, verified, hashed, split.

Which there are is said in `trainer.datasets`, and of the user's images in `trainer.sources`. Files
of the MNIST family are read only if they are the official ones.
"""

import gzip
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.config import Constants, TrainConfig
from trainer.datasets import DATASETS, dataset_fault
from trainer.errors import UserError
from trainer.files import default_data_dir, verified_files
from trainer.sources import reading
from trainer.sources.images import Images, content_hash
from trainer.stratified import stratified_order

MOST_SPLITS = 64  # that are kept: half a MB each of 60,000 images


@dataclass(frozen=True)
class ImageData:
    """A data set in memory: images uint8 [N, C*H*W], labels int64 [N]."""

    name: str
    side: int
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    channels: int = 1  # C: 1, grey, or 3
    # The last so many training images validate every seed; 0: each seed draws its own.
    validation: int = 0
    notes: tuple[str, ...] = ()  # how its parts came about

    @property
    def shape(self) -> tuple[int, int, int]:
        """Side, classes, channels: what the shape of a network depends on."""
        return self.side, len(self.classes), self.channels

    @property
    def trained_on(self) -> Tensor:
        """The training images that validate nobody for certain, [N, C*H*W]."""
        return self.train_images[: len(self.train_images) - self.validation]

    @cached_property
    def sha256(self) -> str:
        """Hash of every pixel and label."""
        arrays = (tensor.cpu().numpy() for tensor in self._tensors())
        return content_hash(arrays, self.channels, self.validation)

    @cached_property
    def normalisation(self) -> tuple[Constants, ...]:
        """Mean and deviation of each channel's pixels in the training images, in [0, 1]."""
        pixels = self.trained_on.cpu().numpy().reshape(-1, self.channels, self.side**2)
        return tuple(_constants(pixels[:, channel]) for channel in range(self.channels))

    @cached_property
    def splits(self) -> dict[tuple[int, int, float], tuple[Tensor, Tensor]]:
        """What `split` has made of the training set, the oldest first."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return what identifies this data set, JSON-ready."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "train_images": len(self.trained_on),
            **({"validation_images": self.validation} if self.validation else {}),
            "test_images": len(self.test_labels),
            "side": self.side,
            **({"channels": self.channels} if self.channels > 1 else {}),
            "classes": list(self.classes),
            # Of grey images [mean, deviation]; else such a pair for each channel.
            "normalisation": list(map(list, self.normalisation))
            if self.channels > 1
            else list(self.normalisation[0]),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    def to(self, device: torch.device) -> Self:
        """Return the data set with its tensors on a device; itself where they are there already."""
        if self.train_images.device == device:
            return self
        moved = replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )
        # The same pixels and labels: nothing is counted or drawn again.
        moved.__dict__["normalisation"] = self.normalisation
        moved.__dict__["splits"] = self.splits
        return moved

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.train_images, self.train_labels, self.test_images, self.test_labels


def load(name: str, data_dir: Path | None = None, *, download: bool = False) -> ImageData:
    """Read a data set.

    Args:
        name: one of `DATASETS`, or the user's images (`trainer.sources`).
        data_dir: where the files are: itself, or torchvision's folder in it. It may be read-only.
        download: fetch missing files with torchvision's downloader.

    Raises:
        UserError: unknown name; files missing, unreadable or not the official ones (MD5); the
            user's images are not what a training needs.
    """
    if wrong := dataset_fault(name):
        raise UserError(f"dataset = {name!r}: {wrong}")
    if name not in DATASETS:
        return _of_user(name, reading.read(name, data_dir or default_data_dir(), download=download))
    dataset = DATASETS[name]
    if dataset.files is not None:
        paths = verified_files(name, data_dir or default_data_dir(), download=download)
        arrays = tuple(_read_idx(path) for path in paths)
    else:
        assert dataset.read is not None
        arrays = dataset.read()
    train, train_labels, test, test_labels = map(torch.from_numpy, arrays)
    return ImageData(
        name=name,
        side=train.shape[1],
        classes=dataset.classes,
        train_images=train.flatten(1),
        train_labels=train_labels.long(),
        test_images=test.flatten(1),
        test_labels=test_labels.long(),
    )


def _of_user(name: str, images: Images) -> ImageData:
    """Return the user's images as tensors; those that validate come last in the training set."""
    pixels, labels = images.train
    if images.validation is not None:
        pixels = np.concatenate([pixels, images.validation[0]])
        labels = np.concatenate([labels, images.validation[1]])
    test, test_labels = images.test
    return ImageData(
        name=name,
        side=pixels.shape[2],
        classes=images.classes,
        train_images=torch.from_numpy(pixels).flatten(1),
        train_labels=torch.from_numpy(labels),
        test_images=torch.from_numpy(test).flatten(1),
        test_labels=torch.from_numpy(test_labels),
        channels=pixels.shape[1],
        validation=len(labels) - len(images.train[1]),
        notes=images.notes,
    )


def _constants(pixels: NDArray[np.uint8]) -> Constants:
    # In parts: bincount widens what it counts to 8 bytes a pixel.
    rows = np.array_split(pixels, -(-len(pixels) // 1000))
    counts = np.sum([np.bincount(part.ravel(), minlength=256) for part in rows], axis=0)
    values = np.arange(256) / 255
    mean = float(np.average(values, weights=counts))
    std = float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))
    return mean, std or 1.0  # a channel of one value has nothing to be divided by


def _read_idx(path: Path) -> NDArray[np.uint8]:
    # The IDX format of the MNIST family: 0, 0, 8 (unsigned bytes), rank, as many sizes
    # (big-endian, 4 bytes), then the bytes.
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be unpacked: {error}") from error
    shape = tuple(np.frombuffer(raw, dtype=">i4", count=raw[3], offset=4).tolist())
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy()


def split(data: ImageData, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return the indices (int64) of the training and the validation images of one run.

    Both are stratified and depend on the seed, the subset and the validation fraction only, so that
    runs with the same seed are paired. Where the data brings images to validate on, every seed is
    validated on these, and the seed draws no more than the subset.

    Raises:
        UserError: the subset is larger than the training set.
    """
    available = len(data.trained_on)
    size = config.subset or available
    if size > available:
        raise UserError(f"subset = {size}: {data.name} has {available} training images")
    held_out = 0 if data.validation else round(size * config.validation_fraction)
    if not data.validation and not 0 < held_out < size:
        raise UserError(
            f"validation_fraction = {config.validation_fraction}: leaves {held_out} of {size} "
            "images to validate on; both parts need at least one"
        )
    key = (config.seed, size, 0.0 if data.validation else config.validation_fraction)
    parts = data.splits.pop(key, None)
    if parts is None:
        parts = _drawn(data, config.seed, size, held_out)
        while len(data.splits) >= MOST_SPLITS:
            del data.splits[next(iter(data.splits))]
    data.splits[key] = parts  # the last one to go
    return parts


def _drawn(data: ImageData, seed: int, size: int, held_out: int) -> tuple[Tensor, Tensor]:
    available = len(data.trained_on)
    rng = np.random.default_rng([seed, 0x5EED])
    labels = data.train_labels[:available].cpu().numpy()
    order = torch.from_numpy(stratified_order(labels, rng)[:size])
    validating = order[:held_out].sort().values
    if data.validation:
        validating = torch.arange(available, available + data.validation)
    return order[held_out:].sort().values, validating
