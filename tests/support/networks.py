"""Small networks for tests, and what they are fed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer import native
from trainer.config import TrainConfig
from trainer.layers import Dropout, PReLU
from trainer.models import build

SIDE, CLASSES = 28, 10

needs_kernels = pytest.mark.skipif(
    native.missing() is not None, reason=f"no native kernels here: {native.missing()}"
)

# Every activation as a user of PyTorch would write it.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "prelu": nn.PReLU,
}


def one(side: int = SIDE, **fields: Any) -> nn.Module:
    """A network of one member, in fp64 and in evaluation mode."""
    network = build([TrainConfig(**fields)], side, CLASSES)
    return network.to(torch.float64).eval()


def batch(members: int = 1, side: int = SIDE) -> Tensor:
    """Four fp64 images per member."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, members, side, side, dtype=torch.float64, generator=generator)


def wear_in(network: nn.Module) -> None:
    """Give batch norms and learned slopes values as after training: new ones do nothing."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            assert module.running_mean is not None
            assert module.running_var is not None
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.detach().uniform_(0.5, 1.5, generator=generator)
        if isinstance(module, PReLU):
            module.weight.detach().uniform_(-0.5, 0.5, generator=generator)


def load_in_order(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load the same tensors in the same order, under other names, in fp64."""
    network.to(torch.float64)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))


def assert_same_network(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    """Equal logits in evaluation and, without dropout, in training, and equal running statistics.

    `x` is [B, 1, H, W]; ours gives [B, 1, classes], theirs [B, classes].
    """
    theirs.to(torch.float64)
    for module in [*ours.modules(), *theirs.modules()]:
        if isinstance(module, Dropout):
            module.active = False
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    for training in (False, True):
        ours.train(training)
        theirs.train(training)
        torch.testing.assert_close(ours(x)[:, 0], theirs(x), rtol=1e-12, atol=1e-12)
    for own, reference in zip(
        ours.state_dict().values(), theirs.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(own, reference, rtol=1e-12, atol=1e-12)
