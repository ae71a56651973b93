"""Weights on disk are those that were written, whole or not at all."""

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer import atomic, checkpoint
from trainer.config import TrainConfig
from trainer.data import ImageData
from trainer.errors import UserError
from trainer.models import build
from trainer.train import train

ABOUT = {"config": {"seed": 3}, "val_accuracy": 0.9, "name": "お"}


@pytest.fixture
def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 5, 5, generator=generator)
    return {
        "fp32": weight,
        "fp64": weight.double() / 3,
        "bf16": weight.bfloat16(),
        "channels_last": weight.contiguous(memory_format=torch.channels_last),
        "slice": weight[1:3, :, 2],
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
    }


@pytest.fixture
def saved(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    path = tmp_path / "new" / "folder" / "best.safetensors"
    checkpoint.write(path, state, ABOUT)
    return path


def test_tensors_of_every_kind_come_back_as_they_were(
    saved: Path, state: dict[str, Tensor]
) -> None:
    read, about = checkpoint.read(saved)
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert about == {**ABOUT, "sha256": digest}


def test_a_networks_own_state_comes_back(tmp_path: Path) -> None:
    network = build([TrainConfig(width=4)], 8, 10)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    checkpoint.write(tmp_path / "x.safetensors", network.state_dict(), {})
    read, _ = checkpoint.read(tmp_path / "x.safetensors")
    again = build([TrainConfig(width=4, seed=1)], 8, 10)
    again.load_state_dict(read)
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True)
    )


@pytest.mark.parametrize("position", [8, -1])
def test_one_flipped_bit_is_found(saved: Path, position: int) -> None:
    weights = bytearray(saved.read_bytes())
    weights[position] ^= 1
    saved.write_bytes(weights)
    found = hashlib.sha256(weights).hexdigest()
    with pytest.raises(UserError, match=f"best.safetensors: SHA-256 is {found}, must be "):
        checkpoint.read(saved)


def test_the_hash_of_weights_is_that_of_their_file(saved: Path, state: dict[str, Tensor]) -> None:
    assert checkpoint.sha256(state) == checkpoint.sha256_of_file(saved)
    with pytest.raises(UserError, match="nowhere: No such file"):
        checkpoint.sha256_of_file(saved.with_name("nowhere"))


def test_whole_weights_that_are_not_the_expected_ones_are_refused(
    saved: Path, state: dict[str, Tensor]
) -> None:
    expected = checkpoint.sha256_of_file(saved)
    assert checkpoint.read(saved, expected)[0].keys() == state.keys()
    checkpoint.write(saved, {**state, "scalar": torch.tensor(8)}, ABOUT)  # another training's
    with pytest.raises(UserError, match=f"SHA-256 is [0-9a-f]{{64}}, must be {expected}"):
        checkpoint.read(saved, expected)


def test_a_result_names_the_hash_of_the_weights_that_are_kept(
    digits: ImageData, tmp_path: Path
) -> None:
    config = TrainConfig(dataset="digits", width=4, epochs=1, subset=200, batch_size=32)
    finished, stopped = train([config, config], digits, on_epoch=lambda _: [1])
    assert finished.state is not None
    checkpoint.write(tmp_path / "x.safetensors", finished.state, {})
    assert finished.weights_sha256 == checkpoint.sha256_of_file(tmp_path / "x.safetensors")
    assert finished.to_dict()["weights_sha256"] == finished.weights_sha256
    assert stopped.weights_sha256 is None


def forge(path: Path, weights: bytes) -> None:
    """Put other bytes in the place of weights, with the hash that fits them."""
    path.write_bytes(weights)
    about = {**ABOUT, "sha256": hashlib.sha256(weights).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(about))


def header(text: str, body: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    return len(text).to_bytes(8, "little") + text.encode() + body


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"1234567",
        b"\xff" * 64,
        pickle.dumps([1]),
        header("{"),
        header("[" * 100_000),
        header("[]"),
        header('{"w": 3}'),
        header('{"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}', b"1234"),
        header('{"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}', b"1234"),
        header('{"w": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}', b"1"),
        header('{"w": {"dtype": "F32", "shape": [99999999999], "data_offsets": [0, 4]}}', b"1234"),
    ],
)
def test_what_is_no_weights_file_is_one_line_though_its_hash_fits(
    saved: Path, weights: bytes
) -> None:
    forge(saved, weights)
    with pytest.raises(UserError, match=r"best.safetensors: does not hold weights") as raised:
        checkpoint.read(saved)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b"\xff\xfe", "not JSON"),
        (b"\x00", "not JSON"),
        (b"[]", "does not describe weights"),
        (b'{"sha256": 3}', "must be 3"),
    ],
)
def test_a_description_that_is_none_is_one_line(saved: Path, text: bytes, message: str) -> None:
    saved.with_suffix(".json").write_bytes(text)
    with pytest.raises(UserError, match=message) as raised:
        checkpoint.read(saved)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_missing_file_is_named(saved: Path, suffix: str) -> None:
    saved.with_suffix(suffix).unlink()
    with pytest.raises(UserError, match=rf"^checkpoint .*best\{suffix}: No such file"):
        checkpoint.read(saved)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"null", b"{}"])
def test_a_description_that_is_none_is_a_users_error(saved: Path, content: bytes) -> None:
    saved.with_suffix(".json").write_bytes(content)
    with pytest.raises(UserError, match=r"^checkpoint "):
        checkpoint.read(saved)


def test_the_description_is_readable_json_beside_the_weights(saved: Path) -> None:
    assert sorted(path.name for path in saved.parent.iterdir()) == ["best.json", "best.safetensors"]
    assert json.loads(saved.with_suffix(".json").read_text())["val_accuracy"] == 0.9


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    saved: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = {path: path.read_bytes() for path in saved.parent.iterdir()}
    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(saved, {"other": torch.ones(3)}, {})
    assert {path: path.read_bytes() for path in saved.parent.iterdir()} == before
    assert checkpoint.read(saved)[1]["val_accuracy"] == 0.9


def test_weights_without_their_description_are_not_read_as_complete(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = atomic.write_atomically

    def crash_before_json(path: Path, content: bytes) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(checkpoint, "write_atomically", crash_before_json)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(saved, {"other": torch.ones(3)}, {})
    with pytest.raises(UserError, match="SHA-256"):
        checkpoint.read(saved)


def test_nothing_is_ever_pickled(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "save", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    path = tmp_path / "x.safetensors"
    checkpoint.write(path, state, ABOUT)
    checkpoint.read(path)


def test_a_pickle_in_the_place_of_the_weights_is_refused_unread(saved: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(saved.parent / "trap"),))

    saved.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="SHA-256"):
        checkpoint.read(saved)
    assert not (saved.parent / "trap").exists()
