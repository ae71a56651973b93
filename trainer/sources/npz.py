"""Images in NumPy's archive: `train_images`, `train_labels`, ..., as MedMNIST's files have them.

Or `x_train`, `y_train`, `x_test`, `y_test`, as Keras writes them, or `images`, `labels`. Images are
uint8 [N, H, W] or [N, H, W, C], labels whole numbers [N] or [N, 1]; `classes`, if it is there,
names them. Pickles are never read, and sizes are looked at before anything is unpacked.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import UserError
from trainer.sources.images import Images, check_size, drawn_note, labelled, with_test_drawn

# Part -> the names that its images and labels may have.
NAMES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels")),
    "val": (("val_images", "val_labels"), ("x_val", "y_val")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}
MOST_NAMED = 1 << 24  # bytes of labels and names are more only by mistake, per class or image


def read_npz(file: Path) -> Images:
    """Read an archive of images.

    Raises:
        UserError: there is none, it lacks arrays, or they are of another kind.
    """
    name = f"npz:{file}"
    if not file.is_file():
        raise UserError(f"{name}: is no file")
    try:
        with zipfile.ZipFile(file) as archive:
            arrays, called = _arrays(name, archive)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError,
            NotImplementedError, SyntaxError) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name}: cannot be read as an .npz file: {reason}") from error
    return _images(name, arrays, called)


def _arrays(name: str, archive: zipfile.ZipFile) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return what means something here, by `train_images` etc.: its arrays, its names there."""
    members = {Path(entry).stem: entry for entry in archive.namelist() if entry.endswith(".npy")}
    chosen: dict[str, str] = {}
    for part, spellings in NAMES.items():
        for images, labels in spellings:
            if images in members and labels in members and f"{part}_images" not in chosen:
                chosen |= {f"{part}_images": images, f"{part}_labels": labels}
            elif (images in members) != (labels in members):
                there, missing = (images, labels) if images in members else (labels, images)
                raise UserError(f"{name}: has {there}, but no {missing}")
    if "train_images" not in chosen:
        valid = ", or ".join(" and ".join(pair) for pair in NAMES["train"])
        there = ", ".join(sorted(members)[:10]) or "nothing"
        raise UserError(f"{name}: has {there}; needs {valid}")
    if "classes" in members:
        chosen["classes"] = "classes"
    headers = {key: _header(name, archive, members[array]) for key, array in chosen.items()}
    _check_headers(name, headers, chosen)
    arrays = {}
    for key, array in chosen.items():
        with archive.open(members[array]) as stream:
            arrays[key] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays, chosen


def _header(name: str, archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], Any]:
    """Return shape and type of an array, without its values."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        shape, dtype = _read_header(stream, version)
    if dtype.hasobject:
        raise UserError(f"{name}: {Path(member).stem} holds Python objects, which are not read")
    return shape, dtype


def _read_header(stream: IO[bytes], version: tuple[int, int]) -> tuple[tuple[int, ...], Any]:
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def _check_headers(
    name: str, headers: Mapping[str, tuple[tuple[int, ...], Any]], called: Mapping[str, str]
) -> None:
    """Refuse what is of another kind or too large, before it is unpacked."""
    for key, (shape, dtype) in headers.items():
        if not key.endswith("_images"):
            if int(np.prod(shape)) * dtype.itemsize > MOST_NAMED:
                raise UserError(f"{name}: {called[key]} are {dtype} {list(shape)}, too large")
            continue
        grey = len(shape) == 3 or (len(shape) == 4 and shape[3] == 1)
        if dtype != np.uint8 or not (grey or (len(shape) == 4 and shape[3] == 3)):
            raise UserError(
                f"{name}: {called[key]} are {dtype} {list(shape)}; must be uint8 [N, H, W] or "
                "[N, H, W, 3]"
            )
        labels = headers[key.replace("images", "labels")][0]
        if not shape[0] or labels[:1] != shape[:1]:
            raise UserError(f"{name}: {called[key]} are {shape[0]}, their labels {list(labels)}")
    every = [shape for key, (shape, _) in headers.items() if key.endswith("_images")]
    size = sum(shape[0] for shape in every)
    check_size(name, size, (*every[0][3:], 1)[:1] + every[0][1:3])


def _images(name: str, arrays: Mapping[str, NDArray[Any]], called: Mapping[str, str]) -> Images:
    named = arrays.get("classes")
    if named is not None and (named.dtype.kind != "U" or named.ndim != 1):
        raise UserError(f"{name}: classes are {named.dtype} {list(named.shape)}; must be words [N]")
    given = [part for part in NAMES if f"{part}_images" in arrays]
    classes, labels = labelled(
        name,
        [(called[key], arrays[key]) for key in (f"{part}_labels" for part in given)],
        None if named is None else named.tolist(),
    )
    parts = {
        part: (_channels_first(arrays[f"{part}_images"]), of_part)
        for part, of_part in zip(given, labels, strict=True)
    }
    train, validation = parts["train"], parts.get("val")
    if "test" in parts:
        return Images(classes, train, validation, parts["test"])
    train, test = with_test_drawn(name, train, classes)
    return Images(classes, train, validation, test, (drawn_note("training"),))


def _channels_first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[N, H, W] or [N, H, W, C] -> [N, C, H, W]."""
    if images.ndim == 3:
        return images[:, None]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
