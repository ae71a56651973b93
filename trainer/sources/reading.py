"""The images behind a name of the user's, read by its kind; checked."""

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.sources.places import path_of

if TYPE_CHECKING:
    from trainer.sources.images import Images


def read(name: str, data_dir: Path, *, download: bool) -> "Images":
    """Read all images into memory, and check them.

    Args:
        name: a valid name of the user's images, `trainer.datasets.is_users`.
        data_dir: where torchvision keeps its data sets.
        download: whether torchvision may fetch what is missing.

    Raises:
        UserError: they cannot be read, or are not what a training needs; in one line.
    """
    kind, _, place = name.partition(":")
    if kind == "folder":
        from trainer.sources.folder import read_folder

        return read_folder(path_of(place)).checked(name)
    if kind == "npz":
        from trainer.sources.npz import read_npz

        return read_npz(path_of(place)).checked(name)
    from trainer.sources.torchvision_sets import read_torchvision

    return read_torchvision(place, data_dir, download=download).checked(name)
