"""Images in class folders: `PATH/CLASS/*.png`, or `PATH/train/CLASS/`, `val/`, `test/`.

Hidden files and folders are left alone. Everything else in a class folder must be an image, of one
size, so that none is left out unnoticed.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UserError
from trainer.sources.images import Images, Part, check_size, drawn_note, with_test_drawn

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
PARTS = ("train", "val", "test")
GREY = ("1", "L")
COLOUR = ("RGB", "P", "CMYK", "YCbCr")
ALPHA = ("LA", "PA", "RGBA")  # read where nothing is transparent


def read_folder(folder: Path) -> Images:
    """Read a folder of images.

    Raises:
        UserError: there is none, or an image cannot be read.
    """
    name = f"folder:{folder}"
    root = _Root(folder)
    entries = root.folders(folder)
    roots = {entry.name: entry for entry in entries if entry.name in PARTS}
    if not roots:
        classes = tuple(entry.name for entry in entries)
        (everything,) = _read(root, [[root.images(entry) for entry in entries]])
        train, test = with_test_drawn(name, everything, classes)
        return Images(classes, train, None, test, (drawn_note("given"),))
    others = [entry.name for entry in entries if entry.name not in PARTS]
    if others:
        raise UserError(
            f"{name}: has {others[0]!r} beside {', '.join(roots)}; choose from train, val, test, "
            "which are parts of the data: no class may have such a name"
        )
    if "train" not in roots:
        raise UserError(f"{name}: has {', '.join(roots)}, but no train")
    classes = tuple(entry.name for entry in root.folders(roots["train"]))
    for part in roots.values():
        _check_same_classes(name, part, classes, root)
    files = [[root.images(roots[part] / label) for label in classes] for part in roots]
    parts = dict(zip(roots, _read(root, files), strict=True))
    if "test" in parts:
        return Images(classes, parts["train"], parts.get("val"), parts["test"])
    train, test = with_test_drawn(name, parts["train"], classes)
    return Images(classes, train, parts.get("val"), test, (drawn_note("training"),))


def _check_same_classes(name: str, part: Path, classes: Sequence[str], root: "_Root") -> None:
    there = [entry.name for entry in root.folders(part)]
    for label in classes:
        if label not in there:
            raise UserError(f"{name}: {part.name} lacks class {label!r}, which train has")
    for label in there:
        if label not in classes:
            raise UserError(f"{name}: {part.name} has class {label!r}, which train lacks")


class _Root:
    """The folder that nothing may lead out of.

    Raises:
        UserError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"folder:{folder}"
        if not folder.is_dir():
            raise UserError(f"{self.name}: is no folder")
        self.real = folder.resolve()

    def entries(self, folder: Path) -> list[Path]:
        """List what is not hidden, by name.

        Raises:
            UserError: the folder cannot be read, or something in it leads out of the root.
        """
        try:
            entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"{self.name}: {folder}: {error.strerror}") from error
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        for entry in shown:
            if entry.is_symlink() and not self._holds(entry):
                raise UserError(f"{self.name}: {entry} leads out of the folder")
        return shown

    def _holds(self, entry: Path) -> bool:
        try:
            return entry.resolve(strict=True).is_relative_to(self.real)
        except (OSError, RuntimeError):  # it leads nowhere, or to itself
            return False

    def folders(self, folder: Path) -> list[Path]:
        """List the folders in a folder of classes or of parts.

        Raises:
            UserError: there are none, or images lie beside them.
        """
        entries = self.entries(folder)
        for entry in entries:
            if entry.suffix.lower() in SUFFIXES and not entry.is_dir():
                raise UserError(f"{self.name}: {entry} lies in no class folder")
        folders = [entry for entry in entries if entry.is_dir()]
        if not folders:
            raise UserError(f"{self.name}: {folder} has no class folders")
        return folders

    def images(self, folder: Path) -> list[Path]:
        """List the images of a class.

        Raises:
            UserError: there are none, or there is something else.
        """
        entries = self.entries(folder)
        for entry in entries:
            if entry.is_dir():
                raise UserError(
                    f"{self.name}: {entry} is a folder in class {folder.name!r}; images lie in "
                    "CLASS/ or train/CLASS/, val/CLASS/, test/CLASS/"
                )
            if entry.suffix.lower() not in SUFFIXES or not entry.is_file():
                raise UserError(
                    f"{self.name}: {entry} is no image file; they end in {', '.join(SUFFIXES)}"
                )
        if not entries:
            raise UserError(f"{self.name}: class {folder.name!r} has no image in {folder}")
        return entries


def _read(root: _Root, parts: Sequence[Sequence[Sequence[Path]]]) -> list[Part]:
    """Read the images of each part's classes; grey only if all are."""
    files = [file for part in parts for of_class in part for file in of_class]
    headers = [_header(root.name, file) for file in files]
    first = headers[0][1]
    for file, (_, size) in zip(files, headers, strict=True):
        if size != first:
            raise UserError(
                f"{root.name}: {file} is {_times(size)}, {files[0]} is {_times(first)}: all must "
                "have one size"
            )
    mode = "L" if all(mode in GREY for mode, _ in headers) else "RGB"
    check_size(root.name, len(files), (len(mode), first[1], first[0]))
    return [_read_part(root.name, part, mode, first) for part in parts]


def _read_part(name: str, part: Sequence[Sequence[Path]], mode: str, size: tuple[int, int]) -> Part:
    count = sum(map(len, part))
    pixels = np.empty((count, len(mode), size[1], size[0]), dtype=np.uint8)
    labels = np.repeat(np.arange(len(part)), list(map(len, part)))
    for place, file in enumerate(file for of_class in part for file in of_class):
        pixels[place] = _pixels(name, file, mode, size)
    return pixels, labels


def _header(name: str, file: Path) -> tuple[str, tuple[int, int]]:
    """Return mode and size of an image, without its pixels."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an image that is suspiciously large
            with Image.open(file) as image:
                mode, size = image.mode, image.size
    except Exception as error:  # whatever a damaged file makes of Pillow
        raise UserError(f"{name}: {file} cannot be read as an image: {_first(error)}") from error
    if mode not in (*GREY, *COLOUR, *ALPHA):
        valid = "grey or RGB, 8 bits each"
        raise UserError(f"{name}: {file} has pixels of mode {mode!r}; must be {valid}")
    return mode, size


def _pixels(name: str, file: Path, mode: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an image's pixels, [C, H, W]."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(file) as image:
                transparent = image.mode in ALPHA or "transparency" in image.info
                whole = image.convert("RGBA") if transparent else image
                seen = whole.getchannel("A").getextrema()[0] == 255 if transparent else True
                pixels = np.asarray(whole.convert(mode))
    except Exception as error:  # whatever a damaged file makes of Pillow
        raise UserError(f"{name}: {file} cannot be read as an image: {_first(error)}") from error
    if not seen:
        raise UserError(f"{name}: {file} has transparent pixels: give it a background")
    if pixels.shape[:2] != size[::-1]:
        raise UserError(f"{name}: {file} changed while it was read")
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
