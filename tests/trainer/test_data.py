"""Data sets: read where they are, verified, split fairly, and never swapped for another."""

import gzip
import hashlib
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer.config import TrainConfig
from trainer.data import ImageData, _read_idx, load, split
from trainer.datasets import DATASETS, Arrays, DataSet
from trainer.errors import UserError
from trainer.files import FILES, default_data_dir, verified_files
from trainer.stratified import stratified_order
from trainer.torchvision_compat import torchvision
from trainer.train import train


def idx(values: NDArray[np.uint8]) -> bytes:
    """A packed file in the IDX format of the MNIST family."""
    sizes = np.array(values.shape, dtype=">i4").tobytes()
    return gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes(), mtime=0)


@pytest.fixture(scope="session")
def tiny_files() -> dict[str, bytes]:
    """60 training and 20 test images of 28x28 in the four files of an official data set."""
    rng = np.random.default_rng(0)
    contents = []
    for count in (60, 20):
        contents.append(idx(rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)))
        contents.append(idx(np.arange(count, dtype=np.uint8) % 10))
    return dict(zip(FILES, contents, strict=True))


@pytest.fixture
def tiny(tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The tiny files, official as `kmnist` for the time of a test."""
    md5 = [hashlib.md5(content).hexdigest() for content in tiny_files.values()]
    assert DATASETS["kmnist"].files is not None
    files = replace(DATASETS["kmnist"].files, md5=(md5[0], md5[1], md5[2], md5[3]))
    known = cast("dict[str, DataSet]", DATASETS)
    monkeypatch.setitem(known, "kmnist", replace(DATASETS["kmnist"], files=files))
    return tiny_files


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def refusal(name: str, folder: Path, *, download: bool = False) -> str:
    """The one line that tells the user why a data set is not read."""
    with pytest.raises(UserError) as caught:
        load(name, folder, download=download)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# Reading


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 5, 3)])
def test_an_idx_file_is_read_in_its_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "x.gz").write_bytes(idx(values))
    read = _read_idx(tmp_path / "x.gz")
    assert read.dtype == np.uint8
    assert np.array_equal(read, values)
    assert read.flags.writeable  # torch warns of tensors that share read-only memory


@pytest.mark.parametrize("layout", ["KMNIST/raw", "raw", "."])
def test_files_are_found_in_torchvisions_folder_its_raw_folder_or_the_folder_itself(
    tmp_path: Path, tiny: dict[str, bytes], layout: str
) -> None:
    put(tmp_path / layout, tiny)
    data = load("kmnist", tmp_path)
    assert data.name == "kmnist"
    assert data.side == 28
    assert len(data.classes) == 10
    assert data.train_images.shape == (60, 784)
    assert data.test_images.shape == (20, 784)
    assert data.train_images.dtype == torch.uint8
    assert data.train_labels.tolist() == [i % 10 for i in range(60)]
    raw = gzip.decompress(tiny[FILES[2]])[16:]
    assert data.test_images.numpy().tobytes() == raw


def test_a_read_only_folder_is_enough_and_nothing_is_written(
    tmp_path: Path, tiny: dict[str, bytes]
) -> None:
    folder = tmp_path / "KMNIST" / "raw"
    put(folder, tiny)
    places = [tmp_path, tmp_path / "KMNIST", folder, *folder.iterdir()]
    for place in places:
        place.chmod(stat.S_IREAD | (stat.S_IEXEC if place.is_dir() else 0))
    try:
        before = {place: place.stat().st_mtime_ns for place in places}
        load("kmnist", tmp_path, download=True)
        # Permissions do not hold root back, so see that nothing changed, too.
        assert {place: place.stat().st_mtime_ns for place in tmp_path.rglob("*")} == {
            place: time for place, time in before.items() if place != tmp_path
        }
        assert tmp_path.stat().st_mtime_ns == before[tmp_path]
    finally:
        for place in places:
            place.chmod(stat.S_IRWXU)


def test_the_default_folder_comes_from_the_environment(
    tmp_path: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, tiny)
    monkeypatch.setenv("FMNIST_DATA_DIR", str(tmp_path))
    assert len(load("kmnist").train_labels) == 60
    monkeypatch.setenv("FMNIST_DATA_DIR", "")
    assert default_data_dir() == Path("data")
    monkeypatch.delenv("FMNIST_DATA_DIR")
    assert default_data_dir() == Path("data")


# What is refused


def test_an_unknown_data_set_is_named_with_the_known_ones(tmp_path: Path) -> None:
    message = refusal("cifar10", tmp_path)
    assert message == (
        "dataset = 'cifar10': choose from fashion-mnist, digits, mnist, kmnist, folder:PATH, "
        "npz:FILE, torchvision:NAME"
    )


@pytest.mark.parametrize("missing", FILES)
def test_a_missing_file_is_named_with_ways_out(
    tmp_path: Path, tiny: dict[str, bytes], missing: str
) -> None:
    put(tmp_path, {name: content for name, content in tiny.items() if name != missing})
    message = refusal("kmnist", tmp_path)
    assert message.startswith(f"kmnist: {missing} is missing in {tmp_path}")
    for way_out in ("--data-dir", "fmnist-study data --dataset kmnist", "--dataset digits"):
        assert way_out in message


def test_files_of_another_data_set_in_torchvisions_layout_are_not_taken(
    tmp_path: Path, tiny: dict[str, bytes]
) -> None:
    put(tmp_path / "MNIST" / "raw", tiny)
    assert "is missing" in refusal("kmnist", tmp_path)


@pytest.mark.parametrize("file", FILES)
def test_a_corrupted_file_is_named_with_both_md5(
    tmp_path: Path, tiny: dict[str, bytes], file: str
) -> None:
    changed = bytearray(tiny[file])
    changed[-1] ^= 1
    put(tmp_path, {**tiny, file: bytes(changed)})
    message = refusal("kmnist", tmp_path)
    assert message.startswith(f"{tmp_path / file} is not the official kmnist file")
    assert f"MD5 is {hashlib.md5(changed).hexdigest()}" in message
    assert f"must be {hashlib.md5(tiny[file]).hexdigest()}" in message


def test_an_official_file_of_another_data_set_is_refused(
    tmp_path: Path, tiny: dict[str, bytes]
) -> None:
    put(tmp_path, tiny)
    message = refusal("mnist", tmp_path)
    assert "is not the official mnist file, but the official one of kmnist" in message
    assert "delete" not in message
    (tmp_path / FILES[0]).write_bytes(tiny[FILES[2]])
    message = refusal("kmnist", tmp_path)
    assert "is not the official kmnist file, but another official file of kmnist" in message
    assert "delete" not in message


def test_a_file_that_is_a_folder_is_a_users_error(tmp_path: Path, tiny: dict[str, bytes]) -> None:
    put(tmp_path, {name: tiny[name] for name in FILES[1:]})
    (tmp_path / FILES[0]).mkdir()
    assert FILES[0] in refusal("kmnist", tmp_path)


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-20], lambda _: b"no gzip", lambda raw: raw[:20] + b"xxxx" + raw[24:]],
)
def test_a_file_that_cannot_be_unpacked_is_a_users_error(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(damage(idx(np.arange(100, dtype=np.uint8))))
    with pytest.raises(UserError, match=r"x\.gz cannot be unpacked"):
        _read_idx(path)


# Downloading; a network is never asked


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision's downloader fail as it does without a network."""

    def fail(*_: object, **__: object) -> None:
        raise URLError(socket.gaierror(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(torchvision().datasets.utils, "download_url", fail)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["fashion-mnist", "mnist", "kmnist"])
def test_without_a_network_one_line_names_the_ways_out(tmp_path: Path, name: str) -> None:
    message = refusal(name, tmp_path / "new", download=True)
    assert message.startswith(f"{name}: {FILES[0]} could not be downloaded")
    assert "Temporary failure in name resolution" in message
    assert "--data-dir" in message
    assert "--dataset digits" in message


@pytest.mark.usefixtures("no_network")
def test_no_network_is_needed_where_the_files_are(tmp_path: Path, tiny: dict[str, bytes]) -> None:
    put(tmp_path, tiny)
    assert len(verified_files("kmnist", tmp_path, download=True)) == 4


def test_only_missing_files_are_downloaded_from_the_next_mirror_where_one_fails(
    tmp_path: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(url: str, root: str, filename: str, md5: str) -> None:
        asked.append(url)
        if url.startswith("broken://"):
            raise RuntimeError("File not found or corrupted.")
        assert md5 == hashlib.md5(tiny[filename]).hexdigest()
        (Path(root) / filename).write_bytes(tiny[filename])

    datasets = torchvision().datasets
    monkeypatch.setattr(datasets.utils, "download_url", download)
    monkeypatch.setattr(datasets.KMNIST, "mirrors", ["broken://", "works://"])
    put(tmp_path / "KMNIST" / "raw", {name: tiny[name] for name in FILES[:2]})
    assert len(load("kmnist", tmp_path, download=True).test_labels) == 20
    assert asked == [
        f"{mirror}{file}" for file in FILES[2:] for mirror in ("broken://", "works://")
    ]


@pytest.mark.usefixtures("no_network")
def test_a_folder_that_cannot_be_made_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    message = refusal("mnist", tmp_path / "file" / "below", download=True)
    assert message.startswith(f"{tmp_path / 'file' / 'below'}")
    assert "mnist" in message


# Digits


def test_digits_are_1797_real_images_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    data = load("digits", tmp_path)
    assert data.side == 8
    assert data.classes == tuple("0123456789")
    assert data.train_images.shape == (1438, 64)
    assert data.test_images.shape == (359, 64)
    assert data.train_images.dtype == torch.uint8
    assert (int(data.train_images.min()), int(data.train_images.max())) == (0, 255)
    images = torch.cat([data.train_images, data.test_images])
    assert len(images.unique(dim=0)) == 1797


def test_the_test_set_of_digits_is_the_same_every_time_and_stratified(digits: ImageData) -> None:
    assert load("digits").sha256 == digits.sha256
    share = torch.bincount(digits.test_labels) / torch.bincount(
        torch.cat([digits.train_labels, digits.test_labels])
    )
    assert share.min() > 0.18
    assert share.max() < 0.22


# Facts about a data set


def test_the_normalisation_is_the_mean_and_deviation_of_the_training_pixels(
    digits: ImageData,
) -> None:
    pixels = digits.train_images.numpy() / 255
    assert digits.normalisation[0] == pytest.approx((pixels.mean(), pixels.std()), rel=1e-12)


def test_the_hash_changes_with_every_pixel_and_label(digits: ImageData) -> None:
    hashes = {digits.sha256}
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        changed = getattr(digits, name).clone()
        changed.view(-1)[-1] ^= 1
        hashes.add(replace(digits, **{name: changed}).sha256)
    assert len(hashes) == 5


def test_a_description_is_json_ready_and_complete(digits: ImageData) -> None:
    assert digits.describe() == {
        "name": "digits",
        "sha256": digits.sha256,
        "train_images": 1438,
        "test_images": 359,
        "side": 8,
        "classes": list("0123456789"),
        "normalisation": list(digits.normalisation[0]),
    }


def test_a_data_set_on_its_device_is_not_copied(digits: ImageData) -> None:
    assert digits.to(torch.device("cpu")) is digits


# Splits


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=300).map(np.array),
    st.integers(0, 2**32 - 1),
)
def test_every_prefix_of_a_stratified_order_has_the_classes_shares(
    labels: NDArray[np.int64], seed: int
) -> None:
    order = stratified_order(labels, np.random.default_rng(seed))
    assert np.array_equal(np.sort(order), np.arange(len(labels)))
    seen = np.cumsum(labels[order][:, None] == np.arange(10), axis=0)  # [prefix, class]
    # A prefix ends at a place t in [0, 1], where n t - 1 < a class's images < n t + 1; the
    # prefix's own length is the sum of these, so shares of it are a little wider.
    fraction = np.arange(1, len(labels) + 1) / len(labels)
    counts = np.bincount(labels, minlength=10)
    share = counts / len(labels)
    slack = 1 + share * (counts > 0).sum() + 1e-9
    assert (np.abs(seen - counts * fraction[:, None]) <= slack).all()


def test_a_stratified_order_depends_on_the_generator() -> None:
    labels = np.arange(100) % 10
    first, again, other = (stratified_order(labels, np.random.default_rng(s)) for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def digits_split(data: ImageData, **fields: object) -> tuple[list[int], list[int]]:
    train, validation = split(data, TrainConfig.from_dict({"dataset": "digits", **fields}))
    return train.tolist(), validation.tolist()


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ({}, (1150, 288)),
        ({"validation_fraction": 0.5}, (719, 719)),
        ({"subset": 1000}, (800, 200)),
        ({"subset": 10, "validation_fraction": 0.1}, (9, 1)),
    ],
)
def test_a_split_has_its_sizes_and_no_image_twice(
    digits: ImageData, fields: dict[str, object], sizes: tuple[int, int]
) -> None:
    train, validation = digits_split(digits, **fields)
    assert (len(train), len(validation)) == sizes
    assert len({*train, *validation}) == sum(sizes)
    assert max(train + validation) < 1438


def test_both_parts_of_a_split_are_stratified(digits: ImageData) -> None:
    whole = torch.bincount(digits.train_labels) / 1438
    for part in digits_split(digits, subset=1000):
        counts = torch.bincount(digits.train_labels[part])
        assert (counts - len(part) * whole).abs().max() < 3


def test_a_split_depends_on_the_seed_and_nothing_else_of_the_training(digits: ImageData) -> None:
    split_0 = digits_split(digits, seed=0)
    assert digits_split(digits, seed=0, learning_rate=0.1, width=8, batch_size=8) == split_0
    assert digits_split(digits, seed=1) != split_0


def test_smaller_subsets_lie_in_larger_ones(digits: ImageData) -> None:
    small, middle, large = (
        {image for part in digits_split(digits, subset=size) for image in part}
        for size in (100, 500, 1438)
    )
    assert small < middle < large


def test_a_split_that_the_data_cannot_give_is_a_users_error(digits: ImageData) -> None:
    with pytest.raises(UserError, match=r"^subset = 2000: digits has 1438 training images$"):
        digits_split(digits, subset=2000)
    for fraction, held_out in ((0.01, 0), (0.99, 10)):
        with pytest.raises(UserError, match=f"^validation_fraction = .* {held_out} of 10 images"):
            digits_split(digits, subset=10, validation_fraction=fraction)


# The real thing


@pytest.mark.real
def test_fashion_mnist_is_the_official_one(fashion_mnist_dir: Path) -> None:
    data = load("fashion-mnist", fashion_mnist_dir)
    assert data.train_images.shape == (60_000, 784)
    assert data.test_images.shape == (10_000, 784)
    assert torch.bincount(data.train_labels).tolist() == [6000] * 10
    assert torch.bincount(data.test_labels).tolist() == [1000] * 10
    assert data.classes[0] == "T-shirt/top"
    assert data.classes[9] == "Ankle boot"
    ((mean, std),) = data.normalisation
    assert round(mean, 4) == 0.2860
    assert round(std, 4) == 0.3530
    train, validation = split(data, TrainConfig())
    assert (len(train), len(validation)) == (48_000, 12_000)
    assert set(torch.bincount(data.train_labels[validation]).tolist()) <= {1199, 1200, 1201}


def test_a_data_set_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> Arrays:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (50, 6, 6), dtype=np.uint8)
        labels = np.arange(50) % 3
        return pixels[:40], labels[:40], pixels[40:], labels[40:]

    mine = DataSet(6, ("a", "b", "c"), 40, 10, 0.5, 0.3, read=read)
    monkeypatch.setitem(cast("dict[str, DataSet]", DATASETS), "mine", mine)
    data = load("mine")
    assert (data.side, data.classes, len(data.test_labels)) == (6, ("a", "b", "c"), 10)
    (result,) = train([TrainConfig(dataset="mine", depth=1, batch_size=8, epochs=1)], data)
    assert result.outcome == "finished"


@pytest.mark.parametrize("name", DATASETS)
def test_an_entry_says_how_its_data_set_is_read_in_one_way(name: str) -> None:
    dataset = DATASETS[name]
    assert (dataset.files is None) != (dataset.read is None)
