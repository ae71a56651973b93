"""Layers over a bank of K members: K networks of one shape, computed by the same operations.

Activations are [B, K*C, H, W] (member-major channels), so a convolution with `groups=K` and a batch
norm over K*C channels train K networks at once (horizontal fusion: Wang et al., "Horizontally Fused
Training Array", MLSys 2021). Every parameter and buffer has a first dimension divisible by K, also
member-major: member k is `tensor.unflatten(0, (K, -1))[k]`. With K = 1 these are the plain layers.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.streams import Stream, threshold

# Name -> function. The increasing ones may be taken after max pooling: the same result from a
# quarter of the memory traffic.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "gelu": F.gelu,
    "silu": F.silu,
}
INCREASING = frozenset({"relu", "leaky_relu"})


class Convolution(nn.Module):
    """K convolutions, stride 1, same padding: [B, K*C, H, W] -> [B, K*D, H, W]."""

    def __init__(self, members: int, inputs: int, outputs: int, kernel: int, *, bias: bool) -> None:
        super().__init__()
        self.members = members
        self.padding = kernel // 2
        self.fan_in = inputs * kernel * kernel
        self.weight = nn.Parameter(torch.empty(members * outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(members * outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return F.conv2d(x, self.weight, self.bias, padding=self.padding, groups=self.members)


class Linear(nn.Module):
    """K linear maps: [B, K, F] -> [B, K, D]."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.members = members
        self.fan_in = inputs
        self.weight = nn.Parameter(torch.empty(members * outputs, inputs))
        self.bias = nn.Parameter(torch.empty(members * outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply each member's rows with its own matrix."""
        if self.members == 1:
            return F.linear(x, self.weight, self.bias)
        weight = by_member(self.weight, self.members)  # [K, D, F]
        bias = by_member(self.bias, self.members)[:, None]  # [K, 1, D]
        return torch.baddbmm(bias, x.transpose(0, 1), weight.mT).transpose(0, 1)


class Dropout(nn.Module):
    """Dropout on [B, K, F] with one rate and one random stream per member.

    The masks are a function of (seed, step) alone; see `trainer.streams`.
    """

    step: Tensor  # int32 [], the bank's clock
    drop: Tensor
    scale: Tensor

    def __init__(self, rates: Sequence[float], seeds: Sequence[int], name: str) -> None:
        super().__init__()
        self.active = any(rates)
        self.seeds, self.name = seeds, name
        self.stream: Stream | None = None
        drop = torch.tensor([threshold(rate) for rate in rates], dtype=torch.int32)
        scale = torch.tensor([1.0 / (1.0 - rate) for rate in rates], dtype=torch.float64)
        self.register_buffer("drop", drop[:, None], persistent=False)  # [K, 1]
        self.register_buffer("scale", scale[:, None], persistent=False)  # [K, 1]

    def forward(self, x: Tensor) -> Tensor:
        """Zero each feature with its member's rate and scale the others up."""
        if not self.training or not self.active:
            return x
        if self.stream is None:
            self.stream = Stream(self.seeds, self.name, x.device)
        kept = self.stream.bits(self.step, x.shape[0], x.shape[2]) >= self.drop
        return x * (kept * self.scale.to(x.dtype))


def flatten_members(x: Tensor, members: int) -> Tensor:
    """[B, K*C, H, W] -> [B, K, C*H*W], in channel order whatever the memory layout."""
    return by_member(x.flatten(1), members, 1)


def by_member(tensor: Tensor, members: int, dim: int = 0) -> Tensor:
    """View a bank's dimension of K*n as K and n."""
    view: Tensor = tensor.unflatten(dim, (members, -1))
    return view


def initialise(module: nn.Module, generators: Callable[[str], list[torch.Generator]]) -> None:
    """Draw the weights of every member from its own generators, one set per layer.

    PyTorch's defaults (uniform, bound 1 / sqrt(fan_in)); a layer's draw depends on its name and its
    member's seed only, so two networks that differ elsewhere start equal here.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, (Convolution, Linear)):
            bound = 1.0 / math.sqrt(layer.fan_in)
            for k, generator in enumerate(generators(name)):
                for parameter in layer.parameters(recurse=False):
                    member = by_member(parameter.detach(), layer.members)[k]
                    # Drawn in float32 on the CPU: the same start in every precision and place.
                    drawn = torch.empty(member.shape).uniform_(-bound, bound, generator=generator)
                    member.copy_(drawn)
