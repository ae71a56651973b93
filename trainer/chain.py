"""Layers in sequence, of which some are computed together while training.

Memory traffic, not arithmetic, is what layers of small networks cost. What belongs together is read
and written once: on the images themselves a convolution, its batch norm and max pooling
(`trainer.fused`); on CPUs in bf16 also later norms, activations and pools
(`trainer.native`), and so on GPUs where triton is there (`trainer.triton_activated`).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer import device as devices
from trainer import native
from trainer.convolutions import convolve, in_triton
from trainer.fused import pooled_convolution
from trainer.layers import ChannelNorm, Convolution
from trainer.native import LANES
from trainer.native.activated import activated
from trainer.native.images import fits, pooled_images
from trainer.patches import convolution_of_images

TRITON = True  # whether tails are fused on GPUs


class Chain(nn.Sequential):
    """Layers in sequence."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers in turn."""
        layers = [layer for layer in self if not isinstance(layer, nn.Identity)]
        if not self.training:
            return _one_by_one(layers, x)
        kernels = _kernels_for(x)
        if not x.requires_grad:
            x, layers = _of_images(layers, x, kernels)
        return _one_by_one(layers, x) if kernels is None else _together(layers, x, kernels)


def named(**layers: nn.Module) -> Chain:
    """Return the layers in sequence; a layer's weights are drawn by its name."""
    return Chain(OrderedDict(layers))


@dataclass(frozen=True)
class _Tail:
    """What begins a list of layers: a norm, an activation, 2x2 pooling, or nothing of it."""

    norm: ChannelNorm | None
    activation: tuple[nn.Module, ...]
    slope: float  # of the activation for negative values; 1 without one
    pooling: str | None  # max or avg
    layers: int  # that it consists of

    @classmethod
    def of(cls, layers: list[nn.Module]) -> "_Tail":
        """Return as much as belongs to it."""
        norm = layers[0] if layers and isinstance(layers[0], ChannelNorm) else None
        rest = layers[norm is not None :]
        # What `trainer.layers.activation` makes.
        parts = list(rest[0]) if rest and isinstance(rest[0], nn.Sequential) else rest[:1]
        pooling = None
        if len(parts) == 2 and isinstance(parts[0], nn.MaxPool2d):
            pooling, parts = "max", parts[1:]
        elif len(parts) == 2 and isinstance(parts[1], nn.AvgPool2d):
            pooling, parts = "avg", parts[:1]
        slope = _slope(parts[0]) if len(parts) == 1 else None
        if slope is None:
            return cls(norm, (), 1.0, None, norm is not None)
        return cls(norm, tuple(parts), slope, pooling, (norm is not None) + 1)


def _slope(layer: nn.Module) -> float | None:
    if isinstance(layer, nn.ReLU):
        return 0.0
    return layer.negative_slope if isinstance(layer, nn.LeakyReLU) else None


@dataclass(frozen=True)
class _Kernels:
    """What does a tail at once: `(x, norm, bias, slope, pooling)` to the result."""

    activated: Callable[[Tensor, ChannelNorm | None, Tensor | None, float, str | None], Tensor]
    dtypes: tuple[torch.dtype, ...]
    lanes: int  # channels are a multiple of it
    native: bool

    def fit(self, x: Tensor) -> bool:
        """Whether they take `x`."""
        return x.dtype in self.dtypes and x.dim() == 4 and x.shape[1] % self.lanes == 0

    def take(self, bias: Tensor | None, tail: _Tail) -> bool:
        """Whether they add a convolution's bias."""
        fitting = tail.layers > 0 and tail.norm is None
        return bias is not None and fitting and len(bias) % self.lanes == 0

    def do(self, tail: _Tail, x: Tensor, bias: Tensor | None) -> Tensor:
        """Apply a tail, and before it a bias."""
        if tail.norm is not None:
            tail.norm.check(x)
        return self.activated(x, tail.norm, bias, tail.slope, tail.pooling)


def _kernels_for(x: Tensor) -> _Kernels | None:
    """Return the kernels for a network that trains on `x`; None: PyTorch's operations do it."""
    if native.wanted(x):
        return _Kernels(activated, (torch.bfloat16,), LANES, native=True)
    dtypes = torch.bfloat16, torch.float32
    if TRITON and x.dtype in dtypes and devices.has_triton(x.device):
        from trainer.triton_activated import activated as on_gpu

        return _Kernels(on_gpu, dtypes, 1, native=False)
    return None


def _even(x: Tensor) -> bool:
    return x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0


def _of_images(
    layers: list[nn.Module], x: Tensor, kernels: _Kernels | None
) -> tuple[Tensor, list[nn.Module]]:
    """Apply the layers that begin at the images, several at once; return what remains to be done.

    On a GPU starting kernels is what costs: a member alone takes cuDNN's convolution and the layers
    one by one, a bank one product for all its convolutions.
    """
    if not (layers and isinstance(layers[0], Convolution) and layers[0].of_images):
        return x, layers
    convolution = layers[0]
    weight, bias, members = convolution.weight, convolution.bias, convolution.members
    tail = _Tail.of(layers[1:])
    if x.device.type != "cpu":
        if members == 1:
            return x, layers
        x, layers = _of_members(convolution, x), layers[1:]
        if kernels is not None and kernels.take(bias, tail):
            return kernels.do(tail, x, bias), layers[tail.layers :]
        return (x if bias is None else x + bias.to(x.dtype).view(-1, 1, 1)), layers
    fitting = tail.pooling is not None and not (tail.norm and bias is not None) and _even(x)
    if fitting and kernels is not None and kernels.native and fits(weight, x):
        assert tail.pooling is not None
        x = pooled_images(x, weight, bias, tail.norm, tail.slope, tail.pooling)
        layers = layers[1 + tail.layers :]
    # (Larger patches cost more than the activations that they replace.)
    elif fitting and tail.pooling == "max" and weight.shape[2] <= (5 if tail.norm else 3):
        x = pooled_convolution(x, weight, bias, tail.norm, members)
        layers = [*tail.activation, *layers[1 + tail.layers :]]
    return x, layers


def _of_members(convolution: Convolution, x: Tensor) -> Tensor:
    weight, members = convolution.weight, convolution.members
    options = {"stride": 1, "padding": convolution.padding, "groups": members}
    if in_triton(x, weight, **options):
        return convolve(x, weight, None, **options)
    return convolution_of_images(x, weight, members)


def _one_by_one(layers: list[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _together(layers: list[nn.Module], x: Tensor, kernels: _Kernels) -> Tensor:
    """Apply layers in turn, but a norm, an activation and pooling at once."""
    while layers:
        tail = _Tail.of(layers)
        if tail.layers and kernels.fit(x):
            x, layers = kernels.do(tail, x, None), layers[tail.layers :]
            continue
        layer, layers = layers[0], layers[1:]
        bias = layer.bias if isinstance(layer, Convolution) else None
        tail = _Tail.of(layers)
        if isinstance(layer, Convolution) and kernels.take(bias, tail):
            x, layers = kernels.do(tail, layer.without_bias(x), bias), layers[tail.layers :]
        else:
            x = layer(x)
    return x
