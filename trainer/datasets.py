"""The data sets that are known: all that is said of one is said here. No torch is loaded.

Grey images of one size with labels 0, 1, ... To add a data set, add an entry to `DATASETS`: its
facts, and either the official files (of the MNIST family, which torchvision downloads) or a
function that reads it. The user's images need no entry: they are named by where they are, and read
by `trainer.sources`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Training images and labels, test images and labels: uint8 [N, H, W], whole numbers [N].
Arrays = tuple["NDArray[np.uint8]", "NDArray[Any]", "NDArray[np.uint8]", "NDArray[Any]"]


@dataclass(frozen=True)
class Files:
    """The four official files of a data set, and whose downloader fetches them."""

    torchvision_class: str  # also the folder that torchvision keeps the files in
    md5: tuple[str, str, str, str]  # training images and labels, test images and labels


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set without reading it, and how it is read."""

    side: int  # height and width of its images, pixels
    classes: tuple[str, ...]
    train_images: int
    test_images: int
    mean: float  # of the training images' pixels, in [0, 1]
    std: float
    files: Files | None = None
    read: Callable[[], Arrays] | None = None  # where there are no files: inside a package
    package: str | None = None  # which module that is

    @property
    def shape(self) -> tuple[int, int, int]:
        """Side, classes, channels: what the shape of a network depends on."""
        return self.side, len(self.classes), 1


def _digits() -> Arrays:
    import numpy as np
    from sklearn.datasets import load_digits

    from trainer.stratified import stratified_order

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)  # 17 grey levels
    # The same fifth of the images is the test set in every run, whatever the seed.
    order = stratified_order(labels, np.random.default_rng(0))
    test, train = np.split(order, [len(order) // 5])
    return pixels[train], labels[train], pixels[test], labels[test]


_DIGITS = tuple("0123456789")

DATASETS: Mapping[str, DataSet] = {
    "fashion-mnist": DataSet(
        side=28,
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        train_images=60_000,
        test_images=10_000,
        mean=0.2860,
        std=0.3530,
        files=Files(
            "FashionMNIST",
            (
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
        ),
    ),
    "digits": DataSet(
        side=8,
        classes=_DIGITS,
        train_images=1438,
        test_images=359,
        mean=0.3055,
        std=0.3760,
        read=_digits,
        package="sklearn.datasets",
    ),
    "mnist": DataSet(
        side=28,
        classes=_DIGITS,
        train_images=60_000,
        test_images=10_000,
        mean=0.1307,
        std=0.3081,
        files=Files(
            "MNIST",
            (
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
    ),
    "kmnist": DataSet(
        side=28,
        classes=("お", "き", "す", "つ", "な", "は", "ま", "や", "れ", "を"),
        train_images=60_000,
        test_images=10_000,
        mean=0.1918,
        std=0.3483,
        files=Files(
            "KMNIST",
            (
                "bdb82020997e1d708af4cf47b453dcf7",
                "e144d726b3acfaa3e44228e80efcd344",
                "5c965bf0a639b31b8f53240b1b52f4d7",
                "7320c461ea6c1c855c0b718fb2a4b134",
            ),
        ),
    ),
}

# Where the user's images are, KIND:REST -> what the rest is.
SOURCES: Mapping[str, str] = {
    "folder": "PATH",
    "npz": "FILE",
    "torchvision": "NAME",
}
LONGEST_NAME = 1000


def is_users(name: str) -> bool:
    """Whether a data set is the user's images, named by where they are."""
    return name not in DATASETS and name.partition(":")[0] in SOURCES


def wherever(name: str) -> str:
    """Return the name without where the user's images lie: their content tells them apart."""
    return "images" if is_users(name) else name


def dataset_fault(name: object) -> str | None:
    """Say what is wrong with the name of a data set; None: nothing."""
    if isinstance(name, str) and name in DATASETS:
        return None
    kind, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind in SOURCES and rest:
        fine = len(str(name)) <= LONGEST_NAME and str(name).isprintable()
        return None if fine else f"must be at most {LONGEST_NAME} printable characters"
    forms = [f"{kind}:{rest}" for kind, rest in SOURCES.items()]
    return f"choose from {', '.join([*DATASETS, *forms])}{_meant(name)}"


def _meant(name: object) -> str:
    """Say how a path that stands alone is named as a data set."""
    if not isinstance(name, str) or not name.isprintable():
        return ""
    kind = "npz" if name.endswith(".npz") else "folder" if Path(name).is_dir() else ""
    return f"; {kind}:{name} reads what is there" if kind else ""
