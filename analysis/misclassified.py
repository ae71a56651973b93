"""What the best model got wrong: the images beside its weights, as pictures of a page.

A checkpoint's JSON holds the test images that the network took for something else with the most
confidence (see docs/storage.md). Here they are read and checked; a file that is missing, or that
is not what it should be, holds none.
"""

import base64
import binascii
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.weights import description

LARGEST = 512  # pixels a side: beyond it, it is not one of these images
MOST = 24


@dataclass(frozen=True)
class Mistake:
    """A test image that was taken for another class."""

    index: int  # in the test set
    label: int  # the true class
    predicted: int
    probability: float  # that the network gave to `predicted`
    pixels: bytes  # [C, side, side]: grey values, or those of red, of green and of blue
    channels: int  # C: 1 or 3

    @property
    def side(self) -> int:
        """Pixels along a side."""
        return math.isqrt(len(self.pixels) // self.channels)


def mistakes(checkpoint: Path) -> list[Mistake]:
    """Read the mistakes beside a checkpoint's weights, the most confident first."""
    kept = description(checkpoint).get("confused")
    entries = kept if isinstance(kept, list) else []
    return [mistake for entry in entries[:MOST] if (mistake := _mistake(entry)) is not None]


def _mistake(entry: Any) -> Mistake | None:
    try:
        pixels = base64.b64decode(entry["pixels"], validate=True)
        mistake = Mistake(
            int(entry["index"]),
            int(entry["label"]),
            int(entry["predicted"]),
            float(entry["probability"]),
            pixels,
            int(entry.get("channels", 1)),
        )
        if mistake.channels not in (1, 3):
            return None
    except (TypeError, KeyError, ValueError, AttributeError, binascii.Error):
        return None
    square = 0 < mistake.side <= LARGEST and mistake.channels * mistake.side**2 == len(pixels)
    return mistake if square and 0 <= mistake.probability <= 1 else None


def png(pixels: bytes, side: int, channels: int = 1) -> bytes:
    """Write pixels [C, side, side] as a PNG file (ISO/IEC 15948): signature, header, image, end."""
    row = side * channels
    mixed = bytearray(len(pixels))  # the channels of a pixel side by side
    for channel in range(channels):
        mixed[channel::channels] = pixels[channel * side**2 : (channel + 1) * side**2]
    rows = b"".join(b"\0" + mixed[start : start + row] for start in range(0, side * row, row))
    colour = 0 if channels == 1 else 2  # grey or RGB, 8 bits each, no interlace
    header = struct.pack(">IIBBBBB", side, side, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
