"""Folders of images: what is read of them, and in which words the rest is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.pictures import class_folders
from trainer import files
from trainer.config import TrainConfig
from trainer.data import load, split
from trainer.errors import UserError
from trainer.sources import images
from trainer.sources.places import beside


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(f"folder:{folder}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def picture(path: Path) -> Path:
    return sorted(path.rglob("*.png"))[0]


def test_every_pixel_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    data = load(f"folder:{class_folders(tmp_path, classes=3, each=5, side=7)}")
    assert data.classes == ("c000", "c001", "c002")
    assert (data.side, data.channels, data.shape) == (7, 3, (7, 3, 3))
    assert torch.bincount(data.train_labels).tolist() == [4, 4, 4]
    assert torch.bincount(data.test_labels).tolist() == [1, 1, 1]
    written = {
        np.asarray(Image.open(file)).transpose(2, 0, 1).tobytes()
        for file in tmp_path.rglob("*.png")
    }
    every = torch.cat([data.train_images, data.test_images])
    assert {pixels.numpy().tobytes() for pixels in every} == written


def test_the_drawn_test_set_is_the_same_every_time_and_is_said(tmp_path: Path) -> None:
    first, second = (load(f"folder:{class_folders(tmp_path)}") for _ in range(2))
    assert first.sha256 == second.sha256
    assert first.describe()["notes"] == [
        "no test images: a fifth of each class of the given images, the same for every seed"
    ]


def test_images_that_validate_do_so_for_every_seed_and_train_nobody(tmp_path: Path) -> None:
    class_folders(tmp_path, each=6, parts=("train", "val", "test"))
    data = load(f"folder:{tmp_path}")
    described = data.describe()
    assert (described["train_images"], described["validation_images"]) == (12, 12)
    for seed in (0, 1):
        training, validation = split(data, TrainConfig(dataset=data.name, seed=seed))
        assert training.tolist() == list(range(12))
        assert validation.tolist() == list(range(12, 24))
    some = [split(data, TrainConfig(subset=10, seed=seed))[0].tolist() for seed in (0, 1)]
    assert some[0] != some[1]
    pixels = data.train_images[:12].numpy().reshape(12, 3, -1) / 255
    for channel, (mean, std) in enumerate(data.normalisation):
        assert mean == pytest.approx(pixels[:, channel].mean())
        assert std == pytest.approx(pixels[:, channel].std())


def test_grey_images_are_of_one_channel_and_one_of_colour_makes_all_colour(tmp_path: Path) -> None:
    class_folders(tmp_path, channels=1)
    assert load(f"folder:{tmp_path}").channels == 1
    Image.new("RGB", (9, 9), (255, 0, 0)).save(picture(tmp_path))
    assert load(f"folder:{tmp_path}").channels == 3


def test_where_a_folder_lies_is_no_part_of_its_identity(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "here")
    before = load(f"folder:{folder}").sha256
    moved = folder.rename(tmp_path / "there")
    assert load(f"folder:{moved}").sha256 == before
    Image.new("RGB", (9, 9)).save(picture(moved))
    assert load(f"folder:{moved}").sha256 != before


@pytest.mark.parametrize("parts", [("",), ("train", "val", "test")])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_hash_is_told_without_torch(
    tmp_path: Path, channels: int, parts: tuple[str, ...]
) -> None:
    name = f"folder:{class_folders(tmp_path, each=5, channels=channels, parts=parts)}"
    assert files.content(name, None, download=False) == load(name).sha256
    assert files.shape(name, None) == load(name).shape


def test_hidden_files_and_links_within_are_no_matter(tmp_path: Path) -> None:
    class_folders(tmp_path)
    before = load(f"folder:{tmp_path}").sha256
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "c000" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "README.txt").write_text("pictures")
    assert load(f"folder:{tmp_path}").sha256 == before
    (tmp_path / "c001" / "again.png").symlink_to(picture(tmp_path))
    assert len(load(f"folder:{tmp_path}").train_labels) == 33


def _empty(folder: Path) -> None:
    (folder / "c002").mkdir()


def _no_classes(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry)


def _outside(folder: Path) -> None:
    outside = folder.parent / "outside.png"
    shutil.copy(picture(folder), outside)
    (folder / "c000" / "link.png").symlink_to(outside)


def _only(folder: Path) -> None:
    (folder / "one").mkdir()
    picture(folder).rename(folder / "one" / "a.png")


def _transparent(folder: Path) -> None:
    Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(picture(folder))


WRONG: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: picture(folder).write_bytes(b"no picture"), "cannot be read as an image"),
    (
        lambda folder: picture(folder).write_bytes(picture(folder).read_bytes()[:150]),
        "cannot be read as an image",
    ),
    (lambda folder: Image.new("RGB", (9, 8)).save(picture(folder)), "all must have one size"),
    (lambda folder: Image.new("I;16", (9, 9)).save(picture(folder)), "mode 'I;16'"),
    (_transparent, "has transparent pixels"),
    (_empty, "class 'c002' has no image in"),
    (_only, "class 'one' has 1 image; at least 3 are needed"),
    (_outside, "link.png leads out of the folder"),
    (lambda folder: (folder / "c000" / "nowhere.png").symlink_to("x"), "leads out of the folder"),
    (lambda folder: (folder / "c000" / "notes.txt").write_text(""), "notes.txt is no image file"),
    (
        lambda folder: (folder / "c000" / "deeper").mkdir(),
        "deeper is a folder in class",
    ),
    (lambda folder: picture(folder).rename(folder / "a.png"), "a.png lies in no class folder"),
    (lambda folder: shutil.rmtree(folder / "c001"), "has 1 class; must have 2 to 1000"),
    (_no_classes, "has no class folders"),
    (shutil.rmtree, "is no folder"),
    (lambda folder: (folder / "c000").rename(folder / "test"), "has 'c001' beside test"),
    (lambda folder: (folder / "c000").rename(folder / "c\n0"), "1 to 200 printable characters"),
]


@pytest.mark.parametrize(("damage", "words"), WRONG)
def test_what_is_wrong_is_said_in_a_line(
    tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    folder = class_folders(tmp_path / "pictures")
    damage(folder)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("test/c001", "test lacks class 'c001', which train has"),
        ("train/c001", "test has class 'c001', which train lacks"),
        ("train", "has test, val, but no train"),
    ],
)
def test_a_class_that_a_part_lacks_is_named(tmp_path: Path, lost: str, words: str) -> None:
    class_folders(tmp_path, parts=("train", "val", "test"))
    if lost == "train/c001":
        shutil.rmtree(tmp_path / "val")
    shutil.rmtree(tmp_path / lost)
    assert words in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_a_path_that_stands_alone_is_told_how_it_is_named(tmp_path: Path, kind: str) -> None:
    place = tmp_path / ("pictures.npz" if kind == "npz" else "pictures")
    class_folders(tmp_path / "pictures")
    with pytest.raises(UserError, match=f"choose from .*; {kind}:{place} reads what is there"):
        load(str(place))


def test_the_home_is_written_as_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    class_folders(tmp_path / "pictures")
    assert load("folder:~/pictures").classes == ("c000", "c001")
    assert beside("folder:~/pictures", Path("plans")) == f"folder:{tmp_path}/pictures"
    assert beside("npz:pictures.npz", Path("plans")) == "npz:plans/pictures.npz"
    assert beside("folder:~nobody-of-that-name/x", Path("plans")).startswith("folder:plans/~")


def test_images_of_one_value_and_oblong_or_tiny_ones_are_refused(tmp_path: Path) -> None:
    for size, words in (((9, 9), "every pixel"), ((9, 8), "must be square"), ((3, 3), "square")):
        for label in "ab":
            for number in range(5):
                (tmp_path / label).mkdir(exist_ok=True)
                Image.new("L", size, 7).save(tmp_path / label / f"{number}.png")
        assert words in refusal(tmp_path)


def test_more_than_memory_should_hold_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_folders(tmp_path)
    monkeypatch.setattr(images, "MOST_BYTES", 40 * 243 - 1)
    assert "40 images of 9x9 pixels, 3 channels are" in refusal(tmp_path)
