"""Pictures of classes that can be told apart, as folders and archives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pictures(
    classes: int, each: int, side: int, channels: int = 3, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Noise over a pattern of the class's own: uint8 [N, H, W] or [N, H, W, 3], labels [N]."""
    rng = np.random.default_rng(seed)
    shape = (side, side) if channels == 1 else (side, side, channels)
    patterns = np.random.default_rng(1).integers(0, 176, (classes, *shape))
    labels = np.repeat(np.arange(classes), each)
    noise = rng.integers(0, 80, (len(labels), *shape))
    return (patterns[labels] + noise).astype(np.uint8), labels


def class_folders(
    root: Path,
    *,
    classes: int = 2,
    each: int = 20,
    side: int = 9,
    channels: int = 3,
    parts: Sequence[str] = ("",),
) -> Path:
    """Write pictures as `root/PART/cCLASS/NUMBER.png`."""
    for number, part in enumerate(parts):
        images, labels = pictures(classes, each, side, channels, seed=number)
        for place, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / part / f"c{label:03}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{place:05}.png")
    return root
