"""Triton's kernels of `trainer.triton_activated`: passes over pixels and channels.

A tensor [B, C, H, W], channels last, is a matrix of pixels and channels. A program takes some
columns and many rows of it, tile by tile. Sums are left in parts, which a second kernel adds up in
a fixed order, so that they are the same every time.

Arguments: `statistics` are mean, 1 / deviation, scale and shift of a norm, fp32 [4, C], or None;
`bias` is fp32 [C] or None; `windows` are the pixels of the result; `tiles` are those of a program;
`pooling` is 0 for none, 1 for the largest or 2 for the average of 2x2 pixels.
"""

import triton
import triton.language as tl

_MAX = tl.constexpr(1)
_ALL = tl.constexpr(tl.PropagateNan.ALL)
# Compiled once for all sizes; only of channels it matters that they are a multiple of 16.
_compiled = triton.jit(
    do_not_specialize=[
        "pixels", "windows", "height", "width", "down", "across", "tiles", "blocks", "each"
    ]
)  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def _columns(columns: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.program_id(0) * columns + tl.arange(0, columns)


@triton.jit  # type: ignore[untyped-decorator]
def _corner(window, height, width, down, across, pooling: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: PLR0917
    """Return the number of a window's first pixel; of `down` x `across` windows in each image."""
    if pooling:
        row, column = window // across, window % across
        window = (row // down * height + 2 * (row % down)) * width + 2 * column
    return window.to(tl.int64)[:, None]


@triton.jit
def _affine(statistics, bias, channel, channels):  # type: ignore[no-untyped-def]
    """Return what x is multiplied with, and what is added: [1, columns] each."""
    there = channel < channels
    scale = tl.full(channel.shape, 1.0, tl.float32)
    shift = tl.full(channel.shape, 0.0, tl.float32)
    if statistics is not None:
        scale = tl.load(statistics + 2 * channels + channel, mask=there, other=0.0)
        shift = tl.load(statistics + 3 * channels + channel, mask=there, other=0.0)
    elif bias is not None:
        shift = tl.load(bias + channel, mask=there, other=0.0)
    return scale[None, :], shift[None, :]


@triton.jit
def _wide(place, mask):  # type: ignore[no-untyped-def]
    return tl.load(place, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _active(z, slope):  # type: ignore[no-untyped-def]
    return tl.where(z > 0, z, z * slope)


@triton.jit
def _back(z, gradient, slope):  # type: ignore[no-untyped-def]
    return tl.where(z > 0, gradient, gradient * slope)


@triton.jit
def _largest(a, b, c, d):  # type: ignore[no-untyped-def]
    upper = tl.maximum(a, b, propagate_nan=_ALL)
    return tl.maximum(upper, tl.maximum(c, d, propagate_nan=_ALL), propagate_nan=_ALL)


@_compiled  # type: ignore[untyped-decorator]
def moments(  # type: ignore[no-untyped-def] # noqa: PLR0917
    x, parts, pixels, channels, tiles, rows: tl.constexpr, columns: tl.constexpr
):  # fmt: skip
    """Leave mean and sum of squared deviations of some pixels in `parts`, [2, blocks, C]."""
    block, channel, row = tl.program_id(1), _columns(columns), tl.arange(0, rows)
    there = (channel < channels)[None, :]
    first = block * tiles * rows
    count = tl.minimum(pixels - first, tiles * rows)
    # Sums are of differences from the first tile's mean: precise wherever the values lie.
    pixel = first + row
    inside = (pixel < pixels)[:, None] & there
    values = _wide(x + pixel.to(tl.int64)[:, None] * channels + channel[None, :], inside)
    origin = tl.sum(values, 0) / tl.minimum(count, rows)
    total = tl.zeros((rows, columns), tl.float32)
    square = tl.zeros((rows, columns), tl.float32)
    for tile in range(tiles):
        pixel = first + tile * rows + row
        inside = (pixel < pixels)[:, None] & there
        values = _wide(x + pixel.to(tl.int64)[:, None] * channels + channel[None, :], inside)
        distance = tl.where(inside, values - origin[None, :], 0.0)
        total += distance
        square += distance * distance
    away = tl.sum(total, 0) / count
    place = parts + block * channels + channel
    tl.store(place, origin + away, mask=channel < channels)
    size = tl.num_programs(1) * channels
    deviations = tl.sum(square, 0) - count * away * away
    tl.store(place + size, tl.maximum(deviations, 0.0, propagate_nan=_ALL), mask=channel < channels)


@_compiled  # type: ignore[untyped-decorator]
def statistics(  # type: ignore[no-untyped-def] # noqa: PLR0917
    parts, weight, bias, running_mean, running_var, out,
    momentum, eps, pixels, each, blocks, channels, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Put mean, 1 / deviation, scale and shift into `out`, [4, C]; update what runs along."""
    channel, row = _columns(columns), tl.arange(0, rows)
    there = channel < channels
    origin = tl.load(parts + channel, mask=there, other=0.0)
    total = tl.zeros((rows, columns), tl.float32)
    square = tl.zeros((rows, columns), tl.float32)
    for start in range(0, blocks, rows):
        block = start + row
        inside = (block < blocks)[:, None] & there[None, :]
        place = parts + block[:, None] * channels + channel[None, :]
        distance = _wide(place, inside) - origin[None, :]
        within = _wide(place + blocks * channels, inside)
        count = tl.minimum(pixels - block * each, each).to(tl.float32)[:, None]
        total += tl.where(inside, count * distance, 0.0)
        square += tl.where(inside, within + count * distance * distance, 0.0)
    away = tl.sum(total, 0) / pixels
    mean = origin + away
    squares = tl.maximum(tl.sum(square, 0) - pixels * away * away, 0.0, propagate_nan=_ALL)
    inverse = 1.0 / tl.sqrt(squares / pixels + eps)
    scale = tl.load(weight + channel, mask=there, other=0.0) * inverse
    shift = tl.load(bias + channel, mask=there, other=0.0) - mean * scale
    tl.store(out + channel, mean, mask=there)
    tl.store(out + channels + channel, inverse, mask=there)
    tl.store(out + 2 * channels + channel, scale, mask=there)
    tl.store(out + 3 * channels + channel, shift, mask=there)
    old = tl.load(running_mean + channel, mask=there, other=0.0)
    tl.store(running_mean + channel, (1 - momentum) * old + momentum * mean, mask=there)
    old = tl.load(running_var + channel, mask=there, other=0.0)
    unbiased = squares / (pixels - 1)
    tl.store(running_var + channel, (1 - momentum) * old + momentum * unbiased, mask=there)


@_compiled  # type: ignore[untyped-decorator]
def forward(  # type: ignore[no-untyped-def] # noqa: PLR0917
    x, out, statistics, bias, slope, windows, height, width, channels, tiles,
    pooling: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write the result: scale, shift, activate, pool."""
    channel, row = _columns(columns), tl.arange(0, rows)
    there = (channel < channels)[None, :]
    scale, shift = _affine(statistics, bias, channel, channels)
    for tile in range(tiles):
        window = (tl.program_id(1) * tiles + tile) * rows + row
        inside = (window < windows)[:, None] & there
        corner = _corner(window, height, width, height // 2, width // 2, pooling)
        place = x + corner * channels + channel[None, :]
        value = _wide(place, inside) * scale + shift
        if pooling == 0:
            value = _active(value, slope)
        else:
            b = _wide(place + channels, inside) * scale + shift
            c = _wide(place + width * channels, inside) * scale + shift
            d = _wide(place + (width + 1) * channels, inside) * scale + shift
            if pooling == _MAX:
                value = _active(_largest(value, b, c, d), slope)
            else:
                upper = _active(value, slope) + _active(b, slope)
                value = 0.25 * (upper + _active(c, slope) + _active(d, slope))
        to = out + window.to(tl.int64)[:, None] * channels + channel[None, :]
        tl.store(to, value.to(out.dtype.element_ty), mask=inside)


@_compiled  # type: ignore[untyped-decorator]
def sums(  # type: ignore[no-untyped-def] # noqa: PLR0917
    x, gradient, statistics, parts, slope, windows, height, width, channels, tiles,
    pooling: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Leave sums of dz and dz * (x - mean) / deviation of some windows in `parts`, [2, blocks, C].

    z is what goes into the activation.
    """
    channel, row = _columns(columns), tl.arange(0, rows)
    there = channel < channels
    mean = tl.load(statistics + channel, mask=there, other=0.0)[None, :]
    inverse = tl.load(statistics + channels + channel, mask=there, other=0.0)
    scale, shift = _affine(statistics, None, channel, channels)
    total = tl.zeros((rows, columns), tl.float32)
    product = tl.zeros((rows, columns), tl.float32)
    for tile in range(tiles):
        window = (tl.program_id(1) * tiles + tile) * rows + row
        inside = (window < windows)[:, None] & there[None, :]
        corner = _corner(window, height, width, height // 2, width // 2, pooling)
        place = x + corner * channels + channel[None, :]
        at = gradient + window.to(tl.int64)[:, None] * channels + channel[None, :]
        given, a = _wide(at, inside), _wide(place, inside)
        za = a * scale + shift
        if pooling == 0:
            da = _back(za, given, slope)
            total += da
            product += da * (a - mean)
        else:
            b = _wide(place + channels, inside)
            c = _wide(place + width * channels, inside)
            d = _wide(place + (width + 1) * channels, inside)
            zb, zc, zd = b * scale + shift, c * scale + shift, d * scale + shift
            if pooling == _MAX:
                most = _largest(za, zb, zc, zd)
                later = tl.where(zb < most, tl.where(zc < most, d, c), b)
                dz = _back(most, given, slope)
                total += dz
                product += dz * (tl.where(za < most, later, a) - mean)
            else:
                da, db, dc, dd = _window(za, zb, zc, zd, given, slope, pooling)
                total += da + db + (dc + dd)
                product += da * (a - mean) + db * (b - mean) + dc * (c - mean) + dd * (d - mean)
    place = parts + tl.program_id(1) * channels + channel
    tl.store(place, tl.sum(total, 0), mask=there)
    size = tl.num_programs(1) * channels
    tl.store(place + size, tl.sum(product, 0) * inverse, mask=there)


@_compiled  # type: ignore[untyped-decorator]
def added(  # type: ignore[no-untyped-def] # noqa: PLR0917
    parts, out, blocks, channels, rows: tl.constexpr, columns: tl.constexpr
):  # fmt: skip
    """Add up parts [n, blocks, C], n programs side by side: [n, C]."""
    channel, row = _columns(columns), tl.arange(0, rows)
    there = channel < channels
    total = tl.zeros((rows, columns), tl.float32)
    first = tl.program_id(1) * blocks
    for start in range(0, blocks, rows):
        block = start + row
        inside = (block < blocks)[:, None] & there[None, :]
        total += _wide(parts + (first + block)[:, None] * channels + channel[None, :], inside)
    tl.store(out + tl.program_id(1) * channels + channel, tl.sum(total, 0), mask=there)


@triton.jit
def _centre(statistics, sums, channel, channels, pixels):  # type: ignore[no-untyped-def]
    """Return mean, a and b of a norm's gradient: dx = scale * dz - a - b * (x - mean)."""
    there = channel < channels
    mean = tl.load(statistics + channel, mask=there, other=0.0)
    inverse = tl.load(statistics + channels + channel, mask=there, other=0.0)
    scale = tl.load(statistics + 2 * channels + channel, mask=there, other=0.0)
    a = scale * tl.load(sums + channel, mask=there, other=0.0) / pixels
    b = scale * inverse * tl.load(sums + channels + channel, mask=there, other=0.0) / pixels
    return mean[None, :], a[None, :], b[None, :]


@triton.jit  # type: ignore[untyped-decorator]
def _window(za, zb, zc, zd, given, slope, pooling: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: PLR0917
    """Return the gradients of what four pixels give to the activation, or to the maximum."""
    if pooling == _MAX:
        most = _largest(za, zb, zc, zd)
        dz = _back(most, given, slope)
        # Of equal ones the first.
        not_a, not_b, not_c = za < most, zb < most, zc < most
        da = tl.where(not_a, 0.0, dz)
        db = tl.where(not_a, tl.where(not_b, 0.0, dz), 0.0)
        dc = tl.where(not_a & not_b, tl.where(not_c, 0.0, dz), 0.0)
        dd = tl.where(not_a & not_b & not_c, dz, 0.0)
    else:
        given *= 0.25
        da, db = _back(za, given, slope), _back(zb, given, slope)
        dc, dd = _back(zc, given, slope), _back(zd, given, slope)
    return da, db, dc, dd


@triton.jit
def _put(place, inside, dz, value, statistics, scale, centre):  # type: ignore[no-untyped-def] # noqa: PLR0917
    if statistics is not None:
        mean, less, slant = centre
        dz = scale * dz - less - slant * (value - mean)
    tl.store(place, dz.to(place.dtype.element_ty), mask=inside)


@_compiled  # type: ignore[untyped-decorator]
def gradient(  # type: ignore[no-untyped-def] # noqa: PLR0917
    x, gradient, dx, statistics, bias, sums, parts, slope, pixels, windows,
    height, width, down, across, channels, tiles,
    pooling: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Write dx; without a norm leave sums of dz in `parts`, [blocks, C].

    Where a side is odd there are windows with fewer pixels, that were not pooled.
    """
    channel, row = _columns(columns), tl.arange(0, rows)
    there = (channel < channels)[None, :]
    scale, shift = _affine(statistics, bias, channel, channels)
    centre = scale, scale, scale
    if statistics is not None:
        centre = _centre(statistics, sums, channel, channels, pixels)
    total = tl.zeros((rows, columns), tl.float32)
    for tile in range(tiles):
        window = (tl.program_id(1) * tiles + tile) * rows + row
        inside = (window < windows)[:, None] & there
        corner = _corner(window, height, width, down, across, pooling)
        here = corner * channels + channel[None, :]
        a = _wide(x + here, inside)
        if pooling == 0:
            dz = _back(a * scale + shift, _wide(gradient + here, inside), slope)
            _put(dx + here, inside, dz, a, statistics, scale, centre)
            total += dz
        else:
            i, j = window // across, window % across
            right = inside & (2 * j + 1 < width)[:, None]
            below = inside & (2 * (i % down) + 1 < height)[:, None]
            both = right & below
            pooled = (i // down * (height // 2) + i % down) * (width // 2) + j
            at = gradient + pooled.to(tl.int64)[:, None] * channels + channel[None, :]
            given = _wide(at, both)
            next, under = here + channels, here + width * channels
            b, c = _wide(x + next, right), _wide(x + under, below)
            d = _wide(x + under + channels, both)
            za, zb = a * scale + shift, b * scale + shift
            zc, zd = c * scale + shift, d * scale + shift
            da, db, dc, dd = _window(za, zb, zc, zd, given, slope, pooling)
            _put(dx + here, inside, da, a, statistics, scale, centre)
            _put(dx + next, right, db, b, statistics, scale, centre)
            _put(dx + under, below, dc, c, statistics, scale, centre)
            _put(dx + under + channels, both, dd, d, statistics, scale, centre)
            total += da + db + (dc + dd)
    if parts is not None:
        place = parts + tl.program_id(1) * channels + channel
        tl.store(place, tl.sum(total, 0), mask=channel < channels)
