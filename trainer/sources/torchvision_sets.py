"""The classification sets of torchvision: `torchvision:CIFAR10`, `torchvision:EMNIST/letters`.

Their classes differ in how a part is asked for: by `train=`, by `split=`, or not at all. What comes
after the slash is the variant, where there are some; EMNIST's is `balanced` if none is named.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import UserError, choose
from trainer.sources.images import Images, Part, check_size, drawn_note, labelled, with_test_drawn

# How the sets spell what `split` may be; the first that a set takes.
SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "trainval", "train-standard"),
    "val": ("val", "valid"),
    "test": ("test", "val"),
}
VARIANTS = {"EMNIST": "balanced"}


def read_torchvision(place: str, data_dir: Path, *, download: bool) -> Images:
    """Read a data set of torchvision.

    Args:
        place: its class, and perhaps `/` and its variant.
        data_dir: torchvision's root.
        download: fetch it if it is missing.

    Raises:
        UserError: there is no such set, it is not here, or it holds no images of one size.
    """
    from trainer.torchvision_compat import torchvision

    name = f"torchvision:{place}"
    class_name, _, variant = place.partition("/")
    sets = torchvision().datasets
    kinds = {name: getattr(sets, name) for name in sets.__all__}
    names = [
        n for n, k in kinds.items() if isinstance(k, type) and issubclass(k, sets.VisionDataset)
    ]
    if class_name not in names:
        raise UserError(choose("torchvision", class_name, names))
    maker = _Maker(name, kinds[class_name], data_dir, download)
    parts = {part: maker.part(arguments) for part, arguments in maker.arguments(variant).items()}
    labels = [(f"labels of {part}", made.labels) for part, made in parts.items()]
    classes, numbers = labelled(name, labels, None)
    title = _titles(parts["train"].made, classes)
    pairs = zip(parts.items(), numbers, strict=True)
    images: dict[str, Part] = {part: (made.pixels, number) for (part, made), number in pairs}
    train, validation = images["train"], images.get("val")
    if "test" in images:
        return Images(title, train, validation, images["test"])
    train, test = with_test_drawn(name, train, title)
    return Images(title, train, validation, test, (drawn_note("given"),))


class _Made:
    """A part of a set: its pixels [N, C, H, W] and labels [N]."""

    def __init__(self, name: str, made: Any) -> None:
        self.made = made
        first = _pixels(name, made[0])
        check_size(name, len(made), first.shape)
        self.pixels = np.empty((len(made), *first.shape), dtype=np.uint8)
        labels = []
        for place in range(len(made)):
            entry = made[place]
            pixels = _pixels(name, entry)
            if pixels.shape != first.shape:
                raise UserError(
                    f"{name}: images have several sizes, {list(first.shape)} and "
                    f"{list(pixels.shape)}: resize them into a folder, folder:PATH"
                )
            self.pixels[place] = pixels
            labels.append(entry[1])
        self.labels = np.asarray(labels)


class _Maker:
    """Makes the parts of a set."""

    def __init__(self, name: str, kind: type, data_dir: Path, download: bool) -> None:
        self.name, self.kind = name, kind
        # Some pass on what they do not take themselves.
        makers = [vars(base).get("__init__", object.__init__) for base in kind.__mro__]
        self.takes = {name for maker in makers for name in inspect.signature(maker).parameters}
        self.common: dict[str, Any] = {"root": str(data_dir)}
        if "download" in self.takes:
            self.common["download"] = download

    def arguments(self, variant: str) -> dict[str, dict[str, Any]]:
        """Return what makes each part that the set has."""
        variant = variant or VARIANTS.get(self.kind.__name__, "")
        common = {"split": variant} if variant and "split" in self.takes else {}
        if "train" in self.takes:
            return {part: {**common, "train": part == "train"} for part in ("train", "test")}
        if variant:
            raise UserError(f"{self.name}: {self.kind.__name__} has no variants")
        if "split" not in self.takes:
            return {"train": {}}
        valid = _splits(self.kind)
        parts: dict[str, dict[str, Any]] = {}
        for part, spellings in SPLITS.items():
            spelling = next((word for word in spellings if word in valid), None)
            taken = [arguments["split"] for arguments in parts.values()]
            if spelling is not None and spelling not in taken:
                parts[part] = {"split": spelling}
        if "val" in parts and "test" not in parts:  # what it validates with is all that it keeps
            parts["test"] = parts.pop("val")
        return parts or {"train": {"split": "train"}, "test": {"split": "test"}}

    def part(self, arguments: Mapping[str, Any]) -> _Made:
        """Make a part.

        Raises:
            UserError: torchvision cannot, in its own words.
        """
        try:
            made = self.kind(**self.common, **arguments)
        except Exception as error:  # each set has its own for what is missing
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{self.name}: torchvision says: {reason}") from error
        if not len(made):
            raise UserError(f"{self.name}: has no images")
        return _Made(self.name, made)


def _splits(kind: type) -> tuple[str, ...]:
    """Return what a set's `split` may be, as its documentation or its own table says."""
    table = getattr(kind, "split_list", None) or getattr(kind, "_SPLITS", None)
    if table:
        return tuple(table)
    words = inspect.getdoc(kind) or ""
    return tuple(
        word for word in ("train", "trainval", "val", "valid", "test") if f'"{word}"' in words
        or f"``{word}``" in words or f"'{word}'" in words
    )  # fmt: skip


def _pixels(name: str, entry: Any) -> Any:
    """Return the pixels of an entry, (image, label): [C, H, W]."""
    image: Any = entry[0] if isinstance(entry, tuple) and len(entry) == 2 else None
    if getattr(image, "mode", None) not in ("1", "L", "RGB"):
        raise UserError(f"{name}: holds no grey or RGB images with a label each")
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("L"))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _titles(made: Any, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that a set has for its labels, where it has one for each."""
    classes = getattr(made, "classes", None)
    if not isinstance(classes, (list, tuple)):
        return labels
    numbers = [int(label) for label in labels]
    if min(numbers) < 0 or max(numbers) >= len(classes):
        return labels
    names = [classes[number] for number in numbers]
    return (
        tuple(names)
        if all(isinstance(n, str) for n in names) and len(set(names)) == len(names)
        else labels
    )
