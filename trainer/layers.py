"""Layers over a bank of K members: K networks of one shape, computed by the same operations.

Activations are [B, K*C, H, W] (member-major channels), so a convolution with `groups=K` and a batch
norm over K*C channels train K networks at once (horizontal fusion: Wang et al., "Horizontally Fused
Training Array", MLSys 2021). Every parameter and buffer has a first dimension divisible by K, also
member-major: member k is `tensor.unflatten(0, (K, -1))[k]`. With K = 1 these are the plain layers.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import device, native
from trainer.convolutions import convolve
from trainer.errors import UserError
from trainer.native.convolution import convolution, fits
from trainer.native.dropout import Mask, dropped, flattened
from trainer.streams import Stream, threshold


class Convolution(nn.Module):
    """K convolutions: [B, K*C, H, W] -> [B, K*D, H', W'].

    Args:
        members: K.
        inputs: C, channels of one member.
        outputs: D.
        kernel: its side, pixels.
        bias: whether each output channel has one.
        stride: H' is H / stride, rounded up where the kernel is padded as by default.
        padding: zeros at every edge, pixels; by default half the kernel.
        groups: into how many independent parts a member's channels fall; C: depthwise.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        bias: bool,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.members, self.groups = members, members * groups
        self.stride = stride
        self.padding = kernel // 2 if padding is None else padding
        # One channel in, as many pixels out: what `pooled_convolution` takes.
        self.of_images = (inputs, stride, self.padding) == (1, 1, kernel // 2)
        shape = (members * outputs, inputs // groups, kernel, kernel)
        self.fan_in = math.prod(shape[1:])
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(members * outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return self._convolve(x, self.bias)

    def without_bias(self, x: Tensor) -> Tensor:
        """Convolve, and leave it to others to add the bias."""
        return self._convolve(x, None)

    def _convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        stride, padding, groups = self.stride, self.padding, self.groups
        natively = self.training and native.wanted(x)
        if natively and fits(self.weight, stride=stride, padding=padding, groups=groups):
            out = convolution(x, self.weight)
            return out if bias is None else out + bias.to(out.dtype).view(-1, 1, 1)
        if self.training and self.members > 1:
            return convolve(x, self.weight, bias, stride=stride, padding=padding, groups=groups)
        return F.conv2d(x, self.weight, bias, stride, padding, groups=groups)


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


class ChannelNorm(nn.BatchNorm2d):
    """Batch norm over each channel of [B, K*C, H, W].

    Raises:
        UserError: in training, a channel has one value only, which has no variance.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        if self.training:
            self.check(x)
        return _normalised(self, x) if x.device.type != "cpu" else super().forward(x)

    def check(self, x: Tensor) -> None:
        """Refuse to normalise single values."""
        _check_count(x.numel() // x.shape[1])


class FeatureNorm(nn.BatchNorm1d):
    """Batch norm over each of the K*F features of [B, K, F].

    Raises:
        UserError: in training, a feature has one value only, which has no variance.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        if self.training:
            _check_count(len(x))
        flat = x.flatten(1)
        on_gpu = x.device.type != "cpu"
        return (_normalised(self, flat) if on_gpu else super().forward(flat)).view(x.shape)


def _normalised(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Apply a norm without counting its steps, which nobody reads and which costs a kernel."""
    assert norm.momentum is not None
    return F.batch_norm(
        x,
        norm.running_mean,
        norm.running_var,
        norm.weight,
        norm.bias,
        norm.training,
        norm.momentum,
        norm.eps,
    )


def _check_count(values: int) -> None:
    if values == 1:
        raise UserError("batch_size = 1: batch norm needs more than one value; use at least 2")


class PReLU(nn.Module):
    """max(0, x) + slope * min(0, x), one learned slope per member (He et al., 2015)."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((members,), 0.25))  # theirs, and PyTorch's

    def forward(self, x: Tensor) -> Tensor:
        """Apply to [B, K*C, H, W] or [B, K, F]."""
        slopes = self.weight.repeat_interleave(x.shape[1] // len(self.weight))  # [K*C]
        return F.prelu(x, slopes.to(x.dtype))


# Name -> layer over so many members.
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda _: nn.ReLU(),
    "leaky_relu": lambda _: nn.LeakyReLU(0.1),
    "gelu": lambda _: nn.GELU(),
    "silu": lambda _: nn.SiLU(),
    "prelu": PReLU,
}
INCREASING = frozenset({"relu", "leaky_relu"})
POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "max": lambda: nn.MaxPool2d(2),
    "avg": lambda: nn.AvgPool2d(2),
}


def activation(name: str, members: int, pooling: str | None = None) -> nn.Module:
    """Return an activation over so many members; with `pooling`, 2x2 pooling follows it."""
    layer = ACTIVATIONS[name](members)
    if pooling is None:
        return layer
    layers = [layer, POOLINGS[pooling]()]
    if pooling == "max" and name in INCREASING:
        layers.reverse()  # the same result from a quarter of the memory traffic
    return nn.Sequential(*layers)


class Dropout(nn.Module):
    """Dropout on [B, K, F] or [B, K*C, H, W] with one rate and one random stream per member.

    The masks are a function of (seed, step) alone; see `trainer.streams`.

    Args:
        rates: of the members.
        seeds: of the members.
        name: of the stream; no other layer of the network has it.
        channels: drop whole channels (Tompson et al., 2015), not single values.
    """

    step: Tensor  # int32 [], the bank's clock
    drop: Tensor
    scale: Tensor

    def __init__(
        self, rates: Sequence[float], seeds: Sequence[int], name: str, *, channels: bool = False
    ) -> None:
        super().__init__()
        self.active = any(rates)
        self.rates = rates
        self.seeds, self.name, self.channels = seeds, name, channels
        self.stream: Stream | None = None
        self.scale_as: Tensor | None = None  # in the type of what is dropped
        self.keys: Tensor | None = None  # of the step, [K, 2]: a bank's own; else hashed from it
        drop = torch.tensor([threshold(rate) for rate in rates], dtype=torch.int32)
        scale = torch.tensor([1.0 / (1.0 - rate) for rate in rates], dtype=torch.float64)
        self.register_buffer("drop", drop[:, None], persistent=False)  # [K, 1]
        self.register_buffer("scale", scale[:, None], persistent=False)  # [K, 1]

    def forward(self, x: Tensor) -> Tensor:
        """Zero values or channels with their member's rate and scale the others up."""
        if not self.training or not self.active:
            return x
        stream = self.prepared(x.device)
        if len(self.seeds) == 1 and not self.channels and _native(x):
            rate, words = self.rates[0], stream.words[0]
            return dropped(x, Mask(threshold(rate), 1 / (1 - rate), words, int(self.step)))
        shape = (*x.shape[:2], 1, 1) if self.channels else x.shape
        each = math.prod(shape[1:]) // len(self.seeds)
        keys = stream.keys(self.step) if self.keys is None else self.keys
        if self.scale_as is None or self.scale_as.dtype != x.dtype:
            self.scale_as = self.scale.to(x.dtype)
        if x.dim() == 3 and device.has_triton(x.device):
            from trainer.triton_dropout import dropped as dropped_in_one_kernel

            out: Tensor = dropped_in_one_kernel(x, keys, self.drop, self.scale_as)
            return out
        # 0 or 1, [B, K, each]; not bool, with which PyTorch computes slowly on CPUs.
        kept = stream.numbers(keys, len(x), each).ge_(self.drop)
        return x * (kept * self.scale_as).view(shape)

    def rescale(self) -> None:
        """Follow new values of `scale`, where they lie."""
        if self.scale_as is not None:
            self.scale_as.copy_(self.scale)

    def prepared(self, device: torch.device) -> Stream:
        """Return the stream of random numbers, made where they are needed."""
        if self.stream is None:
            self.stream = Stream(self.seeds, self.name, device)
        return self.stream


def _native(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and native.wanted(x)


class Flatten(nn.Module):
    """[B, K*C, H, W] -> [B, K, C*H*W], in channel order whatever the memory layout."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.members = members

    def forward(self, x: Tensor) -> Tensor:
        """Flatten each member's channels."""
        if x.dim() == 4 and x.requires_grad:
            # The type of torch's base class is unknown.
            x = flattened(x) if _native(x) else _ChannelOrder.apply(x)  # type: ignore[no-untyped-call]
        return by_member(x.flatten(1), self.members, 1)


class _ChannelOrder(torch.autograd.Function):
    """Channels first in memory; the gradient comes back channels last.

    Left to itself it would meet activations in another layout, which costs several times as much.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """[B, C, H, W], the same values."""
        return x.contiguous(memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """[B, C, H, W], the same values."""
        return gradient.contiguous(memory_format=torch.channels_last)


class GlobalAverage(nn.Module):
    """[B, K*C, H, W] -> [B, K, C], the mean of each channel."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.members = members

    def forward(self, x: Tensor) -> Tensor:
        """Average over the pixels."""
        return by_member(x.mean((2, 3)), self.members, 1)


class SqueezeExcite(nn.Module):
    """[B, K*C, H, W], each channel times a number from 0 to 1 that the channels' means decide.

    Two linear maps, a quarter of the channels between them (Hu et al., "Squeeze-and-Excitation
    Networks", CVPR 2018).
    """

    def __init__(self, members: int, channels: int) -> None:
        super().__init__()
        inner = max(channels // 4, 1)
        self.average = GlobalAverage(members)
        self.squeeze = Linear(members, channels, inner)
        self.excite = Linear(members, inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Weight the channels."""
        gates = torch.sigmoid(self.excite(F.relu(self.squeeze(self.average(x)))))  # [B, K, C]
        return x * gates.flatten(1)[:, :, None, None].to(x.dtype)


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
