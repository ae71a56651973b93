"""Pretrained weights: what they replace, where they come from, what is said without them."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.layers import by_member
from trainer.models import build
from trainer.torchvision_compat import torchvision

CONFIGS = [TrainConfig(architecture="resnet18", pretrained=True, seed=seed) for seed in (0, 1)]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the weights are looked for: in an empty hub folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"


def imagenet_network() -> nn.Module:
    """A network as torchvision has it, of random weights."""
    torch.manual_seed(7)
    network: nn.Module = torchvision().models.resnet18()
    return network


def test_every_member_starts_from_the_weights_but_for_its_own_stem_and_classifier(
    file: Path,
) -> None:
    file.parent.mkdir(parents=True)
    weights = imagenet_network().state_dict()
    torch.save(weights, file)
    bank = build(CONFIGS, 28, 10).state_dict()
    own = build([config.replace(pretrained=False) for config in CONFIGS], 28, 10).state_dict()
    for name, tensor in bank.items():
        if not tensor.dim():
            continue
        for k in range(2):
            member = by_member(tensor, 2)[k]
            if name.startswith(("conv1.", "fc.")):
                assert torch.equal(member, by_member(own[name], 2)[k])
            else:
                assert torch.equal(member, weights[name])
    assert not torch.equal(*by_member(bank["fc.weight"], 2))


def test_the_file_is_fetched_once_under_its_hash(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def fetch(url: str, target: str, *, hash_prefix: str, progress: bool) -> None:
        fetched.append((url.rpartition("/")[2], target, hash_prefix, progress))
        torch.save(imagenet_network().state_dict(), target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    first, second = (build(CONFIGS[:1], 8, 10) for _ in range(2))
    assert fetched == [(file.name, str(file), "f37072fd", False)]
    assert torch.equal(
        first.state_dict()["layer1.0.conv1.weight"], second.state_dict()["layer1.0.conv1.weight"]
    )


def test_without_a_network_the_folder_and_the_way_out_are_named(file: Path) -> None:
    with pytest.raises(UserError) as caught:
        build(CONFIGS, 28, 10)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in (file.name, str(file.parent), "no network", "pretrained = false"):
        assert part in message


@pytest.mark.parametrize("content", [b"", b"PK damaged", b"\x80\x02}q\x00."])
def test_a_file_without_the_weights_is_a_users_error(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"^pretrained = True: .*resnet18-f37072fd\.pth"):
        build(CONFIGS, 28, 10)


def test_other_architectures_do_not_look_for_weights(file: Path) -> None:
    config = TrainConfig(architecture="toy", pretrained=True)
    weights = build([config], 28, 10).state_dict()
    plain = build([config.replace(pretrained=False)], 28, 10).state_dict()
    assert all(torch.equal(weights[name], plain[name]) for name in plain)
    assert not file.parent.exists()
