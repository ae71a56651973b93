"""Convolutions of a bank in Triton: implicit products over patches, the groups side by side.

A patch is never laid out in memory: each tile of the product loads what it needs of the shifted
images (implicit GEMM). The gradient of the input is the same product with flipped kernels; that of
the kernels is a sum over all pixels of a batch, taken in parts that are added up in fixed order.
Sums are in fp32; the weights and their gradients stay in the precision in which they are kept.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

# A gradient of kernels is split into about so many programs, of at least so many steps each. These
# figures and those of the tiles were the best, or within 10 %, on an H200.
PROGRAMS, STEPS = 1024, 12


class Tile(NamedTuple):
    """What a program computes of a product, and with what."""

    rows: int
    columns: int
    depth: int  # of the sum, at a time
    warps: int
    stages: int  # of loading ahead
    parts: int = 1  # of the sum, each in a program of its own


@triton.jit  # type: ignore[untyped-decorator]
def _products(  # type: ignore[no-untyped-def] # noqa: PLR0917
    x, kernels, out, pixels, groups, s_image, s_pixel, s_group,
    height: tl.constexpr, width: tl.constexpr, inputs: tl.constexpr, outputs: tl.constexpr,
    side: tl.constexpr, flipped: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    area: tl.constexpr = side * side
    flat: tl.constexpr = inputs % depth != 0  # a step goes over several shifts of the images
    group = tl.program_id(2)
    pixel = tl.program_id(0) * rows + tl.arange(0, rows)[:, None]
    column = tl.program_id(1) * columns + tl.arange(0, columns)[None, :]
    left = pixel % width
    top = tl.where(pixel < pixels, pixel // width % height, -side)  # outside: so with all shifts
    image = (pixel // (height * width)).to(tl.int64)
    x += group * s_group + image * s_image + (pixel % (height * width)) * s_pixel
    kernels += group * (outputs * area * inputs)
    total = tl.full((rows, columns), 0.0, tl.float32)
    for step in range((area * inputs + depth - 1) // depth):
        place = step * depth + tl.arange(0, depth)
        if flat:
            shift = (place // inputs)[None, :]
            channel = place % inputs
        else:
            shift = step // (inputs // depth)
            channel = step % (inputs // depth) * depth + tl.arange(0, depth)
        down = shift // side - side // 2
        right = shift % side - side // 2
        inside = (top + down >= 0) & (top + down < height)
        inside = inside & (left + right >= 0) & (left + right < width)
        if flat:
            inside = inside & (shift < area)
        patch = tl.load(x + ((down * width + right) * s_pixel + channel[None, :]), inside, 0.0)
        if flipped:  # [inputs, area, outputs]
            turned = area - 1 - (place // inputs if flat else shift)
            weight = ((channel * area + turned) * outputs)[:, None] + column
        else:  # [outputs, area, inputs]
            weight = place[:, None] + column * (area * inputs)
        there = (place < area * inputs)[:, None] & (column < outputs)
        kernel = tl.load(kernels + weight, there, 0.0)
        total = tl.dot(patch.to(kernel.dtype), kernel, total)
    out += pixel.to(tl.int64) * (groups * outputs) + group * outputs + column
    tl.store(out, total.to(out.dtype.element_ty), (pixel < pixels) & (column < outputs))


@triton.jit  # type: ignore[untyped-decorator]
def _over_pixels(  # type: ignore[no-untyped-def] # noqa: PLR0917
    x, gradient, out, pixels, groups, s_image, s_pixel, s_group, steps,
    height: tl.constexpr, width: tl.constexpr, inputs: tl.constexpr, outputs: tl.constexpr,
    side: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    size: tl.constexpr = side * side * inputs
    tiles: tl.constexpr = (size + columns - 1) // columns
    part = tl.program_id(1)
    group = tl.program_id(2)
    row = tl.program_id(0) // tiles * rows + tl.arange(0, rows)[None, :]
    column = tl.program_id(0) % tiles * columns + tl.arange(0, columns)[None, :]
    down = column // inputs // side - side // 2
    right = column // inputs % side - side // 2
    x += group * s_group + (down * width + right) * s_pixel + column % inputs
    gradient += group * outputs + row
    total = tl.full((rows, columns), 0.0, tl.float32)
    for step in range(steps):
        pixel = (part * steps + step) * depth + tl.arange(0, depth)[:, None]
        top = pixel // width % height + down
        left = pixel % width + right
        inside = (top >= 0) & (top < height) & (left >= 0) & (left < width)
        image = (pixel // (height * width)).to(tl.int64)
        offset = image * s_image + (pixel % (height * width)) * s_pixel
        patch = tl.load(x + offset, inside & (pixel < pixels) & (column < size), 0.0)
        there = (pixel < pixels) & (row < outputs)
        upstream = tl.load(gradient + pixel.to(tl.int64) * (groups * outputs), there, 0.0)
        total = tl.dot(tl.trans(upstream), patch.to(upstream.dtype), total)
    row = tl.trans(row)
    place = (part * groups + group).to(tl.int64) * (outputs * size) + row * size + column
    tl.store(out + place, total, (row < outputs) & (column < size))


def tile_of_products(inputs: int, outputs: int, side: int) -> Tile:
    """Return the tile of `products`: rows are pixels, columns output channels."""
    columns = _block(outputs, 128)
    depths = (64, 32, 16) if columns > 32 else (32, 16)
    depth = next((depth for depth in depths if inputs % depth == 0), 0)
    depth = depth or _block(side * side * inputs, 32)
    return Tile(128 if columns <= 64 else 64, columns, depth, 4, 3)


def tile_over_pixels(x: Tensor, gradient: Tensor, groups: int, side: int) -> Tile:
    """Return the tile of `over_pixels`: rows are output channels, columns shifted input channels.

    It is split into so many parts that there are about `PROGRAMS` programs.
    """
    pixels = x.numel() // x.shape[1]
    size, outputs = side * side * (x.shape[1] // groups), gradient.shape[1] // groups
    tile = Tile(_block(outputs, 64), _block(size, 64), 64, 4, 3)
    tiles = groups * _tiles(tile, outputs, size)
    steps = _parts(pixels, tile.depth)
    return tile._replace(parts=max(min(PROGRAMS // tiles, steps // STEPS), 1))


def _tiles(tile: Tile, rows: int, columns: int) -> int:
    return _parts(rows, tile.rows) * _parts(columns, tile.columns)


def _parts(size: int, each: int) -> int:
    return -(-size // each)


def _block(size: int, most: int) -> int:
    """Return a power of two: 16, which tensor cores want, to `most`."""
    return max(min(1 << (size - 1).bit_length(), most), 16)


def _strides(x: Tensor, groups: int) -> tuple[int, int, int]:
    """Return those of images, pixels and groups; a group's channels lie side by side."""
    _, channels, height, width = x.shape
    if channels == groups and x.is_contiguous():  # as images of one channel come
        return channels * height * width, 1, height * width
    assert x.is_contiguous(memory_format=torch.channels_last)
    return channels * height * width, channels, channels // groups


def launch_products(x: Tensor, kernels: Tensor, groups: int, flipped: bool, tile: Tile) -> Tensor:
    """Do what `products` does, with a tile."""
    rows, channels, height, width = x.shape
    side, last = kernels.shape[2], kernels.shape[3]
    inputs = channels // groups
    outputs = last if flipped else len(kernels) // groups
    shape = (rows, groups * outputs, height, width)
    out = torch.empty(
        shape, dtype=kernels.dtype, device=x.device, memory_format=torch.channels_last
    )
    pixels = rows * height * width
    grid = _parts(pixels, tile.rows), _parts(outputs, tile.columns), groups
    _products[grid](
        x, kernels, out, pixels, groups, *_strides(x, groups), height, width, inputs, outputs,
        side, flipped, *tile[:3], num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


def launch_over_pixels(x: Tensor, gradient: Tensor, groups: int, side: int, tile: Tile) -> Tensor:
    """Do what `over_pixels` does, with a tile."""
    rows, channels, height, width = x.shape
    inputs, outputs = channels // groups, gradient.shape[1] // groups
    shape = (tile.parts, groups * outputs, side, side, inputs)
    out = torch.empty(shape, dtype=torch.float32, device=x.device)
    pixels = rows * height * width
    steps = _parts(_parts(pixels, tile.depth), tile.parts)
    _over_pixels[_tiles(tile, outputs, side * side * inputs), tile.parts, groups](
        x, gradient, out, pixels, groups, *_strides(x, groups), steps, height, width, inputs,
        outputs, side, *tile[:3], num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


@torch.library.custom_op("fmnist::products", mutates_args=())
def products(x: Tensor, kernels: Tensor, groups: int, flipped: bool) -> Tensor:
    """Multiply each pixel's patch with its group's kernels.

    Args:
        x: [B, G*C, H, W], channels last in memory, or as it comes where C = 1.
        kernels: [G*D, k, k, C], contiguous; their type is that of the product.
        groups: G.
        flipped: turn the kernels around and exchange C and D, as a gradient does.

    Returns:
        [B, G*D, H, W], channels last in memory; flipped, kernels are [G*C, k, k, D].
    """
    inputs = x.shape[1] // groups
    outputs = kernels.shape[3] if flipped else len(kernels) // groups
    tile = tile_of_products(inputs, outputs, kernels.shape[2])
    return launch_products(x, kernels, groups, flipped, tile)


@products.register_fake
def _(x: Tensor, kernels: Tensor, groups: int, flipped: bool) -> Tensor:
    channels = groups * kernels.shape[3] if flipped else len(kernels)
    shape = len(x), channels, *x.shape[2:]
    return torch.empty(
        shape, dtype=kernels.dtype, device=x.device, memory_format=torch.channels_last
    )


@torch.library.custom_op("fmnist::over_pixels", mutates_args=())
def over_pixels(x: Tensor, gradient: Tensor, groups: int, side: int) -> Tensor:
    """Multiply patches with gradients and add up over all pixels, in parts.

    Args:
        x: as of `products`.
        gradient: [B, G*D, H, W], channels last in memory.
        groups: G.
        side: k.

    Returns:
        fp32 [S, G*D, k, k, C], contiguous; its sum over S is the gradient of the kernels.
    """
    tile = tile_over_pixels(x, gradient, groups, side)
    return launch_over_pixels(x, gradient, groups, side, tile)


@over_pixels.register_fake
def _(x: Tensor, gradient: Tensor, groups: int, side: int) -> Tensor:
    parts = tile_over_pixels(x, gradient, groups, side).parts
    shape = parts, gradient.shape[1], side, side, x.shape[1] // groups
    return x.new_empty(shape, dtype=torch.float32)


def convolution(x: Tensor, weight: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """Convolve as `F.conv2d` does, with stride 1 and half the kernel for padding.

    Args:
        x: [B, G*C, H, W].
        weight: [G*D, C, k, k], k odd.
        groups: G.
        dtype: of the product, and of x if it has a gradient.

    Returns:
        [B, G*D, H, W], channels last in memory.
    """
    out: Tensor = _Convolution.apply(x, weight, groups, dtype)  # type: ignore[no-untyped-call]
    return out


class _Convolution(torch.autograd.Function):
    """The gradient of the weight lies as the weight does: channels last, if so."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
        if weight.shape[1] > 1 or not x.is_contiguous():
            x = x.contiguous(memory_format=torch.channels_last)
        kernels = weight.to(dtype).permute(0, 2, 3, 1).contiguous()  # [G*D, k, k, C]
        ctx.save_for_backward(x, kernels)
        ctx.groups = groups
        ctx.strides, ctx.dtype = weight.stride(), weight.dtype
        out: Tensor = products(x, kernels, groups, flipped=False)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, kernels = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = products(gradient, kernels, ctx.groups, flipped=True)
        parts = over_pixels(x, gradient, ctx.groups, kernels.shape[1])
        of_weight = parts.sum(0).permute(0, 3, 1, 2)
        return of_x, _as(of_weight.to(ctx.dtype), ctx.strides), None, None


def _as(gradient: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Lay out a gradient as its weight is laid out."""
    sizes = zip(gradient.shape, gradient.stride(), strides, strict=True)
    if all(size == 1 or ours == its for size, ours, its in sizes):
        return gradient
    out = torch.empty_strided(gradient.shape, strides, dtype=gradient.dtype, device=gradient.device)
    return out.copy_(gradient)
