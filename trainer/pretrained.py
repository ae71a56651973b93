"""torchvision's ImageNet weights of ResNet-18, for all of our `resnet18` but its two ends.

shihvictor/LearnPytorchFashionMNIST does the same: the stem for their 1 channel and the
classifier of 10 classes are new.
"""

from functools import cache
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from trainer.errors import UserError
from trainer.layers import by_member
from trainer.torchvision_compat import torchvision

_OWN = ("conv1.", "fc.")


def load(network: nn.Module, members: int) -> None:
    """Start every member of a `resnet18` bank from the pretrained weights, its ends excepted.

    Raises:
        UserError: the weights are neither here nor to be had, or are not those of a ResNet-18.
    """
    weights = _weights(_path())
    for name, tensor in network.state_dict(keep_vars=True).items():
        if tensor.dim() and not name.startswith(_OWN):
            by_bank = by_member(tensor.detach(), members)  # [K, ...]
            if name not in weights or weights[name].shape != by_bank.shape[1:]:
                raise UserError(f"pretrained = True: {_path()} lacks {name} of a ResNet-18")
            by_bank.copy_(weights[name])


@cache
def _weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        _download(path)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise UserError(f"pretrained = True: {path} does not hold weights; delete it") from error
    if not isinstance(weights, dict):
        raise UserError(f"pretrained = True: {path} does not hold weights; delete it")
    return weights


def _url() -> str:
    url: str = torchvision().models.ResNet18_Weights.IMAGENET1K_V1.url
    return url


def _path() -> Path:
    """Where torch's hub keeps the file."""
    return Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlsplit(_url()).path).name)


def _download(path: Path) -> None:
    digits = path.stem.rpartition("-")[2]  # the file's name ends in the start of its SHA-256
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(_url(), str(path), hash_prefix=digits, progress=False)
    # URLError is an OSError; torch reports a wrong hash as a RuntimeError.
    except (OSError, HTTPException, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"pretrained = True: {path.name} could not be downloaded ({reason}): put it in "
            f"{path.parent}, or use pretrained = false"
        ) from error
