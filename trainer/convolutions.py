"""The convolutions of a bank in training: grouped or in other ways; one switch for all.

They are the same function. Which is fastest depends on a GPU, on its libraries and on the network.
cuDNN's grouped kernels took 2 to 11 times as long as ours in Triton on an H200
(docs/performance.md); what is elsewhere, `--bank auto` measures.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer import device as devices
from trainer.errors import UserError, choose

WAYS = ("grouped", "separate", "products", "triton")
DEFAULT = "triton"  # where its kernels can; elsewhere grouped


class _Process:
    """How this process convolves."""

    way = DEFAULT


def use(way: str) -> None:
    """Choose how this process convolves.

    Args:
        way: of `WAYS`; `auto`: the default, as until told otherwise.

    Raises:
        UserError: there is no such way.
    """
    if way not in ("auto", *WAYS):
        raise UserError(choose("convolutions", way, ("auto", *WAYS)))
    _Process.way = DEFAULT if way == "auto" else way


def in_use(device: torch.device, precision: str) -> str:
    """Return how this process convolves there: grouped, where Triton's kernels cannot."""
    there = devices.has_triton(device) and precision == "bf16"
    return "grouped" if _Process.way == "triton" and not there else _Process.way


def others(device: torch.device, precision: str) -> tuple[str, ...]:
    """Return the ways that there are on a device beside the one in use."""
    there = devices.has_triton(device) and precision == "bf16"
    taken = in_use(device, precision)
    return tuple(way for way in WAYS if way != taken and (way != "triton" or there))


def in_triton(x: Tensor, weight: Tensor, *, stride: int, padding: int, groups: int) -> bool:
    """Whether Triton's kernels do a convolution (as of `convolve`) in this process.

    They are for bf16 on GPUs and kernels of odd sides that keep the images' size; one channel
    after another, as in a depthwise convolution, would leave tensor cores empty. Channels come in
    sixteens, or are so few that all shifts fit one tile: others were right in Triton's interpreter
    and wrong on an H200 (triton 3.6).
    """
    channels, inputs, height, width = weight.shape
    tiled = inputs % 16 == 0 or inputs * height * width <= 32
    return (
        _Process.way == "triton"
        and devices.has_triton(x.device)
        and _precision(x) == torch.bfloat16
        and (stride, padding) == (1, height // 2)
        and height == width
        and height % 2 == 1
        and channels > groups > 1
        and tiled
        and (channels // groups) % 16 == 0
    )


def _precision(x: Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int, padding: int, groups: int
) -> Tensor:
    """Convolve as `F.conv2d` does, in the way of this process where there are groups.

    Args:
        x: [B, G*C, H, W].
        weight: [G*D, C, k, k].
        bias: [G*D] or nothing.
        stride, padding: pixels.
        groups: G.
    """
    way, dtype = _Process.way, _precision(x)
    if in_triton(x, weight, stride=stride, padding=padding, groups=groups):
        from trainer.triton_convolution import convolution

        out: Tensor = convolution(x, weight, groups, dtype)
        return out if bias is None else out + bias.to(dtype).view(-1, 1, 1)
    if groups == 1 or way in ("grouped", "triton"):
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)
    x, weight = x.to(dtype), weight.to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        if way == "separate":
            options = stride, padding, groups
            out = _Separate.apply(x, weight, options)  # type: ignore[no-untyped-call]
        else:
            out = _products(x, weight, stride, padding, groups)
    return out if bias is None else out + bias.to(dtype).view(-1, 1, 1)


class _Separate(torch.autograd.Function):
    """A convolution per group, on a GPU each on a stream of its own, side by side.

    Streams part and meet again within each pass, so that autograd sees one stream and a capture
    holds both passes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, options: tuple[int, int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options = stride, padding, groups = options
        pairs = zip(x.chunk(groups, 1), weight.chunk(groups), strict=True)
        works = [
            lambda part=part, own=own: F.conv2d(part, own, None, stride, padding)
            for part, own in pairs
        ]
        return torch.cat(_side_by_side(works, x.device), 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        stride, padding, groups = ctx.options
        options = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
        wanted = [ctx.needs_input_grad[0], True, False]
        parts = zip(
            gradient.chunk(groups, 1), x.chunk(groups, 1), weight.chunk(groups), strict=True
        )
        works = [
            lambda part=part: torch.ops.aten.convolution_backward(*part, None, *options, wanted)
            for part in parts
        ]
        of_x, of_weight, _ = zip(*_side_by_side(works, x.device), strict=True)
        return torch.cat(of_x, 1) if wanted[0] else None, torch.cat(of_weight), None


def _side_by_side(works: Sequence[Callable[[], Any]], device: torch.device) -> list[Any]:
    """Do works that do not depend on each other."""
    if device.type != "cuda":
        return [work() for work in works]
    here, results = torch.cuda.current_stream(device), []
    streams = [torch.cuda.Stream(device) for _ in works]
    for stream, work in zip(streams, works, strict=True):
        stream.wait_stream(here)  # which waits for none of them yet
        with torch.cuda.stream(stream):
            results.append(work())
    for stream in streams:
        here.wait_stream(stream)
    return results


def _products(x: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    """Multiply unfolded patches with the kernels: one batched product over the groups."""
    rows, _, height, width = x.shape
    side = weight.shape[2]
    high, wide = ((size + 2 * padding - side) // stride + 1 for size in (height, width))
    patches = F.unfold(x, side, padding=padding, stride=stride)  # [B, G*F, L]
    by_group = patches.view(rows, groups, -1, high * wide).permute(1, 0, 3, 2)
    kernels = weight.reshape(groups, -1, weight[0].numel())  # [G, D, F]
    product = by_group.flatten(1, 2) @ kernels.mT  # [G, B*L, D]
    pixels = product.view(groups, rows, high, wide, -1).permute(1, 2, 3, 0, 4)
    return pixels.flatten(3).permute(0, 3, 1, 2)  # channels last
