"""The user's images in memory, and what must hold of them before anything is trained.

No torch here, so that mistakes are said at once.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UserError
from trainer.stratified import stratified_order

MOST_BYTES = 2 << 30  # of pixels in memory, in each worker; a pixel has 1 or 3
MOST_CLASSES = 1000
LEAST_SIDE = 4  # pixels
LEAST_TRAINED = 2  # images of each class
TEST_SHARE = 5  # one of so many is a test image, where there is no test set

# Pixels uint8 [N, C, H, W], labels int64 [N].
Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class Images:
    """A data set of the user's.

    `validation`: the images that validate every seed; None: each seed draws its own. `test` may be
    left out (None) before `checked` draws it.
    """

    classes: tuple[str, ...]
    train: Part
    validation: Part | None
    test: Part
    notes: tuple[str, ...] = ()  # how its parts came about

    @property
    def shape(self) -> tuple[int, int, int]:
        """Side, classes, channels: what the shape of a network depends on."""
        _, channels, side, _ = self.train[0].shape
        return side, len(self.classes), channels

    @property
    def sha256(self) -> str:
        """Hash of every pixel and label, that of the data set in memory."""
        fitting = [self.train, *([self.validation] if self.validation is not None else [])]
        pixels, labels = zip(*fitting, strict=True)
        validation = 0 if self.validation is None else len(self.validation[1])
        arrays = (*pixels, *labels, *self.test)
        return content_hash(arrays, self.train[0].shape[1], validation)

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Yield name and images of each part that there is."""
        yield "training", self.train
        if self.validation is not None:
            yield "validation", self.validation
        yield "test", self.test

    def checked(self, name: str) -> "Images":
        """Return the images if they are square, of several classes, each of them in every part.

        Raises:
            UserError: they are not; names the data set.
        """
        _check_shape(name, self.train[0].shape)
        shapes = {part: pixels.shape[1:] for part, (pixels, _) in self.parts()}
        for part, shape in shapes.items():
            if shape != shapes["training"]:
                raise UserError(
                    f"{name}: {part} images are {_size(shape)}, training images "
                    f"{_size(shapes['training'])}: all must have one size"
                )
        _check_classes(name, self.classes)
        for part, (_, labels) in self.parts():
            self._check_counts(name, part, labels)
        if self.train[0].min() == self.train[0].max():
            raise UserError(f"{name}: every pixel of the training images is {self.train[0].min()}")
        if self.validation is None:
            return self
        note = "every seed is validated on the images that it brings; validation_fraction is unused"
        return replace(self, notes=(*self.notes, note))

    def _check_counts(self, name: str, part: str, labels: NDArray[np.int64]) -> None:
        counts = np.bincount(labels, minlength=len(self.classes))
        least = LEAST_TRAINED if part == "training" and self.validation is None else 1
        for label, count in zip(self.classes, counts, strict=True):
            if count < least:
                raise UserError(
                    f"{name}: class {label!r} has {count or 'no'} {part} "
                    f"image{'' if count == 1 else 's'}; at least {least} are needed"
                )


def content_hash(arrays: Iterable[NDArray[Any]], channels: int, validation: int) -> str:
    """Return the SHA-256 of training images and labels, then test images and labels.

    Args:
        arrays: uint8 and int64; in several pieces or in one.
        channels: of an image.
        validation: how many of the training images come last and validate every seed.
    """
    digest = hashlib.sha256()
    if (channels, validation) != (1, 0):
        digest.update(f"{channels} channels, {validation} validate".encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check_size(name: str, count: int, shape: Sequence[int]) -> None:
    """Refuse images that memory should not hold, before they are read.

    Args:
        name: of the data set.
        count: of its images.
        shape: C, H, W.

    Raises:
        UserError: they are more than `MOST_BYTES`.
    """
    size = count * int(np.prod(shape))
    if size > MOST_BYTES:
        raise UserError(
            f"{name}: {count} images of {_size(shape)} are {size / 2**30:.1f} GiB; at most "
            f"{MOST_BYTES >> 30} GiB are read into memory"
        )


def with_test_drawn(name: str, images: Part, classes: Sequence[str]) -> tuple[Part, Part]:
    """Draw a test set from images: a fifth of each class, at least one, whatever the seed.

    Returns:
        What remains for training, and the test images.

    Raises:
        UserError: a class has too few images for that.
    """
    pixels, labels = images
    rng = np.random.default_rng(0)
    order = stratified_order(labels, rng)
    drawn = np.zeros(len(labels), dtype=bool)
    for label, of_class in enumerate(classes):
        members = order[labels[order] == label]
        if len(members) <= LEAST_TRAINED:
            raise UserError(
                f"{name}: class {of_class!r} has {len(members) or 'no'} "
                f"image{'' if len(members) == 1 else 's'}; at least {LEAST_TRAINED + 1} are "
                "needed where the test images are drawn from them"
            )
        drawn[members[: max(1, round(len(members) / TEST_SHARE))]] = True
    return (pixels[~drawn], labels[~drawn]), (pixels[drawn], labels[drawn])


def drawn_note(part: str) -> str:
    """Say which images are the test images where none were given."""
    return f"no test images: a fifth of each class of the {part} images, the same for every seed"


def labelled(
    name: str, parts: Sequence[tuple[str, NDArray[Any]]], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """Number the labels of several parts from 0.

    Args:
        name: of the data set.
        parts: name and labels [N] or [N, 1] of each.
        classes: their names, for labels that count from 0; None: the labels are the names.

    Raises:
        UserError: labels are neither whole numbers nor words, or have no name.
    """
    flat = []
    for part, labels in parts:
        single = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if single.ndim != 1 or single.dtype.kind not in ("iu" if classes else "iuU"):
            raise UserError(
                f"{name}: {part} are {labels.dtype} {list(labels.shape)}; must be whole numbers, "
                f"{'' if classes else 'or words, '}one for each image"
            )
        flat.append(single)
    values = np.unique(np.concatenate(flat))
    if classes is None:
        return tuple(map(str, values.tolist())), [np.searchsorted(values, part) for part in flat]
    if len(values) and not (values[0] >= 0 and values[-1] < len(classes)):
        raise UserError(
            f"{name}: labels go from {values[0]} to {values[-1]}; there are {len(classes)} classes"
        )
    return tuple(classes), [part.astype(np.int64) for part in flat]


def _check_shape(name: str, shape: Sequence[int]) -> None:
    channels, height, width = shape[1:]
    if channels not in (1, 3):
        raise UserError(f"{name}: images have {channels} channels; must be 1 (grey) or 3")
    if height != width or height < LEAST_SIDE:
        raise UserError(
            f"{name}: images are {width}x{height}; must be square, at least "
            f"{LEAST_SIDE}x{LEAST_SIDE}: crop or resize them first"
        )


def _check_classes(name: str, classes: Sequence[str]) -> None:
    if not 2 <= len(classes) <= MOST_CLASSES:
        many = f"{len(classes)} class{'' if len(classes) == 1 else 'es'}" if classes else "no class"
        raise UserError(f"{name}: has {many}; must have 2 to {MOST_CLASSES}")
    if len(set(classes)) < len(classes):
        raise UserError(f"{name}: two classes have one name")
    for label in classes:
        if not (label.isprintable() and len(label) <= 200 and label):
            raise UserError(
                f"{name}: class {label[:200]!r}: names are 1 to 200 printable characters"
            )


def _size(shape: Sequence[int]) -> str:
    channels, height, width = shape
    return f"{width}x{height} pixels, {channels} channel{'' if channels == 1 else 's'}"
